"""What an agent types for a pre-empted trial comes to the configuration that the trial began with."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from textrnn.base.errors import InputError
from textrnn.config.compose import compose, compose_jobs, parse_command_line
from textrnn.config.resumed_trial import read_back
from textrnn.config.schema import Config
from textrnn.tracking.identity import new_identity
from textrnn.tracking.wandb_identity import flat
from textrnn.tracking.wandb_internals import sweep_arguments

FIXED = ["data=synthetic", "model=gru", "trainer=cpu", "resume=auto", "test=false"]
NOTES = "what it is, and why: 'a' = \"b\" #1"
DIRECTORY = Path("runs/sweep1/trial1")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A trial that an agent runs, in its directory; its configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    config = compose(
        [
            *(*FIXED, "model=lstm", "optimizer.betas=[0.0,0.999]", "tracking.tags=[a b,c]", "data.vocab_size=300"),
            *("trainer.val_check_interval=1.0", "optimizer.lr=1e-05", f"run_dir={DIRECTORY}"),
        ]
    )
    config.tracking.notes = NOTES
    DIRECTORY.mkdir(parents=True)
    (DIRECTORY / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    return config


def of_wandb(config: Config) -> dict[str, Any]:
    """W&B's config of the trial: the sweep's own key, the settings, the identity and what the client adds."""
    identity = new_identity(config, ["train.py", "data=synthetic", "tracking.notes=a, b"]).to_dict()
    told = flat({"model": "lstm", **flat(asdict(config)), "run": identity})
    return {**told, "_wandb": {"t": {"4": "3.11"}}, "of_a_person": "mine"}


def composed(argv: list[str]) -> tuple[Config, list[str]]:
    kept, left_out = read_back(argv)
    (config,) = compose_jobs(parse_command_line(kept))
    return config, left_out


def test_all_of_wandbs_config_is_the_trials_own(begun: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = of_wandb(begun)
    keys = [key for key in told if key.startswith("run.")]
    parameters = tmp_path / "wandb" / "config-trial1.yaml"
    parameters.parent.mkdir()
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **{key: {"value": told[key]} for key in told}}))
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
    assert composed([*FIXED, *sweep_arguments(told)]) == (begun, [*keys, "_wandb", "of_a_person"])
    # As a server sends it that writes 1.0 as 1.
    shorter = json.loads(json.dumps(told).replace(".0,", ",").replace(".0]", "]"))
    assert shorter["trainer.val_check_interval"] == 1
    again, _ = composed([*FIXED, *sweep_arguments(shorter)])
    assert (again, type(again.trainer.val_check_interval)) == (begun, float)


def test_without_the_agents_file_the_clients_own_keys_are_left_out(begun: Config) -> None:
    typed = ["_wandb={'t': {'4': '3.11'}}", "run.id=trial1", "data.path=None", "trainer.max_time=None"]
    kept, left_out = read_back([*FIXED, *(f"++{text}" for text in typed)])  # as ${args_override_hydra} types it
    assert left_out == ["_wandb", "run.id"]
    assert kept[-2:] == ["data.path=null", "trainer.max_time=null"]
    kept, left_out = read_back([*FIXED, *typed])
    assert left_out == ["_wandb", "run.id"]
    assert kept[-2:] == ["data.path=null", "trainer.max_time=null"]
    with pytest.raises(InputError, match="there is no key of_a_person"):
        composed([*FIXED, "of_a_person=mine"])


@pytest.mark.parametrize("typed", ["_wandb={'t': 1}", "run.id=trial1", "trainer.max_time=None", "data.vocab_sise=3"])
def test_nothing_is_left_out_or_rewritten_of_other_command_lines(
    typed: str, begun: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "trial2")  # a trial that has not begun
    assert read_back([*FIXED, typed]) == ([*FIXED, typed], [])
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.delenv("WANDB_SWEEP_ID")  # no trial
    with pytest.raises(InputError, match=typed.partition("=")[0]):
        composed([*FIXED, f"run_dir={DIRECTORY}", typed])


def test_a_directory_that_is_typed_is_the_trials(begun: Config, tmp_path: Path) -> None:
    other = tmp_path / "of all trials"
    DIRECTORY.rename(other)
    assert read_back(["run.id=trial1"]) == (["run.id=trial1"], [])
    assert read_back([f"run_dir={other}", "run.id=trial1"]) == ([f"run_dir={other}"], ["run.id"])
