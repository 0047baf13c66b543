"""The metrics by which trials are ranked, read from a sweep file."""

from dataclasses import dataclass
from typing import Any

from textrnn.base.errors import InputError
from textrnn.config.overrides import nearest
from textrnn.tracking.metrics_csv import BEST, METRICS

GOALS = {"min": "minimize", "max": "maximize"}
"""W&B's names, by which value of a metric is the best."""


@dataclass(kw_only=True, slots=True)
class Metric:
    """The metric that trials are ranked by."""

    name: str
    goal: str
    """minimize or maximize."""
    target: float | None
    """A value that ends the sweep when a trial reaches it."""

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.goal == "maximize" else -1


def metrics_of(config: dict[str, Any]) -> list[Metric]:
    """Return the metrics of `metric:` or `metrics:`; one alone is written as `metric:`, which every engine reads."""
    several = config.get("metrics")
    if several is not None:
        if "metric" in config:
            raise InputError("metrics: can't stand beside metric:; leave one of them out.")
        if not isinstance(several, list) or not several:
            raise InputError("metrics: must be a list of metrics, each with name: and goal:.")
        if len(several) == 1:
            config["metric"] = several[0]
            del config["metrics"]
    found = [_metric(metric) for metric in several or ([] if config.get("metric") is None else [config["metric"]])]
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"metrics: {name} is there twice; leave one out.")
    by = "optuna" if config.get("scheduler", {}).get("engine") == "optuna" else config["method"]
    for key, needs in (("method", by in ("bayes", "optuna")), ("early_terminate", "early_terminate" in config)):
        if needs and not found:
            raise InputError(f"{key}: needs a metric; write metric: with name: val/loss and goal: minimize.")
    return found


def _metric(metric: Any) -> Metric:
    if not isinstance(metric, dict) or "name" not in metric:
        raise InputError("metric: needs name: and goal:, such as val/loss and minimize.")
    name, goal, target = metric["name"], metric.get("goal"), metric.get("target")
    if name not in METRICS:
        raise InputError(f"metric: no run logs {name}; {nearest(str(name), METRICS)}")
    natural = GOALS.get(BEST.get(name.rpartition("/")[2], ""))
    if goal is None and natural != "minimize":
        raise InputError(
            f"metric: goal: is missing and W&B would minimize {name}; write goal: {natural or 'minimize'}."
        )
    goal = str(goal or natural)
    if goal not in GOALS.values():
        raise InputError(f"metric: goal: {goal} is not known; write minimize or maximize.")
    if natural not in (None, goal):
        raise InputError(f"metric: goal: {goal} would look for the worst {name}; write goal: {natural}.")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float)):
        raise InputError(f"metric: target: {target!r} is not a number.")
    return Metric(name=name, goal=goal, target=target)
