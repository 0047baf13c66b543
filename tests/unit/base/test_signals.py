"""Signals: what the first and the second of a kind do, and which are left alone."""

import signal
from collections.abc import Iterator

import pytest

from textrnn.base.signals import NUMBERS, PREEMPTING, Preempted, Signals, kept_from_children


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_raises_or_is_deferred(number: signal.Signals) -> None:
    kind = KeyboardInterrupt if number == signal.SIGINT else Preempted
    Signals()
    with pytest.raises(kind):
        signal.raise_signal(number)
    signals = Signals()
    signals.defer()
    signal.raise_signal(number)
    assert signals.received == number
    signal.raise_signal(signal.SIGTERM)
    assert signals.received == number
    with pytest.raises(kind):
        signals.raise_now()


def test_a_second_ctrl_c_is_never_deferred(capfd: pytest.CaptureFixture[str]) -> None:
    signals = Signals()
    signals.defer(speaks=True)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert "a second Ctrl-C ends it at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signals.received == signal.SIGTERM


def test_what_nohup_and_scripts_ignore_stays_ignored() -> None:
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    Signals()
    ignored = {number for number in NUMBERS if signal.getsignal(number) is signal.SIG_IGN}
    assert ignored == {signal.SIGHUP, signal.SIGINT}


def test_a_process_that_others_wait_for_does_not_leave_alone() -> None:
    with kept_from_children():
        signal.raise_signal(signal.SIGINT)  # such as while Python starts; to this thread, as others do not block it
        signals = Signals()
        signals.raise_now()
    assert signals.received == signal.SIGINT


def test_a_trial_keeps_a_signal_of_its_start_until_it_can_tell_w_and_b() -> None:
    with kept_from_children(PREEMPTING):
        signal.raise_signal(signal.SIGTERM)
        signals = Signals()
    assert signals.received == signal.SIGTERM
    with pytest.raises(Preempted):
        signals.raise_now()
