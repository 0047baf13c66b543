"""Run directories with predictions, as far as they are compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from textrnn.config.schema import Config
from textrnn.tracking.identity import new_identity, write_identity


def write_run(path: Path, right: npt.NDArray[np.bool_], *, seed: int = 0, split: str = "test", **config: Any) -> Path:
    """Write a run that has these of its reviews right; every other review is positive."""
    path.mkdir(parents=True)
    write_identity(path / "run.json", replace(new_identity(Config(seed=seed), ["train.py"]), id=path.name))
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "run_dir": str(path), **config}))
    key = "val" if split == "validation" else split
    (path / "summary.json").write_text(json.dumps({f"{key}/accuracy": float(right.mean()), "status": "finished"}))
    folder = path / f"evaluation-{split}"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"classes": ["negative", "positive"]}))
    labels = np.arange(len(right)) % 2
    positive = np.where(right == (labels == 1), 0.9, 0.2)
    rows = [
        f"{row},{label},{20 + row % 97},{p:.6g}" for row, (label, p) in enumerate(zip(labels, positive, strict=True))
    ]
    (folder / "predictions.csv").write_text("\r\n".join(["index,label,tokens,probability", *rows, ""]), newline="")
    return path
