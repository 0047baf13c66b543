"""Versions and places of installation: pyproject.toml, the constraints, CI, the container, the Makefile agree."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(name: str) -> dict[str, str]:
    """The versions in a file of constraints."""
    lines = (line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {canonicalize_name(package): version for package, _, version in (line.partition("==") for line in lines)}


def test_the_oldest_versions_are_the_lower_bounds_and_the_tested_ones_are_admitted() -> None:
    required = [Requirement(line) for line in PROJECT["dependencies"]]
    lowest = {
        canonicalize_name(one.name): next(part.version for part in one.specifier if part.operator == ">=")
        for one in required
    }
    oldest, tested = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    assert oldest.keys() == lowest.keys()
    assert {name: Version(version) for name, version in oldest.items()} == {
        name: Version(version) for name, version in lowest.items()
    }
    for one in required:
        assert one.specifier.contains(tested[canonicalize_name(one.name)]), one


def test_ci_has_every_python_from_the_lowest_and_both_ends_of_the_versions() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    pythons = jobs["check"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]
    ends = [job["constraints"] for job in jobs["versions"]["strategy"]["matrix"]["include"]]
    assert ends == ["constraints-oldest.txt", ""]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for target in re.findall(r"make (\S+)", "\n".join(commands)):
        assert f"\n{target.replace('.venv', '$(VENV)')}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in re.findall(r"tests/\S+", "\n".join(commands)):
        assert (ROOT / path).exists()


@pytest.mark.parametrize(("given", "wanted"), [([], "-c constraints.txt "), (["CONSTRAINTS="], "")])
def test_make_installs_with_the_constraints_that_are_given(given: list[str], wanted: str, tmp_path: Path) -> None:
    def installed(target: str) -> list[str]:
        shown = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}", *given]
        done = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True)
        return [command.strip() for command in re.findall(r" -q (.*)", done.stdout)]

    assert installed("train") == [f"{wanted}-e ."]
    assert installed("unit") == [f"{wanted}-e .", f'{wanted}-e ".[dev]"']


@pytest.mark.parametrize(
    ("configuration", "wanted"), [("", "uv pip install"), ("global.cert='a.pem'", "-m pip install")]
)
def test_make_installs_with_uv_where_pip_has_no_configuration_of_its_own(
    configuration: str, wanted: str, tmp_path: Path
) -> None:
    for name, prints in (("uv", ""), ("python", configuration)):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf %s "{prints}"\n')
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = ["make", "--dry-run", "train", f"VENV={tmp_path / 'venv'}", f"PYTHON={tmp_path / 'python'}"]
    done = subprocess.run(shown, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (command,) = [line for line in done.stdout.splitlines() if line.endswith("-e .")]
    assert wanted in command
    assert f"{tmp_path / 'venv'}/bin/python" in command


def test_the_container_installs_what_make_test_installs() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installed = re.search(r'-e "\.\[\w+\]"', makefile)
    assert installed is not None
    assert f"-c constraints.txt {installed[0]}" in recipe
    assert re.search(r"^ARG TORCH=cpu$", recipe, re.MULTILINE)
    (image,) = re.findall(r"^FROM python:(3\.\d+)-slim AS base$", recipe, re.MULTILINE)
    assert Version(image) >= Version(PROJECT["requires-python"].removeprefix(">="))
    assert re.findall(r"python (\w+\.py)", recipe) == ["train.py"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", "runs", "wandb"} <= set(ignored)
    assert not {name for name in ("src", "conf", "tests", ".git", "README.md", "LICENSE") if name in ignored}


def test_the_devcontainer_is_made_by_the_same_recipe_where_the_package_was_installed() -> None:
    folder = ROOT / ".devcontainer"
    described = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    recipe = folder / described["build"]["dockerfile"]
    assert recipe.resolve() == ROOT / "Dockerfile"
    assert (folder / described["build"]["context"]).resolve() == ROOT
    (place,) = re.findall(r"^WORKDIR (\S+)$", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    assert described["workspaceFolder"] == place
    assert f"target={place}," in described["workspaceMount"]
    (venv,) = re.findall(r"VENV=(\S+)", recipe.read_text(encoding="utf-8"))
    interpreter = described["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == f"{venv}/bin/python"
