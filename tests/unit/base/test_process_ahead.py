"""Work ahead of its use: the order, the errors and the end of its thread."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from textrnn.base.process import in_advance


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")}


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("ahead", [0, 1, 2, 50])
@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_those_of_map_in_order(ahead: int, workers: int) -> None:
    def square(number: int) -> int:
        time.sleep(0.002 * (number % 3))  # so that with several threads later ones are done before
        return number * number

    assert list(in_advance(square, range(20), ahead=ahead, threads=workers)) == [n * n for n in range(20)]
    assert list(in_advance(square, [], ahead=ahead, threads=workers)) == []
    assert not threads()


def test_threads_work_at_once() -> None:
    together = threading.Barrier(3)

    def meet(number: int) -> int:
        together.wait(timeout=10)
        return number

    assert list(in_advance(meet, range(6), ahead=3, threads=3)) == list(range(6))


def test_no_more_than_asked_for_is_made_ahead() -> None:
    done: list[int] = []
    results = in_advance(done.append, range(100), ahead=3)
    assert done == []  # nothing before the first is asked for
    next(results)
    assert eventually(lambda: len(done) == 4)
    next(results)
    assert eventually(lambda: len(done) == 5)
    time.sleep(0.05)
    assert done == [0, 1, 2, 3, 4]
    results.close()


def test_an_error_is_raised_where_its_result_would_have_come() -> None:
    def invert(number: int) -> float:
        return 1 / number

    results = in_advance(invert, [1, 2, 0, 4], ahead=3)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not threads()


@pytest.mark.parametrize("ends", ["closed", "dropped"])
def test_the_thread_ends_with_an_iteration_left_half_way(ends: str) -> None:
    results = in_advance(str, range(100), ahead=2)
    assert next(results) == "0"
    assert threads()
    if ends == "closed":
        results.close()
    else:
        del results
        gc.collect()
    assert eventually(lambda: not threads())


def test_the_interpreter_ends_with_an_iteration_left_open(tmp_path: Path) -> None:
    script = tmp_path / "left_open.py"
    script.write_text(
        "from textrnn.base.process import in_advance\n"
        "results = in_advance(str, range(100), ahead=2)\n"
        "print(next(results))\n"
    )
    done = subprocess.run([sys.executable, str(script)], timeout=60, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
