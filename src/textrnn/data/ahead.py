"""Work done ahead of its use, by threads: for work that is short or leaves the interpreter free while it lasts."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_advance(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int = 1
) -> Generator[Result]:
    """`map(function, items)`, computed up to `ahead` items before they are asked for.

    Items are taken in the asking thread. An error of `function` is raised where its result would have come. The threads
    end with the iteration, also with one that is closed or dropped half-way.

    Args:
        function: Called in other threads.
        items: What it is called with, in order.
        ahead: Results that may be under way or waiting besides the one that is asked for.
        threads: Calls that run at once, if `ahead` is as large.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        results: deque[Future[Result]] = deque()
        for item in items:
            results.append(pool.submit(function, item))
            if len(results) > ahead:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
