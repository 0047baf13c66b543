"""Label texts with an exported model: needs onnxruntime, tokenizers and numpy, nothing else.

python predict.py "A fine film." "I wanted to like it."
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(HERE / "tokenizer.json"))
SESSION = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])


def predict(texts: list[str]) -> list[dict[str, float]]:
    """Return the probability of each class by its name, for each text."""
    found = [e.ids or [CONFIG["unknown_id"]] for e in TOKENIZER.encode_batch(texts, add_special_tokens=False)]
    most = CONFIG["max_length"]
    read = [ids[:most] if CONFIG["truncate"] == "head" else ids[-most:] for ids in found]
    lengths = np.array([len(ids) for ids in read], dtype=np.int64)
    token_ids = np.full((len(read), lengths.max()), CONFIG["padding_id"], dtype=np.int64)
    for row, ids in zip(token_ids, read, strict=True):
        row[: len(ids)] = ids
    (probabilities,) = SESSION.run(["probabilities"], {"token_ids": token_ids, "lengths": lengths})
    return [dict(zip(CONFIG["classes"], map(float, row), strict=True)) for row in probabilities]


if __name__ == "__main__":
    for text, probabilities in zip(sys.argv[1:], predict(sys.argv[1:]), strict=True):
        found: dict[str, object] = {"label": max(probabilities, key=lambda name: probabilities[name])}
        if CONFIG["labels_per_text"] == "many":
            found = {"labels": [name for name, probability in probabilities.items() if probability > 0.5]}
        print(json.dumps({"text": text, **found, **probabilities}))
