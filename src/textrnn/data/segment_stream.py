"""A corpus as an endless row of segments: where each begins, and where a pass over the source ends."""

from collections.abc import Callable, Iterator
from itertools import islice

from textrnn.data.review_file import ROWS_PER_BATCH
from textrnn.data.sources import Row, Source
from textrnn.errors import InputError


class SegmentStream:
    """A source's training reviews, cut into segments, pass after pass.

    Args:
        source: What is read, from the start for each pass.
        size: Reviews in a segment; the last of a pass may have fewer.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._next = 0
        self._rows: Iterator[Row] | None = None
        self._pass_start = 0
        self._segments_a_pass: int | None = None

    def segment(self, index: int, check: Callable[[], None] = lambda: None) -> Iterator[Row]:
        """Rows of a segment that has not begun yet; those before it are read and dropped, calling `check` on the way.

        Raises:
            InputError: the source has no training review.
        """
        while self._next < index:
            a_pass = self._segments_a_pass
            if a_pass is not None and index - self._next >= a_pass:
                self._next += (index - self._next) // a_pass * a_pass  # the same place, passes later
            else:
                for number, _ in enumerate(self._take()):
                    if number % ROWS_PER_BATCH == 0:
                        check()
        return self._take()

    def _take(self) -> Iterator[Row]:
        """The next segment's rows."""
        rows = self._rows
        first = None if rows is None else next(rows, None)
        if first is None:
            if rows is not None:
                self._end_pass()
            rows = self._rows = self._source.rows(("train",), interleave=True)
            self._pass_start = self._next
            first = next(rows, None)
            if first is None:
                raise InputError("data: there is no train review; give more reviews (data.path with a larger file)")
        assert rows is not None
        self._next += 1
        yield first
        reviews = 1
        for row in islice(rows, self._size - 1):
            reviews += 1
            yield row
        if reviews < self._size:
            self._end_pass()

    def _end_pass(self) -> None:
        self._segments_a_pass = self._next - self._pass_start
        self._rows = None
