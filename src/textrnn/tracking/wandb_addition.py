"""What is added to the W&B run of a run that has ended, such as a table of explanations."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.config.compose import load_config
from textrnn.tracking.identity import read_identity
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import Status, read_status
from textrnn.tracking.wandb_identity import is_at_wandb
from textrnn.tracking.wandb_internals import answer_errors
from textrnn.tracking.wandb_received import missing
from textrnn.tracking.wandb_run import WandbRun
from textrnn.tracking.wandb_settings import check_account


class EndedRun:
    """A run that has ended here and that W&B has; its directory is in use by this process inside `with`.

    Args:
        path: The run directory.
        flag: The flag that asks for it, for messages.

    Raises:
        InputError: it has not ended, W&B lacks it or a part of it or does not answer, there is no account, or
            `tracking.mistakes=0` keeps its texts out of W&B.
    """

    def __init__(self, path: Path, *, flag: str) -> None:
        self._flag = flag
        self._directory = RunDirectory.join(path)
        self._identity = read_identity(self._directory.run_json)
        config = load_config(self._directory.config_yaml)
        self._config = replace(config, tracking=replace(config.tracking, mode="online"))
        if config.tracking.mistakes == 0:
            raise InputError(f"{flag}: the run's tracking.mistakes=0 keeps texts out of W&B; leave {flag} out.")
        if read_status(self._directory.summary_json) not in (Status.FINISHED, Status.STOPPED):
            raise InputError(f"{flag}: {path} has not ended; let it end first, or leave {flag} out.")
        check_account(needed_for=flag, instead=f"leave {flag} out")
        try:
            is_there = is_at_wandb(self._config, self._identity, path)
        except answer_errors() as error:
            raise self._unanswered(error) from error
        if not is_there:
            raise InputError(
                f"{flag}: W&B has no run {self._identity.id}; upload an offline one first (wandb sync "
                f"{path}/wandb/offline-run-*), or leave {flag} out."
            )
        if self._directory.wandb_unsent.is_file():
            raise InputError(f"{flag}: W&B lacks a part of {path}; type python train.py resume={path} first.")

    def __enter__(self) -> Self:
        """Return this object, with the directory claimed until the end of `with`."""
        self._directory = RunDirectory.claim(self._directory.path, resume=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.release()

    def log_tables(self, tables: Mapping[str, Any]) -> str:
        """Add tables to the run's summary, which W&B's panels show; return the address of the run's page.

        A table that was added before is replaced.

        Raises:
            InputError: W&B has not taken them.
        """
        run = WandbRun.start(self._config, self._identity, self._directory.path, mode="online", resume=True)
        run.log_tables(tables)
        run.finish(exits.DONE)
        try:
            lacks = missing(run.logged([], {}))
        except answer_errors() as error:
            raise self._unanswered(error) from error
        if lacks:
            raise InputError(f"{self._flag}: W&B lacks {', '.join(lacks)}; try again later.")
        return str(run.url)

    def _unanswered(self, error: Exception) -> InputError:
        return InputError(f"{self._flag}: W&B does not answer ({' '.join(str(error).split())}); try again later.")
