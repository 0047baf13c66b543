"""Directories of runs as they are after a run, made without one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULT = {"status": "finished", "step": 10, "seconds": 61.0, "parameters": 100, "tokens": 7}


def make_run(
    path: Path,
    *,
    seed: int = 0,
    cell: str = "gru",
    summary: Mapping[str, Any] | None = None,
    **identity: Any,
) -> Path:
    """Write the files of a run that lookup reads; `summary` is None while the run trains."""
    path.mkdir(parents=True)
    known = {"id": path.name, "name": f"{cell} s{seed}", "seed": seed, "created": "2026-11-01T10:00:00+00:00"}
    (path / "run.json").write_text(json.dumps(known | identity))
    config = (
        f"model:\n  cell: {cell}\n  embedding:\n    size: 8\noptimizer:\n  betas:\n  - 0.9\n  - 0.999\nseed: {seed}\n"
    )
    (path / "config.yaml").write_text(config)
    (path / ".lock").touch()
    if summary is not None:
        (path / "summary.json").write_text(json.dumps({**RESULT, **summary}))
    return path
