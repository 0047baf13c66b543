"""How a trial has ended, from what is left of it: its exit code alone can't tell stopped from finished."""

import signal
from dataclasses import dataclass
from pathlib import Path

from textrnn import exit_codes
from textrnn.sweeping.trials import Status


@dataclass(kw_only=True, slots=True)
class Ended:
    """What is known of a process that is over."""

    exit_code: int | None
    """None for a process that another one started."""
    asked: bool = False
    """Whether all trials had been asked to end."""


def outcome(ended: Ended, *, said: str | None, early_stop: Path, last_words: str) -> tuple[Status, str | None]:
    """The trial's status and, for one that was stopped or failed, the reason.

    `said` is the status in the run's `summary.json`. A run that went on after an interruption may still have the old
    one, so that it only counts where the exit code doesn't contradict it.
    """
    code = ended.exit_code
    if code in (exit_codes.DONE, None) and said == "finished":
        return Status.FINISHED, None
    gently = code in (exit_codes.DONE, exit_codes.PREEMPTED, -signal.SIGTERM, None)
    if gently and early_stop.is_file():
        return Status.STOPPED, early_stop.read_text(encoding="utf-8").strip()
    if code == exit_codes.DONE:
        reason = f"its summary says {said}" if said else "it left no summary.json"
        return Status.FAILED, f"it ended with exit code 0, but {reason}"
    if ended.asked or code == exit_codes.INTERRUPTED:
        return Status.INTERRUPTED, None
    if code == exit_codes.PREEMPTED or (code is None and said != "failed"):
        return Status.PREEMPTED, None
    return Status.FAILED, last_words if code is None else f"exit code {code}: {last_words}"
