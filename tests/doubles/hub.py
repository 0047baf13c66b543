"""A Hugging Face Hub on loopback, for the real clients.

Its HTTP interface is enough for `datasets` to stream data sets and for `huggingface_hub` to download one model's
files.

    with LoopbackHub(folder) as hub:  # a folder in the Hub's layout: README.md, plain_text/train-00000-of-00001.parquet
        subprocess.run(..., env={"HF_ENDPOINT": hub.url, ...})
        assert hub.data_requests

By hand: `python tests/doubles/hub.py FOLDER` prints its URL and serves until it is stopped.
"""

import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


class LoopbackHub:
    """Serve `folder` as the data set and as the model `repo`, whose branch `main` is its only commit, on 127.0.0.1."""

    STEPS: tuple[str, ...] = ("data", "api")
    """What may fail."""

    def __init__(self, folder: Path, repo: str = "stanfordnlp/imdb") -> None:
        self.folder, self.repo = folder, repo
        self.others: dict[str, Path] = {}
        """Folders of more repositories by their names."""
        self.requests: list[str] = []
        """Every request, such as "GET /api/datasets/stanfordnlp/imdb/revision/main"."""
        self.unknown: list[str] = []
        """Requests for endpoints that this double doesn't have; the end of `with` fails unless there were none."""
        self.data_requests = 0
        """GET requests for data files, that is for anything but README.md."""
        self.data_bytes = 0
        """Bytes of data files that were sent."""
        self.stopping = threading.Event()
        self._faults: dict[str, list[Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        if kind is None:
            assert self.unknown == [], self.unknown

    @property
    def sha(self) -> str:
        """The commit of `repo`."""
        return self.commit(self.repo)

    def commit(self, repo: str, revision: str = "main") -> str:
        """The commit of a repository: a new one whenever a file of its folder changes."""
        state = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in self.files(repo).items()]
        return hashlib.sha1(repr(state).encode()).hexdigest()

    def has(self, repo: str, token: str | None) -> bool:
        """Whether there is such a repository for an account."""
        return repo == self.repo or repo in self.others

    def has_revision(self, repo: str, revision: str) -> bool:
        """Whether a repository has such a branch or commit."""
        return revision in ("main", self.commit(repo))

    def is_private(self, repo: str) -> bool:
        """Whether only its owner may read it."""
        return False

    def files(self, repo: str, revision: str = "main") -> dict[str, Path]:
        """A repository's files by their names in it."""
        return self.files_of(self.folder if repo == self.repo else self.others[repo])

    @staticmethod
    def files_of(folder: Path) -> dict[str, Path]:
        """A folder's files by their names in it."""
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path for path in found}

    def fail(self, kind: str, on: str = "data", after: int = 0, times: int | None = None) -> None:
        """Misbehave: answer with a status such as 503, cut the body in half or stall in the middle of it.

        Args:
            kind: A status, cut or stall.
            on: data (the contents of data files), api (questions about the repository) or another of `STEPS`.
            after: Requests to these that are still answered well.
            times: Requests that fail; None for all from then on.
        """
        if on not in self.STEPS or not (kind.isdigit() or kind in ("cut", "stall")):
            raise ValueError(f"no fault {kind!r} on {on!r}")
        self._faults[on] = [None] * after + ([kind] * times if times is not None else [kind, ...])

    def next_fault(self, on: str) -> str | None:
        """Return the fault for this request to `on`, if any."""
        faults = self._faults.get(on, [])
        if len(faults) == 2 and faults[1] is ...:
            return str(faults[0])
        fault = faults.pop(0) if faults else None
        return fault and str(fault)

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        return lambda *arguments: HubHandler(self, *arguments)


