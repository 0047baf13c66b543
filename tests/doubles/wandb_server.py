"""A W&B server on the loopback interface that the real client talks to: runs, history, config, files, exit codes.

Nearly all of the client's traffic is GraphQL, told apart by the operation's name in the query text; history and the end
of a run come over the run's file stream. An operation that isn't here is answered with an error and kept in `unknown`,
which a test asserts to be empty.
"""

import base64
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

ENTITY = "tester"


@dataclass(kw_only=True)
class ServerRun:
    """What the client said about one run."""

    id: str
    project: str
    record: dict[str, Any] = field(default_factory=dict)
    """The variables of all UpsertBucket mutations, later ones over earlier ones, without those that were null."""
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows by their line number in wandb-history.jsonl."""
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    """None until the client says that the run is complete."""

    @property
    def config(self) -> dict[str, Any]:
        """The run's config, as plain values."""
        return {key: entry["value"] for key, entry in json.loads(self.record.get("config", "{}")).items()}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """History in order, without the client's own keys except `_step`."""
        ordered = (self.history[number] for number in sorted(self.history))
        return [{key: value for key, value in row.items() if key in ("_step",) or key[0] != "_"} for row in ordered]


class WandbServer:
    """Runs while inside `with`; `url` is what WANDB_BASE_URL must say."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.stalls = stalls
        """Whether it takes requests and never answers them; the probe is answered."""
        self.ended = threading.Event()
        self.runs: dict[str, ServerRun] = {}
        self.unknown: list[str] = []
        self.keys: set[str] = set()
        """The API keys that came with requests."""
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            double = server

        self._http = _Http(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering, as a server that died; connections that are open get no answer either."""
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Return the data of a GraphQL answer, or None for an unknown operation."""
        match operation:
            case "Viewer":
                viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": None, "flags": "{}"}
                return {"viewer": {**viewer, "teams": {"edges": []}}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "RunResumeStatus":
                return {"model": self._resume_status(variables)}
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "RunStoppedStatus":
                return {"project": {"run": {"stopped": False}}}
            case "CreateRunFiles":
                files = [
                    {"name": name, "uploadUrl": f"{self.url}/upload/{variables['run']}/{name}"}
                    for name in variables["files"]
                ]
                return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
            case "MarkRunFilesUploaded":
                return {"markRunFilesUploaded": {"success": True}}
        return None

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Take what a run's file stream brings."""
        run = self.runs[run_id]
        for name, chunk in (body.get("files") or {}).items():
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                if name == "wandb-history.jsonl":
                    run.history[number] = json.loads(line)
                elif name == "wandb-summary.json":
                    run.summary = json.loads(line)
        if body.get("complete"):
            run.exit_code = body["exitcode"]

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, ServerRun(id=name, project=variables["project"]))
        run.record.update({key: value for key, value in variables.items() if value is not None})
        return {"bucket": self._bucket(run), "inserted": inserted}

    def _resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        return {**self._project(variables["project"]), "bucket": self._bucket(run) if run else None}

    def _bucket(self, run: ServerRun) -> dict[str, Any]:
        last = [json.dumps(run.history[max(run.history)])] if run.history else []
        return {
            "id": run.id,
            "name": run.id,
            "displayName": run.record.get("displayName"),
            "description": None,
            "notes": run.record.get("notes"),
            "tags": run.record.get("tags", []),
            "config": run.record.get("config", "{}"),
            "wandbConfig": "{}",
            "sweepName": None,
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(last),
            "eventsTail": "[]",
            "project": self._project(run.project),
        }

    def _project(self, name: str) -> dict[str, Any]:
        return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go whenever it likes; any other error is this file's and shows."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    double: WandbServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The short probe for a server that answers."""
        self._reply(200 if self.path == "/" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self._body())
        if self.double.stalls:
            self.double.ended.wait()
        if self.double.ended.is_set():
            self.close_connection = True
            return
        self._keep_key()
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        with self.double.lock:
            if stream:
                self.double.stream(stream[1], body)
                self._reply(200, {})
            elif self.path == "/graphql":
                operation = re.search(r"\b(?:query|mutation)\s+(\w+)", body["query"])
                name = operation[1] if operation else body["query"]
                data = self.double.answer(name, body.get("variables") or {})
                if data is None:
                    self._refuse(name)
                else:
                    self._reply(200, {"data": data})
            else:
                self._refuse(f"POST {self.path}")

    def do_PUT(self) -> None:
        content = self._body()
        upload = re.fullmatch(r"/upload/([^/]+)/(.+)", self.path)
        with self.double.lock:
            if upload and upload[1] in self.double.runs:
                self.double.runs[upload[1]].files[upload[2]] = content
                self._reply(200, {})
            else:
                self._refuse(f"PUT {self.path}")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing on stderr."""

    def _refuse(self, what: str) -> None:
        self.double.unknown.append(what)
        self._reply(400, {"errors": [{"message": f"the double doesn't know {what}"}]})

    def _keep_key(self) -> None:
        scheme, _, credentials = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Basic":
            self.double.keys.add(base64.b64decode(credentials).decode().partition(":")[2])

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        if self.double.ended.is_set():
            self.close_connection = True
            return
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
