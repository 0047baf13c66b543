"""What the parts of the loopback W&B server share: the account, and the shapes in which GraphQL answers come."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

ENTITY = "tester"
"""The only account: user and entity."""

Variables = dict[str, Any]
Operations = Mapping[str, Callable[[Variables], dict[str, Any]]]
"""What answers an operation's variables with its data, by the operation's name."""


class UnknownOperationError(Exception):
    """The client asks for something that the double doesn't have."""


def now() -> str:
    """The time in the form that W&B's answers have."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def connection(nodes: Sequence[object], first: int | None = None, after: str | None = None) -> dict[str, Any]:
    """One page of `nodes`."""
    start = int(after or 0)
    end = min(start + (first or len(nodes)), len(nodes))
    edges = [{"node": node, "cursor": str(number)} for number, node in enumerate(nodes[start:end], start + 1)]
    page = {"endCursor": str(end), "hasNextPage": end < len(nodes)}
    return {"totalCount": len(nodes), "edges": edges, "pageInfo": page}


def user() -> dict[str, Any]:
    """The account, as the client's `Viewer` and `wandb.Api` read it."""
    nothing: dict[str, Any] = {"edges": []}
    names = {"id": "1", "name": ENTITY, "username": ENTITY, "entity": ENTITY, "email": None}
    return names | {"admin": False, "flags": "{}", "deletedAt": None, "apiKeys": nothing, "teams": nothing}


def project(name: str, **more: object) -> dict[str, Any]:
    """The project of this name; every name is one."""
    entity = {"id": ENTITY, "name": ENTITY}
    facts = {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "readOnly": False, "user": user()}
    return {"id": name, "internalId": "1", "name": name, "entityName": ENTITY, "entity": entity, **facts, **more}
