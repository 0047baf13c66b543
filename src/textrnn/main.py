"""The command line: one function for each verb, exit codes, and Hydra around training.

Exit codes: 0 done, 1 crash, 2 wrong input, 75 pre-empted (the same command continues), 130 interrupted.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn import exit_codes
from textrnn.allocator import keep_freed_memory
from textrnn.errors import InputError, RankLost, RefusedElsewhere
from textrnn.signals import Preempted, Signals
from textrnn.threads import let_idle_threads_sleep

if TYPE_CHECKING:
    from textrnn.cluster.ranks import Ranks
    from textrnn.config import Config


def main() -> int:
    """`textrnn VERB ...`: the installed command."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "train": train,
        "prepare": prepare,
        "evaluate": evaluate,
        "predict": predict,
        "sweep": sweep,
    }
    usage = f"usage: textrnn {{{','.join(verbs)}}} ...; textrnn VERB --help tells more"
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(usage)
        return exit_codes.DONE if len(sys.argv) > 1 else exit_codes.WRONG_INPUT
    if sys.argv[1] not in verbs:
        return guarded(lambda: _refuse(f"there is no verb {sys.argv[1]}; {usage}."))
    return verbs[sys.argv[1]](sys.argv[2:])


def train(argv: Sequence[str]) -> int:
    """`python train.py GROUP=NAME KEY=VALUE ... [-m]`; experiment=FILE.yaml reads a sweep's best.yaml too."""

    signals = Signals()
    from textrnn.cluster.launch import read_launch
    from textrnn.cluster.ranks import Ranks

    ranks = Ranks(read_launch())

    def run() -> int:
        ranks.meet()
        with ranks.telling():
            return _train(list(argv), ranks, signals)

    code = guarded(run)
    signals.only_note()
    if code == exit_codes.PREEMPTED and ranks.is_first:
        from textrnn.cluster.slurm import requeue

        requeue()
    if not ranks.is_first and code in (exit_codes.PREEMPTED, exit_codes.INTERRUPTED):
        # At any other code Lightning, torchrun or srun would kill rank 0, which may still be recording the end.
        return exit_codes.DONE
    if ranks.launch.is_external and code == exit_codes.WRONG_INPUT:
        # All ranks leave now; srun would kill those that take longer to, and show its own exit code for the step.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def prepare(argv: Sequence[str]) -> int:
    """`python prepare.py GROUP=NAME KEY=VALUE ...`: makes the token store and stops."""

    def run() -> int:
        from textrnn.compose import compose_jobs, parse_command_line
        from textrnn.experiment_files import expand_experiment

        overrides = expand_experiment(argv)
        command_line = parse_command_line(overrides)
        if command_line.inspect:
            return _hydra(overrides, lambda _: None, name="prepare.py")
        if command_line.multirun:
            raise InputError("prepare.py makes one token store; leave out -m.")
        (config,) = compose_jobs(command_line)
        from textrnn.preparation import prepare as prepare_reviews

        return prepare_reviews(config)

    return guarded(run)


def evaluate(argv: Sequence[str]) -> int:
    """`python evaluate.py RUN [--split test]`."""

    def run() -> int:
        from textrnn.evaluation import main as evaluation

        return evaluation(argv)

    return guarded(run)


def predict(argv: Sequence[str]) -> int:
    """`python predict.py RUN "text" ...`."""

    def run() -> int:
        from textrnn.prediction import main as prediction

        return prediction(argv)

    return guarded(run)


def sweep(argv: Sequence[str]) -> int:
    """`python sweep.py FILE [--agents auto|N] [--count N] [--resume SWEEP] [KEY=VALUE ...]`."""

    def run() -> int:
        from textrnn.sweeping.command import main as sweeping

        return sweeping(argv)

    return guarded(run)


def guarded(verb: Callable[[], int]) -> int:
    """Runs a verb; wrong input becomes one sentence on stderr and exit code 2, Ctrl-C becomes 130."""
    keep_freed_memory()
    let_idle_threads_sleep()
    try:
        return verb()
    except RefusedElsewhere:
        return exit_codes.WRONG_INPUT
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_codes.WRONG_INPUT
    except RankLost as lost:
        print(f"error: {lost}", file=sys.stderr)
        return exit_codes.CRASH
    except Preempted:
        print("pre-empted before the run began", file=sys.stderr)
        return exit_codes.PREEMPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, say) has seen enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.CRASH


def _refuse(sentence: str) -> int:
    raise InputError(sentence)


