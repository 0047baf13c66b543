"""Seconds for people."""

import pytest

from textrnn.base.console import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (110, "1 min 50 s"), (3599.9, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