class HubHandler(BaseHTTPRequestHandler):
    """Answers requests to read."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: LoopbackHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Stay silent; `LoopbackHub.requests` is the log."""

    def do_GET(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = unquote(parts.path)
        hub.requests.append(f"{self.command} {path}")
        if found := re.fullmatch(
            r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path
        ):
            repo, endpoint, revision, below = found.groups()
            query = parse_qs(parts.query) | parse_qs(form)
            self._api(repo, endpoint or "revision", revision or "main", (below or "").strip("/"), query)
        elif found := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        elif path == "/api/agent-harnesses":  # which the client asks for once a day, for its User-Agent
            self.send(200, {})
        else:
            hub.unknown.append(f"{self.command} {path}")
            self.send(404, {"error": f"the loopback Hub has no {path}"})

    do_HEAD = do_POST = do_GET  # noqa: N815 - the base class's names

    def _api(self, repo: str, endpoint: str, revision: str, below: str, query: dict[str, list[str]]) -> None:
        if self.faulty("api", b"{}") or not self._known(repo, revision):
            return
        files = self.hub.files(repo, revision)
        entries: dict[str, dict[str, Any]] = {}
        for name, path in files.items():
            size, parent = path.stat().st_size, Path(name).parent.as_posix()
            entries[name] = {"type": "file", "path": name, "size": size, "oid": self._etag(repo, name, revision)}
            if parent != ".":
                entries[parent] = {"type": "directory", "path": parent, "size": 0, "oid": "0" * 40}
        if endpoint == "revision":
            siblings = [{"rfilename": name} for name in files]
            private = self.hub.is_private(repo)
            sha = self.hub.commit(repo, revision)
            self.send(200, {"id": repo, "sha": sha, "siblings": siblings, "private": private, "gated": False})
        elif endpoint == "paths-info":
            self.send(200, [entries[name] for name in query.get("paths", []) if name in entries])
        elif below and below not in entries:
            self.send(404, {"error": f"no {below}"}, {"X-Error-Code": "EntryNotFound"})
        else:
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            inside = [name for name in entries if name.startswith(f"{below}/" if below else "")]
            self.send(200, [entries[n] for n in inside if recursive or "/" not in n[len(below) :].strip("/")])

    def _file(self, repo: str, revision: str, name: str) -> None:
        if not self._known(repo, revision):
            return
        files = self.hub.files(repo, revision)
        if name not in files:
            self.send(404, {"error": f"no {name}"}, {"X-Error-Code": "EntryNotFound"})
            return
        content = files[name].read_bytes()
        etag, commit = self._etag(repo, name, revision), self.hub.commit(repo, revision)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, body = 200, content
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            status, body = 206, content[start : last + 1]
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        if self.command == "GET" and name != "README.md":
            self.hub.data_requests += 1
            if self.faulty("data", body):
                return
            self.hub.data_bytes += len(body)
        self.send(status, body, headers)

    def _known(self, repo: str, revision: str) -> bool:
        """Return whether the hub has this; if not, answer as the Hub does to an account."""
        if not self.hub.has(repo, self.token()):
            self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return False
        if not self.hub.has_revision(repo, revision):
            self.send(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
            return False
        return True

    def token(self) -> str | None:
        """The account's token, if the request has one."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" else None

    def _etag(self, repo: str, name: str, revision: str) -> str:
        return hashlib.sha1(f"{name} {self.hub.commit(repo, revision)}".encode()).hexdigest()

    def faulty(self, on: str, body: bytes) -> bool:
        """Answer with the next fault, if there is one."""
        fault = self.hub.next_fault(on)
        if fault is not None and fault.isdigit():
            self.send(int(fault), {"error": "the loopback Hub was told to fail"})
        elif fault is not None:
            self.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            self.wfile.flush()
            if fault == "stall":
                self.hub.stopping.wait()
            self.close_connection = True
        return fault is not None

    def send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        """Answer with bytes, or with anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


if __name__ == "__main__":
    with LoopbackHub(Path(sys.argv[1])) as served:
        print(served.url, flush=True)
        threading.Event().wait()