def _train(argv: list[str], ranks: "Ranks", signals: Signals) -> int:
    from textrnn.compose import compose_jobs, job_overrides, parse_command_line, slurm_launcher
    from textrnn.experiment_files import as_override, expand_experiment

    with ranks.phase():
        argv = expand_experiment(argv)
        command_line = parse_command_line(argv)
        configs = compose_jobs(command_line)
    if command_line.inspect:
        return _hydra(argv, lambda _: None, name="train.py")
    slurm = slurm_launcher(command_line)
    if slurm is not None:
        return _train_on_cluster(configs, job_overrides(command_line), slurm)
    if command_line.multirun:
        with ranks.phase():
            _check_multirun(configs, ranks)
        parent = Path(ranks.from_first(lambda: str(_parent_directory(configs[0], command_line.overrides))))
        others = [argument for argument in argv if not argument.startswith("run_dir=")]
        argv = [*others, as_override("run_dir", str(parent))]
    codes: list[int] = []

    def job(composed: object) -> None:
        codes.append(guarded(lambda: _job(composed, ranks, signals)))
        if codes[-1] in (exit_codes.INTERRUPTED, exit_codes.PREEMPTED) and command_line.multirun:
            raise KeyboardInterrupt

    signals.only_note()  # Hydra would take an exception for a crash; each run heeds them again when it begins
    try:
        hydra_code = _hydra(argv, job, name="train.py")
    except KeyboardInterrupt:
        return codes[-1] if codes else exit_codes.INTERRUPTED
    if command_line.multirun and ranks.is_first:
        from textrnn.comparison import conclude

        conclude(parent, job_overrides(command_line), done=sum(code == exit_codes.DONE for code in codes))
    return next((code for code in codes if code != exit_codes.DONE), hydra_code)


def _train_on_cluster(configs: "Sequence[Config]", jobs: list[list[str]], launcher: dict[str, object]) -> int:
    """The jobs of a multirun as jobs of SLURM, each a run that could have been typed alone."""
    from textrnn.cluster.launcher import launch
    from textrnn.comparison import conclude
    from textrnn.experiment_files import as_override

    parent = _parent_directory(configs[0], jobs[0])
    commands = []
    for number, (config, job) in enumerate(zip(configs, jobs, strict=True)):
        typed = [override for override in job if not override.startswith(("run_dir=", "hydra", "+hydra"))]
        group = [] if config.tracking.group else [as_override("tracking.group", parent.name)]
        commands.append([*typed, *group, as_override("run_dir", str(parent / str(number)))])
    codes = launch(commands, launcher, parent / "slurm")
    conclude(parent, jobs, done=codes.count(exit_codes.DONE))
    return next((code for code in codes if code != exit_codes.DONE), exit_codes.DONE)


def _check_multirun(configs: "Sequence[Config]", ranks: "Ranks") -> None:
    """Lightning would start the whole command again for each process of each job."""
    from textrnn.cluster.launch import starts_several

    if not ranks.launch.is_external and any(starts_several(config.trainer) for config in configs):
        raise InputError(
            "-m can't start several processes a job; start them all with torchrun or srun, which -m works under, "
            "run the jobs one by one, or use trainer.devices=1 with -m."
        )


def _job(composed: object, ranks: "Ranks", signals: Signals) -> int:
    """One run inside Hydra: merges, checks and trains."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from textrnn.compose import resolve

    assert isinstance(composed, DictConfig)
    hydra_config = HydraConfig.get()
    config = resolve(composed, list(hydra_config.overrides.task))
    if hydra_config.mode == RunMode.MULTIRUN:
        assert config.run_dir is not None
        parent = Path(config.run_dir)
        config.run_dir = str(parent / str(hydra_config.job.num))
        config.tracking.group = config.tracking.group or parent.name
    from textrnn.training import run

    return run(config, [Path(sys.argv[0]).name, *sys.argv[1:]], ranks, signals)


def _hydra(argv: Sequence[str], job: Callable[[object], None], *, name: str) -> int:
    """Lets Hydra read `argv` and call `job`, with `sys.argv` as typed while the job runs.

    Lightning starts the other processes of a DDP run by the command in `sys.argv`.
    """
    import hydra

    from textrnn.compose import register_schema
    from textrnn.overrides import CONF_DIR

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


def _parent_directory(config: "Config", overrides: Sequence[str]) -> Path:
    """The folder that holds the jobs of a multirun; in a SLURM batch job the same one when the job is started again."""
    from textrnn.cluster.slurm import batch_job

    job = batch_job()
    if config.run_dir is not None:
        parent = Path(config.run_dir)
    elif job is not None:
        digest = hashlib.sha256(repr(list(overrides)).encode()).hexdigest()[:6]
        parent = Path("runs") / f"slurm-{job.id}-multirun-{digest}"
    else:
        return Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-multirun-{secrets.token_hex(3)}"
    again = config.resume is not None or (job is not None and job.restarts > 0)
    if not again and parent.is_dir() and any(parent.iterdir()):
        raise InputError(f"run_dir={parent} is not empty; type another directory, or resume=auto to continue its jobs.")
    return parent
