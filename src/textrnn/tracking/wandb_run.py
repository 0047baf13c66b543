"""The W&B run: rows, summary, exit code. No failure of W&B ends the run."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from textrnn.base import exits
from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.process import in_time
from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.wandb_internals import is_uploaded_as_artifact, service_errors
from textrnn.tracking.wandb_settings import offline_line, timeout

if TYPE_CHECKING:
    import wandb


INIT_TIMEOUT = 30.0
"""Seconds in which the server must register the run, unless WANDB_INIT_TIMEOUT is set."""
ANSWER_TIMEOUT = 10.0
"""Seconds in which the server must answer each request at the end of a run."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run waits for its last uploads, unless WANDB_FINISH_TIMEOUT is set."""


class WandbRun:
    """One W&B run, with the run's own id and its files in `<run_dir>/wandb`. Only rank 0 has one.

    After the start no failure of W&B ends the run: a server that dies or stalls only delays uploads, and if the
    client's own service dies, the run continues without W&B and logs that.
    """

    def __init__(self, run: "wandb.Run", last_step: int, again: Callable[[], "wandb.Run"]) -> None:
        self._run = run
        self._last_step = last_step
        self._again = again
        self._broken = False
        self._silent = False

    @classmethod
    def start(
        cls,
        config: Config,
        identity: RunIdentity,
        run_dir: Path,
        *,
        mode: str,
        resume: bool,
        on_stop: Callable[[], None] | None = None,
    ) -> Self:
        """Start the run ("online" or "offline"); with `resume` the server continues the run of this id.

        A resumed run logs only rows that the server lacks; offline, rows that are in none of the client's files, so
        that `wandb sync` uploads each row once.

        `on_stop` is called, from another thread, when a person or a sweep stops the run in W&B.

        With `tracking.mode=auto` the run goes offline if the server fails here, with one line in the log. Otherwise
        that is an `InputError`, as is anything that W&B refuses.
        """
        if mode == "offline":
            # The client reports its own errors to W&B; an offline run must not use the network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        files = run_dir / "wandb"
        recorded = last_recorded_step(files, identity.id) if resume and mode == "offline" else -1
        try:
            run = _init(config, identity, run_dir, mode=mode, resume=resume, on_stop=on_stop)
        except (wandb.errors.CommError, TimeoutError) as error:
            reason = str(error).partition("\n")[0]
            wrong_key = isinstance(error, wandb.errors.AuthenticationError)
            if wrong_key or mode != "online" or config.tracking.mode != "auto":
                raise InputError(f"tracking: W&B did not take the run ({reason}): type tracking=offline.") from error
            wandb.teardown()  # the client's service still has the id of the run that it could not start
            LOGGER.warning(offline_line(reason, run_dir))
            return cls.start(config, identity, run_dir, mode="offline", resume=resume, on_stop=on_stop)
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"tracking: W&B refuses the run ({reason}): correct it, or type tracking=none.") from error

        def again() -> "wandb.Run":
            return _init(config, identity, run_dir, mode=mode, resume=True, on_stop=None)

        if mode == "offline":
            return cls(run, recorded, again)
        supersede(files, identity.id)
        return cls(run, run.starting_step - 1, again)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log the row of global step `step`; steps must increase. Rows that W&B already has are skipped."""
        if step <= self._last_step:
            return
        self._last_step = step
        tables = [name for name, value in values.items() if is_uploaded_as_artifact(value)]
        if tables and self._request(lambda: self._run.log(dict(values), step=step, commit=True)):
            return
        rest = {name: value for name, value in values.items() if name not in tables}
        self._guarded(lambda: self._run.log(rest, step=step, commit=True))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set final values, such as the number of parameters, over the last value of each metric."""
        self._guarded(lambda: self._run.summary.update(dict(values)))

    def forget(self, prefix: str) -> None:
        """Remove names with this prefix from W&B's summary, which keeps the last value of each metric."""

        def remove() -> None:
            summary: Any = self._run.summary
            for name in summary.keys():  # noqa: SIM118 - it is not a mapping
                if name.startswith(prefix):
                    del summary[name]

        self._guarded(remove)

    def tag(self, tag: str) -> None:
        """Add a tag."""
        self._guarded(lambda: setattr(self._run, "tags", (*(self._run.tags or ()), tag)))

    def log_artifact(self, artifact: "wandb.Artifact", aliases: Sequence[str]) -> None:
        """Log an artifact; it is uploaded by the end of the run."""
        self._request(lambda: self._run.log_artifact(artifact, aliases=list(aliases)))

    def use_artifact(self, artifact: "wandb.Artifact") -> None:
        """Log an artifact as the run's input; not offline, as it needs the server's answer."""
        self._request(lambda: self._run.use_artifact(artifact))

    def finish(self, exit_code: int) -> bool:
        """End the run; exit code `PREEMPTED` marks it for another start by a sweep, other codes than 0 as failed.

        Wait for uploads, at most `FINISH_TIMEOUT` seconds. Return whether W&B (offline: its file) has everything.
        """
        if exit_code == exits.PREEMPTED:
            if self.url is not None and not self.is_alive():
                self._mark_preempted_anew()
                return False
            self._guarded(self._run.mark_preempting)
        try:
            self._guarded(lambda: self._run.finish(exit_code=exit_code))
        except TimeoutError:
            LOGGER.warning("W&B does not answer")
            return False
        return not self._broken

    def is_alive(self) -> bool:
        """Whether the client's service answers.

        SLURM sends SIGTERM to every process of a job, and the service ends at it.
        """
        with contextlib.suppress(TimeoutError):  # it runs and is busy
            self._guarded(lambda: in_time(self._run.status, ANSWER_TIMEOUT))
        return not self._broken

    def _mark_preempted_anew(self) -> None:
        """Mark the run as pre-empted through a new service: otherwise a sweep would not start it again.

        Rows that the old service had not sent are uploaded when the run is resumed.
        """
        import wandb

        # The old service no longer answers.
        with contextlib.suppress(ConnectionError):
            wandb.teardown()
        try:
            run = self._again()
            run.mark_preempting()
            run.finish(exit_code=exits.PREEMPTED)
        except (wandb.errors.Error, TimeoutError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            LOGGER.warning(f"the run could not be marked as pre-empted in W&B ({reason})")

    @property
    def url(self) -> str | None:
        """The run's page; None offline."""
        return self._run.url

    @property
    def directory(self) -> Path:
        """Folder of the run's W&B files, for `wandb sync`."""
        return Path(self._run.dir).parent

    def _request(self, action: Callable[[], object]) -> bool:
        """Run an action that waits for the server's answer; return whether it succeeded.

        After the first timeout nothing more is requested. Offline there is no wait.
        """
        import wandb

        if self._silent:
            return False
        try:
            self._guarded(lambda: in_time(action, ANSWER_TIMEOUT))
        except (OSError, ValueError, wandb.errors.Error) as error:
            self._silent = True
            reason = " ".join(str(error).split())
            what = "does not answer"
            # A table or a model is first staged in the user's own folder. Disk errors have an errno, unless the client
            # has rephrased them; network errors have none.
            of_disk = isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno is not None)
            if of_disk and not isinstance(error, TimeoutError):
                what = "can't write to its data folder, which WANDB_DATA_DIR names"
            LOGGER.warning(f"W&B {what} ({reason}): it gets no charts and no model; the run directory has them")
            return False
        return not self._broken

    def _guarded(self, action: Callable[[], object]) -> None:
        """Run an action on the W&B run, unless the client's service has died."""
        if self._broken:
            return
        try:
            action()
        except service_errors() as error:
            self._broken = True
            LOGGER.warning(f"W&B's client has died ({error}); the run continues, its metrics are in metrics.csv")


