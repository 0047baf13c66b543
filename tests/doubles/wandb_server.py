"""A W&B server on the loopback interface, for the real client, `wandb sweep`, `wandb agent`, `wandb sync`, `wandb.Api`.

    with WandbServer() as server:  # or the fixture `server`, which sets the environment too
        subprocess.run(..., env={"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, ...})
        assert server.runs["abc"].state == "finished"

Environment of a client: the two variables above, a HOME without a W&B login, and WANDB_ERROR_REPORTING=false, so that
it connects to nothing else. With WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL=1 it uploads history every second instead of
every 15; a fraction of a second silently means the default. It retries soonest after a fault with
WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS=1 and ..._MAX_SECONDS=1. `QUICK_AGENT` is an agent that polls twice a second.

Nearly all of the client's traffic is GraphQL, distinguished by the operation's name in the query text; history, console
and exit code come over a run's file stream, files by PUT to addresses from GraphQL answers. Unknown requests are
answered with an error and kept in `unknown`, and the end of `with` fails unless that is empty. WANDB.md has the rules
and their sources. Modules:
- `wandb_runs`: runs, the rules of their state, resume, and what `wandb.Api` reads of them.
- `wandb_artifacts`: artifacts up and down, aliases. `wandb_registry`: links to them in an organization's registries.
- `wandb_sweeps`: sweeps and the commands to agents.

One entity exists (`wandb_answers.ENTITY`) and every project; run ids are unique in the server, not only in a project.
All state is in memory and survives `die` and `come_back`. Faults: `die` (the port is closed, connections drop, nothing
is answered), `stall` (requests are taken and wait for `go_on`), `refusal` (GraphQL is answered with a status such as
401 or 403), `faults` (one operation is refused, reset, held or half answered, once or for good: `wandb_faults`).
"""

import base64
import json
import re
import socket
import struct
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from doubles.wandb_answers import RefusedError, UnknownOperationError, Variables, user
from doubles.wandb_artifacts import ArtifactStore, ServerArtifact
from doubles.wandb_faults import STALL, Fault
from doubles.wandb_registry import RegistryStore
from doubles.wandb_runs import RunReads, RunStore, ServerRun
from doubles.wandb_sweeps import ServerSweep, SweepStore

__all__ = ["Fault", "ServerArtifact", "ServerRun", "ServerSweep", "WandbServer"]


