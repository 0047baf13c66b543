import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.report_runs import make_evaluation, make_run, metric_rows, write_metrics
from numpy.random import default_rng

from textrnn.reporting.live import LiveRuns

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return metric_rows(default_rng(0), 0.9, 300, 300, 10)


@pytest.fixture
def run(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    """A run that has written ten rows."""
    path = make_run(tmp_path / "runs" / "a", {}, state="running")
    write_metrics(path, rows[:10])
    return path


def test_only_new_rows_are_sent(run: Path, rows: list[dict[str, Any]]) -> None:
    live = LiveRuns([str(run.parent)])
    page = live.whole()
    assert len(page["runs"][0]["curves"]["train/loss"][0]) == 10
    news = page["news"]
    assert live.since(news) == {"news": news, "page": None, "runs": {}}
    write_metrics(run, rows[:12])
    update = live.since(news)
    assert update["news"] > news
    assert update["page"] is None
    assert update["runs"][str(run)]["restarted"] is False
    assert update["runs"][str(run)]["curves"]["train/loss"][0] == [110, 120]
    assert update["runs"][str(run)]["metrics"]["train/loss"] == rows[11]["train/loss"]
    assert live.since(update["news"])["runs"] == {}
    assert live.since(news)["runs"] == update["runs"]  # another browser


def test_a_row_that_got_more_values_is_sent_again_and_an_older_row_restarts_the_run(
    run: Path, rows: list[dict[str, Any]]
) -> None:
    live = LiveRuns([str(run)])
    news = live.whole()["news"]
    write_metrics(run, [*rows[:9], rows[9] | {"val/f1": 0.5}])
    update = live.since(news)
    assert update["runs"][str(run)]["curves"]["val/f1"] == ([100], [0.5])
    assert update["runs"][str(run)]["curves"]["train/loss"][0] == [100]
    write_metrics(run, rows[:5])  # resumed from a checkpoint before
    update = live.since(update["news"])
    assert update["runs"][str(run)]["restarted"]
    assert len(update["runs"][str(run)]["curves"]["train/loss"][0]) == 5


def test_a_run_that_begins_or_ends_changes_the_page(run: Path, rows: list[dict[str, Any]]) -> None:
    live = LiveRuns([str(run.parent)])
    news = live.whole()["news"]
    other = make_run(run.parent / "b", {"seed": 1}, state="running")
    write_metrics(other, rows[:1])
    update = live.since(news)
    assert [one["path"] for one in update["page"]["runs"]] == [str(run), str(other)]
    assert update["page"]["varied"] == ["seed"]
    assert update["page"]["runs"][0]["metrics"]["train/loss"] == rows[9]["train/loss"]
    assert list(update["runs"]) == [str(other)]
    make_evaluation(other / "evaluation-test", default_rng(0), 0.8, ("negative", "positive"))
    assert live.since(update["news"])["page"]["evaluations"][0]["run"] == str(other)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    command = [sys.executable, "-m", "textrnn", "report", str(folder), "--live"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process, int(line.split("127.0.0.1:")[1].split("/")[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def answer(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_answers_its_own_names_alone_and_ends_cleanly(number: signal.Signals, run: Path) -> None:
    with served(run.parent) as (process, port):
        status, page = answer(port, "/")
        assert (status, "Plotly" in page) == (200, True)
        status, news = answer(port, "/news?after=0", f"localhost:{port}")
        assert (status, list(json.loads(news)["runs"])) == (200, [str(run)])
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            assert answer(port, "/news?after=0", host)[0] == 403
        assert [answer(port, path)[0] for path in ("/news?after=x", "/etc/passwd", "/news/../")] == [400, 404, 404]
        (run / "run.json").write_text("{")
        status, message = answer(port, "/news?after=0")
        assert (status, "can't be read" in message) == (503, True)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "the live report has ended\n")
