"""The end of a W&B run, and the later upload of missing rows."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from textrnn.base import exits
from textrnn.base.console import LOGGER
from textrnn.base.files import write_atomically
from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.metrics_csv import read_metrics
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import RunSummary, Status, read_summary
from textrnn.tracking.wandb_run import WandbRun
from textrnn.tracking.wandb_settings import resolve_mode

EARLY_STOPPED = "early-stopped"
"""The tag of a run that a sweep, or a person in W&B, stopped for good."""


def open_record(run: WandbRun, directory: RunDirectory) -> None:
    """Mark the run directory as not fully uploaded to W&B, until the W&B run has ended too."""
    write_atomically(directory.wandb_unsent, f"{run.directory}\n")


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
    """End a W&B run with what `summary.json` says; if rows are missing there, log how to upload them."""
    run.summarize(summary.to_dict())
    if not any(name.startswith("test/") for name in summary.metrics):
        run.forget("test/")  # from a test before the run was resumed
    if summary.status == Status.STOPPED:
        run.tag(EARLY_STOPPED)
    sent = run.finish(exit_code)
    # A run that was online before and is offline now is incomplete in W&B, whatever the files here hold.
    if sent and (run.url is not None or not any((directory.path / "wandb").glob("run-*"))):
        directory.wandb_unsent.unlink(missing_ok=True)
        return
    LOGGER.warning(
        f"W&B lacks the end of the run. To upload it: python train.py resume={directory.path}; "
        f"to upload the whole run to another server: wandb sync --no-skip-online {run.directory}"
    )


def upload_missing(
    config: Config,
    identity: RunIdentity,
    directory: RunDirectory,
    *,
    report: Callable[[RunSummary, WandbRun], None],
) -> None:
    """Upload the missing rows, `report` and summary of a run that has ended here but not in W&B.

    The charts of the last row can't be made again; they are in the run directory.

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
    for row in read_metrics(directory.metrics_csv):
        run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))
    report(summary, run)
    end_wandb_run(run, directory, summary, exits.DONE)
    if not directory.wandb_unsent.is_file():
        LOGGER.info("W&B now has the whole run")