class WandbServer:
    """The server; it answers inside `with`, and `url` is the value for WANDB_BASE_URL."""

    def __init__(self, *, stalls: bool = False, crashed_after: float = 300.0) -> None:
        self.unknown: list[str] = []
        """Requests that the double doesn't know."""
        self.keys: set[str] = set()
        """The API keys that came with requests."""
        self.refusal: int | None = None
        """The HTTP status with which every GraphQL request is refused, such as 401 for an unknown key."""
        self.faults: list[Fault] = []
        """What happens to single operations; the first that strikes counts."""
        self.lock = threading.RLock()
        self.answering = threading.Event()
        if not stalls:
            self.answering.set()
        self._http = _Http(self)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._run_store = RunStore(self.url)
        self._run_store.crashed_after = crashed_after
        self._artifact_store = ArtifactStore(self.url)
        self.runs: dict[str, ServerRun] = self._run_store.runs
        self.artifacts: dict[str, ServerArtifact] = self._artifact_store.artifacts
        self._sweep_store = SweepStore(self._run_store)
        self.sweeps: dict[str, ServerSweep] = self._sweep_store.sweeps
        self.registry = RegistryStore(self._artifact_store)
        self.features = ["ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE"]
        """What the server says it can do; W&B's own says more, a self-managed one of an earlier version less."""
        parts = (self._run_store, RunReads(self._run_store), self._artifact_store, self.registry, self._sweep_store)
        self._operations = {name: answer for part in parts for name, answer in part.operations.items()}
        self._operations |= {
            "Viewer": lambda _: {"viewer": user()},
            "GetViewer": lambda _: {"viewer": user()},
            "GetDefaultEntity": lambda _: {"viewer": user()},
            "ServerFeaturesQuery": lambda _: {
                "serverInfo": {"features": [{"name": name, "isEnabled": True} for name in self.features]}
            },
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
        }

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            assert self.unknown == [], self.unknown

    def stop(self) -> None:
        """End like a server that dies for good."""
        self._http.die()

    def die(self) -> None:
        """Close the port and drop all connections; the state is kept."""
        self._http.die()

    def come_back(self) -> None:
        """Answer again after `die`, on the same port, with the same state."""
        self._http = _Http(self, self.port)
        self._http.start()

    def stall(self) -> None:
        """Take requests and don't answer them, except the probe (GET /)."""
        self.answering.clear()

    def go_on(self) -> None:
        """Answer again after `stall`, also the requests of the meantime."""
        self.answering.set()

    def delete_run(self, run_id: str) -> None:
        """Delete a run, as a person does in the browser."""
        del self.runs[run_id]
        self._run_store.deleted.add(run_id)

    def expire_agent(self, agent: str) -> None:
        """Forget an agent; its next heartbeat is answered with 404."""
        with self.lock:
            self._sweep_store.agents.pop(agent, None)

    def artifact(self, name: str) -> ServerArtifact | None:
        """Return the committed version of `COLLECTION:ALIAS`, if there is one."""
        return self._artifact_store.find(name)

    def answer(self, operation: str, variables: Variables) -> dict[str, Any]:
        """Return the data of a GraphQL answer.

        Raises:
            UnknownOperationError: The double doesn't have the operation.
        """
        if operation not in self._operations:
            raise UnknownOperationError(operation)
        return self._operations[operation](variables)

    def fault(self, operation: str) -> Fault | None:
        """Return what goes wrong with this request, if anything."""
        with self.lock:
            return next((fault for fault in self.faults if fault.strikes(operation)), None)

    def stream(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an upload of a run's file stream; answer whether the run should stop."""
        return self._run_store.stream(run_id, body)

    def put(self, path: str, content: bytes) -> bool:
        """Keep an upload; return False if its address is unknown."""
        match path.strip("/").split("/", 3):
            case ["run-files", run, *name] if run in self.runs:
                self.runs[run].files["/".join(name)] = content
            case ["artifacts", artifact, "manifest"] if artifact in self.artifacts:
                self.artifacts[artifact].manifest = content
            case ["artifacts", artifact, "files", name] if artifact in self.artifacts:
                self.artifacts[artifact].files[str(name)] = content
            case _:
                return False
        return True

    def get(self, path: str) -> bytes | None:
        """Return the upload at `path`."""
        match path.strip("/").split("/", 3):
            case ["run-files", run, *name] if run in self.runs:
                return self.runs[run].files.get("/".join(name))
            case ["artifacts", artifact, "manifest"] if artifact in self.artifacts:
                return self.artifacts[artifact].manifest
            case ["artifacts", artifact, "files", name] if artifact in self.artifacts:
                return self.artifacts[artifact].files.get(str(name))
        return None


class _Http(ThreadingHTTPServer):
    """One life of the server."""

    daemon_threads = True

    def __init__(self, double: WandbServer, port: int = 0) -> None:
        self.double = double
        self.dead = threading.Event()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def die(self) -> None:
        if self.dead.is_set():
            return
        self.dead.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client went first

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; show all other errors, which are this module's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    _halved = False

    def setup(self) -> None:
        super().setup()
        self.double = self.server.double

    def do_GET(self) -> None:
        if self.path == "/":
            self._reply(200, b"{}")  # the short probe for a server that answers
        elif self._answers() and not self._fails(_stored(self.command, self.path)):
            with self.double.lock:
                content = self.double.get(unquote(self.path))
            self._reply(200, content) if content is not None else self._refuse(f"GET {self.path}")

    def do_POST(self) -> None:
        content = self._body()
        if not self._answers():
            return
        self._keep_key()
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        try:
            if not stream and self.path != "/graphql":
                raise UnknownOperationError(f"POST {self.path}")
            body = json.loads(content)
            if self._fails("file stream" if stream else _operation(body)):
                return
            with self.double.lock:
                if stream:
                    answer = self.double.stream(stream[1], body)
                elif self.double.refusal:
                    self._reply(self.double.refusal, b'{"errors": [{"message": "permission denied"}]}')
                    return
                else:
                    answer = {"data": self._data(body)}
        except UnknownOperationError as error:
            self._refuse(str(error))
        except RefusedError as error:
            self._reply(error.status, json.dumps({"errors": [{"message": str(error)}]}).encode())
        except Exception:  # a request that isn't as the double expects: shown by the test that finds it in `unknown`
            self._refuse(f"{self.path} {content!r}: {traceback.format_exc()}")
        else:
            self._reply(200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        content = self._body()
        if not self._answers() or self._fails(_stored(self.command, self.path)):
            return
        with self.double.lock:
            known = self.double.put(unquote(self.path), content)
        self._reply(200, b"{}") if known else self._refuse(f"PUT {self.path}")

    def do_DELETE(self) -> None:
        self._body()
        self._refuse(f"{self.command} {self.path}")

    do_PATCH = do_DELETE  # noqa: N815 - the base class's names

    def log_message(self, *arguments: Any) -> None:
        """Say nothing on stderr."""

    def _answers(self) -> bool:
        """Wait while the server stalls; return False if it died meanwhile, and the request stays unanswered."""
        while not self.double.answering.wait(0.05) and not self.server.dead.is_set():
            pass
        self.close_connection = self.server.dead.is_set()
        return not self.close_connection

    def _data(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.double.answer(_operation(body), body.get("variables") or {})

    def _fails(self, operation: str) -> bool:
        """Do what a fault says; return whether that was all: of "half" the request is still to be carried out."""
        fault = self.double.fault(operation)
        kind = None if fault is None else fault.kind
        if fault is not None and isinstance(kind, int):
            content = json.dumps({"errors": [{"message": f"{operation} gets {kind}"}]}).encode()
            self._reply(kind, content, retry_after=fault.retry_after)
        elif kind == "errors":
            self._reply(200, json.dumps({"data": None, "errors": [{"message": f"{operation} fails"}]}).encode())
        elif kind in ("reset", "stall"):
            time.sleep(STALL if kind == "stall" else 0)
            self.close_connection = True
            # A socket that lingers for 0 seconds is closed with a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self._halved = kind == "half"
        return kind not in (None, "half")

    def _refuse(self, what: str) -> None:
        self.double.unknown.append(what)
        self._reply(400, json.dumps({"errors": [{"message": f"the double doesn't know {what}"}]}).encode())

    def _keep_key(self) -> None:
        scheme, _, credentials = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Basic":
            self.double.keys.add(base64.b64decode(credentials).decode().partition(":")[2])

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _reply(self, status: int, content: bytes, *, retry_after: int | None = None) -> None:
        if self.server.dead.is_set():
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        if self._halved:
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)


def _operation(body: dict[str, Any]) -> str:
    """Return the name of a GraphQL request's operation."""
    operation = re.search(r"\b(?:query|mutation)\s+(\w+)", body["query"])
    return operation[1] if operation else str(body["query"])


def _stored(method: str, path: str) -> str:
    """Return the operation that an upload or a download is, such as `PUT manifest`."""
    match path.strip("/").split("/"):
        case ["artifacts", _, "manifest"]:
            return f"{method} manifest"
        case ["artifacts" | "artifactsV2", *_]:  # the second: where the client looks after 403 and 404
            return f"{method} artifact"
    return f"{method} file"
