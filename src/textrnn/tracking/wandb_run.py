"""The W&B run: rows, summary, exit code. No failure of W&B ends the run."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from textrnn.base import exits
from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import writable_cache
from textrnn.base.process import in_time
from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.wandb_identity import (
    reason_of,
    refusal,
)
from textrnn.tracking.wandb_internals import (
    answer_errors,
    is_chart,
    is_of_dead_service,
    is_uploaded_as_artifact,
    leave_dead_service,
    log_lines,
    service_errors,
    show_chart,
    table_artifact,
    table_of,
)
from textrnn.tracking.wandb_log import LogUpload
from textrnn.tracking.wandb_offline import last_recorded_step, pass_over_empty, supersede
from textrnn.tracking.wandb_received import Logged, local_files
from textrnn.tracking.wandb_settings import (
    by_hand,
    is_trial,
    must_be_online,
    offline_line,
    says_it_waits,
)
from textrnn.tracking.wandb_start import init_run, open_run

if TYPE_CHECKING:
    import wandb


ANSWER_TIMEOUT = 10.0
"""Seconds in which the server must answer each request at the end of a run."""


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
        self._outputs: dict[str, str | None] = {}
        self._inputs: set[str] = set()
        self._tags: set[str] = set()
        self._charts: set[str] = set()
        self.links: dict[str, str] = {}
        """By the model's name, the collection of a registry to link it to when it has been uploaded."""
        self._stages_here = "WANDB_DATA_DIR" not in os.environ
        if self._stages_here:
            # The client copies each table there, and `wandb sync` of an offline run needs the copies; the home, where
            # they would be, may be another one by then, and nobody removes them from it.
            os.environ["WANDB_DATA_DIR"] = str(self.directory)
        self._log: LogUpload | None = None

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
        """Start the run ("online" or "offline"), or continue it where the server has it.

        A continued run logs only rows that the server lacks; offline and with `resume`, rows that are in none of the
        client's files, so that `wandb sync` uploads each row once.

        `on_stop` is called, from another thread, when a person or a sweep stops the run in W&B.

        If the server does not answer, a run that need not be online goes offline, with one line in the log. An agent's
        trial must be online.

        Raises:
            InputError: the server does not answer a run that must be online; it refuses the run; or its run of this id
                is another one than the identity's.
        """
        if mode == "offline":
            # The client reports its own errors to W&B; an offline run must not use the network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111 - Path's method fails where there is no home
            # The client's service would print its log, and could send no artifact.
            for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
                os.environ.setdefault(variable, writable_cache("wandb"))
        import wandb

        files = run_dir / "wandb"
        if resume:
            pass_over_empty(files, identity.id)
        recorded = last_recorded_step(files, identity.id) if resume and mode == "offline" else -1

        def opened() -> "wandb.Run":
            with says_it_waits() if mode == "online" else contextlib.nullcontext():
                return open_run(config, identity, run_dir, mode=mode, resume=resume, on_stop=on_stop)

        try:
            try:
                run = opened()
            except Exception as error:
                if not is_of_dead_service(error):
                    raise
                leave_dead_service()  # of an earlier start here: SLURM's SIGTERM ends all processes of a job
                run = opened()
        except (wandb.errors.CommError, TimeoutError) as error:
            reason = reason_of(error)
            if (sentence := refusal(error, identity, run_dir)) is not None:
                raise InputError(sentence) from error
            if mode == "offline" or must_be_online(config.tracking):
                remedy = by_hand() if is_trial() else "type tracking=offline"
                raise InputError(f"tracking: W&B did not take the run ({reason}): {remedy}.") from error
            wandb.teardown()  # the client's service still has the id of the run that it could not start
            LOGGER.warning(offline_line(reason, run_dir))
            return cls.start(config, identity, run_dir, mode="offline", resume=resume, on_stop=on_stop)
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"tracking: W&B refuses the run ({reason}): correct it, or type tracking=none.") from error

        def again() -> "wandb.Run":
            return init_run(config, identity, run_dir, mode=mode, resume="allow", on_stop=None)

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
        for name in tables:
            self._expect_table(name, values[name])
        if tables and self._request(lambda: self._run.log(dict(values), step=step, commit=True)):
            return
        rest = {name: value for name, value in values.items() if name not in tables}
        self._guarded(lambda: self._run.log(rest, step=step, commit=True))

    def follow(self, log: Path) -> None:
        """Upload the lines of `train.log` that W&B lacks, and from now on each new one, until the run is finished."""
        counter = self.directory.parent / "log-lines"
        known = int(counter.read_text(encoding="ascii")) if counter.is_file() else 0
        if self.url is not None and not self._run.resumed:
            known = 0
        elif self.url is not None:
            try:
                known = in_time(lambda: log_lines(self.path, seconds=ANSWER_TIMEOUT), ANSWER_TIMEOUT)
            except answer_errors() as error:
                reason = " ".join(str(error).split())
                LOGGER.warning(f"W&B does not say how much of train.log it has ({reason}): it may lack a part")
        self._log = LogUpload(log, known=known, counter=counter, send=self._write_log)

    def _write_log(self, text: str) -> None:
        self._guarded(lambda: self._run.write_logs(text))

    def has_step(self, step: int) -> bool:
        """Whether the row of this step has been logged, now or before the run was resumed."""
        return step <= self._last_step

    def log_tables(self, values: Mapping[str, Any]) -> None:
        """Log tables and charts of a row that W&B has already: they go to the summary, which its panels show."""
        for name, value in values.items():
            if is_uploaded_as_artifact(value):
                key, table = table_of(name, value)
                self._expect_table(name, value)
                if is_chart(value):
                    self._guarded(lambda name=name, value=value: show_chart(self._run, name, value))  # type: ignore[misc]
                self._request(lambda key=key, table=table: self._run.summary.update({key: table}))  # type: ignore[misc]

    def _expect_table(self, name: str, value: Any) -> None:
        key, _ = table_of(name, value)
        self._outputs[table_artifact(self._run.id, key)] = None
        if is_chart(value):
            self._charts.add(name)

    def send_files(self, folder: Path, names: Sequence[str]) -> None:
        """Upload files under these names, from the folder `files` of an earlier part of the run."""
        for name in names:
            place = Path(self._run.dir, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, place)
            self._guarded(lambda place=place: self._run.save(place, base_path=self._run.dir, policy="now"))  # type: ignore[misc]

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
        self._tags.add(tag)
        if tag not in (self._run.tags or ()):
            self._guarded(lambda: setattr(self._run, "tags", (*(self._run.tags or ()), tag)))

    def log_artifact(self, artifact: "wandb.Artifact", aliases: Sequence[str], *, registry: str | None = None) -> None:
        """Log an artifact; it is uploaded by the end of the run, which then links it to a collection of a registry."""
        self._outputs[artifact.name] = artifact.digest
        if registry is not None:
            self.links[artifact.name] = registry
        self._request(lambda: self._run.log_artifact(artifact, aliases=list(aliases)))

    def use_artifact(self, artifact: "wandb.Artifact") -> None:
        """Log an artifact as the run's input; not offline, as it needs the server's answer."""
        self._inputs.add(artifact.name)
        self._request(lambda: self._run.use_artifact(artifact))

    def finish(self, exit_code: int) -> bool:
        """End the run; exit code `PREEMPTED` marks it for another start by a sweep, other codes than 0 as failed.

        Wait for uploads, at most `FINISH_TIMEOUT` seconds. Return whether W&B (offline: its file) has everything.
        """
        if self._log is not None:
            self._log.close()
        if self._stages_here:
            os.environ.pop("WANDB_DATA_DIR", None)
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
        if self._broken:
            leave_dead_service()
            # An agent starts a finished trial again, and it uploads what is missing.
            if exit_code == exits.DONE and is_trial() and self.url is not None:
                self._mark_preempted_anew()
        return not self._broken

    def logged(self, steps: Sequence[int], summary: Mapping[str, Any]) -> Logged:
        """Return what W&B should have of the run: rows of these steps, this summary, and what was logged here."""
        return Logged(
            path=self.path,
            steps=steps,
            summary=summary,
            files=local_files(Path(self._run.dir), self._run.settings.ignore_globs or ()),
            outputs=dict(self._outputs),
            inputs=frozenset(self._inputs),
            tags=frozenset(self._tags),
            charts=frozenset(self._charts),
        )

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

        leave_dead_service()
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
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def path(self) -> str:
        """ENTITY/PROJECT/ID, by which the server is asked about the run."""
        return self._run.path

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
