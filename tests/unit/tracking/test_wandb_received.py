import dataclasses
import math
from pathlib import Path

import pytest

from textrnn.tracking.wandb_received import Logged, Received


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(b"picture")
    (tmp_path / "empty.txt").touch()
    summary = {"val/loss": math.nan, "test/loss": 0.25, "best_step": None, "status": "finished", "step": 20}
    outputs = {"gru-1": "digest", "run-1-testroc_table": None}
    return Logged(
        path="me/films/1", steps=[10, 20], summary=summary, files=tmp_path, outputs=outputs, inputs=frozenset({"data"})
    )


WHOLE = Received(
    last_step=20,
    summary={"val/loss": "NaN", "test/loss": 0.25, "status": "finished", "step": 20, "_step": 20},
    running=False,
    files={"media/a.png": 7},
    outputs={"gru-1": frozenset({"digest", "older"}), "run-1-testroc_table": frozenset({"any"})},
    inputs=frozenset({"data"}),
)


def test_what_is_there_is_not_missing(logged: Logged) -> None:
    assert WHOLE.lacks(logged) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"last_step": 10}, "1 of 2 rows"),
        ({"summary": {}}, "the summary"),
        ({"summary": WHOLE.summary | {"test/loss": 0.5}}, "the summary"),
        ({"summary": WHOLE.summary | {"val/loss": 0.5}}, "the summary"),
        ({"running": True}, "the end of the run"),
        ({"files": {}}, "1 file (media/a.png)"),
        ({"files": {"media/a.png": 0}}, "1 file (media/a.png)"),
        ({"outputs": {}}, "2 artifacts (gru-1, run-1-testroc_table)"),
        ({"outputs": WHOLE.outputs | {"gru-1": frozenset({"older"})}}, "1 artifact (gru-1)"),
        ({"inputs": frozenset()}, "1 artifact (data)"),
    ],
)
def test_what_is_missing_is_named(logged: Logged, change: dict[str, object], said: str) -> None:
    assert dataclasses.replace(WHOLE, **change).lacks(logged) == [said]  # type: ignore[arg-type]


def test_of_many_files_some_are_named(logged: Logged, tmp_path: Path) -> None:
    for name in "bcdef":
        (tmp_path / f"{name}.png").write_bytes(b"picture")
    assert WHOLE.lacks(logged) == ["5 files (b.png, c.png, d.png and 2 more)"]
