"""The end of a W&B run, and the later upload of missing rows."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from textrnn.base import exits
from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.metrics_csv import read_metrics
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import RunSummary, Status, read_summary
from textrnn.tracking.wandb_artifacts import link_model
from textrnn.tracking.wandb_internals import answer_errors, is_of_dead_service, leave_dead_service
from textrnn.tracking.wandb_offline import pass_over_empty
from textrnn.tracking.wandb_received import Logged, local_files, missing, received
from textrnn.tracking.wandb_run import WandbRun
from textrnn.tracking.wandb_settings import resolve_mode

EARLY_STOPPED = "early-stopped"
"""The tag of a run that a sweep, or a person in W&B, stopped for good."""


def open_record(run: WandbRun, directory: RunDirectory) -> None:
    """Mark the run directory as not fully uploaded to W&B, until the W&B run has ended too; record its page."""
    write_atomically(directory.wandb_unsent, f"{run.directory}\n")
    _record_page(run, directory)


def _record_page(run: WandbRun, directory: RunDirectory) -> None:
    if run.url is not None:
        write_atomically(directory.wandb_url, f"{run.url}\n")


def mark_as_preempted(config: Config, identity: RunIdentity, directory: RunDirectory) -> None:
    """Mark an agent's trial as pre-empted that ends before its W&B run was started here.

    W&B gives no agent a trial again that it doesn't know as pre-empted.
    """
    mode, _ = resolve_mode(config.tracking, directory.path)
    if mode != "online":
        return
    try:
        WandbRun.start(config, identity, directory.path, mode=mode, resume=True).finish(exits.PREEMPTED)
    except InputError as error:
        LOGGER.warning(f"the trial could not be marked as pre-empted in W&B ({error})")


@contextlib.contextmanager
def told_of_failures(run: WandbRun | None) -> Iterator[None]:
    """End the W&B run as failed if the body fails: at Python's exit the client would report success."""
    try:
        yield
    except BaseException as error:
        if run is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            run.summarize({"status": str(Status.INTERRUPTED if interrupted else Status.FAILED)})
            run.finish(exits.INTERRUPTED if interrupted else exits.CRASH)
        raise


def end_wandb_run(run: WandbRun, directory: RunDirectory, summary: RunSummary, exit_code: int) -> None:
    """End a W&B run with what `summary.json` says, ask W&B what it has, and log what is missing and what uploads it.

    A model that W&B has is then linked to its registry.
    """
    run.summarize(summary.to_dict())
    if not any(name.startswith("test/") for name in summary.metrics):
        run.forget("test/")  # from a test before the run was resumed
    if summary.status == Status.STOPPED:
        run.tag(EARLY_STOPPED)
    sent = run.finish(exit_code)
    # A run that was online before and is offline now is incomplete in W&B, whatever the files here hold.
    whole_file = run.url is None and not any((directory.path / "wandb").glob("run-*"))
    lacks = "" if sent and whole_file else "W&B lacks the end of the run"
    if sent and run.url is not None:
        # A run that is to be resumed uploads then what is missing of its rows; a pre-empted one has no time either.
        lacks = _lacks(run, directory, summary) if summary.status in (Status.FINISHED, Status.STOPPED) else ""
    if not lacks:
        if _link(run, directory):
            directory.wandb_unsent.unlink(missing_ok=True)
        return
    again = f"python train.py resume={directory.path}"
    if summary.status == Status.STOPPED:  # `resume=RUN` trains such a run on
        again = f"the same command with run_dir={directory.path} resume=auto"
    if whole_file:
        pass_over_empty(directory.path / "wandb", run.id)
        LOGGER.warning(f"W&B's offline record of the run lacks its end. To complete it: {again}")
        return
    LOGGER.warning(
        f"{lacks}. To upload it: {again}; "
        f"to upload the whole run to another server: wandb sync --no-skip-online {run.directory}"
    )


