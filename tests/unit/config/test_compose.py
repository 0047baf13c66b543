"""Composition and checks: what is right composes, what is wrong gets one sentence."""

import argparse
import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from hypothesis import given
from hypothesis import strategies as st

from textrnn.base.errors import InputError
from textrnn.config import hydra_internals
from textrnn.config.checks import check
from textrnn.config.compose import compose, compose_jobs, from_dict, load_config, parse_command_line
from textrnn.config.overrides import CONF_DIR, GROUPS, schema_keys
from textrnn.config.schema import Config, EmbeddingConfig, TrainerConfig, differences
from textrnn.distributed.launch import Launch, check_devices

CHOICES = [(path.parent.name, path.stem) for group in GROUPS for path in sorted((CONF_DIR / group).glob("*.yaml"))]


def refusal(*argv: str) -> str:
    with pytest.raises(InputError) as caught:
        compose_jobs(parse_command_line(argv))
    return str(caught.value)


def test_yaml_defaults_are_the_schemas() -> None:
    assert differences(compose([]), Config()) == []


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes(group: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=name))  # extras
    check(compose([f"{group}={name}"]))


@pytest.mark.parametrize("path", sorted(CONF_DIR.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_has_a_command_in_its_header(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("python train.py" in line for line in header)


def test_the_trainers_keys_are_lightnings() -> None:
    assert {item.name for item in fields(TrainerConfig)} <= set(inspect.signature(pl.Trainer.__init__).parameters)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("modle=gru", "did you mean model?"),
        ("model.hiden_size=3", "did you mean model.hidden_size?"),
        ("+model.hiden_size=3", "did you mean model.hidden_size?"),
        ("++model.hiden_size=3", "did you mean model.hidden_size?"),
        ("+model.foo=3", "there is no key model.foo"),
        ("++modle.cell=gru", "did you mean model.cell?"),
        ("hidden_size=3", "did you mean model.hidden_size?"),
        ("model.embedding.sise=3", "did you mean model.embedding.size?"),
        ("model.cell.x=3", "type model.cell=VALUE"),
        ("~model.dropout", "can't be removed"),
        ("model=transformer", "there are gru, lstm, rnn"),
        ("model=gruu", "did you mean gru?"),
        ("data=imbd", "did you mean imdb?"),
        ("trainer=gpuu", "did you mean gpu?"),
        ("model.cell=GRU", "one of rnn, lstm, gru"),
        ("model.hidden_size=-3", "at least 1"),
        ("model.hidden_size=abc", "model.hidden_size=128"),
        ("model.num_layers=0", "at least 1"),
        ("model.dropout=1.5", "model.dropout=1.5"),
        ("model.word_dropout=1", "below 1"),
        ("model.label_smoothing=1", "below 1"),
        ("model.adversarial=-0.1", "at least 0"),
        ("model.pooling=sum", "last, mean, max, max_mean"),
        ("model.implementation=reference", "auto, compiled, fused, packed, cell"),
        ("model.nonlinearity=relu", "type model=rnn"),
        ("model.nonlinearity=elu", "tanh, relu"),
        ("model.embedding.kind=vectors", "model.embedding.vectors"),
        ("model.embedding.vectors=x", "model.embedding.kind=vectors"),
        ("model.embedding.bigrams=1", "0, or at least 2"),
        ("data.unlabelled_batch_size=64", "type data.unlabelled=true too"),
        ("optimizer.lr=nan", "optimizer.lr=0.002"),
        ("optimizer.lr=inf", "finite"),
        ("optimizer.lr=0", "above 0"),
        ("optimizer.lr=null", "optimizer.lr=0.002"),
        ("optimizer.betas=[0.9]", "two numbers"),
        ("optimizer.average=1", "at least 0 and below 1"),
        ("seed=-1", "seed=-1: must be at least 0 and below 4294967296; type for example seed=0."),
        ("data.batch_size=0", "data.batch_size=0: must be at least 1; type for example data.batch_size=64."),
        ("data.repo=", "must be a text that is not empty"),
        ("run_dir=", "type for example run_dir=null"),
        ("model.forget_bias=nan", "finite"),
        ("trainer.overfit_batches=null", "trainer.overfit_batches=None: must be a number of batches"),
        ("trainer.gradient_clip_algorithm=sum", "one of norm, value"),
        ("seed=1.5", "seed=1.5: must be an integer at least 0 and below 4294967296; type for example seed=0."),
        ("optimizer.lr=abc", "optimizer.lr=abc: must be a number above 0; type for example optimizer.lr=0.002."),
        ("data.max_length=ten", "data.max_length=ten: must be an integer at least 1"),
        ("model.bidirectional=maybe", "must be true or false; type for example model.bidirectional=true."),
        ("seed=null", "seed=null: must be an integer"),
        ("optimizer.betas=a", "optimizer.betas: must be "),
        ("model.embedding=3", "model.embedding is a section; type model.embedding.KEY=VALUE."),
        ("data.max_length=0", "at least 1"),
        ("data.path=there-is-no-such-folder", "data=synthetic"),
        ("data.truncate=middle", "head, tail"),
        ("data.synthetic.difficulty=2", "at least 0 and at most 1"),
        ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("trainer.max_epochs=null", "never end"),
        ("trainer.max_time=soon", "00:01:30:00"),
        ("trainer.max_time=00:00:00:00", "nothing would be trained"),
        ("trainer.max_epochs=0", "nothing would be trained; type for example trainer.max_epochs=3"),
        ("trainer.max_steps=0", "nothing would be trained"),
        ("trainer.limit_train_batches=0.0", "nothing would be trained"),
        ("trainer.devices={a: 1}", "trainer.devices"),
        ("trainer.limit_train_batches=1.5", "between 0.0 and 1.0"),
        ("trainer.barebones=true", "there is no key trainer.barebones"),
        ("hydra.run.dir=x", "only hydra/launcher and hydra.launcher.* can be set"),
        ("trainer.precision=8", "32-true"),
        ("tracking=wandb", "auto, none, offline, online, tensorboard, trackio"),
        ("tracking.tags=a", "tracking.tags"),
        (f"tracking.tags=[b,{'a' * 65}]", "has 65 characters; type 1 to 64"),
        ("tracking.tags=['']", "tracking.tags='' has 0 characters"),
        (f"tracking.job_type={'a' * 65}", "has 65 characters; type 1 to 64"),
        (f"tracking.name={'a' * 129}", "has 129 characters; type 1 to 128"),
        (f"tracking.group={'a' * 129}", "has 129 characters; type 1 to 128"),
        ("tracking.watch=weights", "gradients, all"),
        ("resume=auto", "run_dir"),
        ("resume=no-such-run", "no such run directory"),
        ("model=rnn,lstm", "-m"),
        ("x", "'x' is not an override; type KEY=VALUE"),
        ("tracking.tags=[a~]", "put quotes around each text in it"),
        ("tracking.notes=yes, no", """or tracking.notes='"A, B"' for a text"""),
        ("model.cell=${foo}", "foo"),
        ("run_dir='runs/${hydra:job.override_dirname}'", "there is no ${hydra:...} here"),
        ("trainer.check_val_every_n_epoch=5", "has 3 epochs, and none would be validated"),
        ("--foo", "--foo"),
        ("-sc install=tcsh", "such as install=bash"),
        ("-sc query=bash", "COMP_LINE"),
        ("-sc", "such as install=bash"),
        ("-m --cfg job", "--cfg and --multirun can't be typed together"),
        ("--resolve", "--resolve needs --cfg"),
        ("--cfg job -p optimizer.lrr", "did you mean optimizer.lr?"),
        ("-m model=glob(x*)", "there are gru, lstm, rnn"),
        ("-m seed=range(3,3)", "list the values"),
        ("-m seed=interval(0,1)", "list the values"),
    ],
)
def test_wrong_input_is_named_with_its_neighbour(typed: str, hint: str) -> None:
    sentence = refusal(*(typed.split(" ") if typed.startswith("-") else [typed]))
    assert hint in sentence
    assert "\n" not in sentence


def test_unlabelled_batches_need_something_that_learns_from_them() -> None:
    typed = ("data=synthetic", "data.unlabelled=true", "data.unlabelled_batch_size=64")
    compose([*typed, "model.virtual_adversarial=0.015"])
    assert "type for example model.virtual_adversarial=0.015 too" in refusal(*typed)
    model = ("objective=language_model", "model.num_layers=1")
    assert "type data.unlabelled_batch_size=0" in refusal(*typed, *model)
    assert "type model.virtual_adversarial=0 " in refusal(*typed, *model, "model.virtual_adversarial=0.015")
    several = ("data.labels_per_text=many", "model.virtual_adversarial=0.015")
    compose(["data=synthetic", *several])
    assert "leave it out with data.labels_per_text=many" in refusal(*typed, *several)


def test_byte_pairs_need_room_for_the_bytes() -> None:
    assert "data.vocab_size=257: must be at least 258" in refusal("data.tokenizer=bpe", "data.vocab_size=257")
    compose(["data.tokenizer=bpe", "data.vocab_size=258"])


def test_onehot_vectors_of_a_batch_stay_below_8_gib() -> None:
    sentence = refusal("model.embedding.kind=onehot", "data.batch_size=256")
    assert "data.batch_size=256 x data.max_length=400 x data.vocab_size=30000" in sentence
    assert "11.4 GiB" in sentence
    assert "data.eval_batch_size=256 x" in refusal("model.embedding.kind=onehot", "data.batch_size=128")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "typed",
    [
        "+model._target_=os.system",
        "model={cell: gru, _target_: os.system}",
        "hydra.callbacks.x._target_=os.system",
        "+hydra.callbacks.x._target_=os.system",
        "hydra.launcher._target_=os.system",
        "hydra.sweeper._target_=os.system",
        "hydra.job_logging.handlers.x.class=os.system",
        "--experimental-rerun=config.pickle",
        "--config-dir=elsewhere",
    ],
)
def test_no_code_is_named_from_the_command_line(typed: str) -> None:
    assert refusal(typed)


