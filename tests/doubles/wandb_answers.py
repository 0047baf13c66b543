"""Common parts of the loopback W&B server: the account, and the shapes of GraphQL answers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

ENTITY = "tester"
"""The only account: user and entity."""

Variables = dict[str, Any]
Operations = Mapping[str, Callable[[Variables], dict[str, Any]]]
"""The functions that answer an operation's variables with its data, by the operation's name."""


class UnknownOperationError(Exception):
    """The client requests something that the double doesn't have."""


class RefusedError(Exception):
    """The server refuses a request, by an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def now() -> str:
    """Return the time in the form of W&B's answers."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def connection(nodes: Sequence[object], first: int | None = None, after: str | None = None) -> dict[str, Any]:
    """Return one page of `nodes`."""
    start = int(after or 0)
    end = min(start + (first or len(nodes)), len(nodes))
    edges = [{"node": node, "cursor": str(number)} for number, node in enumerate(nodes[start:end], start + 1)]
    page = {"endCursor": str(end), "hasNextPage": end < len(nodes)}
    return {"totalCount": len(nodes), "edges": edges, "pageInfo": page}


def user() -> dict[str, Any]:
    """Return the account, as the client's `Viewer` and `wandb.Api` read it."""
    nothing: dict[str, Any] = {"edges": []}
    names = {"id": "1", "name": ENTITY, "username": ENTITY, "entity": ENTITY, "email": None}
    return names | {"admin": False, "flags": "{}", "deletedAt": None, "apiKeys": nothing, "teams": nothing}


def project(name: str, **more: object) -> dict[str, Any]:
    """Return the project of this name; every name exists."""
    entity = {"id": ENTITY, "name": ENTITY}
    facts = {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "readOnly": False, "user": user()}
    return {"id": name, "internalId": "1", "name": name, "entityName": ENTITY, "entity": entity, **facts, **more}
