"""A terminal that is closed: its run is pre-empted as by SIGTERM, and what it writes goes nowhere."""

import os
import pty
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time
from textrnn.base.signals import Preempted, Signals
{before}
signals = Signals()
try:
    print("ready", flush=True)
    time.sleep(60)
except Preempted:
    print("gone", flush=True)  # to the terminal: an error if it is still written to
    print("gone", file=sys.stderr, flush=True)
    sys.exit(75)
"""


@pytest.mark.parametrize(("before", "code"), [("", 75), ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", None)])
def test_a_closed_terminal_preempts(before: str, code: int | None) -> None:
    primary, secondary = pty.openpty()
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True)
    try:
        os.close(secondary)
        assert b"ready" in os.read(primary, 100)
        os.close(primary)
        process.send_signal(signal.SIGHUP)  # as the kernel does for a session whose controlling terminal this is
        if code is None:
            with pytest.raises(subprocess.TimeoutExpired):  # nohup keeps it alive
                process.wait(1)
        else:
            assert process.wait(30) == code
    finally:
        process.kill()
        process.wait()
