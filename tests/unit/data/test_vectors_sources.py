"""Where pretrained vectors come from: the extra, the Hub, what is refused before it is read, and a run with a file."""

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.hub import LoopbackHub
from support import Command

from textrnn.base.errors import InputError
from textrnn.config.checks import GLOVE_PACKAGE, check_vectors
from textrnn.config.schema import Config, EmbeddingConfig, ModelConfig
from textrnn.data.tokenizer import train_tokenizer, vocabulary
from textrnn.data.vectors.sources import open_vectors
from textrnn.data.vectors.table import vector_table

FILE = "the 0.1 0.2 0.3\ngood 1 2 3\n. . . 4 5 6\nfilm -1e-1 0 0.5\ngood 7 7 7\n"
ROWS = np.array([[-0.1, 0.0, 0.5], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.skipif(importlib.util.find_spec(GLOVE_PACKAGE) is None, reason="the extra glove is not installed")
def test_the_package_of_glove(tmp_path: Path) -> None:
    tokens = vocabulary(train_tokenizer(["The film's good, the film is bad: awful zzyzxq!"], "word", 100))
    vectors = open_vectors(EmbeddingConfig(kind="vectors", vectors="glove", size=50), tmp_path)
    assert (len(vectors.words), vectors.rows.shape) == (400_000, (400_000, 50))
    table = vector_table(vectors, tokens, seed=0)
    missing = {token for token, known in zip(tokens, table.has_vector, strict=True) if not known}
    assert missing == {"<pad>", "<unk>", "zzyzxq"}
    good, bad, film = (table.values[tokens.index(word)] for word in ("good", "bad", "film"))
    assert torch.cosine_similarity(good, bad, dim=0) > torch.cosine_similarity(good, film, dim=0)
    assert GLOVE_PACKAGE not in sys.modules
    assert not any(tmp_path.iterdir()), "nothing to keep"


HUB_CASES = """
import json, logging, sys
from pathlib import Path
logging.getLogger("textrnn").addHandler(logging.NullHandler())
from textrnn.config.schema import EmbeddingConfig
from textrnn.base.errors import InputError
from textrnn.data.vectors.sources import open_vectors
def outcome(name):
    try:
        vectors = open_vectors(EmbeddingConfig(kind="vectors", vectors=name, size=3), Path(sys.argv[1]))
        return [vectors.rows[1].tolist(), len(vectors.words)]
    except InputError as error:
        return str(error)
print(json.dumps({name: outcome(name) for name in sys.argv[2:]}))
"""


def from_hub(url: str, home: Path, *names: str) -> dict[str, Any]:
    """What each name gives, in a process of its own: the client reads HF_ENDPOINT when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", HUB_CASES, str(home / "cache"), *names],
        env={**inherited, "HF_ENDPOINT": url, "HF_HOME": str(home), "USE_TORCH": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def test_files_of_the_hub(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "deep").mkdir(parents=True)
    (served / "deep" / "vectors.txt").write_text(FILE)
    (served / "mine.txt").write_text("film\ngood\n. . .\n")
    np.save(served / "mine.npy", ROWS)
    np.save(served / "wordless.npy", ROWS)
    with LoopbackHub(served, "some/vectors") as hub:
        text, array = "hub:some/vectors/deep/vectors.txt", "hub:some/vectors/mine.npy"
        pinned = f"{array}@{hub.sha}"
        wrong = {
            "hub:some/vectors/absent.txt": "has no file absent.txt in some/vectors; type the name that",
            "hub:some/vectors/wordless.npy": "has no file wordless.txt in some/vectors",
            "hub:other/vectors/mine.npy": "has no model repository other/vectors, or not for this account",
            f"{array}@v9": "has no branch, tag or commit v9 of some/vectors; type hub:some/vectors/mine.npy",
        }
        outcomes = from_hub(hub.url, tmp_path, text, array, pinned, *wrong)
        assert outcomes[text] == [[1.0, 2.0, 3.0], 5]
        assert outcomes[array] == outcomes[pinned] == [ROWS[1].tolist(), 3]
        for name, message in wrong.items():
            assert message in outcomes[name]
            assert "\n" not in outcomes[name]
        assert hub.data_requests == 4
    outcomes = from_hub(hub.url, tmp_path, text, "hub:some/vectors/never-asked-for.txt")
    assert outcomes[text] == [[1.0, 2.0, 3.0], 5], "kept by the Hub's client"
    message = outcomes["hub:some/vectors/never-asked-for.txt"]
    assert re.search(r"^model\.embedding\.vectors=hub:\S+: the Hub is out of reach \(.+\) and this file has", message)


@pytest.mark.parametrize(
    ("embedding", "run", "message"),
    [
        ({"kind": "learned", "vectors": "x"}, {}, "type that too"),
        ({"vectors": None}, {}, "needs model.embedding.vectors=glove, or =FILE"),
        ({"vectors": "glove"}, {}, "model.embedding.size=100: .* have 50 numbers; type model.embedding.size=50"),
        ({"vectors": "glove"}, {"resume": "run"}, "type model.embedding.size=50"),
        ({"vectors": "hub:file.txt"}, {}, "type hub:OWNER/REPO/FILE"),
        ({"vectors": "hub:a/b/file.txt@"}, {}, "type hub:OWNER/REPO/FILE"),
        ({"vectors": "absent.txt"}, {}, "there is no such file"),
        ({"vectors": "absent.txt"}, {"resume": "auto", "run_dir": "new"}, "there is no such file"),
        ({"vectors": "absent.txt"}, {"resume": "run"}, None),
        ({"vectors": "absent.txt"}, {"resume": "auto", "run_dir": "begun"}, None),
        ({"vectors": "absent.txt"}, {"resume": "auto"}, None),
        ({"vectors": "hub:a/b/dir/file.txt@v1"}, {}, None),
    ],
)
def test_what_is_refused_before_anything_is_read(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedding: dict[str, Any],
    run: dict[str, Any],
    message: str | None,
) -> None:
    monkeypatch.chdir(workplace)
    (workplace / "begun" / "checkpoints").mkdir(parents=True)
    (workplace / "begun" / "checkpoints" / "last.ckpt").touch()
    config = Config(model=ModelConfig(embedding=EmbeddingConfig(**{"kind": "vectors", **embedding})), **run)
    with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
        check_vectors(config)


def test_glove_that_is_not_installed_is_refused_at_once(here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textrnn.config.checks.GLOVE_PACKAGE", "no_such_package")
    done = here("train.py", "model.embedding.kind=vectors", "model.embedding.vectors=glove", "model.embedding.size=50")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'glove is not installed here; type pip install "textrnn[glove]"' in done.stderr


SMALL = (
    "data=synthetic",
    "data.synthetic.train_reviews=100",
    "data.synthetic.test_reviews=20",
    "data.max_length=20",
    "model.hidden_size=4",
    "model.embedding.size=3",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "tracking=none",
)


@pytest.mark.slow
def test_a_run_records_coverage_and_needs_its_vectors_once(here: Command, workplace: Path, undrawn: None) -> None:
    words = ["the", "film", "was", "not", "good", "bad", ".", ",", "a", "and", "it"]
    numbers = np.random.default_rng(0).normal(size=(len(words), 3))
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(words, numbers, strict=True)]
    path = workplace / "mine.vec"
    path.write_text("\n".join(lines) + "\n")
    vectors = ("model.embedding.kind=vectors", "model.embedding.vectors=mine.vec", "model.embedding.trainable=false")
    done = here("train.py", *SMALL, *vectors, "run_dir=run")
    assert done.returncode == 0, done.stderr
    summary = json.loads((workplace / "run" / "summary.json").read_text())
    shares = [summary["vectors/vocabulary_coverage"], summary["vectors/text_coverage"]]
    said = re.search(r"mine\.vec: vectors for ([\d.]+)% of the vocabulary's words, .* ([\d.]+)% of the", done.stderr)
    assert said is not None
    assert [float(share) / 100 for share in said.groups()] == pytest.approx(shares, abs=0.0006)
    assert 0 < shares[0] < shares[1] < 1, "the words of the file are frequent ones"
    checkpoint = torch.load(workplace / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    tokens = list(json.loads(checkpoint["textrnn"]["tokenizer"])["model"]["vocab"])
    frozen = checkpoint["state_dict"]["model.embedding.table.weight"]
    torch.testing.assert_close(frozen[tokens.index("film")], torch.from_numpy(numbers[1].astype(np.float32)))

    path.unlink()
    for name, *arguments in (
        ("predict.py", "run", "a good film"),
        ("evaluate.py", "run", "--split", "validation"),
        ("train.py", *SMALL, *vectors, "run_dir=run", "resume=auto", "trainer.max_epochs=2"),
    ):
        done = here(name, *arguments)
        assert done.returncode == 0, done.stderr
    resumed = json.loads((workplace / "run" / "summary.json").read_text())
    assert resumed["step"] > summary["step"]
    assert [resumed["vectors/vocabulary_coverage"], resumed["vectors/text_coverage"]] == shares
    done = here("train.py", *SMALL, *vectors, "run_dir=other", "resume=auto")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model.embedding.vectors=mine.vec: there is no such file" in done.stderr
    assert not (workplace / "other").exists()
