"""What OpenMP, as torch loads it, says about itself."""

import subprocess
import sys

import pytest

PROGRAM = """
from textrnn.base.process import let_idle_threads_sleep
let_idle_threads_sleep()
import torch
"""


def told(environment: dict[str, str]) -> str:
    """OpenMP's settings, as it prints them when it is loaded."""
    verbose = {"OMP_DISPLAY_ENV": "verbose", **environment}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=verbose, capture_output=True, text=True, check=True, timeout=120
    )
    if "GOMP_SPINCOUNT" not in finished.stderr:
        pytest.skip("torch runs on another OpenMP than GCC's")
    return finished.stderr


@pytest.mark.slow
def test_idle_threads_sleep_soon(environment: dict[str, str]) -> None:
    assert "GOMP_SPINCOUNT = '10000'" in told(environment)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "count"), [({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")])
def test_the_users_own_settings_come_first(environment: dict[str, str], setting: dict[str, str], count: str) -> None:
    assert f"GOMP_SPINCOUNT = '{count}'" in told(environment | setting)