def test_all_jobs_of_a_multirun_are_checked_first() -> None:
    assert "transformer" in refusal("-m", "model=gru,transformer")
    assert "model.dropout=1.5" in refusal("-m", "model.dropout=0.1,1.5")
    jobs = compose_jobs(parse_command_line(["-m", "model=rnn,lstm", "seed=0,1"]))
    assert [(job.model.cell, job.seed) for job in jobs] == [("rnn", 0), ("rnn", 1), ("lstm", 0), ("lstm", 1)]


@pytest.mark.parametrize(
    ("typed", "key", "values"),
    [
        ("model=glob(*)", "model.cell", ["gru", "lstm", "rnn"]),
        ("model=glob([*],exclude=[g*,r*])", "model.cell", ["lstm"]),
        ("model=choice(rnn,gru)", "model.cell", ["rnn", "gru"]),
        ("model=sort(lstm,gru)", "model.cell", ["gru", "lstm"]),
        ("experiment=glob(keras*)", "data.tokenizer", ["keras"] * 4),
        ("seed=range(3)", "seed", [0, 1, 2]),
        ("seed=range(start=1,stop=8,step=3)", "seed", [1, 4, 7]),
        ("seed=int(choice('3','4'))", "seed", [3, 4]),
        ("seed=tag(best,choice(3,4))", "seed", [3, 4]),
        ("+seed=3,4", "seed", [3, 4]),
        ("++seed=3", "seed", [3]),
        ("tracking.notes='a, b',c", "tracking.notes", ["a, b", "c"]),
        ("optimizer.betas=[0.8,0.9],[0.7,0.9]", "optimizer.betas", [[0.8, 0.9], [0.7, 0.9]]),
    ],
)
def test_every_way_to_type_several_values(typed: str, key: str, values: list[Any]) -> None:
    jobs = compose_jobs(parse_command_line(["data=synthetic", "-m", typed, "test=false"]))
    assert [attrgetter(key)(job) for job in jobs] == values
    shuffled = compose_jobs(parse_command_line(["-m", "seed=shuffle(range(4))"]))
    assert sorted(job.seed for job in shuffled) == [0, 1, 2, 3]
    if "glob" in typed:
        assert "type -m to run them all" in refusal(typed)


