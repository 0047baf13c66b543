"""Workers: one for each GPU, and a fair share of the cores without."""

import os
from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.config.schema import TrainerConfig
from textrnn.sweeping.processes import share_out, visible_gpus

AUTO, CPU = TrainerConfig(), TrainerConfig(accelerator="cpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, no GPU and nothing set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_without_gpu_one_worker_or_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [worker.environment for worker in share_out(None, AUTO)] == [{}]
    assert [worker.environment for worker in share_out(3, AUTO)] == [{"OMP_NUM_THREADS": "2"}] * 3
    assert [worker.environment for worker in share_out(16, AUTO)] == [{"OMP_NUM_THREADS": "1"}] * 16
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [worker.environment for worker in share_out(2, AUTO)] == [{}] * 2


def test_one_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5")
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in share_out(None, AUTO)] == ["0", "2", "5"]
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in share_out(4, AUTO)] == ["0", "2", "5", "0"]
    assert [worker.environment for worker in share_out(None, CPU)] == [{}]


def test_a_trial_of_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    workers = share_out(None, TrainerConfig(devices=2))
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["0,1", "2,3"]
    with pytest.raises(InputError, match=r"trainer\.devices=6"):
        share_out(None, TrainerConfig(devices=6))


def test_too_many_workers() -> None:
    with pytest.raises(InputError, match="--agents 17"):
        share_out(17, AUTO)


@pytest.mark.parametrize(("listed", "gpus"), [("GPU 0: A\\n  MIG 1g: B\\nGPU 1: C\\n", ["0", "1"]), ("", [])])
def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str, gpus: list[str]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nprintf '{listed}'\n" if listed else "#!/bin/sh\nexit 9\n")
    driver.chmod(0o755)
    assert visible_gpus() == gpus
