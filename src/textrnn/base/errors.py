"""Exceptions that several rooms raise: wrong input, here or on another rank, and a lost rank."""


class InputError(Exception):
    """Wrong input. The message is one sentence: what is wrong, where, and what to type instead.

    The entry scripts print it to stderr without a traceback and exit with code 2.
    """


class RefusedElsewhere(InputError):
    """Another rank has refused the input and has printed why."""


class RankLost(Exception):
    """Another rank of the run has ended."""
