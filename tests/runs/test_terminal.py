"""A run in a terminal: Ctrl-C, and a terminal that is closed, cost nothing."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from doubles.run_files import SMALL, json_of, last_step, metrics, predictions, summary, wait_for_step
from support import ROOT, Command

CTRL_C = b"\x03"
STEPS = 68
"""Of an epoch."""
TYPED = (*SMALL, "data.batch_size=4", "early_stopping.patience=null", "run_dir=run")


@contextmanager
def in_terminal(arguments: tuple[str, ...], place: Path, environment: dict[str, str]) -> "Iterator[Typed]":
    """Type `python train.py ...` in a new terminal, which is closed at the end."""
    ours, theirs = pty.openpty()

    def begin() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    process = subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=begin,
    )
    os.close(theirs)
    typed = Typed(ours, process)
    try:
        yield typed
    finally:
        typed.close()
        process.kill()
        process.wait()


class Typed:
    """A process in a terminal."""

    def __init__(self, terminal: int, process: "subprocess.Popen[bytes]") -> None:
        self.terminal, self.process = terminal, process
        self.is_open = True
        self._output = b""

    def press(self, key: bytes) -> None:
        os.write(self.terminal, key)

    def close(self) -> None:
        """Close the terminal."""
        if self.is_open:
            self.is_open = False
            os.close(self.terminal)

    def read(self, seconds: float) -> None:
        """Read what is there, or comes meanwhile: a process waits for a full terminal."""
        if select.select([self.terminal], [], [], seconds)[0]:
            self._output += os.read(self.terminal, 4096)

    def end(self) -> tuple[int, str]:
        """Return exit code and output."""
        with suppress(OSError):  # a terminal's end
            while part := os.read(self.terminal, 4096):
                self._output += part
        output = self._output.decode(errors="replace")
        return self.process.wait(timeout=60), re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", output)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_and_a_closed_terminal_cost_nothing(here: Command, workplace: Path, environment: dict[str, str]) -> None:
    run, whole = workplace / "run", workplace / "whole"
    with in_terminal(TYPED, workplace, environment) as typed:
        wait_for_step(run, 2, typed.process)
        typed.press(CTRL_C)
        code, output = typed.end()
    assert code == 130, output
    ended = json_of(run / "summary.json")
    assert ended["status"] == "interrupted"
    step = ended["step"]
    assert isinstance(step, int)
    assert step < STEPS, "in the first epoch"
    assert "a second Ctrl-C ends it at once" in output
    assert f"the run stopped in epoch 1 at step {step}, saved in run/checkpoints/last.ckpt" in output
    assert "interrupted; resume: python train.py resume=run\r\n" in output
    with in_terminal(("resume=run",), workplace, environment) as typed:
        wait_for_step(run, step + 2, typed.process)
        typed.close()
        assert typed.process.wait(timeout=60) == 75
    assert json_of(run / "summary.json")["status"] == "preempted"
    assert int(str(json_of(run / "summary.json")["step"])) >= last_step(run)
    done = here("train.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert here("train.py", *TYPED[:-1], "run_dir=whole").returncode == 0
    assert metrics(run) == metrics(whole)
    assert summary(run) == summary(whole)
    assert predictions(run) == predictions(whole)


SLOW_DISK = """
import os, time
replace = os.replace
def slow_replace(source, target, **where):
    time.sleep(str(target).endswith("last.ckpt"))
    replace(source, target, **where)
os.replace = slow_replace
"""
"""A module that Python imports at its start: `last.ckpt` comes a second after `best.ckpt`."""


@pytest.mark.slow
def test_ctrl_c_between_the_first_checkpoints_of_two_processes_that_have_no_home(
    workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Both leave at one batch, with both checkpoints, and no library says anything in words of its own."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW_DISK)
    environment["PYTHONPATH"] = f"{tmp_path / 'slow'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    del environment["MPLCONFIGDIR"], environment["XDG_CACHE_HOME"]
    environment["HOME"] = "/dev/null/home"
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "tracking=offline", "trainer.precision=bf16")
    best = workplace / "run" / "checkpoints" / "best.ckpt"
    with in_terminal((*TYPED, *two, "data.cache_dir=cache"), workplace, environment) as typed:
        while not best.exists():
            assert typed.process.poll() is None, typed.end()
            typed.read(0.01)
        assert not best.with_name("last.ckpt").exists()
        typed.press(CTRL_C)
        code, output = typed.end()
    assert code == 130, output
    assert output.count("a second Ctrl-C ends it at once") == 1
    assert "in epoch 2 at step 71, saved in run/checkpoints/last.ckpt" in output
    assert "interrupted; resume: python train.py resume=run\r\n" in output
    assert not re.search(r"Traceback|site-packages|[Ww]arning|mkdir|INFO|MPLCONFIGDIR|discouraged", output), output
    assert "has died" not in output, "W&B's service has a session of its own, which a terminal does not signal"
    assert (workplace / "run" / "checkpoints" / "last.ckpt").is_file()