def test_overrides_stand_before_and_after_flags() -> None:
    read = parse_command_line(["seed=1", "-p", "seed", "+model=lstm", "--cfg", "job", "test=false"])
    assert read.overrides == ["seed=1", "model=lstm", "test=false"]
    assert read.argv == [*read.overrides, "-p", "seed", "--cfg", "job"]


def test_a_run_is_resumed_in_its_own_directory(tmp_path: Path) -> None:
    base, last = tmp_path / "base", tmp_path / "base" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    for path in (last, last.with_name("best.ckpt")):
        path.touch()
    (base / "config.yaml").write_text(yaml.safe_dump(asdict(compose(["seed=7"]))))
    for typed in ([f"resume={last}"], [f"resume={base}", f"run_dir={base}/../base"]):
        config = compose(typed)
        assert (config.seed, config.run_dir, config.resume) == (7, str(base), str(base))
    with pytest.raises(InputError, match=r"a run is resumed in its own directory, not in run_dir=fork; leave run_dir"):
        compose([f"resume={base}", "run_dir=fork", "optimizer.lr=0.01"])
    with pytest.raises(InputError, match=r"best.ckpt: a run is resumed from its last.ckpt"):
        compose([f"resume={last.with_name('best.ckpt')}"])


@given(st.sampled_from(sorted(schema_keys())), st.integers(0, 30), st.sampled_from("xqz"))
def test_a_misspelt_key_is_never_accepted(key: str, place: int, letter: str) -> None:
    misspelt = key[:place] + letter + key[place:]
    if misspelt not in schema_keys():
        with pytest.raises(InputError):
            compose_jobs(parse_command_line([f"{misspelt}=1"]))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"two processes per core|GPU"):
        check_devices(TrainerConfig(devices=10_000), Launch())
    with pytest.raises(InputError, match="two processes per core"):
        check_devices(TrainerConfig(accelerator="cpu", devices=10_000), Launch())
    check_devices(TrainerConfig(accelerator="cpu", devices=1), Launch())


