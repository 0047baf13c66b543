"""The notebooks: each runs to its end, and what is committed is what it shows, small and of no machine."""

import importlib.util
import os
from pathlib import Path

import nbformat
import pytest
from support import ROOT

_spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
assert _spec is not None
assert _spec.loader is not None
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

NOTEBOOKS = execute.notebook_paths()
LARGEST = 400 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, tmp_path: Path) -> None:
    folder = execute.copy_folder(tmp_path)
    environment = {**execute.one_core(os.environ), "HF_HUB_OFFLINE": "1"}
    environment.pop("WANDB_API_KEY", None)
    notebook = execute.execute(folder / path.name, environment)  # raises where a cell fails
    errors = [
        cell.source for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not errors


def test_there_are_three() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_what_it_shows(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    assert notebook.metadata["textrnn"]["sources"] == execute.sources_digest(notebook), "type: make notebooks"
    assert path.stat().st_size < LARGEST
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    text = path.read_text(encoding="utf-8")
    for private in ("/home/", "/root/", "/tmp/", "/work/", "Traceback"):
        assert private not in text
