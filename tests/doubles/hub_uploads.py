"""The loopback Hub with accounts and uploads: repositories, branches of commits, large files.

    with UploadHub(folder, {"hf_alice": {"alice"}}) as hub:
        subprocess.run(..., env={"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_alice", "HF_HUB_DISABLE_XET": "1", ...})
        assert hub.names("alice/model") == {...}

What the real client, huggingface_hub 2.4, requests, where its code has that, and what it is answered here:

- POST /api/repos/create (`hf_api.create_repo`): the address; 409 if it is there, 403 for another's namespace.
- POST /api/validate-yaml (`hf_api._validate_yaml`): 400 with `errors` for metadata that can't be read, and for a
  model-index without its keys.
- POST /api/models/REPO/preupload/main (`_commit_api._fetch_upload_modes`): lfs for binary files; the hash of the
  file that is there (`CommitOperationAdd._local_oid`).
- POST /REPO.git/info/lfs/objects/batch (`lfs.post_lfs_batch_info`): no `actions` for content that is there.
- PUT of the address that the batch names (`lfs._upload_single_part`).
- POST /api/models/REPO/commit/main (`_commit_api._send_commit`): lines of JSON with header, file, lfsFile or
  deletedFile; 412 if `parentCommit` isn't the last commit.

A new repository has one commit with `.gitattributes`. No token: 401, and an unknown one too. A private repository is
404 to other accounts. The client's other way for large files, Xet, needs a second server and is not here: it is off by
HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import yaml
from doubles.hub import HubHandler, LoopbackHub


@dataclass(kw_only=True)
class Repository:
    """A model's repository: the folders of its commits by their hashes, the last one is `main`."""

    private: bool
    commits: dict[str, Path] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    @property
    def main(self) -> str:
        """The last commit."""
        return list(self.commits)[-1]


