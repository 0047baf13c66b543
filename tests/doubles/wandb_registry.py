"""Registries of the loopback W&B server: collections of linked versions; they belong to the account's organization.

    server.registry.links["wandb-registry-model/imdb"]  # the versions that are linked there, in their order

Rules, whose sources are in WANDB.md: a registry must exist before something is linked to it, a collection is made by
its first link; a collection takes one type of artifact; a version that is linked already stays as it is; `latest` is
the version that was linked last. An account without an organization has no registry.
"""

from dataclasses import replace
from typing import Any

from doubles.wandb_answers import Operations, RefusedError, Variables, project
from doubles.wandb_artifacts import ArtifactStore, ServerArtifact

ORGANIZATION, ORG_ENTITY = "Film Lab", "film-lab"
"""The organization's name as it is shown, and the entity that its registries belong to."""
PREFIX = "wandb-registry-"


class RegistryStore:
    """The registries, and the answers to the operations on them."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self.registries = {f"{PREFIX}model"}
        """Their projects."""
        self.links: dict[str, list[ServerArtifact]] = {}
        """By `PROJECT/COLLECTION`, the linked versions; their numbers are those in the collection."""
        self.has_organization = True
        """Whether the account's entity is a team of the organization; else it is a person without one."""
        self.operations: Operations = {
            "FetchOrgInfoFromEntity": self._organization,
            "LinkArtifact": self._link,
            "ArtifactMembershipByName": self._by_name,
            "GetArtifactMembershipFileUrls": self._files,
        }

    def _organization(self, variables: Variables) -> dict[str, Any]:
        if not self.has_organization:
            return {"entity": {"organization": None, "user": {"organizations": []}}}
        organization = {"name": ORGANIZATION, "orgEntity": {"name": ORG_ENTITY}}
        return {"entity": {"organization": organization, "user": None}}

    def _link(self, variables: Variables) -> dict[str, Any]:
        said = variables["input"]
        if said["entityName"] != ORG_ENTITY:
            raise RefusedError(
                400, "linking is only allowed within the same team or to a collection in your organization's registry"
            )
        if said["projectName"] not in self.registries:
            raise RefusedError(404, "project not found")
        artifact = self._artifacts.artifacts[said["artifactID"]]
        versions = self.links.setdefault(f"{said['projectName']}/{said['artifactPortfolioName']}", [])
        if versions and versions[0].type != artifact.type:
            raise RefusedError(400, f"the collection takes artifacts of type {versions[0].type}")
        link = next((known for known in versions if known.id == artifact.id), None)
        if link is None:
            link = replace(artifact, version=len(versions), aliases=[])
            versions.append(link)
        membership = self._membership(said["projectName"], said["artifactPortfolioName"], link)
        return {"result": {"versionIndex": link.version, "artifactMembership": membership}}

    def _membership(self, project_name: str, collection: str, link: ServerArtifact) -> dict[str, Any]:
        source = self._artifacts.artifacts[link.id]
        aliases = ["latest"] if link is self.links[f"{project_name}/{collection}"][-1] else []
        return self._artifacts.membership(source) | {
            "versionIndex": link.version,
            "aliases": [
                {"__typename": "ArtifactAlias", "id": f"{link.id}:{alias}", "alias": alias} for alias in aliases
            ],
            "artifactCollection": {
                "__typename": "ArtifactPortfolio",
                "id": collection,
                "name": collection,
                "project": project(project_name) | {"entity": {"id": ORG_ENTITY, "name": ORG_ENTITY}},
            },
        }

    def _find(self, project_name: str, collection: str, alias: str) -> ServerArtifact | None:
        versions = self.links.get(f"{project_name}/{collection}", [])
        if alias in ("", "latest"):
            return versions[-1] if versions else None
        return next((link for link in versions if alias == f"v{link.version}"), None)

    def _by_name(self, variables: Variables) -> dict[str, Any]:
        name = variables["project"]
        if not name.startswith(PREFIX):
            return self._artifacts.operations["ArtifactMembershipByName"](variables)
        collection, _, alias = variables["name"].partition(":")
        link = self._find(name, collection, alias)
        membership = link and self._membership(name, collection, link)
        return {"project": project(name, artifactCollectionMembership=membership)}

    def _files(self, variables: Variables) -> dict[str, Any]:
        answer = self._artifacts.operations["GetArtifactMembershipFileUrls"]
        name = variables["project"]
        if not name.startswith(PREFIX):
            return answer(variables)
        link = self._find(name, variables["collection"], variables["alias"])
        if link is None:
            return {"project": project(name, artifactCollection=None)}
        source = self._artifacts.artifacts[link.id]
        own = {"project": source.project, "collection": source.collection, "alias": f"v{source.version}"}
        return answer(variables | own)
