"""Which process of which launcher this is, by what the launcher really puts into the environment."""

import os
import subprocess

import pytest
import torch

from textrnn.base.errors import InputError
from textrnn.config.checks import check
from textrnn.config.schema import Config, TrainerConfig
from textrnn.distributed.launch import Launch, check_devices, check_layout, read_launch, starts_several

# As SLURM 22.05 sets them for a batch script of two nodes with two tasks each, and for the last task of its step.
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
LAST_TASK = BATCH_SCRIPT | {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
}
SECOND_OF_FOUR = {"rank": 3, "local_rank": 1, "world_size": 4, "local_world_size": 2, "node_rank": 1, "nodes": 2}


def test_each_launcher_is_known() -> None:
    assert read_launch({}) == Launch()
    assert read_launch(LAST_TASK) == Launch(by="srun", **SECOND_OF_FOUR)
    assert read_launch(TORCHRUN) == Launch(by="torchrun", **SECOND_OF_FOUR)
    # torchrun inside a SLURM task, as on clusters where srun starts one torchrun a node
    assert read_launch(LAST_TASK | TORCHRUN) == Launch(by="torchrun", **SECOND_OF_FOUR)
    child = {"TEXTRNN_RUN": "{}", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    assert read_launch(child).is_child
    assert not read_launch(child | {"LOCAL_RANK": "0"}).is_child


def test_a_batch_script_and_an_agent_are_no_ranks() -> None:
    assert not read_launch(BATCH_SCRIPT).is_external
    assert not read_launch(LAST_TASK | {"SLURM_STEP_NUM_TASKS": "1"}).is_external
    # srun has started agents; each trial is a run of one process
    assert read_launch(LAST_TASK | {"WANDB_SWEEP_ID": "abc"}) == Launch()


def test_what_is_typed_in_the_shell_of_a_step_is_one_process() -> None:
    in_terminal = LAST_TASK | {"SLURM_PTY_PORT": "40000", "SLURM_TASK_PID": str(os.getpid())}
    assert read_launch(in_terminal).is_external  # the task itself: srun --pty python train.py
    with subprocess.Popen(["sleep", "60"], process_group=0) as shell:
        assert read_launch(in_terminal | {"SLURM_TASK_PID": str(shell.pid)}) == Launch()
        assert read_launch(LAST_TASK | {"SLURM_TASK_PID": str(shell.pid)}).is_external  # no terminal
        shell.kill()


def test_uneven_nodes() -> None:
    uneven = LAST_TASK | {
        "SLURM_STEP_NUM_TASKS": "7",
        "SLURM_STEP_NUM_NODES": "4",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    }
    assert [read_launch(uneven | {"SLURM_NODEID": str(node)}).local_world_size for node in range(4)] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("trainer", "launch", "mentions"),
    [
        (TrainerConfig(num_nodes=2), Launch(), "srun or torchrun"),
        (TrainerConfig(num_nodes=3), Launch(by="srun", **SECOND_OF_FOUR), "on 2 node"),
        (TrainerConfig(devices=4), Launch(by="torchrun", **SECOND_OF_FOUR), "started 2 process"),
        (TrainerConfig(devices=[0]), Launch(by="srun", **SECOND_OF_FOUR), "devices=auto"),
    ],
)
def test_what_contradicts_the_launcher_is_refused(trainer: TrainerConfig, launch: Launch, mentions: str) -> None:
    with pytest.raises(InputError, match=mentions):
        check_layout(trainer, launch)


def test_what_says_the_same_as_the_launcher_is_taken() -> None:
    for trainer in (TrainerConfig(), TrainerConfig(num_nodes=2, devices=2), TrainerConfig(devices=[0, 1])):
        check_layout(trainer, Launch(by="srun", **SECOND_OF_FOUR))


def test_whether_lightning_starts_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert starts_several(TrainerConfig(strategy="ddp", devices=2))
    assert starts_several(TrainerConfig(accelerator="gpu", devices=[0, 1]))
    assert not starts_several(TrainerConfig(accelerator="cpu"))
    for gpus in (0, 1, 4):
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        assert starts_several(TrainerConfig()) == (gpus > 1)
        assert not starts_several(TrainerConfig(devices=1))


def test_a_batch_job_needs_no_run_dir_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    check(Config(resume="auto"))
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(InputError, match="run_dir"):
        check(Config(resume="auto"))


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
@pytest.mark.parametrize("devices", [-1, [0], [0, 1]])
def test_devices_that_only_gpus_have_are_refused_on_a_cpu(
    accelerator: str, devices: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    trainer = TrainerConfig(accelerator=accelerator, devices=devices)
    with pytest.raises(InputError, match=r"that is for GPUs, and this run is on the CPU; type trainer.devices=1"):
        check_devices(trainer, Launch())
