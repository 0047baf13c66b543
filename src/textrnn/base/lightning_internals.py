"""Private names of pytorch-lightning that the package uses, tested with version 2.6 (the bound in pyproject.toml).

Lightning has no public counterpart of any of them. Imports Lightning: import this only where it is imported already.
"""

from collections.abc import Callable

from pytorch_lightning import Trainer
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.progress import _ProcessedTracker, _ReadyCompletedTracker
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector


def processed_tracker(counts: _ReadyCompletedTracker) -> _ProcessedTracker:
    """Return the counts of epochs or batches with their type, which Lightning leaves open and which has `processed`."""
    assert isinstance(counts, _ProcessedTracker)
    return counts


def data_fetcher(trainer: Trainer) -> _DataFetcher | None:
    """Return the fetcher of training batches; None before training."""
    return trainer.fit_loop._data_fetcher


def accumulates(trainer: Trainer) -> bool:
    """Return whether the last batch only accumulated gradients and the optimizer step is still to come."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def validation_follows(trainer: Trainer) -> bool:
    """Return whether a validation comes after the current training batch."""
    fetcher = data_fetcher(trainer)
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def end_restart(trainer: Trainer) -> None:
    """Clear the mark that the fit loop restarts from a checkpoint, for the loop of batches too."""
    trainer.fit_loop._restarting = trainer.fit_loop.epoch_loop.restarting = False


class _NoHandlers(_SignalConnector):
    """Lightning's signal handlers, left out."""

    def register_signal_handlers(self) -> None:
        """Register nothing, so that `teardown` has nothing to restore either."""


def remove_signal_handling(trainer: Trainer) -> None:
    """Remove Lightning's signal handlers and its broadcast, before each training batch, of whether one has run."""
    trainer._signal_connector = _NoHandlers(trainer)
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def wrap_process_start(trainer: Trainer, wrap: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
    """Replace the function that starts the other processes of this node, if Lightning starts them."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher._call_children_scripts = wrap(launcher._call_children_scripts)  # type: ignore[method-assign]
