"""Sweeps and trials without files and processes."""

from pathlib import Path
from typing import Any

from textrnn.sweeping.metric import Metric
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.trials import Trial
from textrnn.tracking.summary import Status


def metric(goal: str = "minimize") -> Metric:
    return Metric(name="val/loss", goal=goal, target=None)


def sweep(*, goal: str = "minimize", **changes: Any) -> Sweep:
    config = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/loss", "goal": "minimize"},
        "parameters": {"seed": {"values": [1, 2, 3, 4, 5, 6]}},
        "command": ["${env}", "${interpreter}", "${program}", "resume=auto", "${args_no_hyphens}"],
    } | changes
    prefix = ["${env}", "${interpreter}", "${program}"]
    return Sweep(path=Path("made.yaml"), config=config, prefix=prefix, fixed=["resume=auto"], metrics=[metric(goal)])


def trial(
    number: int,
    parameters: dict[str, Any],
    status: Status = Status.WAITING,
    history: list[float] | None = None,
    **more: Any,
) -> Trial:
    values = list(history or [])
    steps = list(range(1, len(values) + 1))
    return Trial(
        number=number,
        run_id=f"run{number}",
        parameters=parameters,
        status=status,
        history=values,
        steps=steps,
        **more,
    )
