"""A real `textrnn serve` of a tiny model, and requests to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from doubles.tiny_checkpoint import write_checkpoint
from support import ROOT, environment_of

from textrnn.config.schema import DataConfig
from textrnn.data.tokenizer import train_tokenizer

WORDS = ["a", "fine", "film", "with", "many", "dull", "scenes", "and", "one", "that", "is", "very", "long"]


def make_model(path: Path, **stored: Any) -> Path:
    """Write a checkpoint of an untrained tiny model that knows `WORDS`."""
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", 100)
    return write_checkpoint(path, tokenizer, DataConfig(source="synthetic", max_length=20), stored or None)


class Served:
    """A server's process and its port."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port
        self.address = f"http://127.0.0.1:{port}"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, to be closed."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Return the code and text of an answer."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def predict(self, **body: Any) -> Any:
        """Return the predictions of `text` or `texts`."""
        code, text = self.ask("POST", "/predict", json.dumps(body).encode())
        assert code == 200, text
        return json.loads(text)["predictions"]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what stderr has."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextlib.contextmanager
def served(model: Path, home: Path, *arguments: str) -> Iterator[Served]:
    """Start `textrnn serve`, on a free port."""
    command = [sys.executable, "-m", "textrnn", "serve", str(model), "--port", "0", *arguments]
    environment = environment_of(home) | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The tests may be started with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield Served(process, _port(process))
        finally:
            process.kill()


def _port(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    lines: IO[str] = process.stdout
    for line in lines:
        if found := re.fullmatch(r"http://.*:(\d+)\n", line):
            return int(found[1])
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


def resident_bytes(process: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
