"""Faults of the loopback W&B server: what it does to one operation, once or for good.

    server.faults.append(Fault("file stream", 403))  # once; times=None: for good
    server.faults.append(Fault("PUT artifact", "reset", times=None))

An operation is a GraphQL operation's name (`UpsertBucket`, `CreateArtifact`) or one of `OTHERS`; `*` at its end stands
for the rest. What the real client (0.31) then does was read by running it against these faults, and agrees with its
source in wandb/wandb:
- The file stream stops for good at 400, 401, 403, 404, 409 and 410, and after its last retry of anything else
  (core/internal/filestream/retry_policy.go). Nothing reports it but a line in `debug-internal.log` and, without
  `silent`, "Fatal error while uploading data" (wandb#9335). The run then ends as if it had been uploaded.
- GraphQL is not retried at 400, 401, 403, 404, 409, 410, 413 and 422 and retried, with growing waits, at 408, 429, 5xx
  and broken connections. `wandb.init` retries 409 too, until its time is up; `wandb.Api` does not
  (`UpsertBucketRetryPolicy` in core/internal/clients/retry.go). After a status with the header Retry-After it waits
  for as long as that says.
- A file or artifact is uploaded by PUT to storage, with retries as for GraphQL. An artifact of which a file fails stays
  PENDING: it is never committed, and its staged files are deleted (core/pkg/artifacts/saver.go, `Save`).
"""

from dataclasses import dataclass

OTHERS = ("file stream", "PUT file", "PUT artifact", "PUT manifest", "GET file", "GET artifact", "GET manifest")
"""Operations that are no GraphQL."""

STALL = 1.5
"""Seconds for which a stalled request is held before its connection is dropped: a proxy's patience, made short."""


@dataclass
class Fault:
    """What the server does to an operation in place of its answer."""

    operation: str
    kind: int | str
    """An HTTP status; "errors": 200 with a GraphQL error; "reset": the connection is reset; "stall": it is held, then
    dropped; "half": the request is carried out, and its answer breaks off half-way."""
    times: int | None = 1
    """How often; None for good."""
    after: int = 0
    """Requests of the operation that are answered first."""
    retry_after: int | None = None
    """Seconds after which the client is asked to try again: the header Retry-After of a status."""
    done: int = 0
    """How often it has happened."""

    def strikes(self, operation: str) -> bool:
        """Whether this request is the one; counts it."""
        wanted = self.operation.removesuffix("*")
        fits = operation.startswith(wanted) if self.operation.endswith("*") else operation == wanted
        if not fits or self.done == self.times:
            return False
        if self.after:
            self.after -= 1
            return False
        self.done += 1
        return True
