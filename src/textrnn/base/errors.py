"""The one exception that means "what was typed is wrong"."""


class InputError(Exception):
    """Wrong input, told in one sentence: what is wrong, where, and what to type instead.

    The entry scripts print it to stderr without a traceback and exit with code 2.
    """


class RefusedElsewhere(InputError):
    """Another rank has refused the input, and says so."""


class RankLost(Exception):
    """Another rank of the run has ended."""
