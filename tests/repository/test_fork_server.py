"""The contract of the fork server: its processes are as Python would have started them, and are killed like others."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from doubles.fork_server import start

PROGRAM = """
import atexit, json, os, signal, sys
main = vars(sys.modules["__main__"]) is globals()
who = {"argv": sys.argv, "orig_argv": sys.orig_argv[1:], "name": __name__, "file": __file__, "main": main}
where = {"cwd": os.getcwd(), "path": sys.path, "files": sorted(os.listdir("/proc/self/fd")), "stdin": sys.stdin.read()}
whose = {"parent": os.getppid(), "group": os.getpgid(0), "session": os.getsid(0), "environment": dict(os.environ)}
how = {"signals": [str(signal.getsignal(number)) for number in (2, 13, 15)], "ours": "textrnn" in sys.modules}
print(json.dumps(who | where | whose | how))
print("to stderr", file=sys.stderr)
atexit.register(print, "at exit")
sys.exit(3)
"""
REAL = {"PYTHONHASHSEED": "0"}
"""A setting of the interpreter, with which Python starts the process instead of the server."""


def told(place: Path, environment: dict[str, str]) -> tuple[type, int, str, str, dict[str, Any]]:
    (place / "program.py").write_text(PROGRAM)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [str(place / "program.py"), "a b", "", "é=1"]
    with start(command, cwd=place.parent, env=environment, text=True, **pipes) as process:
        output, errors = process.communicate("typed", timeout=60)
    first, rest = output.split("\n", 1)
    return type(process), process.returncode, rest, errors, json.loads(first)


def test_a_process_is_as_python_would_have_started_it(workplace: Path, environment: dict[str, str]) -> None:
    kind, *forked, report = told(workplace, environment)
    real_kind, *real, real_report = told(workplace, environment | REAL)
    assert issubclass(kind, subprocess.Popen)
    assert real_kind is subprocess.Popen
    assert forked == real == [3, "at exit\n", "to stderr\n"]
    assert real_report.pop("environment") == environment | REAL
    assert report.pop("environment") == environment
    assert report == real_report
    assert report["stdin"] == "typed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_killed_like_any_other(workplace: Path, environment: dict[str, str], number: signal.Signals) -> None:
    (workplace / "program.py").write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    with start([str(workplace / "program.py")], cwd=workplace, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert not Path(f"/proc/{process.pid}").exists()
