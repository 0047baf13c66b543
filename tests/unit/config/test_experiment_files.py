"""Experiment files from anywhere: the same values, what is typed goes before them, and no code."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from textrnn.base.errors import InputError
from textrnn.config.compose import compose, compose_jobs, parse_command_line
from textrnn.config.experiment_files import as_override, expand_experiment, write_experiment
from textrnn.config.overrides import CONF_DIR, parse_overrides


def expanded(path: Path, text: str, *typed: str) -> list[str]:
    path.write_text(text)
    return expand_experiment([typed[0], f"experiment={path}", *typed[1:]] if typed else [f"experiment={path}"])


def test_a_written_experiment_is_read_back(tmp_path: Path) -> None:
    values = {
        "model.cell": "lstm",
        "model.embedding.size": 8,
        "optimizer.lr": 1.234e-05,
        "optimizer.betas": [0.8, 0.99],
        "early_stopping.patience": None,
        "trainer.deterministic": True,
        "tracking.notes": "it's \"best\", isn't it? é=1",
    }
    config = compose(expanded(tmp_path / "best.yaml", write_experiment(values, ["A comment."])))
    for key, value in values.items():
        found: Any = asdict(config)
        for name in key.split("."):
            found = found[name]
        assert found == value


def test_nothing_but_defaults(tmp_path: Path) -> None:
    assert expanded(tmp_path / "best.yaml", write_experiment({}, ["Nothing changed."])) == []


def test_what_is_typed_goes_before_the_file_wherever_it_stands(tmp_path: Path) -> None:
    text = "defaults:\n  - override /model: lstm\n  - _self_\nseed: 3\ntest: false\n"
    path = tmp_path / "my best.yaml"
    path.write_text(text)
    argv = ["seed=4", "--cfg", "job", f"experiment='{path}'", "model=rnn"]
    assert expand_experiment(argv) == ["seed=4", "--cfg", "job", "test=false", "model=rnn"]


def test_what_a_flag_shows_is_not_typed_as_a_key(tmp_path: Path) -> None:
    read = expanded(tmp_path / "e.yaml", "optimizer:\n  lr: 0.001\n", "--cfg", "job", "-p", "optimizer.lr")
    assert read == ["--cfg", "optimizer.lr=0.001", "job", "-p", "optimizer.lr"]


def test_a_text_is_what_stands_in_the_file(tmp_path: Path) -> None:
    text = "trainer: {max_time: 12:30:00:00}\ntracking: {notes: no, name: 2020-01-01, group: ~, job_type: 1_0}\n"
    config = compose(expanded(tmp_path / "e.yaml", text))
    assert config.trainer.max_time == "12:30:00:00"  # and not 2700000, to the base of 60
    tracking = config.tracking
    assert (tracking.notes, tracking.name, tracking.group, tracking.job_type) == ("no", "2020-01-01", None, "1_0")


@pytest.mark.parametrize("path", sorted((CONF_DIR / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_experiment_is_the_same_by_path_and_by_name(path: Path) -> None:
    assert compose(expand_experiment([f"experiment={path}"])) == compose([f"experiment={path.stem}"])


def test_names_and_other_command_lines_stay_as_they_are() -> None:
    for argv in (["experiment=first_run", "seed=1"], ["model=gru"], ["experiment=null"], ["experiment=[a,b]"], []):
        assert expand_experiment(argv) == argv


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("- 1\n", "not an experiment"),
        ("seed: [\n", "can't be read"),
        ("model:\n  hiden_size: 3\n", "model.hidden_size"),
        ("model:\n  _target_: os.system\n", "_target_"),
        ("tracking:\n  notes: ${oc.env:HOME}\n", "not a plain value"),
        ("defaults:\n  - override /hydra/launcher: slurm\n", "hydra"),
        ("defaults:\n  - /model: gru\n", "override /model: lstm"),
        ("defaults:\n  - other_file\n", "other_file"),
        ("seed: 2020-01-01\n", "seed: "),
        ("run_dir: x\nfoo: 1\n", "foo"),
    ],
)
def test_what_is_no_experiment_is_refused(tmp_path: Path, text: str, mentions: str) -> None:
    with pytest.raises(InputError) as caught:
        compose(expanded(tmp_path / "bad.yaml", text))
    assert mentions in str(caught.value)
    assert "\n" not in str(caught.value)


def test_jobs_have_a_file_each(tmp_path: Path) -> None:
    for size in (8, 16):
        (tmp_path / f"{size}.yaml").write_text(f"model: {{hidden_size: {size}, dropout: 0.1}}\n")
    files = f"experiment={tmp_path / '8.yaml'},{tmp_path / '16.yaml'}"
    jobs = compose_jobs(parse_command_line(["-m", files, "seed=0,1", "model.dropout=0.2"]))
    assert [(job.model.hidden_size, job.seed) for job in jobs] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert {job.model.dropout for job in jobs} == {0.2}
    with pytest.raises(InputError, match=r"none\.yaml: it can't be read"):
        compose_jobs(parse_command_line(["-m", f"experiment={tmp_path / '8.yaml'},{tmp_path / 'none.yaml'}"]))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"missing\.yaml"):
        expand_experiment(["experiment=missing.yaml"])


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs", "Cc"))).filter(lambda text: "${" not in text),
)


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=","))


@given(TEXTS.filter(lambda text: "${" not in text))
@example("~/we ird [x] #1; 50% = (2)/train.csv")
@example("it's \\'quoted\\")
def test_a_text_that_needs_quotes_gets_them(text: str) -> None:
    for typed in (f"tracking.notes={text}", f"+tracking.notes={text}"):
        try:
            parse_overrides([typed])
        except InputError:
            (override,) = parse_overrides(expand_experiment([typed]))
            assert override.value() == text.strip()
        else:
            assert expand_experiment([typed]) == [typed]


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("data.path=~/a.csv,/b.csv,'c,d',it's", "data.path='~/a.csv',/b.csv,'c,d','it\\'s'"),
        ("data.path=choice(~/a.csv,b.csv)", "data.path=choice(~/a.csv,b.csv)"),
        ("data.path=reviews (1).csv", "data.path='reviews (1).csv'"),
        ("tracking.notes=well~,", "tracking.notes='well~,'"),
        ("tracking.tags=[a~]", "tracking.tags=[a~]"),
        ("optimizer.lr=~1", "optimizer.lr=~1"),
    ],
)
def test_quotes_keep_what_else_is_typed(typed: str, quoted: str) -> None:
    assert expand_experiment(["-m", typed]) == ["-m", quoted]


@given(st.one_of(plain, st.lists(plain)))
def test_every_plain_value_arrives_as_itself(value: object) -> None:
    (override,) = parse_overrides([as_override("tracking.notes", value)])
    assert override.value() == value
    assert type(override.value()) is type(value)
