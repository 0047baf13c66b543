"""Trackers other than W&B: Trackio and TensorBoard. Each takes the rows of `metrics.csv`, which stays the record.

A resumed run first makes its tracker forget it, then logs all rows of `metrics.csv` once more. So no row is twice, and
none is missing, whatever a killed process had logged.
"""

import contextlib
import io
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import TRACKERS, Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.wandb_identity import flat


class Tracker(Protocol):
    """A run in a tracker. It is made when training begins, and has no rows then."""

    view: str
    """The command that shows it."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Log the row of a global step, once; steps increase."""

    def finish(self) -> None:
        """End the run; all rows are stored when this returns."""


class OpenTracker:
    """A tracker whose failures don't end the run: after the first one it gets no more rows, and one line says so."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.view = tracker.view
        self._name = name
        self._tracker: Tracker | None = tracker

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Log the row of a global step."""
        self._guarded(lambda tracker: tracker.log(values, step=step))

    def finish(self) -> None:
        """End the run."""
        self._guarded(lambda tracker: tracker.finish())

    def _guarded(self, action: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:  # of any library
            self._tracker = None
            LOGGER.warning(
                f"{self._name} has failed ({type(error).__name__}: {error}); the run continues without it, and "
                "metrics.csv has all rows"
            )


def open_tracker(mode: str, config: Config, identity: RunIdentity, directory: RunDirectory) -> OpenTracker | None:
    """Return the run's tracker; None for W&B's modes and `none`.

    Raises:
        InputError: the tracker refuses the run.
    """
    if mode not in TRACKERS:
        return None
    make: type[Trackio] | type[TensorBoard] = Trackio if mode == "trackio" else TensorBoard
    try:
        return OpenTracker(mode, make(config, identity, directory))
    except (OSError, ValueError) as error:
        raise InputError(f"tracking={mode} refuses the run ({error}); correct it, or type tracking=none.") from error


def _config(config: Config, identity: RunIdentity) -> dict[str, Any]:
    """Return configuration and identity as W&B's config has them."""
    return flat({**asdict(config), "run": identity.to_dict()})


class Trackio:
    """A run of Trackio's local database, named by name and id: two runs may have the same name."""

    def __init__(self, config: Config, identity: RunIdentity, directory: RunDirectory) -> None:
        import trackio

        del directory  # the database is in Trackio's own folder, TRACKIO_DIR
        project, name = config.tracking.effective_project(), f"{identity.name} {identity.id}"
        self.view = f"trackio show --project {shlex.quote(project)}"
        with contextlib.suppress(ValueError):  # there is no such project yet
            for run in trackio.Api().runs(project):
                if run.name == name:
                    run.delete()
        with _silence():  # it prints where it logs, which `view` says
            self._run = trackio.init(
                project=project,
                name=name,
                group=identity.group,
                config=_config(config, identity),
                resume="never",
                embed=False,  # in a notebook it would start a server
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Queue the row, which a thread stores."""
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """Wait until all rows are stored."""
        import trackio

        with _silence():  # it speaks of an upload, and there is none
            trackio.finish()  # the run's own method would be called again, aloud, at Python's exit


def _silence() -> contextlib.AbstractContextManager[object]:
    return contextlib.redirect_stdout(io.StringIO())


class TensorBoard:
    """Event files in the run directory's folder `tensorboard`."""

    def __init__(self, config: Config, identity: RunIdentity, directory: RunDirectory) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = directory.path / "tensorboard"
        if folder.exists():
            shutil.rmtree(folder)
        self.view = f"tensorboard --logdir {shlex.quote(str(directory.path.parent))}"
        self._writer = SummaryWriter(str(folder))
        text = "\n".join(f"    {key}: {value}" for key, value in _config(config, identity).items())  # Markdown's code
        self._writer.add_text("config", text)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Write the row's values as scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)
        self._writer.flush()

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()
