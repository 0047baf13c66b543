"""Workers: each variant measures itself on request, in a process of its own.

So settings of one (allocator, threads, framework) don't affect the others, and their repeats still interleave.

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
    """The client: starts a script of this folder that calls `serve`, in a process that ends with `with`.

    Args:
        script: Its file name.
        python: The interpreter; that of this process if None.
        ours: Whether it gets the program's own settings, which no peer has.
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
        """Return the worker's answer; raise `RuntimeError` if it dies instead (its traceback is on stderr)."""
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
    """Yield requests, each with the function that answers it: the server for a loop that does something else too."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    for line in sys.stdin:
        yield json.loads(line), lambda answer: print(json.dumps(answer), file=replies, flush=True)


def serve(answer: Callable[..., Any]) -> None:
    """Call `answer(**request)` for each request until there are no more: the server."""
    for request, reply in requests():
        reply(answer(**request))
