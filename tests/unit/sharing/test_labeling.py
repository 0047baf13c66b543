"""A labeled table has each text's prediction in its row, whatever the windows, batches and threads."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint

from textrnn import load
from textrnn.base.console import Progress
from textrnn.base.errors import InputError
from textrnn.config.schema import LABELS, DataConfig
from textrnn.data.text_table import TEXTS_AT_A_TIME, WholeTable, table_of_texts, whole_table
from textrnn.data.tokenizer import train_tokenizer
from textrnn.sharing import labeling
from textrnn.sharing.labeling import label_table, new_columns
from textrnn.sharing.trained_model import TrainedModel

WORDS = ["a", "fine", "film", "with", "many", "dull", "scenes", "and", "one", "that", "is", "very", "long"]
TEXTS = [" ".join((WORDS * 3)[start % 13 : start % 13 + start * 7 % 31]) for start in range(1000)]


def model_of(place: Path, classes: tuple[str, ...] = LABELS, **data: str) -> TrainedModel:
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", 100)
    config = DataConfig(source="synthetic", max_length=20, **data)  # type: ignore[arg-type]
    return load(write_checkpoint(place / "best.ckpt", tokenizer, config, {"classes": list(classes)}))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("classes", [LABELS, ("ham", "spam", "sci,  fi")])
def test_each_row_has_its_own_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(labeling, "WINDOW", 4 * TEXTS_AT_A_TIME)
    monkeypatch.setattr(labeling, "BATCH_SIZE", 50)
    model = model_of(tmp_path, classes)
    done = label_table(model, table_of_texts(TEXTS), tmp_path / "out.csv", each_class=True)
    assert (done.texts, done.empty) == (1000, [number for number, text in enumerate(TEXTS, 1) if not text])
    rows = rows_of(tmp_path / "out.csv")
    names = [f"probability_{' '.join(name.split())}" for name in classes]
    assert list(rows[0]) == ["text", "label", "probability", *names]
    for row, text, prediction in zip(rows, TEXTS, model.predict(TEXTS), strict=True):
        assert (row["text"], row["label"]) == (text, prediction.label)
        told = list(prediction.probabilities.values())
        assert [float(row[name]) for name in names] == pytest.approx(told, abs=2e-6)
        assert float(row["probability"]) == pytest.approx(max(told), abs=2e-6)


def test_several_labels(tmp_path: Path) -> None:
    classes = ("sad", "happy", "long")
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", 100)
    data = DataConfig(source="synthetic", max_length=20, labels_per_text="many")
    model = load(write_checkpoint(tmp_path / "best.ckpt", tokenizer, data, {"classes": list(classes)}))
    label_table(model, table_of_texts(TEXTS), tmp_path / "out.csv", each_class=False)
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["text", "labels", "probability"]
    for row, prediction in zip(rows, model.predict(TEXTS), strict=True):
        assert row["labels"] == "|".join(prediction.labels)
        expected = 1.0
        for value in prediction.probabilities.values():
            expected *= max(value, 1 - value)
        assert float(row["probability"]) == pytest.approx(expected, abs=2e-6)


def test_a_table_of_any_length_is_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling, "WINDOW", 2 * TEXTS_AT_A_TIME)
    read = written = most = 0

    def texts() -> Iterator[str]:
        nonlocal read, most
        for read in range(1, 5001):
            most = max(most, read - written)
            yield "a film"

    def count(count: int) -> None:
        nonlocal written
        written += count

    monkeypatch.setattr(Progress, "advance", lambda self, number: count(number))
    label_table(model_of(tmp_path), table_of_texts(texts()), tmp_path / "out.jsonl", each_class=False)
    assert (read, written) == (5000, 5000)
    assert most <= 6 * TEXTS_AT_A_TIME


def test_columns_whose_names_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "textrnn")
    model = model_of(tmp_path)
    (tmp_path / "in.csv").write_text("text,label\na fine film,1\n")
    label_table(model, whole_table(str(tmp_path / "in.csv"), ["text"]), tmp_path / "out.csv", each_class=False)
    (row,) = rows_of(tmp_path / "out.csv")
    assert list(row) == ["text", "label", "predicted_label", "predicted_probability"]
    assert (row["label"], row["predicted_label"]) == ("1", model.predict(["a fine film"])[0].label)
    assert "new columns: predicted_label, predicted_probability" in caplog.text
    assert new_columns(model, ["probability_positive"], each_class=False) == ["label", "probability"]
    assert new_columns(model, ["probability_positive"], each_class=True)[3] == "predicted_probability_positive"
    with pytest.raises(InputError, match="the table has a column 'predicted_label'"):
        new_columns(model, ["label", "predicted_label"], each_class=False)


def test_a_run_that_diverged_or_a_row_that_is_wrong_leaves_no_file(tmp_path: Path) -> None:
    model = model_of(tmp_path)

    def broken() -> Iterator[str]:
        yield from TEXTS
        raise InputError("row 1001 is wrong")

    with pytest.raises(InputError, match="row 1001"):
        label_table(model, table_of_texts(broken()), tmp_path / "out.csv", each_class=False)
    with torch.no_grad():
        model.network.output.bias.fill_(torch.nan)
    table: WholeTable = table_of_texts(TEXTS)
    with pytest.raises(InputError, match="has diverged"):
        label_table(model, table, tmp_path / "out.csv", each_class=False)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
