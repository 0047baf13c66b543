"""The shipped files: every YAML's command, the README's commands and links, the wheel, many starts at once."""

import csv
import json
import os
import random
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.fork_server import start
from doubles.hub import LoopbackHub
from doubles.review_files import imdb_on_hub, some_reviews
from doubles.wandb_server import WandbServer
from support import IMDB, ROOT, Command

from textrnn.config.overrides import CONF_DIR
from textrnn.config.schema import TRACKERS

SHORT = (
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "data.synthetic.train_reviews=200",
    "data.synthetic.test_reviews=40",
    "model.hidden_size=8",
)


def header_commands() -> list[tuple[str, str]]:
    """Return each YAML's name and the first command of its header."""
    found = []
    for path in sorted(CONF_DIR.rglob("*.yaml")):
        commands = re.findall(r"^#\s+(python train\.py .*)$", path.read_text(), re.MULTILINE)
        found.append((str(path.relative_to(CONF_DIR)), commands[0]))
    return found


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated reviews in the layout that `stanfordnlp/imdb` has on the Hub, sorted by label as there."""
    return imdb_on_hub(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def hub(hub_folder: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(hub_folder) as server:
        yield server


OWN_PROCESS = (
    *("data/imdb.yaml", "tracking/auto.yaml", "tracking/offline.yaml", "tracking/online.yaml"),
    "trainer/ddp.yaml",
)
"""Files whose command needs the Hub, W&B's client or several processes."""


def typed_in(name: str, command: str) -> list[str]:
    """Return the arguments of `python train.py`, for a short run."""
    debug = [] if name.startswith("trainer/") else ["trainer=debug"]
    return [*shlex.split(command)[2:], *debug, *SHORT]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_PROCESS)
def test_the_command_in_a_yamls_header_runs(script: Command, hub: LoopbackHub, name: str) -> None:
    extra = {"HF_ENDPOINT": hub.url}
    with WandbServer() as server:
        if name == "tracking/online.yaml":
            extra |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40, "WANDB_ERROR_REPORTING": "false"}
        done = script("train.py", *typed_in(name, dict(header_commands())[name]), **extra)
        assert done.returncode == 0, done.stderr
        assert len(server.runs) == (name == "tracking/online.yaml")
    assert done.stdout.rstrip().splitlines()[-1].startswith("run directory: runs/")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_other_commands_in_the_yamls_headers_run(script: Command, here: Command, hub: LoopbackHub) -> None:
    prepared = script("prepare.py", HF_ENDPOINT=hub.url)
    assert prepared.returncode == 0, prepared.stderr
    for name, command in header_commands():
        tracker = name.removeprefix("tracking/").removesuffix(".yaml")
        if tracker in TRACKERS and find_spec(tracker) is None:
            continue  # an extra
        if name in OWN_PROCESS or (name.startswith("data/") and name != "data/synthetic.yaml"):
            continue  # data sets of the Hub are read in test_data_sets.py
        untracked = [] if name.startswith("tracking/") else ["tracking=none"]
        if name.startswith("experiment/"):  # with vocabularies of their own; only their reviews are others here
            untracked += ["data=synthetic", "tracking.watch=null", "trainer.max_epochs=1"]
        done = here("train.py", *typed_in(name, command), *untracked)
        if name == "trainer/gpu.yaml" and not torch.cuda.is_available():
            assert done.returncode == 2
            assert "no GPU is visible" in done.stderr
        elif name == "hydra/launcher/slurm.yaml":  # run to its end in tests/cluster
            assert done.returncode == 2
            assert "hydra/launcher=slurm" in done.stderr
        else:
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            assert done.stdout.rstrip().splitlines()[-1].startswith("run directory: runs/")


def test_the_pages_link_to_files_that_exist() -> None:
    pages = (page for page in (ROOT / "docs").rglob("*.md") if not page.is_relative_to(ROOT / "docs" / "_generated"))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page


