"""Start the entry scripts as `python SCRIPT ...` does, forked from a process that has imported torch and Lightning.

    process = start([str(ROOT / "train.py"), "model=gru"], cwd=workplace, env=environment, stdout=subprocess.PIPE)

Importing them is two thirds of a small run's CPU time. The process is a real one and a child of the caller: it has its
own memory, arguments, environment, directory and files, runs the script as `__main__` and is killed, signaled and
waited for like any other. Only the two libraries and their imports are there already. Tests about the start itself
(time, imports, settings of the interpreter) start Python directly.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

PRELOADED = ("torch", "pytorch_lightning", "matplotlib.pyplot", "hydra", "rich.progress", "tabulate")
"""Libraries that start no thread, make no file and read no setting that a test changes at their import.

tabulate: torch imports it at a process's exit, and what it evaluates there makes Python 3.11 exit with 1 after Ctrl-C.
Not wandb, which makes a temporary folder that the first process to end would remove for the others.
"""
OF_THE_START = ("PYTHON", "LD_", "OMP_", "MALLOC_", "GLIBC_", "LC_", "LANG", "MPL")
"""Environment variables that are read before the script runs: if they differ from the server's, Python starts."""
PR_SET_CHILD_SUBREAPER = 36


def start(arguments: list[str], *, cwd: Path, env: dict[str, str], **named: Any) -> "subprocess.Popen[Any]":
    """As `subprocess.Popen([sys.executable, *arguments], env=env, ...)`; Ctrl-C is not ignored by the process.

    Args:
        arguments: A script and its arguments.
        env: The whole environment.
        named: `stdin`, `stdout`, `stderr` and `text`.
    """
    server = _server()
    if server.serves(env):
        return _Forked(server, arguments, cwd=cwd, env=env, **named)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **named,
    )


class _Server:
    """The process that forks, and the socket to it; it ends when this process does."""

    def __init__(self) -> None:
        from support import environment_of

        self.environment = environment_of(Path("/nonexistent"))
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(theirs.fileno())]
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, env=self.environment, pass_fds=[theirs.fileno()], stdin=null, stdout=null
        )
        theirs.close()
        atexit.register(self.close)

    def serves(self, environment: dict[str, str]) -> bool:
        """Return whether Python would start in `environment` as the server has."""
        names = {name for name in (self.environment | environment) if name.startswith(OF_THE_START)}
        return all(self.environment.get(name) == environment.get(name) for name in names)

    def fork(self, request: dict[str, Any], files: list[int]) -> int:
        """Return the process that runs a script, a child of this one with `files` as its first three."""
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # the process's parent ends at once; it becomes ours
        try:
            socket.send_fds(self.channel, [json.dumps(request).encode()], files)
            return int(self.channel.recv(64))
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        self.channel.close()
        self.process.wait()


_server = cache(_Server)


class _Forked(subprocess.Popen[Any]):
    """A process of the server's; all but its start is subprocess's own."""

    def __init__(self, server: _Server, arguments: list[str], *, cwd: Path, env: dict[str, str], **named: Any) -> None:
        self.server = server
        self.request = {"arguments": arguments, "directory": str(cwd), "environment": env}
        super().__init__(arguments, **named)

    def _execute_child(self, *values: Any) -> None:
        """What Popen calls to start the process; in CPython 3.11 to 3.14 the pipes are the values 10 to 15."""
        pipes = values[10:16]
        stdin, _, _, stdout, _, stderr = pipes
        files = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        try:
            self.pid = self.server.fork(self.request, files)
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # Popen's own
        self._child_created = True


def serve(channel: socket.socket) -> None:
    """Fork for each request; return in the forked process, prepared to run its script."""
    for library in PRELOADED:
        importlib.import_module(library)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads can't be forked"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the tests' terminal; it ends with them
    gc.freeze()  # or the first collection would copy all that is shared
    while True:
        message, files, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        parent = os.fork()
        if parent == 0:
            process = os.fork()
            if process != 0:
                os.write(writing, str(process).encode())
                os._exit(0)
            os.close(reading)
            os.close(writing)
            channel.close()
            return _become(json.loads(message), files)
        os.waitpid(parent, 0)  # only then is its child the tests'
        channel.send(os.read(reading, 64))
        for file in (reading, writing, *files):
            os.close(file)


def _become(request: dict[str, Any], files: list[int]) -> None:
    for own, file in enumerate(files):
        os.dup2(file, own)
    os.closerange(3, max(files) + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = request["arguments"]
    sys.orig_argv[:] = [sys.executable, *request["arguments"]]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)


if __name__ == "__main__":
    sys.path[0] = "/nonexistent"  # this folder's modules are not for the libraries
    serve(socket.socket(fileno=int(sys.argv[1])))
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__file__ = sys.argv[0]
    exec(compile(Path(sys.argv[0]).read_bytes(), sys.argv[0], "exec"), vars(main))