def _link(run: WandbRun, directory: RunDirectory) -> bool:
    """Link the model to its registry; return whether nothing is left that `resume=RUN` alone would do."""
    entity, project, _ = run.path.split("/") if run.url is not None else ("", "", "")
    for name, registry in run.links.items():
        if run.url is None:
            again = f"python train.py resume={directory.path} tracking=online"
            LOGGER.info(f"W&B is offline: the model is not linked to {registry}. To upload and link it: {again}")
            continue
        try:
            linked = link_model(f"{entity}/{project}/{name}", registry)
        except answer_errors() as error:
            reason = " ".join(str(error).split()).rstrip(".")
            LOGGER.warning(
                f"W&B does not link the model to {registry} ({reason}). The registry must exist, {entity} must be a "
                "team of its organization, and you a Member or an Admin of the registry. To link it then: "
                f"python train.py resume={directory.path}"
            )
            return False
        LOGGER.info(f"the model is {linked} in W&B's registry")
    return True


def _lacks(run: WandbRun, directory: RunDirectory, summary: RunSummary) -> str:
    """Say what the server lacks of a run that has ended; nothing if it has everything."""
    steps = [int(row["step"]) for row in read_metrics(directory.metrics_csv)]
    logged = run.logged(steps, summary.to_dict())
    try:
        lacks = _missing(logged)
    except answer_errors() as error:
        return f"W&B does not say what it has of the run ({' '.join(str(error).split())}) and may lack a part"
    return f"W&B lacks {', '.join(lacks)}" if lacks else ""


def _missing(logged: Logged) -> list[str]:
    """Return what is missing, asked through a new service if the client's has died, as at SLURM's SIGTERM."""
    try:
        return missing(logged)
    except answer_errors() as error:
        if not is_of_dead_service(error):
            raise
    leave_dead_service()
    return missing(logged)


def upload_missing(
    config: Config,
    identity: RunIdentity,
    directory: RunDirectory,
    *,
    charts: Callable[[RunSummary], dict[str, Any]],
    report: Callable[[RunSummary, WandbRun], None],
) -> None:
    """Upload the missing rows, charts, files, `report` and summary of a run that has ended here but not in W&B.

    Rows that W&B has stay as they are: charts that are missing there go to the summary.

    Raises:
        InputError: if W&B refuses the run.
    """
    mode, line = resolve_mode(config.tracking, directory.path)
    began_offline = "offline-run-" in directory.wandb_unsent.read_text(encoding="utf-8")
    if mode == "none" or (mode == "offline" and not began_offline):
        LOGGER.info(f"the end of this run is still missing in W&B. {line or ''}")
        return
    if mode == "online":  # without a fall back to offline files, which would upload nothing
        config = replace(config, tracking=replace(config.tracking, mode="online"))
    summary = RunSummary.from_dict(read_summary(directory.summary_json))
    run = WandbRun.start(config, identity, directory.path, mode=mode, resume=True)
    _record_page(run, directory)
    run.follow(directory.train_log)
    rows, media = read_metrics(directory.metrics_csv), charts(summary)
    if mode == "online":
        _send_files(run, directory)
    if rows and run.has_step(int(rows[-1]["step"])):
        run.log_tables(media)
    for row in rows:
        values: dict[str, Any] = {name: value for name, value in row.items() if name != "step"}
        run.log({**values, **(media if row is rows[-1] else {})}, step=int(row["step"]))
    report(summary, run)
    end_wandb_run(run, directory, summary, exits.DONE)
    if not directory.wandb_unsent.is_file():
        LOGGER.info("W&B now has the whole run")


def _send_files(run: WandbRun, directory: RunDirectory) -> None:
    """Upload pictures and tables of earlier parts of the run that W&B lacks; its rows name them."""
    try:
        there = received(run.path).files
    except answer_errors() as error:
        LOGGER.warning(f"W&B does not say which files it has ({' '.join(str(error).split())})")
        return
    for part in sorted((directory.path / "wandb").glob(f"run-*-{run.id}/files")):
        if part.parent.samefile(run.directory):
            continue
        run.send_files(part, [name for name in local_files(part) if name.startswith("media/") and not there.get(name)])
