from pathlib import Path

import pytest
from doubles.recorded_runs import make_run

from textrnn.base.errors import InputError
from textrnn.lookup.records import RunRecord, read_run
from textrnn.lookup.selection import Condition, best_of, check_metric, data_of, selected


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return read_run(make_run(tmp_path / "a", seed=3, summary={"val/accuracy": 0.75, "val/loss": float("nan")}))


CONDITIONS = {
    "model.cell=gru": True,
    "model.cell=lstm, gru": True,
    "model.cell=g*": True,
    "model.cell!=gru": False,
    "seed=3.0": True,
    "seed==3": True,
    "seed>=3": True,
    "seed<3": False,
    "val/accuracy>0.7": True,
    "val/accuracy > .7": True,
    "val/accuracy<=0.7": False,
    "val/loss<1": False,
    "val/loss>1": False,
    "val/loss=nan": True,
    "test/accuracy>0": False,
    "test/accuracy=null": True,
    "test/accuracy!=0.5": True,
    "optimizer.betas=[0.9,0.999]": True,
    "optimizer.betas=0.9": True,
    "created>=2026-11-01": True,
    "created>2026-12": False,
    "created>2025": True,
    "state=finished,stopped": True,
    "name=gru s3": True,
}


@pytest.mark.parametrize(("typed", "holds"), CONDITIONS.items())
def test_a_condition_holds_or_not(run: RunRecord, typed: str, holds: bool) -> None:
    assert Condition.parse(typed)(run) == holds


def test_wrong_conditions_are_refused_with_what_to_type(run: RunRecord) -> None:
    for typed, message in {
        "val/accuracy": "in quotes 'KEY>VALUE'",
        "=gru": "not a condition",
        "seed>": "nothing to compare",
        "model.cel=gru": r"did you mean model\.cell",
        "val/acuracy>0.9": "did you mean val/accuracy",
    }.items():
        with pytest.raises(InputError, match=message):
            selected([run], [typed])
    assert selected([run], ["optimizer.lr=null", "seed=3"]) == [run]  # a key of the schema that this run lacks


def test_the_best_is_finished_measured_and_the_oldest_of_equals(tmp_path: Path) -> None:
    results: dict[str, dict[str, object]] = {
        "later": {"val/accuracy": 0.8, "val/loss": 0.1},
        "older": {"val/accuracy": 0.8, "val/loss": 0.2},
        "stopped": {"val/accuracy": 0.9, "status": "stopped"},
        "diverged": {"val/accuracy": float("nan")},
        "unmeasured": {},
    }
    runs = [
        read_run(make_run(tmp_path / name, summary=summary, created="2025" if name == "older" else "2026"))
        for name, summary in results.items()
    ]
    chosen = {metric: best_of(runs, metric) for metric in ("val/accuracy", "val/loss", "val/f1")}
    assert {metric: run and run.path.name for metric, run in chosen.items()} == {
        "val/accuracy": "older",
        "val/loss": "later",
        "val/f1": None,
    }


def test_the_test_chooses_nothing() -> None:
    check_metric("val/loss")
    for metric, message in {
        "test/accuracy": "test must not choose a run; type --metric val/accuracy",
        "lr": "no metric with a best value",
        "val/acc": "did you mean",
    }.items():
        with pytest.raises(InputError, match=message):
            check_metric(metric)


def test_data_are_told_apart_by_what_names_them() -> None:
    def run(**config: object) -> RunRecord:
        named = {key.replace("_", ".", 1): value for key, value in config.items()}
        return RunRecord(path=Path(), state="finished", identity={}, config=named, summary={})

    assert data_of(run(data_path="a", model_cell="gru")) == data_of(run(data_path="a", model_cell="rnn"))
    assert data_of(run(data_path="a")) != data_of(run(data_path="b"))
