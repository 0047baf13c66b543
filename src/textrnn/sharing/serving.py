"""The server of a trained model: JSON over HTTP, on what Starlette and uvicorn give.

The event loop reads requests and writes answers; the model runs in the thread of `batching.Batcher`.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from textrnn.base.exits import DONE
from textrnn.sharing.batching import Batcher
from textrnn.sharing.openapi import MAX_BODY, Answer, Health, PredictRequest, PredictResponse, document, sentence
from textrnn.sharing.request_metrics import CONTENT_TYPE, RequestMetrics
from textrnn.sharing.served_model import ServedModel
from textrnn.sharing.trained_model import Prediction

MAX_REQUESTS = 256
"""Requests that may be read or wait at a time: with bodies of 1 MiB, at most some hundred MB."""
SECONDS = 30.0
"""Time limit of a body, and of the model's answer."""
BUSY = {"Retry-After": "1"}
PAGE = Path(__file__).with_name("serve.html")
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""The browser loads nothing from elsewhere and sends nothing there."""


class Service:
    """The answers to requests.

    Args:
        model: The model, whose `predict` is called in one thread.
        name: Name of the model, which is shown.
    """

    def __init__(self, model: ServedModel, name: str) -> None:
        self._many_labels = model.many_labels
        self._health = Health(status="ok", model=name, classes=list(model.classes))
        self._metrics = RequestMetrics()
        self._batcher = Batcher(model.predict, self._metrics.add_batch)
        self._page = PAGE.read_text(encoding="utf-8")
        self._document = document()
        self.app = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/docs", self._show_interface),
                Route("/openapi.json", self._describe),
                Route("/health", self._report_health),
                Route("/metrics", self._report_metrics),
                Route("/predict", self._predict, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refusal, Exception: _crash},
        )

    def close(self) -> None:
        """End the model's thread."""
        self._batcher.close()

    # Without a wait, but asynchronous: Starlette runs others in threads.
    async def _show_page(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers=SECURITY)

    async def _show_interface(self, _: Request) -> Response:
        return RedirectResponse("/#api")

    async def _describe(self, _: Request) -> Response:
        return JSONResponse(self._document)

    async def _report_health(self, _: Request) -> Response:
        return JSONResponse(self._health.model_dump())

    async def _report_metrics(self, _: Request) -> Response:
        return PlainTextResponse(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _predict(self, request: Request) -> Response:
        began, code = time.perf_counter(), 500
        self._metrics.open_requests += 1
        try:
            if self._metrics.open_requests > MAX_REQUESTS:
                raise HTTPException(503, f"{MAX_REQUESTS} requests are open; send it again in a second.", BUSY)
            texts = await _texts(request)
            answer = await self._label(texts)
            code = 200
            return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
        except HTTPException as refused:
            code = refused.status_code
            raise
        finally:
            self._metrics.open_requests -= 1
            self._metrics.add_request(code, time.perf_counter() - began)

    async def _label(self, texts: Sequence[str]) -> PredictResponse:
        future = self._batcher.submit(texts)
        try:
            predictions = await asyncio.wait_for(asyncio.wrap_future(future), SECONDS)
        except TimeoutError:
            raise HTTPException(503, f"there was no answer within {SECONDS:g} seconds; send it again.", BUSY) from None
        self._metrics.texts += len(texts)
        return PredictResponse(predictions=[self._answer(prediction) for prediction in predictions])

    def _answer(self, prediction: Prediction) -> Answer:
        rounded = {name: round(value, 6) for name, value in prediction.probabilities.items()}
        if self._many_labels:
            return Answer(label=None, labels=list(prediction.labels), probabilities=rounded)
        return Answer(label=prediction.label, labels=None, probabilities=rounded)


async def _texts(request: Request) -> list[str]:
    """Read and check a request's body.

    Raises:
        HTTPException: it is wrong, too large or too slow.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"the body is larger than {MAX_BODY:,} bytes; send fewer texts at a time.")
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {SECONDS:g} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection was closed before the body's end.") from None
    try:
        return PredictRequest.model_validate_json(bytes(body)).all_texts()
    except ValidationError as error:
        is_json = error.errors()[0]["type"] != "json_invalid"
        raise HTTPException(422 if is_json else 400, sentence(error)) from None


async def _refusal(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _crash(request: Request, error: Exception) -> Response:
    """Answer after a defect, whose traceback uvicorn logs."""
    del request, error
    return JSONResponse({"error": "the server failed; its log says why."}, 500)


def serve(model: ServedModel, name: str, listening: socket.socket) -> None:
    """Print the address and serve a model there until SIGTERM or Ctrl-C; requests that have begun are answered first.

    Raises:
        SystemExit: with code 0, after SIGTERM.
        KeyboardInterrupt: after Ctrl-C.
    """
    service = Service(model, name)
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(2 * SECONDS) + 1,
    )

    def end(*_: object) -> None:
        raise SystemExit(DONE)

    # uvicorn has its own handlers while it serves; at its end it sends itself the signal again, for these.
    signal.signal(signal.SIGTERM, end)
    host, port = listening.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.close()