def test_help_texts_of_the_flags_are_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 looks into them when a flag is added, and Hydra 1.3 has an object there."""
    monkeypatch.setattr("hydra._internal.utils.argparse", argparse)
    hydra_internals.replace_argument_parser()
    parser = hydra_internals.get_args_parser()
    assert all(isinstance(action.help, str) for action in parser._actions)
    assert "install=bash" in parser.format_help()


def test_a_decay_needs_to_know_the_last_step() -> None:
    endless = ("trainer.max_epochs=-1", "trainer.max_time=00:01:00:00")
    assert "optimizer.schedule=constant" in refusal(*endless)
    compose([*endless, "optimizer.schedule=constant"])


def test_config_round_trips_through_yaml(tmp_path: Path) -> None:
    config = compose(["model=lstm", "seed=0", "tracking.tags=[a,b]", "data=synthetic"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    assert load_config(tmp_path / "config.yaml") == config


CHOSEN = ("trainer.max_epochs=7", "trainer.log_every_n_steps=5", "optimizer.lr=0.1", "tracking.notes=why")
CPU, GPU = {"accelerator": "cpu", "devices": 1}, {"accelerator": "gpu", "devices": 1}
DEBUG = {"limit_train_batches": 4, "limit_val_batches": 2, "limit_test_batches": 2}


@pytest.mark.parametrize(
    ("begun", "typed", "section", "changes"),
    [
        ((), ("trainer=cpu",), "trainer", CPU),
        (("trainer=cpu",), ("trainer=gpu",), "trainer", GPU),
        (("trainer=gpu", "trainer.devices=2"), ("trainer.log_every_n_steps=9",), "trainer", {"log_every_n_steps": 9}),
        (("trainer=cpu",), ("trainer=auto",), "trainer", {"accelerator": "auto", "devices": "auto"}),
        (("trainer=ddp", "trainer.devices=2"), ("trainer=cpu",), "trainer", {**CPU, "strategy": "auto"}),
        (
            ("trainer=cpu",),
            ("trainer=ddp", "trainer.devices=2"),
            "trainer",
            {"accelerator": "auto", "devices": 2, "strategy": "ddp"},
        ),
        ((), ("trainer=debug",), "trainer", {**CPU, **DEBUG, "max_epochs": 1, "log_every_n_steps": 2}),
        ((), ("trainer.max_epochs=8", "trainer=cpu"), "trainer", {**CPU, "max_epochs": 8}),
        ((), ("trainer={max_epochs: 8}",), "trainer", {"max_epochs": 8}),
        (("tracking=offline",), ("tracking=none",), "tracking", {"mode": "none"}),
        (("tracking=offline",), ("tracking=auto",), "tracking", {"mode": "auto"}),
        (("optimizer.warmup_steps=3",), ("optimizer={lr: 0.2}",), "optimizer", {"lr": 0.2}),
        (("model=lstm", "model.hidden_size=16"), ("model=lstm",), "optimizer", {}),
        (("data=synthetic", "data.max_length=60"), ("data=synthetic",), "data", {}),
        (
            ("model.embedding.size=7",),
            ("model.embedding={size: 8}",),
            "model",
            {"embedding": asdict(EmbeddingConfig(size=8))},
        ),
    ],
)
def test_what_is_typed_with_resume_alone_changes(
    tmp_path: Path, begun: Sequence[str], typed: Sequence[str], section: str, changes: dict[str, Any]
) -> None:
    before = asdict(compose([*CHOSEN, *begun]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    expected = {**before, "run_dir": str(tmp_path), "resume": str(tmp_path)}
    expected[section] = {**before[section], **changes}
    assert asdict(compose([f"resume={tmp_path}", *typed])) == expected


def test_unknown_and_mistyped_keys_of_a_file_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean seed"):
        from_dict({"sede": 3})
    with pytest.raises(InputError, match=r"model\.hidden_size"):
        from_dict({"model": {"hidden_size": "wide"}})
