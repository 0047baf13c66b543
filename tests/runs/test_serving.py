"""`textrnn serve` as its users have it: one process for most tests, real connections, a real browser."""

import concurrent.futures
import contextlib
import http.client
import json
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.browser import BROWSER, browser
from doubles.servers import WORDS, Served, make_model, resident_bytes, served
from support import Command

from textrnn import load
from textrnn.model.kernels.library import load_library
from textrnn.sharing.trained_model import TrainedModel

CLIENTS, REQUESTS = 16, 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_library("float")  # a server that compiled it would say so among its errors
    return make_model(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def trained(model: Path) -> TrainedModel:
    return load(model)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("home")) as running:
        yield running
        code, errors = running.end()
        assert code == 0
        assert [line for line in errors.splitlines() if "compiled for this machine" not in line] == []


def test_one_text_and_several_are_labeled_as_in_python(server: Served, trained: TrainedModel) -> None:
    texts = ["a fine film", "", "dull " * 30, "ünïcode 🎬 \x00"]
    found = server.predict(texts=texts)
    for answer, expected in zip(found, trained.predict(texts), strict=True):
        assert set(answer) == {"label", "probabilities"}
        assert answer["label"] == expected.label
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert server.predict(text="a fine film") == [found[0]]


def test_each_of_many_clients_gets_the_answers_to_its_own_texts(server: Served, trained: TrainedModel) -> None:
    def client(seed: int) -> list[tuple[list[str], list[float]]]:
        draw, asked = random.Random(seed), []
        with contextlib.closing(server.connect()) as connection:
            for _ in range(REQUESTS):
                texts = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 25))) for _ in range(draw.randrange(1, 5))]
                connection.request("POST", "/predict", json.dumps({"texts": texts}))
                answers = json.loads(connection.getresponse().read())["predictions"]
                asked.append((texts, [answer["probabilities"]["positive"] for answer in answers]))
        return asked

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        found = [one for asked in pool.map(client, range(CLIENTS)) for one in asked]
    texts = [text for of_one, _ in found for text in of_one]
    expected = trained.probabilities(texts)[:, 1].tolist()
    assert len(set(expected)) > 100
    assert [share for _, shares in found for share in shares] == pytest.approx(expected, abs=1e-5)


LONG = json.dumps({"text": "a" * 100_001}).encode()
WRONG = {
    "no body": (b"", 400, "Invalid JSON"),
    "cut": (b'{"texts": ["a"', 400, "Invalid JSON"),
    "not UTF-8": (b'{"text": "\xff\xfe"}', 400, "Invalid JSON"),
    "lone surrogate": (b'{"text": "\\ud800"}', 400, "Invalid JSON"),
    "deep": (b'{"texts": ' + b"[" * 100_000, 400, "Invalid JSON"),
    "a list": (b'["a"]', 422, "object"),
    "neither": (b"{}", 422, "give either"),
    "both": (b'{"text": "a", "texts": ["b"]}', 422, "give either"),
    "another key": (b'{"text": "a", "model": "b"}', 422, "model: "),
    "empty list": (b'{"texts": []}', 422, "at least 1"),
    "a number": (b'{"texts": ["a", 1]}', 422, "texts.1: "),
    "NaN": (b'{"text": NaN}', 422, "text: "),
    "257 texts": (json.dumps({"texts": ["a"] * 257}).encode(), 422, "at most 256"),
    "a long text": (LONG, 422, "at most 100000"),
    "a text of 1 MB": (json.dumps({"text": "a " * 525_000}).encode(), 413, "1,048,576 bytes"),
}


@pytest.mark.parametrize(("body", "code", "says"), WRONG.values(), ids=WRONG)
def test_wrong_bodies_are_refused_in_a_sentence(server: Served, body: bytes, code: int, says: str) -> None:
    answered, text = server.ask("POST", "/predict", body)
    assert (answered, list(json.loads(text))) == (code, ["error"])
    assert says in text
    assert len(text) < 200
    assert server.predict(text="a fine film")


def test_a_body_of_1_gb_is_refused_before_it_is_read(server: Served) -> None:
    before = resident_bytes(server.process.pid)
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "1000000000")
        connection.endheaders()
        connection.send(b"a" * 2_000_000)
        assert connection.getresponse().status == 413
    assert resident_bytes(server.process.pid) - before < 50e6


