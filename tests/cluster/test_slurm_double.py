"""The SLURM that cluster tests run on: GPUs, pre-emption, one for all processes, gone with the last of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from doubles.slurm import Slurm, cluster
from support import ROOT, until


def test_each_task_of_an_array_has_a_gpu_of_its_own(slurm: Slurm, workplace: Path, environment: dict[str, str]) -> None:
    said = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; while [ $(cat *.out | wc -l) -lt 4 ]; do sleep 0.1; done"
    one_gpu = ("--gpus-per-task=1", "--ntasks=1", "--array=0-3", "--wrap", said)
    job = slurm.submit(*one_gpu, place=workplace, environment=environment)
    slurm.wait(job, "COMPLETED")
    assert sorted(slurm.output(job).splitlines()) == ["n1 0", "n1 1", "n2 0", "n2 1"]


def test_an_urgent_job_has_another_requeued(slurm: Slurm, workplace: Path, environment: dict[str, str]) -> None:
    all_cpus = ("--nodes=2", "--exclusive", "--open-mode=append")
    wrap = "echo started; [ -e requeued ] || { touch requeued; sleep 600; }"
    job = slurm.submit(*all_cpus, "--wrap", wrap, place=workplace, environment=environment)
    slurm.wait(job, "RUNNING")
    until((workplace / "requeued").exists, lambda: slurm.output(job))
    urgent = slurm.submit(*all_cpus, "--partition=urgent", "--wrap", "true", place=workplace, environment=environment)
    slurm.wait(urgent, "COMPLETED")
    slurm.wait(job, "COMPLETED", restarts=1)
    assert slurm.output(job).count("started") == 2


def test_it_is_shared_and_ends_with_its_last_user(tmp_path: Path, slurm: Slurm) -> None:
    code = (
        "import sys, time; from pathlib import Path; from doubles.slurm import cluster\n"
        "with cluster(Path(sys.argv[1])) as slurm: print(slurm.state, flush=True); time.sleep(600)"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    states = set()
    for user in users:
        assert user.stdout is not None
        states.add(Path(user.stdout.readline().strip()))
        user.stdout.close()
    (state,) = states
    users[0].send_signal(signal.SIGKILL)
    users[0].wait()
    with cluster(tmp_path) as third:
        assert third.state == state, "one of its users is left"
        third.submit("--wrap", "sleep 600", place=tmp_path, environment=os.environ)
        assert processes(state)
        users[1].send_signal(signal.SIGKILL)
        users[1].wait()
    until(lambda: not processes(state), lambda: str(processes(state)))
    assert slurm.run("sinfo", "--noheader"), "the other cluster is not touched"


def processes(state: Path) -> list[str]:
    """Processes that belong to a cluster: its directory is in their command or their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            belongs = any(str(state).encode() in (folder / name).read_bytes() for name in ("cmdline", "environ"))
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if belongs and command and int(folder.name) != os.getpid():
            found.append(f"{folder.name} {command.decode(errors='replace')}")
    return found
