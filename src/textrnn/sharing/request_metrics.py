"""Metrics of a server as Prometheus reads them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""https://prometheus.io/docs/instrumenting/exposition_formats/"""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds of the buckets."""


class Histogram:
    """Counts of values up to each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, meaning: str) -> list[str]:
        """Return the lines of the text format."""
        lines, total = _heading(name, meaning, "histogram"), 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.9g}", f"{name}_count {total}"]


class RequestMetrics:
    """Requests, texts, latencies and batches of a server."""

    def __init__(self) -> None:
        self._codes: Counter[int] = Counter()
        self._seconds, self._batches = Histogram(SECONDS), Histogram(TEXTS)
        self.texts = 0
        self.open_requests = 0

    def add_request(self, code: int, seconds: float) -> None:
        """Count a request that was answered with an HTTP status code."""
        self._codes[code] += 1
        self._seconds.add(seconds)

    def add_batch(self, texts: int) -> None:
        """Count a batch of the model."""
        self._batches.add(texts)

    def text(self) -> str:
        """Return all in the text format."""
        errors = sum(count for code, count in self._codes.items() if code >= 400)
        lines = [
            *_heading("textrnn_requests_total", "Answers to POST /predict by HTTP status code.", "counter"),
            *(f'textrnn_requests_total{{code="{code}"}} {count}' for code, count in sorted(self._codes.items())),
            *_heading("textrnn_errors_total", "Those with a code of 400 or more.", "counter"),
            f"textrnn_errors_total {errors}",
            *_heading("textrnn_texts_total", "Texts that were labeled.", "counter"),
            f"textrnn_texts_total {self.texts}",
            *_heading("textrnn_open_requests", "Requests that are read or wait for the model.", "gauge"),
            f"textrnn_open_requests {self.open_requests}",
            *self._seconds.lines("textrnn_request_seconds", "Seconds from a request's head to its answer."),
            *self._batches.lines("textrnn_batch_texts", "Texts that the model labeled together."),
        ]
        return "\n".join([*lines, ""])


def _heading(name: str, meaning: str, kind: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
