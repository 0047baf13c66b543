"""What `evaluate.py` takes, and how it names what it measures."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from textrnn.base.errors import InputError
from textrnn.commands.evaluate import _check_same_data, _in_flags, data_name, default_output


@dataclass
class Trained:
    """The parts of a checkpoint that an ensemble compares."""

    path: Path
    classes: tuple[str, ...] = ("negative", "positive")
    tokenizer_json: str = "{}"
    data: dict[str, Any] = field(default_factory=lambda: {"splits": {"test": {"reviews": 3}}})


def test_an_ensemble_is_of_different_runs_of_the_same_data() -> None:
    one, other = Trained(Path("one.ckpt")), Trained(Path("other.ckpt"))
    _check_same_data([one, other], "test")  # type: ignore[list-item]
    for second, words in (
        (replace(other, classes=("a", "b")), "other.ckpt: its classes are not those of one.ckpt"),
        (replace(other, tokenizer_json="x"), "its words are not those of"),
        (replace(other, data={"splits": {"test": {"reviews": 4}}}), "its test reviews are not those of"),
        (replace(other, path=Path("./one.ckpt")), "one.ckpt is given twice"),
    ):
        with pytest.raises(InputError, match=words):
            _check_same_data([one, second], "test")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("path", "split", "name"),
    [
        ("other.csv", None, "other"),
        ("a/new month.2026-11.csv.gz", None, "new-month.2026-11"),
        ("a/reviews", "test", "reviews-test"),
        ("a/test.csv", None, "a-test"),
        ("a/Validation", None, "a-Validation"),
        ("a/*.csv", None, "data"),
        ("a/../b/x.parquet", None, "x"),
    ],
)
def test_other_data_have_a_name_that_no_split_has(path: str, split: str | None, name: str) -> None:
    assert data_name(path, split) == name


@pytest.mark.parametrize(
    ("typed", "run", "folder"),
    [
        ("hub:alice/tiny@v1.2", "cache/snapshots/4b825d", "evaluation-test-tiny-v1.2"),
        ("wandb:films/gru-1:best", "cache/gru-1-v0/best.ckpt", "evaluation-test-gru-1-v0"),
    ],
)
def test_a_fetched_model_is_measured_in_a_folder_here(typed: str, run: str, folder: str) -> None:
    assert default_output([typed], [Path(run)], "test") == Path(folder)


def test_messages_name_the_flags_of_the_command() -> None:
    for message, shown in (
        ("data.path=a.csv: type data.text_column=review", "--data-path a.csv: type --text-column review"),
        ("""type 'data.label_column="my label"'""", "type --label-column 'my label'"),
        ("type data.encoding=cp1252 or the encoding that it has, or save it as UTF-8", "save it as UTF-8"),
        ("x, but data.classes names a, b; remove it, or add the class", "x, and the run's classes are a, b; remove it"),
    ):
        assert _in_flags(message) == shown
