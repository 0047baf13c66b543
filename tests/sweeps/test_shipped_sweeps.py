"""The files in `sweeps/`: each value of each goes the agent's way into a configuration, and each header tells."""

import re
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from support import ROOT

from textrnn.config.compose import compose
from textrnn.sweeping.checks import STAND_IN, check_values
from textrnn.sweeping.engine import ends
from textrnn.sweeping.sweep_file import read_sweep
from textrnn.tracking.wandb_internals import sweep_arguments

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
COMPARES = ("compare_cells",)
"""Files that choose nothing and may therefore test."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_arrives_as_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)  # the user's own
    sweep = read_sweep(path)
    first = check_values(sweep)
    # Without it plain `wandb sweep` puts the sweep into a project called uncategorized.
    assert sweep.config["project"] == first.tracking.effective_project()
    assert first.resume == "auto"
    assert first.test == (path.stem in COMPARES)
    for name, specification in sweep.parameters.items():
        for value in ends(name, specification):
            config = compose([*sweep.fixed, *sweep_arguments({name: value}), STAND_IN])
            assert attrgetter("model.cell" if name == "model" else name)(config) == value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_chosen_checkpoint_is_the_one_that_was_compared(path: Path) -> None:
    sweep = read_sweep(path)
    assert sweep.metric is not None
    if sweep.metric.name.startswith("val/"):
        assert check_values(sweep).early_stopping.monitor == sweep.metric.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_says_command_trials_time_and_findings(path: Path) -> None:
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"python sweep.py sweeps/{path.name}" in header
    assert f"wandb sweep sweeps/{path.name}" in header
    assert "Found: " in header
    assert "Time: " in header
    (trials,) = re.findall(r"Trials: (\d+)", header)
    content = yaml.safe_load(path.read_text())
    grid = 1
    for specification in content["parameters"].values():
        grid *= len(specification.get("values", []))
    assert int(trials) == content.get("run_cap", grid)
