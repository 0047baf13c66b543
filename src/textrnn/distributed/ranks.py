"""Barriers, broadcasts and failure reports among the ranks of a run before they train: an error on one never hangs all.

Ranks started by torchrun or srun rendezvous at torch's key-value store, at MASTER_ADDR and MASTER_PORT, where
Lightning's process group meets later. torchrun serves the store itself; under srun rank 0 does.
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
from textrnn.distributed.launch import Launch, is_typed_in_step, number_or_zero

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

ARRIVAL = 300.0
"""Seconds within which all ranks must have started: Python starts slowly from a busy network disk."""
PATIENCE = 60.0
"""Seconds that ranks wait for each other at a barrier after short work."""
NOTICE = 5.0
"""Seconds after which a rank says whom it waits for."""
FAREWELL = 10.0
"""Seconds that a failed rank waits for the others to end too."""
POLL = 0.05
"""Seconds between two polls of the store."""
REASONS = {InputError: "refused", Preempted: "preempted", KeyboardInterrupt: "interrupted"}
"""Why a rank leaves before training, as the others read it; any other error is "lost"."""


class Ranks:
    """The ranks of a run, seen from this process. A single process waits for no other and doesn't import torch."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._meeting: Store | None = None
        self._store: Store | None = None
        self._phases = 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the records."""
        return self.launch.rank == 0

    def rendezvous(self) -> None:
        """Connect to rank 0, if torchrun or srun has started several ranks.

        Raises:
            InputError: if rank 0 can't serve the store.
            RankLost: if rank 0 cannot be reached.
        """
        tasks = number_or_zero(os.environ, "SLURM_STEP_NUM_TASKS")
        if tasks > 1 and self.is_first and is_typed_in_step(os.environ):
            print(
                f"this shell is one of the {tasks} tasks of its SLURM step: the run is one process; for {tasks}, type "
                "srun python ... in the shell of salloc",
                file=sys.stderr,
            )
        if self.launch.is_external:
            if self.launch.by == "srun":
                _set_address()
            self._store = self._meeting = _meet(self.launch)

    def begin_job(self, number: int) -> None:
        """Begin job `number` of a multirun: ranks that left the previous job, by wrong input for example, return."""
        if self._meeting is None:
            return
        from torch._C._distributed_c10d import PrefixStore

        self._store, self._phases = PrefixStore(f"job/{number}", self._meeting), 0

    @contextlib.contextmanager
    def reporting_failure(self) -> Iterator[None]:
        """Print an `InputError` and report any exception of this rank to the others.

        Raises:
            RefusedElsewhere: instead of an `InputError`, which is printed by then.
        """
        try:
            yield
        except BaseException as error:
            if self._store is None:
                raise
            printed = isinstance(error, InputError) and not isinstance(error, RefusedElsewhere)
            if printed:
                print(f"error: {error}", file=sys.stderr, flush=True)
            # If no rank is left, the store may be gone already.
            with contextlib.suppress(RuntimeError, RankLost):
                self._leave(error)
                self._stay()
            if printed:
                raise RefusedElsewhere(str(error)) from error
            raise

    @contextlib.contextmanager
    def barrier(self, *, patience: float = PATIENCE) -> Iterator[None]:
        """Run the body on all ranks; none continues before all have finished it.

        Raises:
            RefusedElsewhere: if another rank has refused its input; if several have, on all but the first one.
            Preempted: if another rank is pre-empted.
            KeyboardInterrupt: if it was interrupted.
            RankLost: if another rank has ended or does not answer.
        """
        self._phases += 1
        phase = self._phases
        if phase == 1:  # other ranks may still be importing
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
        """Return what `make` returns on rank 0, however long it takes, on all ranks."""
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
        """Return the values of all ranks, in their order."""
        if self._store is None:
            return [value]
        key = f"gathered/{self._phases + 1}"
        self._store.set(f"{key}/{self.launch.rank}", value)
        with self.barrier():
            pass
        return [self._get(f"{key}/{rank}") for rank in range(self.launch.world_size)]

    def _await(self, rank: int, phase: int, patience: float) -> None:
        begun, told = time.monotonic(), not self.is_first
        while not self._check(f"phase/{phase}/{rank}") and self._left(rank) is None:
            if time.monotonic() > begun + NOTICE and not told:
                told = True
                _say_awaited(rank, self.launch, patience)
            if time.monotonic() > begun + patience:
                raise RankLost(f"rank {rank} has not answered for {patience:.0f} seconds; its log may say why")
            time.sleep(POLL)

    def _raise_if_left(self, rank: int) -> None:
        reason = self._left(rank)
        if reason == "refused":
            raise RefusedElsewhere(f"rank {rank} has refused its input")
        if reason == "preempted":
            raise Preempted
        if reason == "interrupted":
            raise KeyboardInterrupt
        if reason is not None:
            raise RankLost(f"rank {rank} has ended; its log says why")

    def _leave(self, error: BaseException) -> None:
        assert self._store is not None
        reason = next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), "lost")
        self._store.set(f"left/{self.launch.rank}", reason)

    def _stay(self) -> None:
        """Wait until all ranks leave: rank 0 may serve the store, and srun kills the others when the first one ends."""
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
            raise RankLost("the ranks' key-value store is gone: rank 0 or torchrun has ended") from error

    def _get(self, key: str) -> str:
        assert self._store is not None
        value: bytes = self._store.get(key)
        return value.decode()


def _say_awaited(rank: int, launch: Launch, patience: float) -> None:
    line = f"waiting for rank {rank} of the {launch.world_size} that {launch.by} starts, at most {patience:.0f} s ..."
    print(line, file=sys.stderr, flush=True)


def _set_address() -> None:
    """Set torch's rendezvous address, unless the user has: the step's first node and a port derived from its id."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    nodes = os.environ["SLURM_STEP_NODELIST"]
    os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
    # Below the range of ephemeral ports.
    os.environ.setdefault("MASTER_PORT", str(12000 + (16 * job + step) % 20000))


def _meet(launch: Launch) -> "Store":
    from torch._C import _distributed_c10d as c10d

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun serves the store itself, and sets a variable; each of its restarts needs its own names.
    served = launch.by == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = number_or_zero(os.environ, "TORCHELASTIC_RESTART_COUNT")
    begun, told = time.monotonic(), launch.rank != 1
    while True:
        try:
            store = c10d.TCPStore(
                host,
                port,
                is_master=launch.rank == 0 and not served,
                wait_for_workers=False,
                multi_tenant=True,
                timeout=timedelta(seconds=5),  # between attempts a signal is handled
            )
        except RuntimeError as error:
            if launch.rank == 0 and not served:
                raise InputError(
                    f"port {port} on {socket.gethostname()} can't be used by the ranks' key-value store: set "
                    "MASTER_PORT to a free port."
                ) from error
            if time.monotonic() > begun + NOTICE and not told:
                told = True
                _say_awaited(0, launch, ARRIVAL)
            if time.monotonic() > begun + ARRIVAL:
                raise RankLost(f"rank 0 is not at {host}:{port}; its log may say why") from error
            continue
        store.set_timeout(timedelta(seconds=PATIENCE))
        return c10d.PrefixStore(f"textrnn/{attempt}", store)
