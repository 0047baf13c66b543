"""What `wandb.Api` reads of runs from the loopback W&B server: lists with filters and order, history, files."""

import base64
import hashlib
import json
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from doubles.wandb_answers import Operations, UnknownOperationError, Variables, connection, project
from doubles.wandb_runs import RunStore, ServerRun


class RunReads:
    """The answers to questions about the runs of a store; a run that isn't there is null, as W&B has it."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.operations: Operations = {
            "Runs": self._runs,
            "Run": self._about(lambda run, _: store.node(run)),
            "RunState": self._about(lambda run, _: store.node(run)),
            "RunHistoryKeys": self._about(lambda run, _: store.node(run)),
            "RunFullHistory": self._about(_full_history),
            "RunSampledHistory": self._about(lambda run, v: {"sampledHistory": sampled(run, v["specs"])}),
            "SampledHistoryPage": self._about(lambda run, v: {"sampledHistory": sampled(run, [v["spec"]])}),
            "HistoryPage": self._about(_history_page),
            "RunParquetHistory": self._about(_live_history),
            "RunFiles": self._about(self._files),
        }

    def _about(self, tell: Callable[[ServerRun, Variables], dict[str, Any]]) -> Callable[[Variables], dict[str, Any]]:
        def answer(variables: Variables) -> dict[str, Any]:
            name = variables.get("name") or variables.get("run") or variables["runName"]
            run = self.store.runs.get(name)
            return {"project": project(variables["project"], run=tell(run, variables) if run else None)}

        return answer

    def _runs(self, variables: Variables) -> dict[str, Any]:
        filters = json.loads(variables.get("filters") or "{}")
        found = [r for r in self.store.runs.values() if r.project == variables["project"] and _matches(r, filters)]
        order = variables.get("order") or "+created_at"
        values = {run.id: _value(run, order.lstrip("+-")) for run in found}
        known = sorted((r for r in found if values[r.id] is not None), key=lambda run: values[run.id])
        ordered = known[::-1] if order.startswith("-") else known
        nodes = [self.store.node(run) for run in ordered + [run for run in found if run not in known]]
        page = connection(nodes, variables.get("perPage"), variables.get("cursor"))
        return {"project": project(variables["project"], runCount=len(nodes), runs=page)}

    def _files(self, run: ServerRun, variables: Variables) -> dict[str, Any]:
        pattern = (variables.get("pattern") or "%").replace("%", "*")
        names = [name for name in sorted(run.files) if name in (variables.get("fileNames") or run.files)]
        nodes = [self._file(run, name) for name in names if fnmatchcase(name, pattern)]
        page = connection(nodes, variables.get("fileLimit"), variables.get("fileCursor"))
        return {"fileCount": len(nodes), "files": page}

    def _file(self, run: ServerRun, name: str) -> dict[str, Any]:
        url, content = self.store.file_url(run, name), run.files[name]
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        facts = {"sizeBytes": len(content), "mimetype": None, "updatedAt": run.created, "md5": md5}
        return {"id": f"{run.id}/{name}", "name": name, "url": url, "directUrl": url, **facts}


def sampled(run: ServerRun, specs: list[str]) -> list[list[dict[str, Any]]]:
    """For each spec such as '{"keys": ["_step", "loss"], "samples": 500}', the rows that have all its keys.

    A spec without keys wants none.
    """
    return [_sample(run, json.loads(spec)) for spec in specs]


def _sample(run: ServerRun, spec: dict[str, Any]) -> list[dict[str, Any]]:
    keys = spec.get("keys", [])
    rows = [
        {key: row[key] for key in keys}
        for row in run.lines
        if keys and set(keys) <= set(row) and spec.get("minStep", 0) <= row["_step"] <= spec.get("maxStep", math.inf)
    ]
    return _thinned(rows, spec)


def _thinned(rows: list[dict[str, Any]], spec: dict[str, Any]) -> list[dict[str, Any]]:
    return rows[:: math.ceil(len(rows) / (spec.get("samples") or 500)) or 1]


def _full_history(run: ServerRun, variables: Variables) -> dict[str, Any]:
    events = [run.events[number] for number in sorted(run.events)]
    named = {"history": run.lines, "events": events}
    return {name: [json.dumps(row) for row in _thinned(rows, variables)] for name, rows in named.items()}


def _history_page(run: ServerRun, variables: Variables) -> dict[str, Any]:
    inside = [row for row in run.lines if variables["minStep"] <= row["_step"] < variables["maxStep"]]
    return {"history": [json.dumps(row) for row in inside]}


def _live_history(run: ServerRun, variables: Variables) -> dict[str, Any]:
    keys = variables["liveKeys"]
    rows = [{key: value for key, value in row.items() if not keys or key in keys} for row in run.lines]
    return {"parquetHistory": {"parquetUrls": [], "liveData": rows}}


def _value(run: ServerRun, key: str) -> Any:
    """What a filter or an order means by such as `state`, `sweep`, `summary_metrics.val/loss`, `config.lr.value`."""
    kind, _, name = key.partition(".")
    if kind == "summary_metrics":
        return run.summary.get(name)
    if kind == "config":
        return run.config.get(name.removesuffix(".value"))
    named = {
        "created_at": run.created,
        "name": run.id,
        "state": run.state,
        "sweep": run.record.get("sweep"),
        "group": run.record.get("groupName"),
        "jobType": run.record.get("jobType"),
        "display_name": run.record.get("displayName"),
    }
    if key not in named:
        raise UnknownOperationError(f"runs by {key}")
    return named[key]


def _matches(run: ServerRun, filters: dict[str, Any]) -> bool:
    for key, wanted in filters.items():
        if key in ("$and", "$or"):
            fits = (all if key == "$and" else any)(_matches(run, each) for each in wanted)
        elif isinstance(wanted, dict):
            raise UnknownOperationError(f"runs with {key} {wanted}")
        else:
            fits = wanted in run.record.get("tags", []) if key == "tags" else _value(run, key) == wanted
        if not fits:
            return False
    return True
