"""Serving: requests per second and latency of 1, 8 and 64 clients on loopback against a loop that calls the model.

A client keeps its connection and sends the next request when it has the answer. All clients are threads of one Python
process on the server's machine, so their own CPU time is reported too.
"""

import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import ROOT
from report import Claim, Report, Table
from settings import Settings
from timing import ratios

CLIENTS = (1, 8, 64)
SECONDS, WARM_UP = 5.0, 20
TIMEOUT = 60.0
MOST_ERROR = 1e-5
MODEL = ("model=gru", "data=synthetic", "data.synthetic.train_reviews=300", "data.synthetic.test_reviews=60")
TRAINING = ("trainer=cpu", "trainer.max_epochs=1", "tracking=none", "test=false")


@dataclass(kw_only=True, slots=True)
class Load:
    """What clients have measured."""

    times: list[float]
    """Seconds of each request."""
    seconds: float
    """From the first request to the last answer."""
    server: float
    """CPU seconds of the server."""
    clients: float
    """CPU seconds of this process, which has the clients."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    seconds = 0.5 if settings.quick else SECONDS
    report.settings |= {"seconds": seconds, "reviews": "generated"}
    rates = Table(title="texts per second, one text per request", unit="texts/s")
    latency = Table(title="latency of a request", unit="ms")
    cost = Table(title="CPU time per text", unit="ms")
    with TemporaryDirectory() as folder:
        run_directory = train(Path(folder))
        known = known_answers(run_directory)
        with server(run_directory) as (port, process):
            for _ in range(settings.repeats):
                rate, cpu = _loop(run_directory, list(known), seconds)
                rates.append("a loop", "texts/s", rate)
                cost.append("a loop", "model", cpu)
                for clients in CLIENTS:
                    name = f"{clients} client{'s' * (clients > 1)}"
                    load = _load(port, process, clients, known, seconds)
                    rates.append(name, "texts/s", len(load.times) / load.seconds)
                    cost.append(name, "server", load.server / len(load.times) * 1000)
                    cost.append(name, "clients", load.clients / len(load.times) * 1000)
                    percentiles = statistics.quantiles(load.times, n=100)
                    latency.append(name, "p50", percentiles[49] * 1000)
                    latency.append(name, "p99", percentiles[98] * 1000)
    loop = rates.cells["a loop"]["texts/s"]
    for name, row in rates.cells.items():
        if name != "a loop":
            over = ratios(row["texts/s"], loop)
            report.claims.append(Claim(name=f"{name}: texts/s over a loop that calls the model", values=over))
    report.tables += [rates, latency, cost]


def _cpu_seconds(process: int) -> float:
    """Return the CPU time of a process so far, of all its threads."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def train(folder: Path) -> Path:
    """Train some steps, as a server's speed doesn't depend on what the model has learned; return the run."""
    places = (f"data.cache_dir={folder / 'cache'}", f"run_dir={folder / 'run'}")
    with _textrnn("train", *MODEL, *TRAINING, *places) as process:
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"textrnn train ended with {process.returncode}")
    return folder / "run"


def _textrnn(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command; what it writes to stderr is seen, and no pipe that nobody reads can fill and stop it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "textrnn", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def known_answers(run_directory: Path) -> dict[str, float]:
    """Return texts, each with the probability of the second class by the model."""
    from textrnn import load
    from textrnn.data.synthetic import generate_review

    texts = [generate_review(0, "test", number, 0.5)[0] for number in range(256)]
    return dict(zip(texts, load(run_directory).probabilities(texts)[:, 1].tolist(), strict=True))


def _loop(run_directory: Path, texts: Sequence[str], seconds: float) -> tuple[float, float]:
    """Call the model with one text at a time; return the texts per second, and the CPU time of one in milliseconds."""
    from textrnn import load

    model, number = load(run_directory), 0
    for text in texts[:WARM_UP]:
        model.predict([text])
    began, cpu = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - began) < seconds:
        model.predict([texts[number % len(texts)]])
        number += 1
    return number / passed, (time.process_time() - cpu) / number * 1000


@contextmanager
def server(run_directory: Path) -> Iterator[tuple[int, int]]:
    """Start `textrnn serve`; yield its port and its process."""
    with _textrnn("serve", str(run_directory), "--port", "0") as process:
        try:
            assert process.stdout is not None
            found = next((match for line in process.stdout if (match := re.match(r"http://.*:(\d+)", line))), None)
            if found is None:
                raise RuntimeError(f"textrnn serve ended with {process.wait()}")
            yield int(found[1]), process.pid
        finally:
            process.terminate()


def connect(port: int) -> "closing[http.client.HTTPConnection]":
    """Return a connection to the server, to be used under `with`."""
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT))


def ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, Any]:
    """Send a body; return the status code and the answer's JSON."""
    connection.request("POST", "/predict", body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def assert_right(prediction: Mapping[str, Any], expected: float) -> None:
    """Compare the probability of the second class with the expected one.

    Raises:
        RuntimeError: they differ.
    """
    if abs(next(reversed(prediction["probabilities"].values())) - expected) > MOST_ERROR:
        raise RuntimeError(f"a wrong answer: {prediction}, not {expected}")


def _load(port: int, process: int, clients: int, known: Mapping[str, float], seconds: float) -> Load:
    """Measure clients that wait for an answer before they ask again, for some seconds."""
    began: list[float] = []
    times: list[float] = []

    def clocks() -> list[float]:
        return [time.perf_counter(), _cpu_seconds(process), time.process_time()]

    ready = threading.Barrier(clients, action=lambda: began.extend(clocks()), timeout=TIMEOUT)
    requests = [(json.dumps({"text": text}).encode(), expected) for text, expected in known.items()]

    def client(number: int) -> None:
        draw = random.Random(number)
        with connect(port) as connection:
            ask(connection, requests[0][0])
            ready.wait()
            while (sent := time.perf_counter()) < began[0] + seconds:
                body, expected = draw.choice(requests)
                code, answer = ask(connection, body)
                times.append(time.perf_counter() - sent)
                if code != 200:
                    raise RuntimeError(f"a text was answered with {code}: {answer}")
                assert_right(answer["predictions"][0], expected)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    passed, of_server, of_clients = (end - start for end, start in zip(clocks(), began, strict=True))
    return Load(times=times, seconds=passed, server=of_server, clients=of_clients)
