"""The documentation site: it builds without a warning, and its pages, keys, examples and links are complete."""

import csv
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Command

import generate
from textrnn.config.compose import compose, job_overrides, parse_command_line
from textrnn.config.overrides import CONF_DIR, check_key, check_override, parse_overrides
from textrnn.config.schema import Config, LauncherConfig, leaves

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(path.parts))
TINY = (
    *("data=synthetic", "data.synthetic.train_reviews=200", "data.synthetic.test_reviews=40", "trainer=debug"),
    *("model.hidden_size=8", "tracking=none"),
)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def test_every_key_is_explained() -> None:
    explained = {key.name: key for section in generate.keys().values() for key in section}
    launcher = [f"hydra.launcher.{name}" for name, _, _ in leaves(LauncherConfig())]
    assert set(explained) == {name for name, _, _ in leaves(Config())} | set(launcher)
    assert [name for name, key in explained.items() if not (key.meaning and key.allowed)] == []
    assert explained["model.pooling"].allowed == "last, mean, max, max_mean"
    assert explained["optimizer.betas"].default == "[0.9,0.999]"
    assert explained["early_stopping.patience"].allowed == "integer at least 1, or null"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {"index"}
    for page in PAGES:
        for entries in re.findall(r"^```{toctree}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            names = [line for line in entries.split("\n") if line and not line.startswith(":")]
            listed |= {os.path.relpath(DOCS / n.lstrip("/") if n[0] == "/" else page.parent / n, DOCS) for n in names}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} | notebooks == listed


def commands(page: str) -> set[str]:
    """Return the commands on a page that start with python: lines of code blocks, and code in sentences and tables."""
    shown = re.findall(r"^ *```(?:sh|console|text)?\n(.*?)^ *```$|^((?:    .*\n)+)", page, re.DOTALL | re.MULTILINE)
    lines = "\n".join("".join(parts) for parts in shown).replace("\\\n", " ").splitlines()
    sentences = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", sentences)]
    found = {line.strip().removeprefix("$ ") for line in lines}
    return {line for line in found if line.startswith("python ") and "..." not in line}


WRONG = ("model.hiden_size=64", "model=transformer")
"""What pages type to show the answer."""
OF_A_READER = re.compile(
    "[A-Z]{2,}|resume=|pretrained=|data.path=|experiment=runs|vectors|small_lstm|cell=mgu|logsumexp|sqlite|tracking=t"
)
"""Arguments that name files of a reader, extras or the examples of extend.md: only their keys are checked."""


@pytest.mark.slow
def test_the_commands_on_the_pages_are_accepted() -> None:
    typed = {command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))}
    checked = 0
    for command in sorted(typed):
        name, *argv = shlex.split(command, comments=True)[1:]
        if name not in ("train.py", "prepare.py", "evaluate.py", "predict.py", "sweep.py"):
            assert (ROOT / name).is_file() or name.startswith(("-", "runs/")), command  # what a run's export holds
        if name not in ("train.py", "prepare.py") or set(WRONG) & set(argv):
            continue
        readers = [argument.partition("=")[0] for argument in argv if OF_A_READER.search(argument)]
        for key in readers:
            if re.fullmatch(r"[a-z]\w*(\.\w+)*", key) and not (CONF_DIR / key).is_dir():
                check_key(key)
        command_line = parse_command_line([argument for argument in argv if not OF_A_READER.search(argument)])
        for override in parse_overrides(command_line.overrides):
            check_override(override, command_line.multirun)
        compose(job_overrides(command_line)[0])
        checked += 1
    assert checked > 40


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="https?:', index)  # nothing of another server
    configuration = (tmp_path / "site" / "reference" / "configuration.html").read_text()
    assert "model.pooling" in configuration


@pytest.fixture
def review_database(tmp_path: Path) -> Path:
    """Generated reviews in a SQLite database."""
    from textrnn.data.synthetic import generate_reviews

    path = tmp_path / "reviews.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table reviews (split text, text text, label integer)")
        for split, count in (("train", 200), ("test", 40)):
            rows = [(split, text, positive) for text, positive in generate_reviews(0, split, 0.5, count=count)]
            database.executemany("insert into reviews values (?, ?, ?)", rows)
        database.commit()
    return path


@pytest.mark.slow
def test_the_extensions_train(
    environment: dict[str, str], workplace: Path, tmp_path: Path, review_database: Path
) -> None:
    checkout = tmp_path / "checkout"
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", checkout)
    shutil.copy(ROOT / "predict.py", checkout)
    patches = blocks("howto/extend.md", "diff")
    assert len(patches) == 4
    for patch in patches:
        assert len(re.findall(r"^\+\+\+ ", patch, re.MULTILINE)) <= 3
        subprocess.run(["git", "apply", "-C0"], input=patch, text=True, cwd=checkout, check=True)
    typed = ("model.cell=mgu", "model.pooling=logsumexp", "data.source=sqlite", f"data.path={review_database}")
    where = {"cwd": workplace, "env": environment | {"PYTHONPATH": str(checkout / "src")}}
    for command in (
        ["train.py", *typed, "trainer=debug", "model.hidden_size=8", "tracking=none", "run_dir=first"],
        ["predict.py", "first", "A fine film."],
    ):
        script = [sys.executable, str(checkout / command[0]), *command[1:]]
        done = subprocess.run(script, **where, capture_output=True, text=True, timeout=240, check=False)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in ("negative", "positive")
    assert -1 <= json.loads((workplace / "first" / "summary.json").read_text())["test/mcc"] <= 1
    with (workplace / "first" / "metrics.csv").open() as file:
        assert "val/mcc" in next(csv.reader(file))


def test_the_cell_without_recurrent_weights_computes_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from textrnn.model import cell_loop, recurrent
    from textrnn.model.encoder import RecurrentLayer

    (code,) = blocks("howto/extend.md", "python")
    names: dict[str, Any] = {**vars(recurrent), **vars(cell_loop)}
    exec(compile(code, "howto/extend.md", "exec"), names)
    for table, value in ((recurrent.KERNELS, names["MinGru"]), (recurrent.GATES, 2)):
        monkeypatch.setitem(table, "min_gru", value)
    monkeypatch.setitem(cell_loop._STEPS, "min_gru", names["_min_gru"])
    layer = RecurrentLayer("min_gru", 3, 4, bidirectional=False)
    layer.initialize("orthogonal", forget_bias=1.0)
    weight, bias = layer.parameters()
    torch.nn.init.normal_(bias)
    inputs, h = torch.randn(1, 5, 3), torch.zeros(4)
    for x in inputs[0]:
        z, n = (weight @ x + bias).chunk(2)
        h = (1 - z.sigmoid()) * h + z.sigmoid() * n
    torch.testing.assert_close(layer(inputs, torch.tensor([5]))[0, -1], h)


@pytest.mark.slow
def test_the_code_for_python_runs(
    here: Command,
    workplace: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = here("train.py", *TINY, "run_dir=runs/first")
    assert made.returncode == 0, made.stderr
    for name in ("train.py", "conf"):
        (workplace / name).symlink_to(ROOT / name)
    monkeypatch.chdir(workplace)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = blocks("howto/python.md", "python")
    assert len(code) == 7
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, "howto/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "} My brother called it dull. I found it wonderful." in printed
    assert "did you mean model.hidden_size?" in printed
    assert "torch.Size([4, 10, 64])" in printed
    assert printed.splitlines()[-1].startswith("run directory: runs/")
