"""What a server answers when it is busy, slow or broken; the real server is in tests/runs/test_serving.py."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import pytest

from textrnn.sharing import serving
from textrnn.sharing.serving import Service
from textrnn.sharing.trained_model import Prediction


class Model:
    """It has several labels for a text, waits while `ready` is cleared, and fails on a text."""

    classes: tuple[str, ...] = ("funny", "long")
    many_labels: bool = True

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        assert self.ready.wait(30)
        if "fail" in texts:
            raise ValueError("a defect")
        return [Prediction(text, ("funny", "long"), {"funny": 0.75, "long": 2 / 3}) for text in texts]


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.ready.set()


@pytest.fixture
def service(model: Model) -> Iterator[Service]:
    service = Service(model, "a model")
    yield service
    model.ready.set()
    service.close()


def client_of(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://here")


def test_several_labels_and_a_defect(service: Service) -> None:
    async def ask() -> None:
        async with client_of(service) as client:
            failed = await client.post("/predict", json={"text": "fail"})
            assert (failed.status_code, failed.json()) == (500, {"error": "the server failed; its log says why."})
            answer = (await client.post("/predict", json={"text": "a"})).json()
            expected = {"labels": ["funny", "long"], "probabilities": {"funny": 0.75, "long": 0.666667}}
            assert answer == {"predictions": [expected]}
            assert 'textrnn_requests_total{code="500"} 1\n' in (await client.get("/metrics")).text

    asyncio.run(ask())


def test_a_request_too_many_is_refused_and_the_others_are_answered(
    service: Service, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MAX_REQUESTS", 2)

    async def ask() -> None:
        async with client_of(service) as client:
            model.ready.clear()
            two = [asyncio.create_task(client.post("/predict", json={"text": "a"})) for _ in range(2)]
            while "textrnn_open_requests 2\n" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            refused = await client.post("/predict", json={"text": "a"})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            model.ready.set()
            assert [(await answer).status_code for answer in two] == [200, 200]

    asyncio.run(ask())


def test_a_slow_model_and_a_slow_body(service: Service, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SECONDS", 0.2)

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def ask() -> None:
        async with client_of(service) as client:
            model.ready.clear()
            slow = await client.post("/predict", json={"text": "a"})
            assert (slow.status_code, slow.headers["Retry-After"]) == (503, "1")
            late = await client.post("/predict", content=endless())
            assert (late.status_code, "did not arrive within 0.2 seconds" in late.text) == (408, True)

    asyncio.run(ask())
