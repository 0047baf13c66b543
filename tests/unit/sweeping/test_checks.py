"""Sweep files that can't work: refused before the first trial, with the name of what is wrong, in one sentence."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import Command

from textrnn.base.errors import InputError
from textrnn.commands.sweep import main
from textrnn.config.schema import Config
from textrnn.sweeping.checks import check_values
from textrnn.sweeping.processes import trial_command
from textrnn.sweeping.sweep_file import read_sweep

GOOD: dict[str, Any] = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"optimizer.lr": {"values": [0.001, 0.01]}},
    "command": [
        *("${env}", "${interpreter}", "${program}"),
        *("data=synthetic", "early_stopping.monitor=val/loss"),
        *("resume=auto", "test=false", "${args_no_hyphens}"),
    ],
}
HYPERBAND = {"type": "hyperband", "min_iter": 1}
LR = {"min": 0.001, "max": 0.01}
VAL_LOSS = {"name": "val/loss", "goal": "minimize"}
VAL_ACCURACY = {"name": "val/accuracy", "goal": "maximize"}


def written(tmp_path: Path, **changes: Any) -> Path:
    config = deepcopy(GOOD) | changes
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not ...}))
    return path


def checked(path: Path, typed: Sequence[str] = ()) -> Config:
    sweep = read_sweep(path, typed)
    config = check_values(sweep)
    trial_command(sweep, {})
    return config


def refusal(path: Path, typed: Sequence[str] = ()) -> str:
    with pytest.raises(InputError) as caught:
        checked(path, typed)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert path.name in sentence
    return sentence


@pytest.mark.slow
def test_the_file_that_the_bad_ones_are_made_of_is_good(tmp_path: Path) -> None:
    config = checked(written(tmp_path))
    assert config.optimizer.lr == 0.001
    assert not config.test


@pytest.mark.parametrize(
    ("value", "mentions"),
    [
        (None, "null arrives as the text None"),
        ("adam,sgd", "several values"),
        ("it's", "can't be typed"),
        ('"quoted"', "arrives as"),
        ("'quoted'", "arrives as"),
        ("a=b", "can't be typed"),
        ("f(x)", "can't be typed"),
        ("#1", "can't be typed"),
        ("!a", "can't be typed"),
        ("a;b", "can't be typed"),
        ("a&b", "can't be typed"),
        ("a<b", "can't be typed"),
        ("~a", "can't be typed"),
        ("café", "can't be typed"),
        (" padded ", "arrives as"),
        ("123", "the int 123"),
        ("1e-3", "the float 0.001; write it with a decimal point"),
        ("true", "the bool True"),
        ("null", "the NoneType None"),
        ("${seed}", "arrives as"),
        ({"a": 1}, "is a mapping"),
        ([1, None], "arrives as"),
    ],
)
def test_a_value_that_would_arrive_as_another(tmp_path: Path, value: Any, mentions: str) -> None:
    sentence = refusal(written(tmp_path, parameters={"tracking.notes": {"values": ["fine", value]}}))
    assert "parameter tracking.notes" in sentence
    assert mentions in sentence


@pytest.mark.parametrize(
    ("parameters", "mentions"),
    [
        ({}, "parameters: must name"),
        ([], "parameters: must name"),
        ({"optimizer.lr": 3}, "parameter optimizer.lr: 3 is not a choice"),
        ({"optimizer": {"parameters": {"lr": {"value": 1}}, "min": 1}}, "parameter optimizer: min: can't stand beside"),
        (
            {"optimizer": {"parameters": {"lr": {"value": 1}}}, "optimizer.lr": {"value": 1}},
            "optimizer.lr: is there twice",
        ),
        ({"optimizer": {"parameters": {"rl": {"values": [1, 2]}}}}, "parameter optimizer.rl: "),
        ({"optimizer.lr": {"values": []}}, "parameter optimizer.lr: values:"),
        ({"optimizer.lr": {"min": "1e-4", "max": 0.1}}, "parameter optimizer.lr: min: '1e-4' is not a number in YAML"),
        ({"optimizer.lr": {"min": 0.1, "max": 0.01}}, "parameter optimizer.lr: min 0.1 is not less"),
        ({"optimizer.lr": {"distribution": "log_uniform", "min": -3, "max": -1}}, "log_uniform_values"),
        ({"optimizer.lr": {"distribution": "even", "min": 1, "max": 2}}, "parameter optimizer.lr: "),
        ({"optimizer.lr": LR}, "optimizer.lr is a disallowed type with grid"),
        ({"optimizer.lr": {"values": [0.1, -0.1]}}, "parameter optimizer.lr: optimizer.lr=-0.1"),
        ({"model.hiden_size": {"values": [8, 16]}}, "did you mean model.hidden_size?"),
        ({"model.hidden_size": {"values": [8, 16.5]}}, "parameter model.hidden_size: "),
        ({"model": {"values": ["gru", "transformer"]}}, "parameter model: "),
        ({"+foo": {"values": [1]}}, "parameter +foo"),
        ({"hydra.run.dir": {"values": ["a", "b"]}}, "parameter hydra.run.dir"),
        ({"run_dir": {"values": ["a", "b"]}}, "parameter run_dir"),
        ({"resume": {"values": ["auto"]}}, "resume=auto: the sweep varies resume"),
        ({"data": {"values": ["synthetic", "imdb"]}}, "data=synthetic: the sweep varies data"),
        ({"model.num_layers": {"values": [1, 2]}, "model.dropout": {"values": [0.1, 1.5]}}, "parameter model.dropout"),
    ],
)
def test_parameters(tmp_path: Path, parameters: Any, mentions: str) -> None:
    assert mentions in refusal(written(tmp_path, parameters=parameters))


@pytest.mark.parametrize(
    ("changes", "mentions"),
    [
        ({"method": "gird"}, "method: gird is not known"),
        ({"method": "custom"}, "method: custom needs something that proposes; write scheduler: with engine: optuna"),
        ({"scheduler": {"engine": "ax"}}, "write engine: wandb or engine: optuna"),
        ({"scheduler": "optuna"}, "write engine: wandb or engine: optuna"),
        ({"scheduler": {"engine": "optuna", "source": "search.py"}}, "source: names code to run"),
        ({"scheduler": {"engine": "optuna", "job": "a"}}, "there is no key job"),
        ({"scheduler": {"engine": "optuna"}, "method": ...}, "--count N"),
        ({"scheduler": {"engine": "optuna"}, "run_cap": 2, "metric": ...}, "method: needs a metric"),
        (
            {
                "scheduler": {"engine": "optuna"},
                "run_cap": 2,
                "parameters": {"optimizer.lr": {"distribution": "log_normal", "mu": -5, "sigma": 0.5}},
            },
            "parameter optimizer.lr: Optuna can't draw log_normal",
        ),
        ({"metrics": []}, "metrics: can't stand beside metric:"),
        ({"metrics": {}, "metric": ...}, "metrics: must be a list"),
        ({"metrics": [VAL_LOSS, VAL_LOSS], "metric": ...}, "metrics: val/loss is there twice"),
        ({"metrics": [VAL_LOSS, VAL_ACCURACY], "metric": ...}, "metrics: W&B's engine takes one metric"),
        ({"seed": -1}, "seed: -1 is not a seed"),
        ({"method": ...}, "method: is missing"),
        ({"method": "random"}, "--count N"),
        ({"method": "bayes", "run_cap": 3, "metric": ...}, "method: needs a metric"),
        ({"method": "bayes", "run_cap": 3, "parameters": {"seed": {"value": 1}}}, "bayes needs one that varies"),
        (
            {
                "method": "bayes",
                "run_cap": 3,
                "parameters": {"seed": {"values": [1, 2], "probabilities": [0.5, 0.5]}},
            },
            "parameter seed: probabilities",
        ),
        ({"metod": "grid"}, "did you mean method?"),
        ({"run_cap": 0}, "run_cap: 0"),
        ({"project": "team/project"}, "project: 'team/project'"),
        ({"program": "trian.py"}, "program: there is no trian.py"),
        ({"metric": {"name": "val_loss", "goal": "minimize"}}, "did you mean val/loss?"),
        ({"metric": {"name": "val/accuracy"}}, "goal: maximize"),
        ({"metric": {"name": "val/accuracy", "goal": "minimize"}}, "the worst val/accuracy"),
        ({"metric": {"name": "val/loss", "goal": "lower"}}, "goal: lower"),
        ({"metric": {"name": "val/loss", "target": "low"}}, "target: 'low'"),
        ({"metric": "val/loss"}, "metric: needs name:"),
        (
            {"metric": {"name": "val/accuracy", "goal": "maximize"}},
            "early_stopping.monitor=val/loss; type early_stopping.monitor=val/accuracy.",
        ),
        ({"metric": {"name": "val/f1", "goal": "maximize"}}, "monitor=val/loss; write val/loss as the metric's name"),
        (
            {
                "command": ["${program}", "resume=auto", "test=false", "${args_no_hyphens}"],
                "parameters": {"early_stopping.monitor": {"values": ["val/loss", "val/accuracy"]}},
            },
            "parameter early_stopping.monitor: metric: val/loss is not what chooses a trial's epoch",
        ),
        ({"metric": {"name": "test/loss"}}, "never logged with test=false"),
        (
            {
                "method": "bayes",
                "run_cap": 3,
                "metric": {"name": "test/loss", "goal": "minimize"},
                "command": ["${program}", "test=true", "resume=auto", "${args_no_hyphens}"],
            },
            "method: bayes would search by test/loss",
        ),
        ({"metric": ..., "early_terminate": HYPERBAND}, "early_terminate: needs a metric"),
        ({"early_terminate": {"type": "median"}}, "early_terminate: needs type: hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate: "),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, "has 3 in a trial"),
        ({"command": ...}, "command: is missing"),
        ({"command": ["${env}", "${interpreter}", "${program}", "${args}"]}, "${args_no_hyphens}"),
        ({"command": ["${program}", "resume=auto"]}, "no macro after ${program}"),
        ({"command": ["${program}", "resume=auto", *["${args_no_hyphens}"] * 2]}, "${args_no_hyphens} once"),
        (
            {"command": ["${program}", "resume=auto", "data.path=${envvar:NO_SUCH}", "${args_no_hyphens}"]},
            "command: data.path=${envvar:NO_SUCH}: the environment variable NO_SUCH is not set",
        ),
        ({"command": ["${envvar:NO_SUCH}", "${program}", "resume=auto", "${args_no_hyphens}"]}, "NO_SUCH is not set"),
        ({"controller": {"type": "local"}}, "controller: W&B's server proposes the trials"),
        ({"job": "a/b:latest"}, "job: it is for W&B Launch"),
        ({"early_terminate": HYPERBAND | {"strict": "yes"}}, "early_terminate: strict: 'yes' is not known"),
        ({"command": ["${program}", "${args_no_hyphens}"]}, "needs resume=auto"),
        ({"command": ["${program}", "model=gruu", "resume=auto", "${args_no_hyphens}"]}, "did you mean gru?"),
        ({"command": ["${program}", "-m", "resume=auto", "${args_no_hyphens}"]}, "command: "),
        ({"command": ["${program}", "run_dir=x", "resume=auto", "${args_no_hyphens}"]}, "its own run_dir"),
        (
            {"metric": ..., "command": ["${args_json}", "${program}", "resume=auto", "${args_no_hyphens}"]},
            "${args_json}",
        ),
    ],
)
def test_the_rest_of_the_file(tmp_path: Path, changes: dict[str, Any], mentions: str) -> None:
    assert mentions in refusal(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("typed", "mentions"),
    [
        ("optimizer.lr=0.1", "the sweep varies optimizer.lr"),
        ("run_dir=here", "its own run_dir"),
        ("resume=null", "resume=auto"),
        ("model.hiden_size=3", "did you mean model.hidden_size?"),
        ("model.hidden_size=0", "what all trials share: model.hidden_size=0"),
        ("trainer.limit_val_batches=0", "validation is off"),
        ("early_stopping.monitor=val/accuracy", "type early_stopping.monitor=val/loss."),
        ("tracking.project=team/project", "tracking.project"),
    ],
)
def test_what_is_typed_beside_the_file(tmp_path: Path, typed: str, mentions: str) -> None:
    assert mentions in refusal(written(tmp_path), [typed])


@pytest.mark.parametrize("macro", ["${args_append_hydra}", "${args_override_hydra}"])
def test_macros_and_helper_keys_of_wandbs_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, macro: str) -> None:
    monkeypatch.setenv("TOOLS", "/usr/bin")
    monkeypatch.setenv("NOTE", "a note #1")
    path = tmp_path / "sweep.yaml"
    path.write_text(
        """
        shared: &shared [data=synthetic, early_stopping.monitor=val/loss]
        ranges:
          - &lr {values: [0.001, 0.01]}
        program: train.py
        method: grid
        metric: {name: val/loss, goal: minimize}
        early_terminate: {type: hyperband, min_iter: 1, strict: true}
        parameters: {optimizer.lr: *lr}
        command: ["${envvar:TOOLS}/nice", "${interpreter}", "${program}", "MACRO", data=synthetic, resume=auto,
                  "++tracking.notes=${envvar:NOTE}", test=false, early_stopping.monitor=val/loss]
        """.replace("MACRO", macro)
    )
    sweep = read_sweep(path, ["seed=7"])
    assert check_values(sweep).tracking.notes == "a note #1"
    command = trial_command(sweep, {"optimizer.lr": 0.01})
    assert command[0] == "/usr/bin/nice"
    assert command[3:] == [
        *("data=synthetic", "resume=auto", "tracking.notes='a note #1'", "test=false"),
        *("early_stopping.monitor=val/loss", "seed=7", "optimizer.lr=0.01"),
    ]
    assert "shared" not in sweep.config
    assert "ranges" not in sweep.config
    assert sweep.config["command"][0] == "${envvar:TOOLS}/nice", "an agent fills in its own machine's"
    assert sweep.config["command"][-3:] == ["early_stopping.monitor=val/loss", "seed=7", macro]


def test_nested_parameters_are_dotted_keys(tmp_path: Path) -> None:
    nested = {"optimizer": {"parameters": {"lr": {"values": [0.001, 0.01]}}}, "seed": {"value": 3}}
    sweep = read_sweep(written(tmp_path, parameters=nested))
    assert sweep.parameters == {"optimizer.lr": {"values": [0.001, 0.01]}, "seed": {"value": 3}}
    assert check_values(sweep).optimizer.lr == 0.001


def test_one_metric_in_a_list_is_that_metric(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, metrics=[VAL_LOSS], metric=...))
    assert sweep.config["metric"] == VAL_LOSS
    assert "metrics" not in sweep.config


def test_the_engine_of_wandb_needs_no_scheduler_elsewhere(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, scheduler={"engine": "wandb"}))
    assert (sweep.search, "scheduler" in sweep.config) == ("grid", False)


def test_a_preview_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    path = str(written(tmp_path, method="random", run_cap=3, parameters={"optimizer.lr": LR}))
    printed = []
    for _ in range(2):
        assert main([path, "--seed", "5", "--dry-run"]) == 0
        printed.append(capsys.readouterr().out.splitlines())
    assert printed[0] == printed[1]
    assert [line.partition("=")[0] for line in printed[0]] == [f"trial {n}: optimizer.lr" for n in (1, 2, 3)]
    assert main([path, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "a search without --seed draws others"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["sweep.yaml", "train.py"]


def test_a_parameter_that_makes_no_difference(tmp_path: Path) -> None:
    path = written(tmp_path, parameters={"model": {"values": ["gru", "lstm"]}})
    assert "gru and lstm make the same run" in refusal(path, ["model.cell=gru", "optimizer.lr=0.002"])


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "can't be read" in refusal(tmp_path / "missing.yaml")
    (tmp_path / "torn.yaml").write_text("method: [grid\n")
    assert "is not YAML in line 2" in refusal(tmp_path / "torn.yaml")
    (tmp_path / "list.yaml").write_text("- grid\n")
    assert "is not a sweep file" in refusal(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9\n".encode("latin-1"))
    assert "can't be read" in refusal(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["sweep.yaml", "--agents", "0"], "--agents 0"),
        (["sweep.yaml", "--agents", "1000"], "two per core"),
        (["sweep.yaml", "--count", "few"], "--count few"),
        (["sweep.yaml", "sweep.yaml"], "one sweep file"),
        ([], "one sweep file"),
        (["sweep.yaml", "data.path=~/no such reviews.csv"], "does not exist (looked for"),
        (["--resume", "runs/none"], "there is no sweep"),
        (["--resume", "runs/none", "seed=1"], "leave it out"),
    ],
)
def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], mentions: str) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        main(arguments)
    assert mentions in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.slow
def test_a_refusal_is_one_sentence_and_leaves_nothing(script: Command, workplace: Path, tmp_path: Path) -> None:
    wrong = written(tmp_path, parameters={"optimizer": {"parameters": {"rl": {"values": [0.1]}}}})
    done = script("sweep.py", str(wrong))
    assert done.returncode == 2, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert "parameter optimizer.rl" in sentence
    assert list(workplace.iterdir()) == []
