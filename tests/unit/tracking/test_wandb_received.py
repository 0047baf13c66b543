import dataclasses
import math
from pathlib import Path

import pytest

from textrnn.tracking.wandb_received import Logged, Received, local_files


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(b"picture")
    (tmp_path / "config.yaml").write_bytes(b"seed: 0")
    (tmp_path / "empty.txt").touch()
    files = local_files(tmp_path, ["*.yaml"])
    summary = {"val/loss": math.nan, "test/loss": 0.25, "best_step": None, "status": "finished", "step": 20}
    outputs = {"gru-1": "digest", "run-1-testroc_table": None}
    return Logged(
        path="me/films/1",
        steps=[10, 20],
        summary=summary,
        files=files,
        outputs=outputs,
        inputs=frozenset({"data"}),
        tags=frozenset({"early-stopped"}),
        charts=frozenset({"test/roc"}),
    )


WHOLE = Received(
    last_step=20,
    summary={"val/loss": "NaN", "test/loss": 0.25, "status": "finished", "step": 20, "_step": 20},
    running=False,
    files={"media/a.png": 7},
    outputs={"gru-1": frozenset({"digest", "older"}), "run-1-testroc_table": frozenset({"any"})},
    inputs=frozenset({"data"}),
    tags=frozenset({"mine", "early-stopped"}),
    charts=frozenset({"test/roc"}),
)


def test_what_is_there_is_not_missing(logged: Logged) -> None:
    assert WHOLE.lacks(logged) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"last_step": 10}, "1 of 2 rows"),
        ({"summary": {}}, "the summary"),
        ({"summary": {**WHOLE.summary, "test/loss": 0.5}}, "the summary"),
        ({"summary": {**WHOLE.summary, "val/loss": 0.5}}, "the summary"),
        ({"running": True}, "the end of the run"),
        ({"files": {}}, "1 file (media/a.png)"),
        ({"files": {"media/a.png": 0}}, "1 file (media/a.png)"),
        ({"outputs": {}}, "2 artifacts (gru-1, run-1-testroc_table)"),
        ({"outputs": {**WHOLE.outputs, "gru-1": frozenset({"older"})}}, "1 artifact (gru-1)"),
        ({"inputs": frozenset()}, "1 artifact (data)"),
        ({"tags": frozenset({"mine"})}, "1 tag (early-stopped)"),
        ({"charts": frozenset()}, "1 chart (test/roc)"),
    ],
)
def test_what_is_missing_is_named(logged: Logged, change: dict[str, object], said: str) -> None:
    assert dataclasses.replace(WHOLE, **change).lacks(logged) == [said]  # type: ignore[arg-type]


def test_of_many_files_some_are_named(logged: Logged) -> None:
    many = dataclasses.replace(logged, files=dict.fromkeys(("b", "c", "d", "e", "f"), 7))
    assert WHOLE.lacks(many) == ["5 files (b, c, d and 2 more)"]
