"""Seconds for people."""


def duration(seconds: float) -> str:
    """Return seconds as people say them: `42 s`, `1 min 50 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
