"""The notebooks: each runs to its end, and the committed outputs are its own, small and free of machine details."""

import importlib.util
import os
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import wandb
from doubles.run_files import SMALL, json_of
from doubles.tracked_runs import log_in
from doubles.wandb_server import WandbServer
from nbformat import NotebookNode
from support import ROOT, Command

_spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
assert _spec is not None
assert _spec.loader is not None
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

NOTEBOOKS = execute.notebook_paths()
LARGEST = 400 * 1024


def run(path: Path, place: Path, **more: str) -> NotebookNode:
    """Run a copy of a notebook in `place` and return it with its outputs; fail if a cell fails or writes to stderr."""
    folder = execute.copy_folder(place)
    kept = {name: value for name, value in execute.one_core(os.environ).items() if not name.startswith("WANDB_")}
    notebook: NotebookNode = execute.execute(folder / path.name, {**kept, "HF_HUB_OFFLINE": "1", **more})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS[:2], ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path)


@pytest.mark.slow
def test_the_third_reads_folders_and_a_project_in_wandb(
    script: Command, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with WandbServer() as server:
        log_in(environment, server)
        typed = (*SMALL, "tracking=online", "tracking.project=films", "model=gru")
        for run_dir, *more in (("0", "seed=0"), ("1", "seed=1"), ("untested", "seed=2", "test=false")):
            done = script("train.py", *typed, *more, f"run_dir={run_dir}")
            assert done.returncode == 0, done.stderr
        names = {name: value for name, value in environment.items() if name.startswith("WANDB_")}
        names["TEXTRNN_NOTEBOOK_WANDB"] = "tester/films"
        notebook = run(NOTEBOOKS[2], tmp_path, **names)
    told = "".join(output["text"] for output in notebook.cells[-1].outputs)
    assert told.startswith("2 runs with a test in tester/films\nthe last one's validations: ")
    summaries = [json_of(workplace / f"{seed}" / "summary.json") for seed in (0, 1)]
    accuracies = np.array([summary["test/accuracy"] for summary in summaries], dtype=float)
    mean, spread = accuracies.mean(), accuracies.std(ddof=1)
    assert told.splitlines()[-1].split()[:4] == ["gru", "2.0", f"{mean:.4f}", f"{spread:.4f}"]


def test_a_project_without_a_tested_run_is_shown_as_that(
    server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = nbformat.read(NOTEBOOKS[2], as_version=4).cells[-1]  # type: ignore[no-untyped-call]  # nbformat's
    exec(cell.source, {"WANDB": "tester/empty"})
    with wandb.init(project="films", settings=wandb.Settings(silent=True)) as untested:
        untested.log({"val/accuracy": 0.5})
    exec(cell.source, {"WANDB": "tester/films"})
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "test" in line] == [
        f"0 runs with a test in tester/{p}" for p in ("empty", "films")
    ]


def test_there_are_three() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_what_it_shows(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat's
    assert notebook.metadata["textrnn"]["sources"] == execute.sources_digest(notebook), "type: make notebooks"
    assert path.stat().st_size < LARGEST
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    text = path.read_text(encoding="utf-8")
    for private in (ROOT, ROOT.parent, Path.home(), tempfile.gettempdir(), "/home/", "Traceback"):
        assert str(private) not in text
