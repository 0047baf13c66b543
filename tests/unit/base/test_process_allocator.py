"""Freed memory is kept: page faults are counted, in a process of its own."""

import subprocess
import sys

import pytest

# Takes and frees 64 MB again and again, touching each page, and prints the page faults of the last ten times: the heap
# needs some rounds until small blocks that live longer lie elsewhere.
PROGRAM = """
import resource, sys
import torch
from textrnn.base.process import keep_freed_memory
print(keep_freed_memory())
faults = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[-10:]))
"""
PAGES = 10 * (64 << 20) // 4096


def run(environment: dict[str, str]) -> tuple[bool, int]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    done, faults = finished.stdout.split()
    return done == "True", int(faults)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept(environment: dict[str, str]) -> None:
    done, faults = run(environment)
    assert done
    assert faults < PAGES / 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"TEXTRNN_ALLOCATOR": "system"},
        {"MALLOC_TRIM_THRESHOLD_": "100000"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=100000"},
    ],
)
def test_the_users_own_settings_come_first(environment: dict[str, str], setting: dict[str, str]) -> None:
    done, faults = run(environment | setting)
    assert not done
    assert faults > PAGES / 2
