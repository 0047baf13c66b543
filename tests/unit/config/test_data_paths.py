"""Paths of data as they are typed: patterns, lists, and addresses that are on another machine."""

from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.config.compose import compose
from textrnn.config.data_paths import data_paths, typed_data


def test_patterns_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.csv", "b.csv", "deep/c.csv", "d [1] * of mine.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert data_paths("[ab].csv") == [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert len(data_paths("**/*.csv")) == 4
    assert data_paths(["b.csv", "a.csv", "?.csv"]) == [tmp_path / "b.csv", tmp_path / "a.csv"]
    assert data_paths(names[3]) == [tmp_path / names[3]]
    for override in ("data.path=*.csv", "data.path=[a.csv,b.csv]", "data.path=[ab].csv", f"data.path={names[3]}"):
        compose([override.replace(names[3], f"'{names[3]}'").replace("=[ab].csv", "='[ab].csv'")])
    assert typed_data(["a.csv", "b.csv"]) == "data.path=[a.csv,b.csv]"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("absent/*.csv", "no file here has such a name (looked for /"),
        (["absent"], "data.path=absent does not exist"),
        (
            "hf://datasets/ag_news/x/train.csv",
            "is on the Hub, and data.path is for this machine; type data.repo=ag_news/x",
        ),
        ("https://huggingface.co/datasets/stanfordnlp/sst2", "type data.repo=stanfordnlp/sst2."),
        ("https://example.org/a.csv", "is not on this machine (https://); download it, and type data.path=FILE"),
        ("s3://bucket/a.csv", "is not on this machine (s3://)"),
    ],
)
def test_what_is_not_here_is_refused(path: str | list[str], told: str) -> None:
    with pytest.raises(InputError) as refused:
        data_paths(path)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.path=[]", "must be a path, a list of paths, or null"),
        ("data.path=5", "must be a path, a list of paths, or null"),
        ("data.text_column=[text,label]", "both name 'label'"),
        ("data.label_column=[toxic]", "a list names two or more different columns; type data.label_column=toxic"),
        ("data.label_column=[a,b]", "a text may have several; type data.labels_per_text=many too"),
        ("data.labels_per_text=two", "must be one of one, many"),
        ("data.text_column=[]", "must be a column's name, or a list of names"),
        ("data.encoding=utf9", "there is no such encoding of texts; type for example data.encoding=cp1252"),
        ("data.encoding=rot13", "there is no such encoding of texts"),
        ("data.delimiter=xy", "must be a single character, tab, or null"),
        ("data.splits.tset=test", "did you mean data.splits.test?"),
    ],
)
def test_wrong_values_are_refused(override: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        compose([override])
    assert told in str(refused.value)


def test_splits_are_typed_together() -> None:
    splits = compose(["data.splits={train: all, test: held}"]).data.splits
    assert (splits.train, splits.validation, splits.test) == ("all", None, "held")
