"""The W&B run: rows, summary, exit code; no failure of W&B costs the run."""

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
"""Seconds in which the server must have registered the run, where WANDB_INIT_TIMEOUT doesn't say it."""
ANSWER_TIMEOUT = 10.0
"""Seconds in which the server must answer at the end of a run, for each thing that waits for it."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run waits for its last uploads, where WANDB_FINISH_TIMEOUT doesn't say it."""


class WandbRun:
    """One W&B run, with the run's own id and its files in `<run_dir>/wandb`. Only rank 0 has one.

    From its start on nothing that happens to W&B costs the run: a server that dies or stalls only delays uploads, and
    if the client's own service dies, a line in the log says so and the run goes on without.
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

        The resumed run takes the rows that the server has not. Without a server it is those that are in no file of the
        client's, so that `wandb sync` brings each row once.

        `on_stop` is called, from another thread, when somebody stops the run in W&B, or a sweep does.

        With `tracking.mode=auto` a server that fails here sends the run offline, with one line in the log; otherwise
        that, and whatever W&B refuses, is an `InputError`.
        """
        if mode == "offline":
            # The client reports its own errors to W&B; a run that is offline touches no network.
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
            wandb.teardown()  # the client's service still holds the id of the run that it could not start
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
        """Log the row of global step `step`; steps go up. A row that the server of a resumed run has is left out."""
        if step <= self._last_step:
            return
        self._last_step = step
        tables = [name for name, value in values.items() if is_uploaded_as_artifact(value)]
        if tables and self._tell_server(lambda: self._run.log(dict(values), step=step, commit=True)):
            return
        rest = {name: value for name, value in values.items() if name not in tables}
        self._tell(lambda: self._run.log(rest, step=step, commit=True))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set final values, such as the number of parameters, over the last value of each metric."""
        self._tell(lambda: self._run.summary.update(dict(values)))

    def forget(self, prefix: str) -> None:
        """Take out of W&B's summary what begins so: it keeps the last value of whatever was logged."""

        def remove() -> None:
            summary: Any = self._run.summary
            for name in summary.keys():  # noqa: SIM118 - it is no mapping
                if name.startswith(prefix):
                    del summary[name]

        self._tell(remove)

    def tag(self, tag: str) -> None:
        """Add a tag."""
        self._tell(lambda: setattr(self._run, "tags", (*(self._run.tags or ()), tag)))

    def log_artifact(self, artifact: "wandb.Artifact", aliases: Sequence[str]) -> None:
        """Log an artifact; it is uploaded by the end of the run."""
        self._tell_server(lambda: self._run.log_artifact(artifact, aliases=list(aliases)))

    def use_artifact(self, artifact: "wandb.Artifact") -> None:
        """Log an artifact that the run comes from, as its input; not offline, as it needs the server's answer."""
        self._tell_server(lambda: self._run.use_artifact(artifact))

    def finish(self, exit_code: int) -> bool:
        """End the run; any exit code but 0 shows it as failed, `PREEMPTED` as one that a sweep shall start again.

        Waits for uploads, at most `FINISH_TIMEOUT` seconds. Returns whether W&B has everything, offline: its file.
        """
        if exit_code == exits.PREEMPTED:
            if self.url is not None and not self.is_alive():
                self._tell_preempted_again()
                return False
            self._tell(self._run.mark_preempting)
        try:
            self._tell(lambda: self._run.finish(exit_code=exit_code))
        except TimeoutError:
            LOGGER.warning("W&B does not answer")
            return False
        return not self._broken

    def is_alive(self) -> bool:
        """Whether the client's service answers.

        SLURM sends SIGTERM to every process of a job, and the service ends at it.
        """
        with contextlib.suppress(TimeoutError):  # it is there, and busy
            self._tell(lambda: in_time(self._run.status, ANSWER_TIMEOUT))
        return not self._broken

    def _tell_preempted_again(self) -> None:
        """Tell W&B through a new service that the run is pre-empted: a sweep would not hand it out again otherwise.

        What the old service had not sent yet, W&B gets when the run goes on.
        """
        import wandb

        # The old service can't be told any more that it is over.
        with contextlib.suppress(ConnectionError):
            wandb.teardown()
        try:
            run = self._again()
            run.mark_preempting()
            run.finish(exit_code=exits.PREEMPTED)
        except (wandb.errors.Error, TimeoutError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            LOGGER.warning(f"W&B could not be told that the run is pre-empted ({reason})")

    @property
    def url(self) -> str | None:
        """Where to look at the run; None offline."""
        return self._run.url

    @property
    def directory(self) -> Path:
        """Where the run's W&B files are; what `wandb sync` takes."""
        return Path(self._run.dir).parent

    def _tell_server(self, action: Callable[[], object]) -> bool:
        """Do what waits for an answer of the server, until one doesn't come in time; returns whether it was done.

        Offline nothing is waited for.
        """
        import wandb

        if self._silent:
            return False
        try:
            self._tell(lambda: in_time(action, ANSWER_TIMEOUT))
        except (OSError, ValueError, wandb.errors.Error) as error:
            self._silent = True
            reason = " ".join(str(error).split())
            what = "does not answer"
            # A table or a model is staged in the user's own folder before it is sent or written beside the run. Errors
            # of the disk have a number, unless the client has put them into its own words; those of the network none.
            of_disk = isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno is not None)
            if of_disk and not isinstance(error, TimeoutError):
                what = "can't write to its data folder, which WANDB_DATA_DIR names"
            LOGGER.warning(f"W&B {what} ({reason}): it gets no charts and no model; the run directory has them")
            return False
        return not self._broken

    def _tell(self, action: Callable[[], object]) -> None:
        """Do something with W&B, until the client's service is gone."""
        if self._broken:
            return
        try:
            action()
        except service_errors() as error:
            self._broken = True
            LOGGER.warning(f"W&B's client has died ({error}); the run goes on, its metrics are in metrics.csv")


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
        silent=True,  # what there is to say, we say
        console="off",  # the console belongs to the progress bar; its text is in train.log
        symlink=False,
        save_code=False,
        disable_code=True,
        # The client would look at the repository of the working directory, which may be anybody's.
        disable_git=True,
        git_commit=identity.git_commit,
        init_timeout=timeout("WANDB_INIT_TIMEOUT", default=INIT_TIMEOUT),
        finish_timeout=timeout("WANDB_FINISH_TIMEOUT", default=FINISH_TIMEOUT),
        finish_timeout_raises=True,
        # Otherwise W&B would send Ctrl-C. A function, because the client copies its settings deeply, what a method is
        # bound to as well.
        stop_fn=None if on_stop is None else lambda: on_stop(),
    )
    wandb.setup(wandb.Settings(silent=True))  # the login speaks before it reads the settings of the run
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
    """Return nested values under the keys of the command line, such as `optimizer.lr`.

    A sweep locks the keys that it chooses: `model`, a choice of file, would lock our whole model out of W&B's config.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


INSPECT_TIMEOUT = 60.0
"""Seconds that W&B's own viewer may take for a file."""


def last_recorded_step(wandb_dir: Path, run_id: str) -> int:
    """Return the last step that the client's files of this run hold, -1 without any; read by W&B's own viewer.

    The file of a killed run ends where it was last flushed, some seconds before the kill.

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
    """Mark the offline files of this run as uploaded, as `wandb sync` does: the server gets their rows without it."""
    for file in wandb_dir.glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
        file.with_name(f"{file.name}.synced").touch()
