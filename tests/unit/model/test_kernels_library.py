"""The C code's library: made once, found again, made anew for another source, and done without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from textrnn.model.kernels import library

USE = (
    "import torch; from textrnn.model.implementations import choose_implementation\n"
    "print(choose_implementation('auto', 'gru', torch.zeros(1)))"
)


def chosen(environment: dict[str, str], **extra: str) -> tuple[str, str]:
    finished = subprocess.run(
        [sys.executable, "-c", USE], env=environment | extra, capture_output=True, text=True, check=True, timeout=120
    )
    return finished.stdout.strip(), finished.stderr.strip()


@pytest.mark.slow
def test_without_a_compiler_torchs_kernels_run_and_a_line_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    implementation, line = chosen(environment, CC="no-such-compiler", TEXTRNN_KERNELS=str(tmp_path / "kernels"))
    assert implementation == "fused"
    assert "no-such-compiler" in line
    assert "install a C compiler" in line
    implementation, line = chosen(environment, CC="gcc '", TEXTRNN_KERNELS=str(tmp_path / "kernels"))
    assert implementation == "fused"
    assert "No closing quotation" in line
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot compile >&2\nexit 1\n")
    broken.chmod(0o755)
    implementation, line = chosen(environment, CC=str(broken), TEXTRNN_KERNELS=str(tmp_path / "kernels"))
    assert implementation == "fused"
    assert "cannot compile" in line
    assert list((tmp_path / "kernels").iterdir()) == []


@pytest.mark.slow
def test_a_second_process_finds_the_library(environment: dict[str, str], tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    assert chosen(environment, TEXTRNN_KERNELS=str(kernels))[0] == "compiled"
    (made,) = kernels.iterdir()
    written = made.stat().st_mtime_ns
    assert chosen(environment, TEXTRNN_KERNELS=str(kernels), PATH="")[0] == "compiled"
    assert made.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("place", ["a-file", "/proc/nothing-can-be-made-here"])
def test_where_it_cant_be_kept_it_is_made_for_the_process_and_a_line_says_so(
    environment: dict[str, str], tmp_path: Path, place: str
) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "temporary").mkdir()
    elsewhere = {"TEXTRNN_KERNELS": str(tmp_path / place), "TMPDIR": str(tmp_path / "temporary")}
    implementation, line = chosen(environment, **elsewhere)
    assert implementation == "compiled"
    assert place in line
    assert "set TEXTRNN_KERNELS to a folder to keep it in" in line
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_one_that_cant_be_loaded_is_made_for_the_process_and_a_line_says_so(
    environment: dict[str, str], tmp_path: Path
) -> None:
    kernels = tmp_path / "kernels"
    assert chosen(environment, TEXTRNN_KERNELS=str(kernels))[0] == "compiled"
    (made,) = kernels.iterdir()
    assert made.stat().st_mode & 0o055 == 0o055 & ~_umask(), "for whoever shares the folder"
    made.write_bytes(b"")
    implementation, line = chosen(environment, TEXTRNN_KERNELS=str(kernels))
    assert implementation == "compiled"
    assert f"each start compiles recurrence.c again ({kernels}: file too short)" in line


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_a_library_belongs_to_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRNN_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(library, "SOURCES", tmp_path)
    (tmp_path / "recurrence.c").write_text('#include "answer.h"\nint run_pass(void) { return ANSWER; }\n')
    for answer in (0, 1, 1):
        (tmp_path / "answer.h").write_text(f"#define ANSWER {answer}\n")
        library._library("float")
    assert len(list((tmp_path / "kernels").iterdir())) == 2
