"""Run the notebooks and keep their outputs: python notebooks/execute.py [NAME.ipynb ...], or make notebooks.

Each runs from its first cell in a fresh kernel of this Python, on one core, on generated reviews, in a copy of this
folder. Its outputs go into the notebook, without times and counters that change with each execution. The picture of a
cell with the tag `gallery-NAME` also goes to docs/gallery/NAME.png.
"""

import base64
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parent
GALLERY = NOTEBOOKS.parent / "docs" / "gallery"
CELL_SECONDS = 300
"""Time limit of one cell."""
BESIDE = ("train.py", "conf")
"""Files of the folder above that the notebooks use."""
GALLERY_TAG = "gallery-"


def main(names: list[str]) -> int:
    """Execute the notebooks of these names, or all, and write them and the gallery's pictures."""
    with tempfile.TemporaryDirectory(prefix="notebooks-") as place:
        folder = copy_folder(Path(place))
        for path in [NOTEBOOKS / name for name in names] or notebook_paths():
            notebook = execute(folder / path.name, one_core(os.environ))
            nbformat.write(notebook, path)
            GALLERY.mkdir(parents=True, exist_ok=True)
            for name, picture in gallery_pictures(notebook):
                (GALLERY / f"{name}.png").write_bytes(picture)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
    return 0


def notebook_paths() -> list[Path]:
    """Return all notebooks, in reading order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def copy_folder(parent: Path) -> Path:
    """Copy this folder to `parent`, with what it uses of the folder above, and return the copy."""
    folder = parent / NOTEBOOKS.name
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("runs", "wandb", "__pycache__", ".*"))
    for name in BESIDE:
        (parent / name).symlink_to(NOTEBOOKS.parent / name)
    return folder


def one_core(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for reproducible outputs, on generated reviews."""
    kept = {name: value for name, value in environment.items() if not name.startswith("TEXTRNN_NOTEBOOK_")}
    return kept | {"OMP_NUM_THREADS": "1"}


def execute(path: Path, environment: Mapping[str, str]) -> NotebookNode:
    """Run a notebook in its folder and return it with its outputs.

    The kernel is this Python's, whatever kernels and settings of Jupyter and IPython the user has.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # A short path: sockets have names of some hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="kernel-") as own:
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(Path(own) / "kernel.json"),
            transport="ipc",
        )
        client = NotebookClient(notebook, km=manager, timeout=CELL_SECONDS, record_timing=False)
        client.owns_km = True  # or the kernel would be left running
        client.execute(cwd=str(path.parent), env={**environment, "IPYTHONDIR": own})
    _normalize(notebook)
    return notebook


def _normalize(notebook: NotebookNode) -> None:
    """Keep only metadata that all executions share, and the digest of the sources of the outputs."""
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_log(output)]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "textrnn": {"sources": sources_digest(notebook)},
    }


def _is_log(output: NotebookNode) -> bool:
    """Return whether an output is on stderr: log lines with paths of this machine, and other things that change."""
    return bool(output.output_type == "stream" and output.name == "stderr")


def _smaller(picture: str) -> str:
    """Return the same PNG, base64, with 256 colors: a third of the bytes."""
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def sources_digest(notebook: NotebookNode) -> str:
    """Return the SHA-256 of all cells' sources; outputs of other sources have another one."""
    sources = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def gallery_pictures(notebook: NotebookNode) -> Iterator[tuple[str, bytes]]:
    """Yield name and PNG of each picture that is tagged for the gallery."""
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            pictures = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            if tag.startswith(GALLERY_TAG) and pictures:
                yield tag.removeprefix(GALLERY_TAG), base64.b64decode(pictures[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
