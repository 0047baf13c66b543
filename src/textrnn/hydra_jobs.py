"""Hydra around training: it reads the command line and calls back with each composed configuration."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from textrnn import exit_codes
from textrnn.cluster.ranks import Ranks
from textrnn.compose import register_schema, resolve
from textrnn.imports import import_torchmetrics, importing
from textrnn.overrides import CONF_DIR
from textrnn.signals import Signals


def train_composed(composed: object, ranks: Ranks, signals: Signals, run_dir: Path | None = None) -> int:
    """One run inside Hydra: merges, checks and trains; `run_dir` is that of a job of a multirun."""
    assert isinstance(composed, DictConfig)
    config = resolve(composed, list(HydraConfig.get().overrides.task))
    if run_dir is not None:
        config.run_dir = str(run_dir)
        config.tracking.group = config.tracking.group or run_dir.parent.name
    with importing():
        import_torchmetrics()
        from textrnn.training import run

    return run(config, [Path(sys.argv[0]).name, *sys.argv[1:]], ranks, signals)


def run_hydra(argv: Sequence[str], job: Callable[[object], None], *, name: str) -> int:
    """Lets Hydra read `argv` and call `job`, with `sys.argv` as typed while the job runs.

    Lightning starts the other processes of a DDP run by the command in `sys.argv`.
    """
    typed = sys.argv

    def task(composed: object) -> None:
        ours, sys.argv = sys.argv, typed
        try:
            job(composed)
        finally:
            sys.argv = ours

    register_schema()
    sys.argv = [name, *argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")(task)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exit_codes.DONE if stop.code is None else exit_codes.CRASH
    finally:
        sys.argv = typed
    return exit_codes.DONE
