"""Random bodies: ten minutes of them from four clients, between requests with known answers; the server's memory.

A body is random bytes, or a request of known texts in which some bytes may be changed. A wrong answer to a known text,
a status code from 500 on or a lost connection ends the measurement with an error.
"""

import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from report import Claim, Report, Table
from serving import ask, assert_right, connect, known_answers, server, train
from settings import Settings

MINUTES, CLIENTS, POINTS = 10.0, 4, 240
LIMIT = 2**20
"""Bytes above which the server may close the connection before it has read the body."""
COMPARED = "texts with a known answer"


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    seconds, points = (2.0, 10) if settings.quick else (60 * MINUTES, POINTS)
    report.settings |= {"repeats": 1, "seconds": seconds, "clients": CLIENTS, "reviews": "generated"}
    minutes, memory, sent = [], [], Counter[str]()
    with TemporaryDirectory() as folder:
        run_directory = train(Path(folder))
        known = known_answers(run_directory)
        with server(run_directory) as (port, process), ThreadPoolExecutor(CLIENTS) as pool:
            began = time.monotonic()
            clients = [pool.submit(_client, port, number, known, began + seconds) for number in range(CLIENTS)]
            for point in range(points + 1):
                time.sleep(max(0.0, began + seconds * point / points - time.monotonic()))
                minutes.append((time.monotonic() - began) / 60)
                memory.append(_resident_megabytes(process))
                for client in clients:
                    if client.done():
                        client.result()  # raises its error
            for client in clients:
                sent += client.result()
    early, late = (statistics.median(part) for part in (memory[points // 5 : points // 2], memory[-points // 10 :]))
    report.claims += [
        Claim(name="memory at the end over that of minutes 2 to 5", values=[late / early], at_most=1.1),
        Claim(name="memory at the end", values=[late], unit="MB"),
        Claim(name="largest memory", values=[max(memory)], unit="MB"),
        Claim(name=f"{COMPARED}, all answered right", values=[float(sent.pop(COMPARED))], unit="texts"),
    ]
    table = Table(title="random bodies by the status code of their answer", unit="bodies")
    for code, number in sorted(sent.items()):
        table.add("random bodies", code, [float(number)])
    report.tables.append(table)
    report.curves |= {"minutes": minutes, "MB": memory}


def _client(port: int, number: int, known: Mapping[str, float], end: float) -> Counter[str]:
    """Send bodies until the end; return their number by status code, and that of the answers that were compared."""
    draw, texts, sent = random.Random(number), list(known), Counter[str]()
    while time.monotonic() < end:
        with connect(port) as connection:  # a new one after each thousand, and after a refused body
            for _ in range(1000):
                if time.monotonic() >= end:
                    break
                body = _random_body(draw, texts)
                try:
                    code, answer = ask(connection, body)
                except ConnectionError:
                    if len(body) <= LIMIT:
                        raise
                    sent["closed"] += 1
                    break
                sent[str(code)] += 1
                if code >= 500:
                    raise RuntimeError(f"a random body was answered with {code}: {answer}")
                if code == 200:
                    sent[COMPARED] += _compare(json.loads(body)["texts"], answer["predictions"], known)
                text = draw.choice(texts)
                code, answer = ask(connection, json.dumps({"text": text}).encode())
                if code != 200:
                    raise RuntimeError(f"a text was answered with {code}: {answer}")
                sent[COMPARED] += _compare([text], answer["predictions"], known)
    return sent


def _compare(texts: list[str], predictions: list[dict[str, float]], known: Mapping[str, float]) -> int:
    """Compare the answers to the known ones among some texts; return their number.

    Raises:
        RuntimeError: one is wrong, or not every text has an answer.
    """
    if len(texts) != len(predictions):
        raise RuntimeError(f"{len(predictions)} answers to {len(texts)} texts")
    compared = [(prediction, known[text]) for text, prediction in zip(texts, predictions, strict=True) if text in known]
    for prediction, expected in compared:
        assert_right(prediction, expected)
    return len(compared)


def _random_body(draw: random.Random, texts: list[str]) -> bytes:
    """Return random bytes, or a request of up to 300 texts with some bytes changed."""
    if draw.random() < 0.2:
        return draw.randbytes(int(10 ** draw.uniform(0, 6.1)))
    body = bytearray(json.dumps({"texts": draw.choices(texts, k=draw.choice((0, 1, 5, 30, 300)))}).encode())
    for _ in range(draw.randrange(4)):
        start = draw.randrange(len(body))
        body[start : start + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
    return bytes(body)


def _resident_megabytes(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def draw(report: Report, path: Path) -> None:
    """Draw the server's memory over time."""
    from textrnn.tracking.plots import BLUE, new_figure, save_figure

    figure = new_figure(7, 3)
    panel = figure.subplots()
    panel.plot(report.curves["minutes"], report.curves["MB"], color=BLUE)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("minutes of random bodies")
    panel.set_ylabel("memory of the server, MB")
    panel.grid(alpha=0.3)
    save_figure(figure, path)
