"""The artifacts of the loopback W&B server: versions, aliases that move, metadata, and the files themselves.

A version gets its number when the client commits it. `latest` and the aliases that came with it then move to it from
the version that had them. Content that the collection holds already makes no new version, but its aliases move.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from doubles.wandb_answers import Operations, Variables, connection, now, project


@dataclass(kw_only=True)
class ServerArtifact:
    """One version of an artifact; `collection` is its name without the version."""

    id: str
    collection: str
    type: str
    project: str
    run: str
    """The id of the run that logged it."""
    digest: str
    metadata: dict[str, Any]
    description: str | None
    wanted: list[str]
    """Aliases to give it when it is committed."""
    history_step: int | None
    version: int | None = None
    """None until it is committed."""
    aliases: list[str] = field(default_factory=list)
    manifest: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    used_by: list[str] = field(default_factory=list)
    """Ids of the runs that used it."""
    created: str = field(default_factory=now)


class ArtifactStore:
    """All artifacts, and the answers to the operations on them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.artifacts: dict[str, ServerArtifact] = {}
        self.operations: Operations = {
            "ArtifactType": self._type,
            "CreateArtifact": self._create,
            "CreateArtifactManifest": self._create_manifest,
            "CreateArtifactFiles": self._create_files,
            "CommitArtifact": self._commit,
            "ArtifactByID": lambda v: {"artifact": self._node(self.artifacts[v["id"]])},
            "ArtifactMembershipByName": self._by_name,
            "FetchArtifactManifest": lambda v: self._manifest(v["id"]),
            "GetArtifactMembershipFileUrls": self._membership_files,
            "ArtifactMembershipFiles": self._membership_files,
            "UseArtifact": self._use,
            "UpdateArtifact": self._update,
            "AddAliases": self._add_aliases,
            "DeleteAliases": self._delete_aliases,
            "RunOutputArtifacts": lambda v: self._of_run(v, "output"),
            "RunInputArtifacts": lambda v: self._of_run(v, "input"),
            "ArtifactCreatedBy": self._created_by,
            "ArtifactUsedBy": self._users,
        }

    def find(self, name: str, project_name: str | None = None) -> ServerArtifact | None:
        """Return the committed version of `COLLECTION:ALIAS`, `COLLECTION:v0` or `COLLECTION` (latest)."""
        collection, _, alias = name.partition(":")
        for artifact in self._versions(collection, project_name):
            if (alias or "latest") in [f"v{artifact.version}", *artifact.aliases]:
                return artifact
        return None

    def _versions(self, collection: str, project_name: str | None) -> list[ServerArtifact]:
        return [
            artifact
            for artifact in self.artifacts.values()
            if artifact.collection == collection
            and project_name in (None, artifact.project)
            and artifact.version is not None
        ]

    def _move(self, aliases: list[str], to: ServerArtifact) -> None:
        for other in self._versions(to.collection, to.project):
            other.aliases = [alias for alias in other.aliases if alias not in aliases]
        to.aliases += aliases

    def _create(self, variables: Variables) -> dict[str, Any]:
        said = variables["input"]
        collection = said["artifactCollectionName"]
        aliases = list(dict.fromkeys(entry["alias"] for entry in said.get("aliases") or []))
        versions = self._versions(collection, said["projectName"])
        artifact = next((known for known in versions if known.digest == said["digest"]), None)
        if artifact is not None:
            self._move(aliases, to=artifact)
        else:
            artifact = ServerArtifact(
                id=base64.b64encode(f"Artifact:{len(self.artifacts) + 1}".encode()).decode(),
                collection=collection,
                type=said["artifactTypeName"],
                project=said["projectName"],
                run=said["runName"],
                digest=said["digest"],
                metadata=json.loads(said.get("metadata") or "{}"),
                description=said.get("description"),
                wanted=aliases,
                history_step=said.get("historyStep"),
            )
            self.artifacts[artifact.id] = artifact
        latest = {"id": versions[-1].id, "versionIndex": versions[-1].version} if versions else None
        sequence = self._collection(artifact) | {"latestArtifact": latest}
        return {"createArtifact": {"artifact": self._node(artifact) | {"artifactSequence": sequence}}}

    def _create_manifest(self, variables: Variables) -> dict[str, Any]:
        artifact_id = variables["artifactID"]
        name = {"id": artifact_id, "name": "wandb_manifest.json", "displayName": "wandb_manifest.json"}
        file = name | {"uploadUrl": self._url(artifact_id, "manifest"), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": artifact_id, "file": file}}}

    def _create_files(self, variables: Variables) -> dict[str, Any]:
        nodes = [
            {
                "id": f"{spec['artifactID']}/{spec['name']}",
                "name": spec["name"],
                "displayName": spec["name"],
                "storagePath": f"{spec['artifactID']}/{spec['name']}",
                "uploadUrl": self._url(spec["artifactID"], "files", spec["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": connection(nodes)}}

    def _commit(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts[variables["artifactID"]]
        if artifact.version is None:
            artifact.version = len(self._versions(artifact.collection, artifact.project))
            self._move(list(dict.fromkeys([*artifact.wanted, "latest"])), to=artifact)
        return {"commitArtifact": {"artifact": self._node(artifact)}}

    def _type(self, variables: Variables) -> dict[str, Any]:
        found = self.find(variables["name"], variables["project"])
        artifact = {"artifactType": {"name": found.type}} if found else None
        return {"project": project(variables["project"], artifact=artifact)}

    def _by_name(self, variables: Variables) -> dict[str, Any]:
        found = self.find(variables["name"], variables["project"])
        return {"project": project(variables["project"], artifactCollectionMembership=found and self.membership(found))}

    def membership(self, artifact: ServerArtifact) -> dict[str, Any]:
        """Return a version as a member of its own collection."""
        node = self._node(artifact)
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": artifact.id,
            "versionIndex": artifact.version,
            "createdAt": artifact.created,
            "aliases": node["aliases"],
            "artifactCollection": self._collection(artifact),
            "artifact": node,
        }

    def _manifest(self, artifact_id: str) -> dict[str, Any]:
        return {"artifact": {"currentManifest": {"file": {"directUrl": self._url(artifact_id, "manifest")}}}}

    def _membership_files(self, variables: Variables) -> dict[str, Any]:
        found = self.find(f"{variables['collection']}:{variables['alias']}", variables["project"])
        membership = None
        if found:
            names = [name for name in found.files if name in (variables.get("fileNames") or found.files)]
            files = [self._file(found, name) for name in sorted(names)]
            membership = {"files": connection(files, variables.get("perPage"), variables.get("cursor"))}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": membership}
        return {"project": project(variables["project"], artifactCollection=collection)}

    def _use(self, variables: Variables) -> dict[str, Any]:
        said = variables.get("input", variables)
        artifact = self.artifacts[said["artifactID"]]
        if said["runName"] not in artifact.used_by:
            artifact.used_by.append(said["runName"])
        return {"useArtifact": {"artifact": self._node(artifact)}}

    def _update(self, variables: Variables) -> dict[str, Any]:
        said = variables.get("input", variables)
        artifact = self.artifacts[said["artifactID"]]
        artifact.description = said.get("description", artifact.description)
        if said.get("metadata") is not None:
            artifact.metadata = json.loads(said["metadata"])
        answer = {"artifact": self._node(artifact)}
        return {"result": answer, "updateArtifact": answer}

    def _add_aliases(self, variables: Variables) -> dict[str, Any]:
        said = variables["input"]
        self._move([entry["alias"] for entry in said["aliases"]], to=self.artifacts[said["artifactID"]])
        return {"result": {"success": True}}

    def _delete_aliases(self, variables: Variables) -> dict[str, Any]:
        said = variables["input"]
        gone = [entry["alias"] for entry in said["aliases"]]
        artifact = self.artifacts[said["artifactID"]]
        artifact.aliases = [alias for alias in artifact.aliases if alias not in gone]
        return {"result": {"success": True}}

    def _of_run(self, variables: Variables, kind: str) -> dict[str, Any]:
        run = variables["run"]
        artifacts = [
            self._node(artifact)
            for artifact in self.artifacts.values()
            if artifact.version is not None and (artifact.run == run if kind == "output" else run in artifact.used_by)
        ]
        page = connection(artifacts, variables.get("perPage"), variables.get("cursor"))
        return {"project": project(variables["project"], run={"artifacts": page})}

    def _created_by(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts[variables["id"]]
        return {"artifact": {"createdBy": self._run(artifact, artifact.run)}}

    def _users(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts[variables["id"]]
        return {"artifact": {"usedBy": connection([self._run(artifact, run) for run in artifact.used_by])}}

    def _run(self, artifact: ServerArtifact, run_id: str) -> dict[str, Any]:
        return {"__typename": "Run", "id": run_id, "name": run_id, "project": project(artifact.project)}

    def _collection(self, artifact: ServerArtifact) -> dict[str, Any]:
        return {
            "__typename": "ArtifactSequence",
            "id": artifact.collection,
            "name": artifact.collection,
            "project": project(artifact.project),
        }

    def _node(self, artifact: ServerArtifact) -> dict[str, Any]:
        collection = self._collection(artifact)
        aliases = [
            {
                "__typename": "ArtifactAlias",
                "id": f"{artifact.id}:{alias}",
                "alias": alias,
                "artifactCollection": collection,
            }
            for alias in artifact.aliases
        ]
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": collection,
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": artifact.history_step,
            "state": "PENDING" if artifact.version is None else "COMMITTED",
            "size": sum(len(content) for content in artifact.files.values()),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": artifact.id,
            "fileCount": len(artifact.files),
            "createdAt": artifact.created,
            "updatedAt": artifact.created,
            "aliases": aliases,
        }

    def _file(self, artifact: ServerArtifact, name: str) -> dict[str, Any]:
        content = artifact.files[name]
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        url = self._url(artifact.id, "files", name)
        return {
            "__typename": "File",
            "id": f"{artifact.id}/{name}",
            "name": name,
            "displayName": name,
            "url": url,
            "directUrl": url,
            "sizeBytes": len(content),
            "storagePath": f"{artifact.id}/{name}",
            "mimetype": None,
            "updatedAt": artifact.created,
            "digest": md5,
            "md5": md5,
        }

    def _url(self, artifact_id: str, *parts: str) -> str:
        return f"{self.url}/artifacts/{quote(artifact_id, safe='')}/{quote('/'.join(parts))}"
