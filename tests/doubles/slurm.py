"""A real SLURM on this machine, for tests marked `cluster`; the fixture `slurm` has it.

    job = slurm.submit("--array=0-1", "script.sbatch", place=workplace, environment=environment)
    slurm.wait(job, "COMPLETED")
    assert "done" in slurm.output(job)

By hand: `PYTHONPATH=tests python tests/doubles/slurm.py` starts one, prints the variables that it needs, and stops
it at Ctrl-C.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from doubles.slurm_daemons import cancel_all

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
PACKAGES = ("slurm-wlm", "munge")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
"""Final states of a job."""


class NoSlurmError(Exception):
    """SLURM can't run on this machine; the message is the reason."""


class Slurm:
    """The commands of a running cluster; `slurm_daemons` has its parts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environment = {
            "SLURM_CONF": str(state / "etc" / "slurm.conf"),
            # The names n1 and n2 are SLURM's own; processes on both find each other on the loopback interface.
            "MASTER_ADDR": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
        }

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Use the cluster exclusively; jobs that are left at the end are cancelled."""
        with (self.state / "turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:
                yield
            finally:
                cancel_all(lambda *command: self._try(*command).stdout)

    def run(self, *command: str, place: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Return what one of SLURM's commands prints."""
        done = self._try(*command, place=place, environment=environment)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _try(
        self, *command: str, place: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        whole = {**(os.environ if environment is None else environment), **self.environment}
        return subprocess.run(command, cwd=place, env=whole, capture_output=True, text=True, timeout=60, check=False)

    def submit(self, *arguments: str, place: Path, environment: Mapping[str, str]) -> str:
        """Submit a batch job from `place` and return its number; `environment` is the job's too."""
        return self.run("sbatch", "--parsable", *arguments, place=place, environment=environment).strip()

    def describe(self, job: str) -> list[dict[str, str]]:
        """Return SLURM's description of a job, or of each task of an array (all waiting tasks are one)."""
        lines = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\S+?)=(.*?)(?=\s+\S+?=|\s*$)", line)) for line in lines if line.strip()]

    def states(self, job: str) -> list[str]:
        """Return the state of a job, or of each task of an array."""
        return [described["JobState"] for described in self.describe(job)]

    def wait(self, job: str, *states: str, restarts: int = 0, deadline: float = 120) -> None:
        """Wait until all tasks of a job are in one of `states` and have been requeued so many times or more."""
        limit = time.monotonic() + deadline
        while True:
            described = self.describe(job)
            now = [task["JobState"] for task in described]
            if set(now) <= set(states) and all(int(task["Restarts"]) >= restarts for task in described):
                return
            waited_for = not set(now) <= OVER and time.monotonic() < limit
            assert waited_for, f"job {job} is not {states} but {now}\n{self.output(job)}"
            time.sleep(0.1)

    def output(self, job: str) -> str:
        """Return the output of a job, all tasks of an array one after the other."""
        files = [Path(task.get("StdOut", "")) for task in self.describe(job)]
        return "".join(file.read_text() for file in files if file.is_file())


@contextmanager
def cluster(base: Path) -> Iterator[Slurm]:
    """The cluster of all processes that name the same folder `base`; the first starts it, it ends with the last.

    Raises:
        NoSlurmError: where it isn't installed and can't be.
    """
    with (base / "slurm.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        install()
        states = sorted(base.glob("slurm-*/"), key=lambda state: int(state.name.removeprefix("slurm-")))
        users = _join(states[-1]) if states else None
        if users is None:
            states.append(base / f"slurm-{len(states)}")
            users = _start(states[-1])
    with os.fdopen(users):
        yield Slurm(states[-1])


def install() -> None:
    """Install Debian's packages if SLURM's commands are missing.

    Raises:
        NoSlurmError: where that is not possible.
    """
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if os.geteuid() != 0:
        raise NoSlurmError("a SLURM for tests is started as root")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoSlurmError(f"there is no {missing[0]} here, and no apt-get to install it")
    apt = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1")
    options = ("install", "--yes", "--no-install-recommends", *PACKAGES)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ([*apt, *options], [*apt, "update"], [*apt, *options]):
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            raise NoSlurmError(f"{' '.join(command)} took more than three minutes") from None
        if all(shutil.which(command) for command in COMMANDS):
            return
    raise NoSlurmError(f"apt-get can't install {' and '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")


def _join(state: Path) -> int | None:
    """Hold `state/users`, if the cluster there runs; return its file descriptor."""
    users = os.open(state / "users", os.O_RDWR)
    try:
        fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # it is being stopped
        os.close(users)
        return None
    if (state / "ready").exists() and not (state / "over").exists():
        return users
    os.close(users)
    return None


def _start(state: Path) -> int:
    """Hold `state/users` of a new cluster; return its file descriptor when jobs can be submitted."""
    state.mkdir()
    users = os.open(state / "users", os.O_RDWR | os.O_CREAT)
    fcntl.flock(users, fcntl.LOCK_SH)
    daemons = [sys.executable, str(Path(__file__).with_name("slurm_daemons.py")), str(state)]
    with (state / "daemons.err").open("w") as log:
        # A session of its own: Ctrl-C in the tests' terminal is not for it.
        process = subprocess.Popen(daemons, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (state / "ready").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            os.close(users)
            raise RuntimeError(f"SLURM did not start: {(state / 'daemons.err').read_text()[-2000:]}")
        time.sleep(0.05)
    # It outlives this process, if others use the cluster, and is not waited for.
    process.returncode = 0
    return users


def main() -> None:
    """Keep a cluster until Ctrl-C."""
    with cluster(Path(tempfile.mkdtemp(prefix="slurm-"))) as slurm:
        settings = " ".join(f"{name}={value}" for name, value in slurm.environment.items())
        print(f"export {settings}\nCtrl-C stops it", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