def readme_examples() -> list[tuple[str, str]]:
    """Return the README's console commands that start with python, in order, each with the output shown below it."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    examples = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.replace("\\\n", "").partition("\n")
            if command.startswith(("python ", "echo ")):
                examples.append((command, output))
    return examples


FIGURE = re.compile(r"\d+(?:[.,]\d+)*(?:e-\d+)?")
TIMED = re.compile(r" ?(s|ms|min|tokens/s|k? ?tok/s)\b")
"""What follows a figure that depends on the machine."""


def shows(line: str, printed: str) -> bool:
    """Return whether a line of the README is in what was printed; in it, `...` is anything.

    Whole numbers are equal; decimals are training results, which differ in rounding between machines, and agree within
    0.02; times and rates may be any.
    """
    line = " ".join(line.split())
    pattern, shown = "", []
    for part in re.split(rf"({FIGURE.pattern}|\.\.\.)", line):
        if FIGURE.fullmatch(part):
            shown.append(part)
            pattern += rf"({FIGURE.pattern})"
        else:
            pattern += ".*" if part == "..." else re.escape(part).replace(r"\ ", r"\s+")
    timed = [bool(TIMED.match(line, figure.end())) for figure in FIGURE.finditer(line)]
    return any(
        all(free or _agree(*pair) for free, *pair in zip(timed, shown, found.groups(), strict=True))
        for found in re.finditer(pattern, printed)
    )


def _agree(shown: str, printed: str) -> bool:
    if "." not in shown and "." not in printed:
        return shown == printed
    return abs(float(shown.replace(",", "")) - float(printed.replace(",", ""))) <= 0.02


@pytest.mark.parametrize(
    ("shown", "printed", "agree"),
    [
        ("val 0.97 2,000 steps in 12 s", "val  0.98  2,000 steps in 9.3 s", True),
        ("val 0.97", "val 0.93", False),
        ("2,000 steps", "2,001 steps", False),
        ("a ... done", "a b c done", True),
        ("label: positive", "label: negative", False),
    ],
)
def test_shown_and_printed_lines_are_compared_with_their_figures(shown: str, printed: str, agree: bool) -> None:
    assert shows(shown, printed) == agree


@pytest.mark.slow
def test_the_readmes_commands_print_what_it_shows(
    hub: LoopbackHub, environment: dict[str, str], workplace: Path
) -> None:
    examples = readme_examples()
    assert len(examples) >= 3
    for name in ("train.py", "prepare.py", "evaluate.py", "predict.py", "sweep.py", "sweeps"):
        (workplace / name).symlink_to(ROOT / name)
    # `python` is the one of this environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    where: dict[str, Any] = {"cwd": workplace, "env": environment | {"HF_ENDPOINT": hub.url, "PATH": path}}
    texts: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for command, output in examples:
        if command.startswith(("python train.py ", "python evaluate.py ")) and "error: " not in output:
            process = start(shlex.split(command)[1:], **where, **texts)
        else:
            process = subprocess.Popen(command, shell=True, **where, **texts)
        told, errors = process.communicate(timeout=240)
        assert process.returncode == (2 if "error: " in output else 0), f"{command}\n{errors}"
        printed = "\n".join(line.strip() for line in (told + errors).splitlines())
        for line in filter(str.strip, output.splitlines()):
            assert shows(line, printed), f"{command}\nshown: {line}\nprinted: {printed}"


def test_a_second_run_asks_the_hub_for_no_rows(script: Command, here: Command, hub: LoopbackHub) -> None:
    typed = ("trainer=debug", *SHORT, "tracking=none")
    first = script("train.py", *typed, "run_dir=first", HF_ENDPOINT=hub.url)
    assert first.returncode == 0, first.stderr
    asked = hub.data_requests
    assert asked > 0
    assert script("train.py", *typed, "run_dir=second", HF_ENDPOINT=hub.url).returncode == 0
    assert hub.data_requests == asked
    offline = here("train.py", *typed, "run_dir=third")
    assert offline.returncode == 0, offline.stderr
    assert len([line for line in offline.stderr.splitlines() if "127.0.0.1:9" in line or "Hub" in line]) == 1


@pytest.mark.slow
def test_four_starts_at_once_encode_once(environment: dict[str, str], workplace: Path) -> None:
    command = [str(ROOT / "train.py"), "data=synthetic", "trainer=debug", "tracking=none", *SHORT]
    processes = [start(command, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert sum("token store made" in error for error in errors) == 1
    stores = Path(environment["XDG_CACHE_HOME"]) / "textrnn" / "stores"
    assert len([path for path in stores.iterdir() if path.is_dir()]) == 1
    runs = list((workplace / "runs").iterdir())
    assert len(runs) == 4
    assert all(json.loads((run / "summary.json").read_text())["status"] == "finished" for run in runs)


@pytest.mark.slow
def test_ten_kills_while_encoding_need_no_cleaning(
    script: Command, environment: dict[str, str], workplace: Path
) -> None:
    command = [sys.executable, str(ROOT / "prepare.py"), "data=synthetic", "data.synthetic.train_reviews=3000"]
    moment = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(command, cwd=workplace, env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=0.5 + 2 * moment.random())
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    done = script("prepare.py", "data=synthetic", "data.synthetic.train_reviews=3000")
    assert done.returncode == 0, done.stderr
    stores = Path(environment["XDG_CACHE_HOME"]) / "textrnn" / "stores"
    assert [path.name for path in stores.iterdir() if path.is_dir()] == [Path(done.stdout.split()[-1]).name]


@pytest.mark.slow
def test_the_wheel_holds_the_configuration_and_trains(
    environment: dict[str, str], workplace: Path, tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("textrnn-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {f"textrnn/conf/{path.relative_to(CONF_DIR).as_posix()}" for path in CONF_DIR.rglob("*.yaml")}
    assert shipped <= set(names)
    site = tmp_path / "site"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [
            sys.executable,
            str(site / "bin" / "textrnn"),
            "train",
            "model=gru",
            "data=synthetic",
            "trainer=debug",
            *SHORT,
        ],
        cwd=workplace,
        env=environment | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = workplace / done.stdout.rstrip().splitlines()[-1].removeprefix("run directory: ")
    identity = json.loads((run / "run.json").read_text())
    assert identity["git_commit"] is None
    assert identity["command"][:2] == ["textrnn", "train"]


@pytest.mark.slow
@pytest.mark.skipif(not IMDB.is_dir(), reason="the real reviews are not beside this checkout")
def test_real_reviews_train_and_learn(here: Command, workplace: Path) -> None:
    reviews = some_reviews(workplace, train=8000, test=400)
    small = ("data.max_length=60", "model.hidden_size=16", "model.bidirectional=false", "model.embedding.size=32")
    limits = ("trainer.max_epochs=4", "trainer.log_every_n_steps=20")
    done = here("train.py", f"data.path={reviews}", *small, *limits, "run_dir=imdb", "tracking=none")
    assert done.returncode == 0, done.stderr
    summary = json.loads((workplace / "imdb" / "summary.json").read_text())
    assert summary["val/accuracy"] > 0.7
    with (workplace / "imdb" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
