"""The command line: one function for each verb, exit codes, and Hydra around training.

Exit codes: 0 done, 1 crash, 2 wrong input, 75 pre-empted (the same command continues), 130 interrupted.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textrnn import exit_codes
from textrnn.allocator import keep_freed_memory
from textrnn.errors import InputError, RankLost, RefusedElsewhere
from textrnn.signals import Preempted, Signals
from textrnn.threads import let_idle_threads_sleep

if TYPE_CHECKING:
    from textrnn.cluster.ranks import Ranks
    from textrnn.compose import CommandLine
    from textrnn.config import Config

TRAIN = "train.py"
"""Hydra's name of the program, which its help shows."""


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
    from textrnn.cluster.launch import read_launch

    code = train_and_return(argv)
    if code == exit_codes.WRONG_INPUT and read_launch().is_external:
        # All ranks leave now; srun would kill those that take longer to, and show its own exit code for the step.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def train_and_return(argv: Sequence[str]) -> int:
    """`train` for a caller that has something to do after it."""
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
    return code


def prepare(argv: Sequence[str]) -> int:
    """`python prepare.py GROUP=NAME KEY=VALUE ...`: makes the token store and stops."""

    def run() -> int:
        from textrnn.compose import compose_jobs, parse_command_line
        from textrnn.experiment_files import expand_experiment
        from textrnn.hydra_jobs import run_hydra

        overrides = expand_experiment(argv)
        command_line = parse_command_line(overrides)
        if command_line.inspect:
            return run_hydra(overrides, lambda _: None, name="prepare.py")
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
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A review or a "±" that the terminal's encoding lacks must not cost the exit code.
        sys.stdout.reconfigure(errors="backslashreplace")
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
    from textrnn.compose import compose_jobs, parse_command_line, slurm_launcher
    from textrnn.experiment_files import expand_experiment
    from textrnn.hydra_jobs import run_hydra, train_composed

    with ranks.phase():
        argv = expand_experiment(argv)
        command_line = parse_command_line(argv)
        configs = compose_jobs(command_line)
    if command_line.inspect:
        return run_hydra(argv, lambda _: None, name=TRAIN)
    slurm = slurm_launcher(command_line)
    if slurm is not None:
        return _train_on_cluster(configs, command_line, slurm)
    if command_line.multirun:
        with ranks.phase():
            _check_multirun(configs, ranks)
        return _train_jobs(configs, command_line, argv, ranks, signals)
    codes: list[int] = []
    signals.only_note()  # Hydra would take an exception for a crash; each run heeds them again when it begins
    hydra_code = run_hydra(
        argv, lambda composed: codes.append(guarded(lambda: train_composed(composed, ranks, signals))), name=TRAIN
    )
    return _first_failure(codes, hydra_code)


def _train_jobs(
    configs: "Sequence[Config]", command_line: "CommandLine", argv: Sequence[str], ranks: "Ranks", signals: Signals
) -> int:
    """The jobs of a multirun, one after another."""
    from textrnn.comparison import conclude
    from textrnn.compose import job_overrides
    from textrnn.experiment_files import as_override
    from textrnn.hydra_jobs import run_hydra, train_composed
    from textrnn.jobs import JobFolders

    folders = JobFolders.share(configs, command_line.overrides, ranks)
    others = [argument for argument in argv if not argument.startswith("run_dir=")]
    codes: list[int] = []

    def job(composed: object) -> None:
        run_dir = folders.paths[len(codes)]
        if ranks.launch.is_external and exit_codes.CRASH in codes:  # where one rank may still wait for another
            if ranks.is_first and codes.count(exit_codes.CRASH) == 1:
                print(
                    f"job {len(codes) - 1} has crashed, and its {ranks.launch.world_size} processes can't begin those "
                    "after it; the same command with resume=auto can",
                    file=sys.stderr,
                )
            codes.append(exit_codes.CRASH)
            return
        ranks.begin_job(len(codes))
        codes.append(guarded(lambda: train_composed(composed, ranks, signals, run_dir)))
        if codes[-1] in (exit_codes.INTERRUPTED, exit_codes.PREEMPTED):
            raise KeyboardInterrupt

    signals.only_note()  # as for a single run
    try:
        hydra_code = run_hydra([*others, as_override("run_dir", str(folders.parent))], job, name=TRAIN)
    except KeyboardInterrupt:
        return codes[-1] if codes else exit_codes.INTERRUPTED
    codes += [hydra_code] * (len(configs) - len(codes))  # of jobs that Hydra itself kept from starting
    if ranks.is_first:
        conclude(folders, job_overrides(command_line), codes)
    return _first_failure(codes, hydra_code)


def _train_on_cluster(configs: "Sequence[Config]", command_line: "CommandLine", launcher: dict[str, object]) -> int:
    """The jobs of a multirun as jobs of SLURM, each a run that could have been typed alone."""
    from textrnn.cluster.launcher import launch, refuse_while_queued
    from textrnn.comparison import conclude
    from textrnn.compose import job_overrides
    from textrnn.experiment_files import as_override
    from textrnn.jobs import JobFolders

    jobs = job_overrides(command_line)
    folders = JobFolders.claim(configs, command_line.overrides)
    commands = []
    for path, config, job in zip(folders.paths, configs, jobs, strict=True):
        typed = [override for override in job if not override.startswith(("run_dir=", "hydra", "+hydra"))]
        group = [] if config.tracking.group else [as_override("tracking.group", folders.parent.name)]
        commands.append([*typed, *group, as_override("run_dir", str(path))])
    try:
        refuse_while_queued(folders.parent / "slurm")
        codes = launch(commands, launcher, folders.parent / "slurm")
    except InputError:
        folders.leave_nothing()
        raise
    conclude(folders, jobs, codes)
    return _first_failure(codes)


def _first_failure(codes: Sequence[int], otherwise: int = exit_codes.DONE) -> int:
    return next((code for code in codes if code != exit_codes.DONE), otherwise)


def _check_multirun(configs: "Sequence[Config]", ranks: "Ranks") -> None:
    """Lightning would start the whole command again for each process of each job."""
    from textrnn.cluster.launch import starts_several

    if not ranks.launch.is_external and any(starts_several(config.trainer) for config in configs):
        raise InputError(
            "-m can't start several processes a job; start them all with torchrun or srun, which -m works under, "
            "run the jobs one by one, or use trainer.devices=1 with -m."
        )
