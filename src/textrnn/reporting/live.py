"""The page served on loopback while runs train: it asks for what is newer than its last news."""

import errno
import json
import signal
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from textrnn.base.errors import InputError
from textrnn.base.signals import is_ignored
from textrnn.reporting.content import content, metrics_so_far, readable_runs, rows_of, with_curves
from textrnn.reporting.curves import curves_of
from textrnn.reporting.evaluations import Stamp, stamp_of
from textrnn.reporting.page import render
from textrnn.tracking.metrics_csv import Row
from textrnn.tracking.run_directory import RunDirectory

ADDRESS = "127.0.0.1"


class LiveRuns:
    """Runs that are read again at each request; each reading that finds something new has a number, the news.

    Args:
        typed: Paths as they were typed.

    Raises:
        InputError: there is no such folder, or no run that can be read.
    """

    def __init__(self, typed: Sequence[str]) -> None:
        self._typed = typed
        self._lock = threading.Lock()  # the server has a thread for each request
        self._news = 0
        self._page: dict[str, Any] = {}
        self._page_news = 0
        self._rows: dict[str, list[Row]] = {}
        self._stamps: dict[str, Stamp] = {}
        """Time and size of each `metrics.csv` when it was read."""
        self._row_news: dict[str, list[int]] = {}
        """For each row of a run the news with which it came."""
        self._restarts: dict[str, int] = {}
        """News with which a run's rows were no longer a continuation of those before: it was resumed further back."""
        self._read()

    def whole(self) -> dict[str, Any]:
        """Return the content of the whole page, with the number of its news."""
        with self._lock:
            self._read()
            page = {**self._shown(), "notes": list(self._page["notes"]), "news": self._news}
            return with_curves(page, ((run, self._rows[run["path"]]) for run in page["runs"]))

    def since(self, news: int) -> dict[str, Any]:
        """Return what is newer than `news`: the page without curves if it changed, and the new rows of each run."""
        with self._lock:
            self._read()
            runs = {
                run["path"]: self._update(run["path"], news)
                for run in self._page["runs"]
                if max(self._row_news[run["path"]], default=0) > news or self._restarts.get(run["path"], 0) > news
            }
            return {"news": self._news, "page": self._shown() if self._page_news > news else None, "runs": runs}

    def _update(self, path: str, news: int) -> dict[str, Any]:
        restarted = self._restarts.get(path, 0) > news
        pairs = zip(self._rows[path], self._row_news[path], strict=True)
        fresh = [row for row, came in pairs if came > news or restarted]
        metrics = next(run["metrics"] for run in self._page["runs"] if run["path"] == path)
        return {"restarted": restarted, "curves": curves_of(fresh), "metrics": self._metrics(path, metrics)}

    def _shown(self) -> dict[str, Any]:
        """Return the page, with the metrics so far of the runs that have not ended."""
        runs = [{**run, "metrics": self._metrics(run["path"], run["metrics"])} for run in self._page["runs"]]
        return {**self._page, "runs": runs}

    def _metrics(self, path: str, final: dict[str, Any]) -> dict[str, Any]:
        return final or metrics_so_far(self._rows[path], self._page["metric"])

    def _read(self) -> None:
        records, problems = readable_runs(self._typed)
        page = content(self._typed, records, problems)
        coming = self._news + 1
        changed = [self._read_rows(run["path"], coming, page["notes"]) for run in page["runs"]]
        if page != self._page:
            self._page, self._page_news = page, coming
            changed.append(True)
        self._news += any(changed)

    def _read_rows(self, path: str, news: int, notes: list[str]) -> bool:
        """Read a run's rows; return whether some are new. The last row of before may have got more values."""
        stamp = stamp_of(RunDirectory.join(Path(path)).metrics_csv)
        if path in self._rows and stamp == self._stamps.get(path):
            return False
        self._stamps[path] = stamp
        try:
            rows = rows_of(path)
        except InputError as error:
            notes.append(f"no curves: {error}")
            rows = []
        before = self._rows.get(path, [])
        if rows == before:
            self._row_news.setdefault(path, [])
            self._rows[path] = rows
            return False
        same = max(len(before) - 1, 0)
        if rows[:same] == before[:same]:
            same += before[same:] == rows[same : len(before)] and len(before) > same
            self._row_news[path] = [*self._row_news.get(path, [])[:same], *[news] * (len(rows) - same)]
        else:
            self._row_news[path] = [news] * len(rows)
            self._restarts[path] = news
        self._rows[path] = rows
        return True


def handler(live: LiveRuns, library: str, hosts: Sequence[str]) -> type[BaseHTTPRequestHandler]:
    """Return the handler of requests for the page and its news, from a browser that was told one of `hosts`.

    Another name may be that of a website which now leads to this machine (DNS rebinding): its scripts could read the
    runs.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            if self.headers.get("Host") not in hosts:
                self._answer(403, "text/plain", f"type http://{hosts[0]}/\n")
            elif where.path == "/":
                self._from(lambda: render(live.whole(), library, live=True), "text/html; charset=utf-8")
            elif where.path == "/news":
                after = parse_qs(where.query).get("after", [""])[0]
                if after.isascii() and after.isdecimal():
                    self._from(lambda: json.dumps(live.since(int(after)), allow_nan=False), "application/json")
                else:
                    self._answer(400, "text/plain", "after=NUMBER is needed\n")
            else:
                self._answer(404, "text/plain", "there is only /\n")

        def _from(self, make: Callable[[], str], kind: str) -> None:
            try:
                text = make()
            except InputError as error:  # the runs were moved away
                self._answer(503, "text/plain; charset=utf-8", f"{error}\n")
            else:
                self._answer(200, kind, text)

        def _answer(self, code: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            del format, args  # a line every two seconds says nothing

    return Handler


class Server(ThreadingHTTPServer):
    """A server whose browser may leave in the middle of an answer."""

    daemon_threads = True

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that the browser closed; report anything else as the library does."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(typed: Sequence[str], library: str, port: int) -> None:
    """Serve the page on loopback until Ctrl-C or SIGTERM; port 0 is a free one.

    Raises:
        InputError: there are no runs, or the port is taken.
    """
    live = LiveRuns(typed)
    try:
        server = Server((ADDRESS, port), BaseHTTPRequestHandler)
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
        raise InputError(f"--port {port}: the port {reason}; type another one, or leave it out.") from error
    hosts = [f"{name}:{server.server_port}" for name in (ADDRESS, "localhost")]
    server.RequestHandlerClass = handler(live, library, hosts)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if not is_ignored(number):
            signal.signal(number, lambda *_: ended.set())
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        print(f"live report: http://{hosts[0]}/ (Ctrl-C ends it)", flush=True)
        ended.wait()
        server.shutdown()
        thread.join()
    print("the live report has ended")
