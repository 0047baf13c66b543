"""The rooms of the package: imports go down from floor to floor, and in no circle.

base < config < distributed, data, model, tracking (which don't know each other) < evaluation, lookup < comparing <
multirun < training, sweeping < reporting, sharing < commands < cli. An import goes down, never up and never between
rooms of one floor; there are no circles of modules; imports inside functions and under TYPE_CHECKING count.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT, TESTS

SRC = ROOT / "src"
FLOORS = (
    {"base"},
    {"config"},
    {"distributed", "data", "model", "tracking"},
    {"evaluation", "lookup"},
    {"comparing"},
    {"multirun"},
    {"training", "sweeping"},
    {"reporting", "sharing"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
AT_THE_ROOT = {"__init__", "__main__", "cli"}


def modules(folder: Path) -> dict[str, Path]:
    """The modules of the package below `folder`, by their dotted names."""
    found = {}
    for path in sorted((folder / "textrnn").rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that one imports, wherever in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "textrnn")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            module = node.module or ""
            if module.split(".")[0] == "textrnn":
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield inner if inner in known else module


def room(module: str) -> str:
    """The room of a module: the first part of its name below the package; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def violations(folder: Path) -> list[str]:
    """What breaks the rule in the package below `folder`."""
    known = modules(folder)
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    graph = {name: set(imports(name, path, known)) for name, path in known.items()}
    found = [f"{module} has no floor" for module in known if room(module) not in {"", *floor_of}]
    for module, imported in graph.items():
        for other in sorted(imported):
            above, below = floor_of.get(room(module)), floor_of.get(room(other))
            if room(module) != room(other) and above is not None and below is not None and below >= above:
                found.append(f"{module} imports {other}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle: {' <- '.join(error.args[1])}")
    return found


def test_imports_go_down() -> None:
    assert violations(SRC) == []


def test_few_modules_stand_at_the_root() -> None:
    assert {path.stem for path in (SRC / "textrnn").glob("*.py")} == AT_THE_ROOT


@pytest.mark.parametrize(
    ("module", "text", "found"),
    [
        ("base/a.py", "from textrnn.config.b import c", "textrnn.base.a imports textrnn.config.b"),
        ("data/a.py", "def f():\n    import textrnn.model.b", "textrnn.data.a imports textrnn.model.b"),
        (
            "base/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from textrnn.cli import main",
            "textrnn.base.a imports textrnn.cli",
        ),
        ("attic/a.py", "", "textrnn.attic.a has no floor"),
        ("training/a.py", "from textrnn.training import a", "circle: textrnn.training.a <- textrnn.training.a"),
    ],
)
def test_what_breaks_the_rule_is_found(tmp_path: Path, module: str, text: str, found: str) -> None:
    path = tmp_path / "textrnn" / module
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert found in violations(tmp_path)


def test_each_unit_test_names_the_module_that_it_tests() -> None:
    unit = TESTS / "unit"
    for path in set(unit.rglob("test_*.py")) - {unit / "test_prose.py"}:  # reads all of them
        folder = SRC / "textrnn" / path.relative_to(unit).parent
        names = {entry.stem for entry in folder.iterdir()} if folder.is_dir() else set()
        stem = path.stem.removeprefix("test_")
        assert any(stem == name or stem.startswith(f"{name}_") for name in names), path.relative_to(TESTS)
