"""Start SLURM's daemons below one directory and stop them when nobody uses them any more.

    python tests/doubles/slurm_daemons.py STATE

Whoever uses the cluster holds a shared kernel lock on `STATE/users`, so it ends with its last user, also when that is
interrupted or killed: this process waits for the lock to be free, cancels all jobs and stops the daemons, which are its
own children. It writes `STATE/ready` when jobs can be submitted and `STATE/over` when none may be any more.

The cluster is this host twice, as nodes n1 and n2 with 4 CPUs and two GPUs each that are no GPUs (any character device
will do). Partition `urgent` goes before `gpu`, the default, whose jobs it requeues. There are no cgroups, no systemd
and no accounting, so it also runs in a container.
"""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NODES = ("n1", "n2")
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/slurmd-%n.log
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired, by default two minutes.
AuthInfo=socket={state}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
# Nodes have the CPUs and the memory that are written here, whatever the host has: enough for all shipped options.
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
# Seconds from SIGTERM to SIGKILL, by default 30: this machine may do other things meanwhile.
KillWait=120
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
# Jobs that are over can be asked for as long as tests last.
MinJobAge=3600
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=64000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=64000 Gres=gpu:2
PartitionName=gpu Nodes=n1,n2 Default=YES PriorityTier=1 DefMemPerCPU=500
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF DefMemPerCPU=500
"""
GPUS = """\
AutoDetect=off
NodeName=n1 Name=gpu File=/dev/tty[1-2]
NodeName=n2 Name=gpu File=/dev/tty[3-4]
"""


def main(state: Path) -> None:
    """Run the cluster in `state` until nobody holds `state/users`."""
    daemons: list[subprocess.Popen[bytes]] = []
    with (state / "users").open() as users:
        try:
            _configure(state)
            _start(state, daemons)
            (state / "ready").touch()
            fcntl.flock(users, fcntl.LOCK_EX)
        finally:
            (state / "over").touch()
            _stop(state, daemons)


def _configure(state: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    for folder in ("etc", "log", "controller", *NODES):
        (state / folder).mkdir()
    (state / "etc" / "slurm.conf").write_text(CONFIGURATION.format(host=host, state=state, ports=_free_ports(3)))
    (state / "etc" / "gres.conf").write_text(GPUS)
    key = state / "etc" / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(random.randbytes(1024))


def _free_ports(count: int) -> list[int]:
    """Return ports below those of outgoing connections, so that no connection takes them meanwhile."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


def _start(state: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    configuration = str(state / "etc" / "slurm.conf")
    munge = {"key-file": "etc/munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{name}={state / path}" for name, path in munge.items()]
    # --force: the directories above belong to the tests, and munged would rather have them in the system's places.
    options.append(f"--log-file={state / 'log' / 'munged.log'}")
    daemons.append(_daemon(state, "munged", "--foreground", "--force", *options))
    _wait(state, "munged", lambda: (state / "munge.socket").exists(), daemons)
    daemons.append(_daemon(state, "slurmctld", "-D", "-i", "-f", configuration))
    daemons.extend(_daemon(state, "slurmd", "-D", "-f", configuration, "-N", node) for node in NODES)
    ask = ("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%t")
    _wait(state, "SLURM", lambda: _ask(state, *ask).split() == ["idle"] * len(NODES), daemons)


def _daemon(state: Path, *command: str) -> subprocess.Popen[bytes]:
    # If this process is killed, its daemons go with it.
    with (state / "log" / "daemons.log").open("ab") as log:
        return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdout=log, stderr=log)


def _wait(state: Path, what: str, condition: Callable[[], bool], daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start; ended: {ended}; its logs are in {state / 'log'}")
        time.sleep(0.1)


def _ask(state: Path, *command: str) -> str:
    """Return the output of one of SLURM's commands; empty if the controller doesn't answer."""
    environment = {"SLURM_CONF": str(state / "etc" / "slurm.conf"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def cancel_all(run: Callable[..., str]) -> None:
    """Cancel all jobs and wait until they are gone, for half a minute."""
    deadline = time.monotonic() + 30
    while (jobs := run("squeue", "--noheader", "--format=%A").split()) and time.monotonic() < deadline:
        # SIGKILL first: a job that is cancelled may take its time, and one that is asked to end may requeue itself.
        run("scancel", "--quiet", "--full", "--signal=KILL", *jobs)
        run("scancel", "--quiet", *jobs)
        time.sleep(0.1)


def _stop(state: Path, daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    cancel_all(lambda *command: _ask(state, *command))
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    _kill_what_is_left(state)


def _kill_what_is_left(state: Path) -> None:
    """Kill the processes that jobs have left behind, as cgroups do on a real cluster.

    `proctrack/linuxproc` finds a job's processes by their parents: one that is forked while its parent is being killed
    is nobody's child any more, and SLURM never finds it.
    """
    setting = f"SLURM_CONF={state / 'etc' / 'slurm.conf'}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            environment = (folder / "environ").read_bytes().split(b"\0")
            if setting in environment and any(variable.startswith(b"SLURM_JOB_ID=") for variable in environment):
                os.kill(int(folder.name), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
