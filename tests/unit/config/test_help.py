"""Help: every key with its explanation, in lines that fit."""

from dataclasses import fields
from pathlib import Path

import pytest

from textrnn.config.compose import compose
from textrnn.config.help import EXPLAINED, allowed, explain_groups, explain_keys, explain_launcher, explanations
from textrnn.config.overrides import CONF_DIR, GROUPS, schema_keys
from textrnn.config.schema import Config, LauncherConfig, leaves


def test_every_key_is_explained_in_its_default_yaml() -> None:
    explained = explanations(CONF_DIR / "train.yaml")
    for group, name in EXPLAINED.items():
        explained |= explanations(CONF_DIR / group / f"{name}.yaml", f"{group}.")
    keys = {key for key, _, _ in leaves(Config())}
    keys |= {f"hydra/launcher.{item.name}" for item in fields(LauncherConfig)}
    assert keys - {key for key, explanation in explained.items() if explanation} == set()


def test_a_comment_is_read_on_the_line_or_above_it(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a: [1, 2] # one # two\nb:\n  # above,\n  # in two lines\n  c: '# no'\n  d: {} # last\ne: 1\n")
    assert explanations(path) == {"a": "one # two", "b.c": "above, in two lines", "b.d": "last", "e": ""}


def test_what_a_key_may_be() -> None:
    items = {key: item for key, item, _ in leaves(Config())}
    words = {
        "model.cell": "rnn, lstm, gru",
        "model.bias": "true, false",
        "model.dropout": "number at least 0 and below 1",
        "model.forget_bias": "number",
        "early_stopping.patience": "integer at least 1, or null",
        "trainer.gradient_clip_algorithm": "norm, value, or null",
        "trainer.deterministic": "true, false, warn or null",
        "trainer.limit_val_batches": "number of batches (integer), or a share of them between 0.0 and 1.0, or null",
        "trainer.overfit_batches": "number of batches (integer), or a share of them between 0.0 and 1.0",
        "tracking.tags": "list of texts",
        "tracking.notes": "text, or null",
    }
    assert {key: allowed(items[key], schema_keys()[key]) for key in words} == words


@pytest.mark.parametrize("columns", [80, 120])
def test_each_key_stands_with_its_value_in_lines_that_fit(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    config = compose(["model=lstm"])
    groups, keys = explain_groups(GROUPS), explain_keys(config)
    lines = [line for text in (groups, keys, explain_launcher()) for line in text.splitlines()]
    assert max(map(len, lines)) <= columns
    shown = {line.split("=")[0].strip(): line for line in lines if "=" in line and not line.startswith("      ")}
    assert {key for key, _, _ in leaves(Config())} <= set(shown)
    assert shown["optimizer.lr"].startswith("  optimizer.lr=0.008  ")  # as model=lstm has it
    assert any(line.startswith("  model=gru (default)  ") for line in lines)
    assert "data.max_length" not in explain_keys(config, ["data"], leave_out=["data.max_length"])