class UploadHub(LoopbackHub):
    """A Hub without data sets.

    Args:
        folder: An empty folder, for the files of commits.
        accounts: The namespaces that each token may write to.
    """

    STEPS = ("data", "api", "create", "yaml", "preupload", "batch", "lfs", "commit")

    def __init__(self, folder: Path, accounts: Mapping[str, set[str]]) -> None:
        super().__init__(folder, repo="")
        self.accounts = accounts
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        """Contents of large files by their SHA-256."""

    def make(self, repo: str, *, private: bool = False) -> Repository:
        """Make a repository with its first commit."""
        made = self.repositories[repo] = Repository(private=private)
        self.add(repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return made

    def add(self, repo: str, files: Mapping[str, bytes | None], title: str = "by hand") -> str:
        """Commit files, None for those to delete; return the commit."""
        of = self.repositories[repo]
        sha = hashlib.sha1(f"{repo} {len(of.commits)}".encode()).hexdigest()
        folder = self.folder / sha
        if of.commits:
            shutil.copytree(of.commits[of.main], folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        of.commits[sha] = folder
        of.titles.append(title)
        return sha

    def names(self, repo: str) -> set[str]:
        """The names of the files of `main`, besides the Hub's own."""
        return set(self.files(repo)) - {".gitattributes"}

    def commit(self, repo: str, revision: str = "main") -> str:
        """The commit of a branch."""
        return self.repositories[repo].main if revision == "main" else revision

    def files(self, repo: str, revision: str = "main") -> dict[str, Path]:
        """The files of a commit by their names."""
        return self.files_of(self.repositories[repo].commits[self.commit(repo, revision)])

    def has(self, repo: str, token: str | None) -> bool:
        """Whether there is such a repository for an account."""
        found = self.repositories.get(repo)
        return found is not None and (not found.private or repo.split("/")[0] in self.accounts.get(token or "", ()))

    def has_revision(self, repo: str, revision: str) -> bool:
        """Whether a repository has such a branch or commit."""
        return revision == "main" or revision in self.repositories[repo].commits

    def is_private(self, repo: str) -> bool:
        """Whether only its owner may read it."""
        return self.repositories[repo].private

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        return lambda *arguments: _UploadHandler(self, *arguments)


class _UploadHandler(HubHandler):
    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        hub, path = cast(UploadHub, self.hub), unquote(urlsplit(self.path).path)
        routes: dict[str, tuple[str, Callable[..., None]]] = {
            r"/api/repos/create": ("create", self._create),
            r"/api/validate-yaml": ("yaml", self._validate),
            r"/api/models/([^/]+/[^/]+)/preupload/main": ("preupload", self._preupload),
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": ("batch", self._batch),
            r"/large/([0-9a-f]{64})": ("lfs", self._large),
            r"/api/models/([^/]+/[^/]+)/commit/main": ("commit", self._commit),
        }
        for pattern, (step, answer) in routes.items():
            if found := re.fullmatch(pattern, path):
                hub.requests.append(f"{self.command} {path}")
                body = self._body()
                if not self.faulty(step, b"{}") and (step == "lfs" or self._may_write(found)):
                    answer(*found.groups(), body)
                return
        self.do_GET()

    do_PUT = do_POST  # noqa: N815 - the base class's name

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _may_write(self, found: re.Match[str]) -> bool:
        hub = cast(UploadHub, self.hub)
        token = self.token()
        if token not in hub.accounts:
            said = "Invalid credentials in Authorization header"
            self.send(401, {"error": "Invalid username or password."}, {"X-Error-Message": said} if token else None)
            return False
        if not found.groups():
            return True
        (repo,) = found.groups()
        if not hub.has(repo, token):
            self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return False
        return self._owns(repo.split("/")[0])

    def _owns(self, owner: str) -> bool:
        if owner in cast(UploadHub, self.hub).accounts[str(self.token())]:
            return True
        said = f'You don\'t have the rights to create a model under the namespace "{owner}"'
        self.send(403, {"error": said}, {"X-Error-Message": said})
        return False

    def _create(self, body: bytes) -> None:
        hub, said = cast(UploadHub, self.hub), json.loads(body)
        repo = f"{said['organization']}/{said['name']}"
        if not self._owns(said["organization"]):
            return
        address = {"url": f"{hub.url}/{repo}", "name": repo}
        if repo in hub.repositories:
            self.send(409, {"error": "You already created this model repo", **address})
            return
        hub.make(repo, private=said.get("visibility") == "private" or said.get("private") is True)
        self.send(200, address)

    def _validate(self, body: bytes) -> None:
        said = json.loads(body)
        assert said["repoType"] == "model"
        try:
            _, front, _ = said["content"].split("---\n", 2)
            for model in yaml.safe_load(front).get("model-index", []):
                for result in model["results"]:
                    needed = (
                        model["name"],
                        result["task"]["type"],
                        result["dataset"]["name"],
                        result["dataset"]["type"],
                    )
                    assert all(needed)
                    assert all(metric["type"] and "value" in metric for metric in result["metrics"])
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError) as error:
            self.send(400, {"errors": [{"message": repr(error)}], "warnings": []})
            return
        self.send(200, {"errors": [], "warnings": []})

    def _preupload(self, repo: str, body: bytes) -> None:
        there = self.hub.files(repo)
        files = []
        for said in json.loads(body)["files"]:
            sample = base64.b64decode(said["sample"])
            large = b"\0" in sample or said["path"].endswith((".safetensors", ".onnx"))
            content = there[said["path"]].read_bytes() if said["path"] in there else None
            oid = None if content is None else _oid(content, large=large)
            mode = "lfs" if large else "regular"
            files.append({"path": said["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send(200, {"files": files})

    def _batch(self, repo: str, body: bytes) -> None:
        hub = cast(UploadHub, self.hub)
        objects: list[dict[str, Any]] = []
        for said in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{hub.url}/large/{said['oid']}"}}
            objects.append(said | ({} if said["oid"] in hub.large else {"actions": upload}))
        self.send(200, {"transfer": "basic", "objects": objects})

    def _large(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self.send(400, {"error": "not the announced content"})
            return
        cast(UploadHub, self.hub).large[oid] = body
        self.send(200, b"")

    def _commit(self, repo: str, body: bytes) -> None:
        hub = cast(UploadHub, self.hub)
        header, *lines = [json.loads(line) for line in body.splitlines()]
        assert header["key"] == "header"
        if header["value"].get("parentCommit", hub.commit(repo)) != hub.commit(repo):
            self.send(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files: dict[str, bytes | None] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                files[value["path"]] = None
            elif value["oid"] not in hub.large:
                self.send(400, {"error": "an LFS pointer pointed to a file that does not exist"})
                return
            else:
                files[value["path"]] = hub.large[value["oid"]]
        sha = hub.add(repo, files, header["value"]["summary"])
        self.send(200, {"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{repo}/commit/{sha}"})


def _oid(content: bytes, *, large: bool) -> str:
    """The hash by which the client knows that a file is there already (`_commit_api.CommitOperationAdd._local_oid`)."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
