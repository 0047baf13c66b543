"""An exported model has the answers of its run; what can't be served is refused."""

from pathlib import Path

import pytest
import torch
from doubles.servers import WORDS, make_model

from textrnn import load
from textrnn.base.errors import InputError
from textrnn.sharing import served_model
from textrnn.sharing.export import export
from textrnn.sharing.served_model import ExportedModel, load_served
from textrnn.training.checkpoints import load_checkpoint

TEXTS = [" ".join((WORDS * 3)[start : start + length]) for start in range(5) for length in (0, 1, 7, 30, 3)]


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_an_exported_model_answers_as_its_run(
    tmp_path: Path, to: str, truncate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model(tmp_path / "best.ckpt")
    checkpoint = load_checkpoint(path)
    checkpoint.config.data.truncate = truncate
    export(checkpoint, tmp_path / "out", to, metrics={})
    monkeypatch.setattr(served_model, "BATCH_SIZE", 4)
    model, name = load_served(tmp_path / "out")
    assert (name, model.classes, model.many_labels) == ("out", ("negative", "positive"), False)
    trained = load(path)
    trained.data.truncate = truncate
    for found, expected in zip(model.predict(TEXTS), trained.predict(TEXTS), strict=True):
        assert (found.text, found.labels) == (expected.text, expected.labels)
        assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_a_run_that_diverged_is_refused(tmp_path: Path) -> None:
    path = make_model(tmp_path / "best.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.embedding.table.weight"][-1] = torch.nan  # a row that few texts read
    torch.save(content, path)
    with pytest.raises(InputError, match="has diverged"):
        load_served(path)


def test_a_damaged_export_and_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="type textrnn export again"):
        ExportedModel(tmp_path)
    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr(served_model, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"textrnn\[onnx\]"):
        ExportedModel(tmp_path)
