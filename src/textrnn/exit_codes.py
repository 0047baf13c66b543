"""What the commands tell the shell."""

DONE = 0
CRASH = 1
"""A defect; its traceback is in `train.log`."""
WRONG_INPUT = 2
"""One sentence on stderr says what to type instead."""
PREEMPTED = 75
"""The machine was wanted elsewhere; the same command continues (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
"""Ctrl-C."""
