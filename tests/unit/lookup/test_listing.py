import math
from pathlib import Path

import pytest
from doubles.recorded_runs import make_run

from textrnn.lookup.listing import DEFAULT, Line, in_order, lines_of, print_lines
from textrnn.lookup.records import RunRecord, read_run


def record(path: Path, **summary: object) -> RunRecord:
    return read_run(make_run(path, summary=summary))


def test_a_sweep_is_one_line_with_the_results_of_the_run_that_validation_chose(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    runs = [
        record(sweep / "a", **{"val/accuracy": 0.6, "test/accuracy": 0.9}),
        record(sweep / "b", **{"val/accuracy": 0.7, "test/accuracy": 0.5}),
        record(sweep / "c", **{"val/accuracy": 0.8, "status": "failed"}),
        read_run(make_run(sweep / "d", seed=1)),
        record(tmp_path / "alone"),
    ]
    first, second = lines_of(runs, {run.path: sweep for run in runs[:-1]})
    assert first.path == f"{sweep}/"
    assert first.value("state") == "2 finished, 1 failed, 1 killed"
    assert [first.value(name) for name in ("val/accuracy", "test/accuracy", "seed", "model.cell")] == [
        0.7,
        0.5,
        "0,1",
        "gru",
    ]
    assert (second.path, second.value("state")) == (str(tmp_path / "alone"), "finished")


@pytest.mark.parametrize(("sort", "order"), [("val/loss", "badc"), ("-val/loss", "abdc")])
def test_lines_without_a_value_come_last_in_both_orders(tmp_path: Path, sort: str, order: str) -> None:
    values = {"a": {"val/loss": 0.7}, "b": {"val/loss": 0.3}, "d": {"val/loss": math.nan}, "c": {}}
    lines = [Line(name, [record(tmp_path / name, **summary)]) for name, summary in values.items()]
    assert "".join(line.path for line in in_order(lines, sort)) == order


def test_a_narrow_terminal_has_fewer_columns_and_a_pipe_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = "a long reason " * 20
    damaged = RunRecord(path=Path("x"), state="damaged", identity={}, config={}, summary={"damage": damage})
    lines = [Line("語" * 8, [record(tmp_path / "a", **{"val/accuracy": 0.5})]), Line("x", [damaged])]
    monkeypatch.delenv("COLUMNS", raising=False)
    print_lines(lines, DEFAULT)
    head, run, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["path", "state", *DEFAULT]
    assert run.endswith("1 min 1 s")
    assert last.split() == ["x", "damaged:", *damage.split()]
    monkeypatch.setenv("COLUMNS", "45")
    print_lines(lines, DEFAULT)
    head, run, last, left_out = capsys.readouterr().out.splitlines()
    assert head.split() == ["path", "state", "val/accuracy"]
    assert run.split() == ["語" * 8, "finished", "0.5000"]
    assert left_out == f"(not shown, as the terminal is too narrow: {', '.join(DEFAULT[1:])})"
