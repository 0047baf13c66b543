"""A variant in a process of its own, asked by another one to measure itself, so that settings of one (allocator,
threads, framework) don't reach the others and their repeats still interleave.

Only the standard library is imported: a worker may run in an environment without this project.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent


class Worker:
    """The asking side: a script of this folder that `serve`s, in a process that lasts until the end of `with`.

    Args:
        script: Its file name.
        python: The interpreter; that of this process if None.
        ours: Whether it has the settings that the program makes for itself, which no peer has.
    """

    def __init__(self, script: str, python: str | None = None, *, ours: bool = True) -> None:
        self._script = script
        self._process = subprocess.Popen(
            [python or sys.executable, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if ours or name != "GOMP_SPINCOUNT"},
        )

    def ask(self, **request: Any) -> Any:
        """What the worker answers; raises `RuntimeError` when it dies instead (its traceback is on stderr)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died; the missing answer tells
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._script} ended with {self._process.wait()} instead of answering {request}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()


Reply = Callable[[Any], None]


def requests() -> Iterator[tuple[dict[str, Any], Reply]]:
    """The answering side, for who has to take requests while doing something else: each with what answers it."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    for line in sys.stdin:
        yield json.loads(line), lambda answer: print(json.dumps(answer), file=replies, flush=True)


def serve(answer: Callable[..., Any]) -> None:
    """The answering side: call `answer(**request)` for each request until there are no more."""
    for request, reply in requests():
        reply(answer(**request))
