"""Options of `python benchmarks/run.py NAME`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True, slots=True)
class Settings:
    """Settings of a benchmark."""

    repeats: int = 5
    """Paired repeats; medians are over them."""
    data_path: str | None = None
    """Folder of the real reviews; None: generated ones."""
    quick: bool = False
    """Tiny sizes on generated reviews: whether it runs, not how fast."""
    peers: bool = False
    """Also run the tutorials' code, and TensorFlow where there is one."""
    only: list[str] = field(default_factory=list)
    """tutorials: these recipes; empty: all."""
    tensorflow_python: str | None = None
    """tutorials: an interpreter that has TensorFlow."""
    output: Path | None = None
    """Folder of the reports, for a benchmark that writes its own before its end."""

    def record(self) -> dict[str, Any]:
        """Return the settings for a report, without paths, which would reveal something about the machine."""
        paths = ("data_path", "tensorflow_python", "output")
        chosen = {name: value for name, value in asdict(self).items() if name not in paths}
        return {**chosen, "reviews": "IMDB" if self.data_path and not self.quick else "generated"}
