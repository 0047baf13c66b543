"""What the ranks of a run agree on before they train, so that one sentence, not a hang, ends what can't go well.

Ranks that torchrun or srun has started meet at a key-value store of torch's, at MASTER_ADDR and MASTER_PORT, where
Lightning's process group meets later: torchrun serves it itself, under srun rank 0 does.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from textrnn.base.errors import InputError, RankLost, RefusedElsewhere
from textrnn.base.signals import Preempted
from textrnn.distributed.launch import Launch, number_or_zero

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

ARRIVAL = 300.0
"""Seconds within which all ranks must have started: Python on a busy network disk takes its time."""
PATIENCE = 60.0
"""Seconds that ranks wait for each other in what takes all of them a moment."""
FAREWELL = 10.0
"""Seconds that a rank which leaves waits for the others to leave too."""
POLL = 0.05
"""Seconds between two looks."""


class Ranks:
    """This process among its run's. Alone, it waits for nobody and imports no torch."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._meeting: Store | None = None
        self._store: Store | None = None
        self._phases = 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that records."""
        return self.launch.rank == 0

    def rendezvous(self) -> None:
        """Wait until rank 0 can be reached, if another launcher than Lightning has started several ranks.

        Raises:
            InputError: if rank 0 can't serve the store.
            RankLost: if rank 0 does not come.
        """
        if self.launch.is_external:
            if self.launch.by == "srun":
                _set_address()
            self._store = self._meeting = _meet(self.launch)

    def begin_job(self, number: int) -> None:
        """Go on to another job of a multirun: who has left the one before, refused say, is there again."""
        if self._meeting is None:
            return
        from torch._C._distributed_c10d import PrefixStore

        self._store, self._phases = PrefixStore(f"job/{number}", self._meeting), 0

    @contextlib.contextmanager
    def reporting_failure(self) -> Iterator[None]:
        """Tell the other ranks if this one leaves by an exception, and first of all the user.

        Raises:
            RefusedElsewhere: instead of an `InputError`, which is told by then.
        """
        try:
            yield
        except BaseException as error:
            if self._store is None:
                raise
            told = isinstance(error, InputError) and not isinstance(error, RefusedElsewhere)
            if told:
                print(f"error: {error}", file=sys.stderr, flush=True)
            # Where nobody waits any more, the store may be gone already.
            with contextlib.suppress(RuntimeError, RankLost):
                self._leave(error)
                self._stay()
            if told:
                raise RefusedElsewhere(str(error)) from error
            raise

    @contextlib.contextmanager
    def barrier(self, *, patience: float = PATIENCE) -> Iterator[None]:
        """What all ranks do; none goes on before all have done it.

        Raises:
            RefusedElsewhere: if another rank has refused its input, and of several this is not the first one.
            Preempted: if another rank leaves its machine.
            RankLost: if another rank has ended, or does not come.
        """
        self._phases += 1
        phase = self._phases
        if phase == 1:  # rank 0 has met nobody yet: another may be importing still
            patience = max(patience, ARRIVAL)
        try:
            yield
        except InputError as error:
            if self._store is None:
                raise
            for rank in range(self.launch.rank):
                self._await(rank, phase, patience)
                if self._left(rank) == "refused":
                    raise RefusedElsewhere(str(error)) from error
            raise
        if self._store is None:
            return
        self._store.set(f"phase/{phase}/{self.launch.rank}", "")
        for rank in range(self.launch.world_size):
            self._await(rank, phase, patience)
            self._raise_if_left(rank)

    def broadcast(self, make: Callable[[], str]) -> str:
        """What rank 0 makes, however long it takes it, on all ranks."""
        self._phases += 1
        key = f"value/{self._phases}"
        if self._store is None:
            return make()
        if self.is_first:
            value = make()
            self._store.set(key, value)
            return value
        while not self._check(key):
            self._raise_if_left(0)
            time.sleep(POLL)
        return self._get(key)

    def gather(self, value: str) -> list[str]:
        """The values of all ranks, in their order."""
        if self._store is None:
            return [value]
        key = f"gathered/{self._phases + 1}"
        self._store.set(f"{key}/{self.launch.rank}", value)
        with self.barrier():
            pass
        return [self._get(f"{key}/{rank}") for rank in range(self.launch.world_size)]

    def _await(self, rank: int, phase: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not self._check(f"phase/{phase}/{rank}") and self._left(rank) is None:
            if time.monotonic() > deadline:
                raise RankLost(f"rank {rank} has not answered for {patience:.0f} seconds; its log may say why")
            time.sleep(POLL)

    def _raise_if_left(self, rank: int) -> None:
        reason = self._left(rank)
        if reason == "refused":
            raise RefusedElsewhere(f"rank {rank} has refused its input")
        if reason == "preempted":
            raise Preempted
        if reason is not None:
            raise RankLost(f"rank {rank} has ended; its log says why")

    def _leave(self, error: BaseException) -> None:
        reason = "refused" if isinstance(error, InputError) else "preempted" if isinstance(error, Preempted) else "lost"
        assert self._store is not None
        self._store.set(f"left/{self.launch.rank}", reason)

    def _stay(self) -> None:
        """Until all are ready: rank 0 may serve the store, and srun kills all others when the first one ends."""
        assert self._store is not None
        if not self.is_first:
            self._store.wait(["all-leave"], timedelta(seconds=FAREWELL))
            return
        deadline = time.monotonic() + FAREWELL
        while time.monotonic() < deadline:
            if all(self._left(rank) is not None for rank in range(self.launch.world_size)):
                break
            time.sleep(POLL)
        self._store.set("all-leave", "")
        time.sleep(POLL)

    def _left(self, rank: int) -> str | None:
        key = f"left/{rank}"
        return self._get(key) if self._check(key) else None

    def _check(self, key: str) -> bool:
        assert self._store is not None
        try:
            return bool(self._store.check([key]))
        except RuntimeError as error:
            raise RankLost("the ranks' meeting point is gone: rank 0 or torchrun has ended") from error

    def _get(self, key: str) -> str:
        assert self._store is not None
        value: bytes = self._store.get(key)
        return value.decode()


def _set_address() -> None:
    """Tells torch where the ranks of a step meet, unless the user has: at its first node, at a port by its number."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    nodes = os.environ["SLURM_STEP_NODELIST"]
    os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
    # Below the range from which systems give out ports of their own.
    os.environ.setdefault("MASTER_PORT", str(12000 + (16 * job + step) % 20000))


def _meet(launch: Launch) -> "Store":
    from torch._C import _distributed_c10d as c10d

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun serves the store itself, and says so; its restarts of the ranks each need names of their own.
    served = launch.by == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = number_or_zero(os.environ, "TORCHELASTIC_RESTART_COUNT")
    deadline = time.monotonic() + ARRIVAL
    while True:
        try:
            store = c10d.TCPStore(
                host,
                port,
                is_master=launch.rank == 0 and not served,
                wait_for_workers=False,
                multi_tenant=True,
                timeout=timedelta(seconds=5),  # a signal is heard in between
            )
        except RuntimeError as error:
            if launch.rank == 0 and not served:
                raise InputError(
                    f"port {port} on {socket.gethostname()} can't be used for the ranks to meet: set MASTER_PORT."
                ) from error
            if time.monotonic() > deadline:
                raise RankLost(f"rank 0 is not at {host}:{port}; its log may say why") from error
            continue
        store.set_timeout(timedelta(seconds=PATIENCE))
        return c10d.PrefixStore(f"textrnn/{attempt}", store)