def _init(
    config: Config,
    identity: RunIdentity,
    run_dir: Path,
    *,
    mode: str,
    resume: bool,
    on_stop: Callable[[], None] | None,
) -> "wandb.Run":
    import wandb

    tracking = config.tracking
    settings = wandb.Settings(
        silent=True,  # we report the important messages
        console="off",  # the console belongs to the progress bar; its text is in train.log
        symlink=False,
        save_code=False,
        disable_code=True,
        # The client would record the repository of the working directory, which may be another project's.
        disable_git=True,
        git_commit=identity.git_commit,
        init_timeout=timeout("WANDB_INIT_TIMEOUT", default=INIT_TIMEOUT),
        finish_timeout=timeout("WANDB_FINISH_TIMEOUT", default=FINISH_TIMEOUT),
        finish_timeout_raises=True,
        # Otherwise W&B would send Ctrl-C. It is a function because the client copies its settings deeply, with a method
        # also the object of that method.
        stop_fn=None if on_stop is None else lambda: on_stop(),
    )
    wandb.setup(wandb.Settings(silent=True))  # the login prints before it reads the run's settings
    # What is None here, the client takes from WANDB_ENTITY, WANDB_TAGS, WANDB_NOTES.
    return wandb.init(
        id=identity.id,
        resume="allow" if resume else None,
        project=tracking.effective_project(),
        entity=tracking.entity,
        name=identity.name,
        group=identity.group,
        job_type=tracking.job_type or os.environ.get("WANDB_JOB_TYPE") or "train",
        tags=tracking.tags or None,
        notes=tracking.notes,
        dir=str(run_dir.resolve()),
        config=_flat({**asdict(config), "run": identity.to_dict()}),
        mode="online" if mode == "online" else "offline",
        reinit="finish_previous",
        settings=settings,
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to the keys of the command line, such as `optimizer.lr`.

    A sweep locks the keys that it sets: `model`, a choice of file, would keep the whole model out of W&B's config.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


INSPECT_TIMEOUT = 60.0
"""Time limit of W&B's viewer for a file, in seconds."""


def last_recorded_step(wandb_dir: Path, run_id: str) -> int:
    """Return the last step in the client's files of this run, as W&B's viewer reads them; -1 without any.

    A killed run's file ends where it was last flushed, some seconds before the kill.

    Raises:
        InputError: for a file that the viewer can't read.
    """
    steps = [-1]
    for file in wandb_dir.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file.parent)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSPECT_TIMEOUT, check=True)
            values = json.loads(done.stdout)
        except (subprocess.SubprocessError, ValueError) as error:
            raise InputError(
                f"{file} can't be read by W&B's viewer ({error}); move it away, or type tracking=none."
            ) from error
        if "_step" in values["summary"]:
            steps.append(int(values["summary"]["_step"]))
    return max(steps)


def supersede(wandb_dir: Path, run_id: str) -> None:
    """Mark this run's offline files as uploaded, as `wandb sync` does: the resumed run uploads their rows."""
    for file in wandb_dir.glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
        file.with_name(f"{file.name}.synced").touch()
