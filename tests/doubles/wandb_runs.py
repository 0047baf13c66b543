"""The runs of the loopback W&B server: uploads of clients, answers at a resume, and the reads of `wandb.Api`.

Rules of state, as `ServerRun.state` says it:
- `pending`: a sweep has handed the run out, or `wandb.Api` has made it, and no client has started it. `running`: a
  client has.
- `finished` after exit code 0, `failed` after any other.
- `crashed`: no exit code, and no request of the run for `crashed_after` seconds (a client that logs nothing still sends
  one every 15 s). After a new request the run is `running` again, also if it was complete.
- `preempting` once the client has called `mark_preempting`; after that another exit code than 0, or silence, means
  `preempted`.
"""

import base64
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from doubles.wandb_answers import (
    ENTITY,
    Operations,
    RefusedError,
    UnknownOperationError,
    Variables,
    connection,
    now,
    project,
    user,
)

_STREAMED = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "events", "output.log": "log"}


@dataclass(kw_only=True)
class ServerRun:
    """One run, as its client has described it."""

    id: str
    project: str
    crashed_after: float
    record: dict[str, Any] = field(default_factory=dict)
    """The variables of all UpsertBucket mutations, later ones over earlier ones, without those that were null."""
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows by their line number in wandb-history.jsonl."""
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows of system metrics by their line number in wandb-events.jsonl."""
    log: dict[int, str] = field(default_factory=dict)
    """Lines of the console by their number in output.log."""
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    """None until the client reports that the run is complete, and again once it continues."""
    started: bool = False
    """Whether a client has started the run."""
    preempting: bool = False
    stopped: bool = False
    """Whether the client should stop the run: the answer to its file stream says so; the client looks every 15 s."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """The sweep's values for the run."""
    created: str = field(default_factory=now)
    heard: float = field(default_factory=time.monotonic)

    @property
    def config(self) -> dict[str, Any]:
        """The run's config, as plain values, without the client's own key `_wandb`."""
        return {key: entry["value"] for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def raw_config(self) -> dict[str, Any]:
        """The run's config as the client sent it."""
        config: dict[str, Any] = json.loads(self.record.get("config", "{}"))
        return config

    @property
    def rows(self) -> list[dict[str, Any]]:
        """History in order, without the client's own keys except `_step`."""
        return [{key: value for key, value in row.items() if key in ("_step",) or key[0] != "_"} for row in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """History in order, whole."""
        return [self.history[number] for number in sorted(self.history)]

    @property
    def state(self) -> str:
        """The state, by the rules above."""
        silent = self.exit_code is None and time.monotonic() - self.heard > self.crashed_after
        if self.exit_code == 0:
            return "finished"
        if self.exit_code is not None or silent:
            return "preempted" if self.preempting else "crashed" if silent else "failed"
        return "preempting" if self.preempting else "running" if self.started else "pending"

    def goes_on(self) -> None:
        """Record a request of the client; the run isn't complete."""
        self.heard = time.monotonic()
        self.exit_code = None


class RunStore:
    """All runs by their ids, and the answers to the client of a run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.crashed_after = 300.0
        self.runs: dict[str, ServerRun] = {}
        self.deleted: set[str] = set()
        """Ids of runs that were deleted: they are taken for good."""
        self.operations: Operations = {
            "UpsertBucket": self._upsert,
            "RunResumeStatus": self._resume_status,
            "StopRun": self._stop,
            "CreateRunFiles": self._create_files,
            "MarkRunFilesUploaded": lambda _: {"markRunFilesUploaded": {"success": True}},
        }

    def add(self, run_id: str, project_name: str) -> ServerRun:
        """Return the run of this id, a new one if there is none."""
        new = ServerRun(id=run_id, project=project_name, crashed_after=self.crashed_after)
        return self.runs.setdefault(run_id, new)

    def stream(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an upload of a run's file stream; answer whether the run should stop."""
        run = self.runs[run_id]
        run.goes_on()
        for name, chunk in (body.get("files") or {}).items():
            if name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
            else:
                into = getattr(run, _STREAMED[name])
                for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                    into[number] = line if name == "output.log" else json.loads(line)
        if body.get("preempting"):
            run.preempting = True
        if body.get("complete"):
            run.exit_code = body["exitcode"]
        return {"stopped": run.stopped}

    def node(self, run: ServerRun) -> dict[str, Any]:
        """Return the run as in GraphQL answers, with every requested field."""
        keys = {key for row in run.lines for key in row}
        last_step = max((row.get("_step", -1) for row in run.lines), default=-1)
        return {
            "__typename": "Run",
            "id": run.id,
            "name": run.id,
            "projectId": "1",
            "displayName": run.record.get("displayName"),
            "description": run.record.get("description"),
            "notes": run.record.get("notes"),
            "tags": run.record.get("tags", []),
            "group": run.record.get("groupName"),
            "jobType": run.record.get("jobType"),
            "commit": run.record.get("commit"),
            "sweepName": run.record.get("sweep"),
            "config": json.dumps(run.raw_config),
            "state": run.state,
            "stopped": run.stopped,
            "readOnly": False,
            "createdAt": run.created,
            "heartbeatAt": now(),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(run.history),
            "historyKeys": {"lastStep": last_step, "keys": {key: {} for key in sorted(keys)}},
            "project": project(run.project),
            "user": user(),
        }

    def file_url(self, run: ServerRun, name: str) -> str:
        """Return the address for uploads and downloads of a file of the run."""
        return f"{self.url}/run-files/{run.id}/{quote(name)}"

    def _upsert(self, variables: Variables) -> dict[str, Any]:
        name = variables.get("name") or variables["id"]
        if (entity := variables.get("entity") or ENTITY) != ENTITY:  # the sentence of W&B, in issue 2484 of the client
            raise RefusedError(404, f"entity {entity} not found during upsertBucket")
        if name in self.deleted:  # the sentence of W&B, in issue 4948 of the client
            raise RefusedError(409, f"run {name} was previously created and deleted; try a new run name")
        inserted = name not in self.runs
        run = self.add(name, variables["project"]) if inserted else self.runs[name]
        said = {key: value for key, value in variables.items() if value is not None}
        if "display_name" in said:  # wandb.Api's name for it
            said["displayName"] = said.pop("display_name")
        run.record.update(said)
        if "name" in said and "state" not in said:  # from the client that runs it, not from wandb.Api
            run.started = True
            run.heard = time.monotonic()
        if "summaryMetrics" in said:
            run.summary = json.loads(said["summaryMetrics"])
        return {"upsertBucket": {"bucket": self.node(run), "inserted": inserted}}

    def _resume_status(self, variables: Variables) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        if (variables.get("entity") or ENTITY) != ENTITY:
            return {"model": None}
        if run is None:
            return {"model": project(variables["project"], bucket=None)}
        told = {
            # Its key `t` tells the client that the run has run, and wasn't only handed out by a sweep.
            "wandbConfig": json.dumps({"t": run.raw_config["_wandb"]["value"]["t"]} if run.started else {}),
            "historyTail": json.dumps([json.dumps(run.lines[-1])] if run.history else []),
            "eventsTail": json.dumps([json.dumps(run.events[max(run.events)])] if run.events else []),
            "eventsLineCount": len(run.events),
            "logLineCount": len(run.log),
        }
        return {"model": project(run.project, bucket=self.node(run) | told)}

    def _stop(self, variables: Variables) -> dict[str, Any]:
        self.runs[variables["id"]].stopped = True
        return {"stopRun": {"success": True, "clientMutationId": None}}

    def _create_files(self, variables: Variables) -> dict[str, Any]:
        run = self.runs[variables["run"]]
        files = [{"name": name, "uploadUrl": self.file_url(run, name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}


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
            # Ours; the field is the one of the client's own RunResumeStatus and RunConsoleLogTail (core/internal/gql).
            "RunLogLines": self._about(lambda run, _: {"logLineCount": len(run.log)}),
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
    """Return the rows with all keys of each spec, such as '{"keys": ["_step", "loss"], "samples": 500}'.

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
    """Return a run's value of a key of filters and orders: `state`, `summary_metrics.val/loss`, `config.lr.value`."""
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