def test_random_bodies_are_answered_and_nothing_else_happens(server: Served) -> None:
    draw, codes = random.Random(0), set()
    right = server.predict(text="a fine film")
    good = json.dumps({"texts": ["a fine film", "ünïcode"]}, ensure_ascii=False).encode()
    for number in range(300):
        body = bytearray(good if number % 3 else draw.randbytes(draw.randrange(200)))
        for _ in range(number % 4 if body else 0):
            start = draw.randrange(len(good))
            body[start : start + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
        code, text = server.ask("POST", "/predict", bytes(body))
        codes.add(code)
        assert list(json.loads(text)) == (["predictions"] if code == 200 else ["error"])
    assert codes == {200, 400, 422}
    assert server.predict(text="a fine film") == right


def test_health_metrics_and_description(server: Served) -> None:
    assert json.loads(server.ask("GET", "/health")[1]) == {
        "status": "ok",
        "model": "best",
        "classes": ["negative", "positive"],
    }

    def total(name: str) -> float:
        return float(
            next(line for line in server.ask("GET", "/metrics")[1].splitlines() if line.startswith(name))[len(name) :]
        )

    before = {
        name: total(name) for name in ("textrnn_texts_total ", "textrnn_errors_total ", "textrnn_batch_texts_sum ")
    }
    server.predict(texts=["a", "b", "c"])
    server.ask("POST", "/predict", b"")
    assert {name: total(name) - before[name] for name in before} == dict(zip(before, (3, 1, 3), strict=True))
    described = json.loads(server.ask("GET", "/openapi.json")[1])
    assert set(described["paths"]) == {"/predict", "/health", "/metrics"}
    for name in set(_references(described)):
        assert name.removeprefix("#/components/schemas/") in described["components"]["schemas"]
    assert server.ask("GET", "/predict")[0] == 405
    assert server.ask("GET", "/nothing")[0] == 404


def _references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (part["$ref"],) if "$ref" in part else ()
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def test_requests_that_have_begun_are_answered_before_sigterm_ends_the_server(model: Path, tmp_path: Path) -> None:
    body = json.dumps({"texts": ["a fine film"] * 200}).encode()
    with served(model, tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), 60) as half:
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        half.sendall(head.encode())
        assert half.recv(100).startswith(b"HTTP/1.1 100 ")  # the server reads the body
        half.sendall(body[:1000])
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:  # until it takes no more
                socket.create_connection(("127.0.0.1", server.port), 60).close()
                time.sleep(0.02)
        half.sendall(body[1000:])
        answer = http.client.HTTPResponse(half)
        answer.begin()
        assert answer.status == 200
        assert len(json.loads(answer.read())["predictions"]) == 200
        _, errors = server.process.communicate(timeout=60)
        assert (server.process.returncode, errors) == (0, "")


def test_ctrl_c_ends_the_server(model: Path, tmp_path: Path) -> None:
    with served(model, tmp_path, "--host", "0.0.0.0") as server:
        assert server.predict(text="a fine film")
        code, errors = server.end(signal.SIGINT)
    warning, last = errors.splitlines()
    assert (code, last) == (130, "interrupted")
    assert warning.startswith("warning: 0.0.0.0 is open to other machines")


def test_what_cannot_be_served_is_said_in_a_sentence(
    here: Command, server: Served, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "predict.py"):
        (folder / name).write_text("{}")
    for arguments, says in (
        ((str(model), "--port", str(server.port)), "is in use; type another one"),
        ((str(model), "--port", "65536"), "type a port from 1 to 65535"),
        ((str(model), "--host", "192.0.2.1", "--port", "0"), "is not an address of this machine"),
        (("nothing", "--port", "0"), "there is no such run"),
        ((str(folder), "--port", "0"), "type textrnn export again"),
    ):
        done = here("serve", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_labels_a_text_and_asks_no_other_server(server: Served, tmp_path: Path) -> None:
    (expected,) = server.predict(text="a fine film")
    with browser(tmp_path / "profile") as page:
        page.resize(400, 900, dark=True)
        page.call("Page.navigate", url=server.address)
        page.wait("document.querySelectorAll('#paths h3').length > 2")
        assert page.run("document.getElementById('name').textContent") == "best"
        page.run("document.getElementById('text').value = 'a fine film'")
        page.run("document.getElementById('send').click()")
        page.wait("document.getElementById('label').textContent")
        assert page.run("document.getElementById('label').textContent") == expected["label"]
        shown = page.run("[...document.querySelectorAll('#classes dd:not(.bar)')].map((one) => one.textContent)")
        assert shown == [f"{share:.3f}" for share in sorted(expected["probabilities"].values(), reverse=True)]
        assert page.run("document.documentElement.scrollWidth <= 400")
        assert page.console == []
        page.run("document.getElementById('text').value = 'a '.repeat(60000)")
        page.run("document.getElementById('form').requestSubmit()")
        page.wait("document.getElementById('error').textContent")
        assert "at most" in page.run("document.getElementById('error').textContent")
        assert {address[: len(server.address) + 1] for address in page.addresses} <= {f"{server.address}/", "data:,"}
