"""The life of a run: from its claim on a directory to its exit code.

Nothing here imports torch or Lightning before the reviews are loaded, so wrong input is refused within seconds.
Training and recording are in `fit.py`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import LOGGER, log_to_console, log_to_file
from textrnn.base.exits import DONE, INTERRUPTED, PREEMPTED, exit_code
from textrnn.base.signals import Preempted, Signals
from textrnn.config.schema import Config
from textrnn.data.store import Store, cache_dir
from textrnn.distributed.launch import check_devices
from textrnn.distributed.ranks import Ranks
from textrnn.distributed.slurm import will_requeue
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.wandb_settings import is_trial
from textrnn.training.checks import check_batches, check_implementation
from textrnn.training.claim import Run, agree, claim, open_shared_store, write_config
from textrnn.training.resume import ResumeState, refuse_other_data, resume_state, store_of

if TYPE_CHECKING:
    from textrnn.data.vectors.arrays import WordVectors
    from textrnn.training.checkpoints import Checkpoint
    from textrnn.training.pretrained import Pretrained


def run(config: Config, command: Sequence[str], ranks: Ranks, signals: Signals, *, alone: bool = True) -> int:
    """Train, test and record one run; return its exit code.

    Args:
        config: Its configuration.
        command: The command line, for the record.
        ranks: The processes of the run.
        signals: The signals that end it early.
        alone: Whether to print how this run is continued. A multirun prints the command that continues all its runs.

    Raises:
        InputError: for wrong input; a run directory that was made for it is removed again.
        RankLost: if another rank has ended before training began.
        Preempted: if a signal came before the run had its directory.
        KeyboardInterrupt: if that was Ctrl-C.
    """
    if ranks.is_first:
        log_to_console()
    with ranks.reporting_failure():
        if not is_trial():  # which first tells W&B, for which it needs its directory
            signals.raise_now()
        with ranks.barrier():
            check_devices(config.trainer, ranks.launch)
            check_implementation(config)
        agree(config, ranks)
        config, directory, identity = claim(config, command, ranks)
        log = directory.train_log if ranks.is_first else directory.path / f"train-rank{ranks.launch.rank}.log"
        with directory, log_to_file(log):
            with exit_code(LOGGER) as outcome, ranks.reporting_failure():
                try:
                    signals.raise_now()
                    outcome.code = _train(config, identity, directory, ranks, signals, alone=alone)
                except Preempted:  # before `fit`, which only records signals
                    if ranks.is_first and is_trial():
                        from textrnn.tracking.wandb_end import mark_as_preempted

                        signals.defer()
                        if not directory.config_yaml.exists():  # an agent types all of it when it gets the trial again
                            write_config(directory, config)
                        mark_as_preempted(config, identity, directory)
                    raise
            if outcome.code in (PREEMPTED, INTERRUPTED) and ranks.is_first:
                LOGGER.warning(_how_it_ended(directory, outcome.code, alone=alone))
            elif outcome.code == DONE and ranks.is_first:
                print(f"run directory: {directory.path}")
        return outcome.code


def _how_it_ended(directory: RunDirectory, code: int, *, alone: bool) -> str:
    """What continues a run that was ended early; before its first checkpoint it has nothing to lose."""
    ended = "pre-empted" if code == PREEMPTED else "interrupted"
    if not alone or (code == PREEMPTED and will_requeue()):
        return ended
    if not directory.last_ckpt.is_file():
        place = shlex.quote(f"run_dir={directory.path}")
        return f"{ended} before the first checkpoint; the same command with {place} resume=auto begins again"
    in_script = " (in a job script: the same command with resume=auto)" if code == PREEMPTED else ""
    return f"{ended}; resume: python train.py {shlex.quote(f'resume={directory.path}')}{in_script}"


def _train(
    config: Config, identity: RunIdentity, directory: RunDirectory, ranks: Ranks, signals: Signals, *, alone: bool
) -> int:
    def state_here() -> str:
        return resume_state(config, directory, signals, primary=ranks.is_first, alone=alone)

    state = ResumeState(ranks.broadcast(state_here))
    if state == ResumeState.OVER:
        return DONE
    checkpoint = None
    if state == ResumeState.BEGUN:
        from textrnn.training.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(directory.last_ckpt)
    mode, line = "none", None
    with ranks.barrier():
        if ranks.is_first:
            from textrnn.tracking.wandb_identity import refuse_another
            from textrnn.tracking.wandb_settings import resolve_mode

            mode, line = resolve_mode(config.tracking, directory.path)
            if mode == "online":
                refuse_another(config, identity, directory.path)
    # A checkpoint holds its vectors; those of a new run are refused, if they are, before reviews are downloaded.
    vectors = _vectors(config, ranks) if checkpoint is None else None
    pretrained = _pretrained(config, ranks) if checkpoint is None else None
    store = _store(config, ranks, checkpoint)
    with ranks.barrier():
        if checkpoint is not None:
            refuse_other_data(checkpoint, store)
        if pretrained is not None:
            pretrained.refuse_other_vocabulary(store)
        check_batches(config, store)
    if line is not None:
        LOGGER.info(line)
    from textrnn.training.fit import fit

    if pretrained is not None:
        identity = replace(identity, pretrained=pretrained.run_id)
    run = Run(
        config=config,
        identity=replace(identity, classes=list(store.classes)),
        directory=directory,
        checkpoint=checkpoint,
        store=store,
        ranks=ranks,
        signals=signals,
        vectors=vectors,
        pretrained=pretrained,
    )
    return fit(run, wandb_mode=mode).exit_code


def _store(config: Config, ranks: Ranks, checkpoint: "Checkpoint | None") -> Store:
    """Return the token store, which rank 0 makes if necessary; then the other ranks open it.

    Raises:
        InputError: also if a rank can't see the store of rank 0.
    """
    if not ranks.launch.is_external:
        return store_of(config, checkpoint)
    made: list[Store] = []

    def make() -> str:
        made.append(store_of(config, checkpoint))
        return str(made[0].path)

    path = Path(ranks.broadcast(make))
    with ranks.barrier():
        return made[0] if made else open_shared_store(path)


def _vectors(config: Config, ranks: Ranks) -> "WordVectors | None":
    """Return the pretrained vectors that the model starts from; rank 0 caches them before the others read them.

    Raises:
        InputError: if they are missing or can't be read.
    """
    if config.model.embedding.kind != "vectors":
        return None
    from textrnn.data.vectors.sources import open_vectors

    opened: list[WordVectors] = []

    def make() -> str:
        opened.append(open_vectors(config.model.embedding, cache_dir(config.data)))
        return ""

    ranks.broadcast(make)
    with ranks.barrier():
        return opened[0] if opened else open_vectors(config.model.embedding, cache_dir(config.data))


def _pretrained(config: Config, ranks: Ranks) -> "Pretrained | None":
    """Return the run that `model.pretrained` names, if any; rank 0 downloads one in W&B before the others read it.

    Raises:
        InputError: it can't be read, or its model is another one.
    """
    if config.model.pretrained is None:
        return None
    from textrnn.training.pretrained import open_pretrained

    opened: list[Pretrained] = []

    def read() -> str:
        opened.append(open_pretrained(config))
        return ""

    ranks.broadcast(read)
    with ranks.barrier():
        return opened[0] if opened else open_pretrained(config)
