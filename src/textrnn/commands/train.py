"""The command `train`: the jobs of a command line, one run each, in this process or as jobs of SLURM."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.base.process import import_torchmetrics, importing
from textrnn.base.signals import Signals
from textrnn.config.compose import CommandLine, compose_jobs, parse_command_line, run_hydra, slurm_launcher
from textrnn.config.experiment_files import as_override
from textrnn.config.help import explain_groups, explain_keys, explain_launcher
from textrnn.config.overrides import GROUPS
from textrnn.config.resumed_trial import read_back
from textrnn.config.schema import Config
from textrnn.distributed.launch import read_launch, starts_several
from textrnn.distributed.ranks import Ranks
from textrnn.tracking.wandb_settings import is_trial

PROGRAM = "train.py"
"""Hydra's name of the program, which its help shows."""
HELP = """\
usage: python train.py [GROUP=NAME ...] [KEY=VALUE ...] [-m] [flag]

Trains, tests and records a recurrent text classifier.

  GROUP=NAME    choose a file of settings: model=lstm
  KEY=VALUE     set one key: trainer.max_epochs=5; null unsets it. Quote lists
                and spaces for the shell: 'tracking.tags=[a,b]'
  A,B,C         several values, with -m: one run for each combination

examples:
  python train.py experiment=first_run
  python train.py model=lstm data.path=reviews.csv trainer.max_epochs=5
  python train.py -m model=rnn,lstm,gru seed=0,1,2

flags:
  -m, --multirun       run all combinations and compare them
  -h, --help           this help, with the values that the other words give
  --cfg job            print the configuration as YAML and stop
  --info               print how it was composed and stop
  --hydra-help         all flags, shell completion among them
  --version            print the version of textrnn
"""
NOT_OF_A_JOB = ("run_dir=", "tracking.group=", "hydra", "+hydra")
"""Prefixes of overrides that a SLURM job doesn't get: each job has its own, or they are for the launcher."""


def main(argv: Sequence[str], help_text: str = HELP) -> int:
    """`python train.py GROUP=NAME KEY=VALUE ... [-m]`; `experiment=FILE.yaml` reads a sweep's best.yaml too."""
    code = train(argv, help_text)
    if code == exits.WRONG_INPUT and read_launch().is_external:
        # All ranks leave now; srun would kill the slower ones and show its own exit code for the step.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def train(argv: Sequence[str], help_text: str = HELP) -> int:
    """`main` for a caller that continues after it; always returns the exit code."""
    signals = Signals()
    if is_trial():
        signals.defer()  # until the run has what it tells W&B with
    ranks = Ranks(read_launch())
    with exits.exit_code() as outcome:
        ranks.rendezvous()
        with ranks.reporting_failure():
            outcome.code = _train(argv, ranks, signals, help_text)
    signals.defer()
    if outcome.code == exits.PREEMPTED and ranks.is_first:
        from textrnn.distributed.slurm import requeue

        requeue()
    if not ranks.is_first and outcome.code in (exits.PREEMPTED, exits.INTERRUPTED):
        # At another exit code Lightning, torchrun or srun would kill rank 0, which may still be writing the records.
        return exits.DONE
    return outcome.code


def _train(argv: Sequence[str], ranks: Ranks, signals: Signals, help_text: str) -> int:
    with ranks.barrier():
        argv, left_out = read_back(argv)
        command_line = parse_command_line(argv)
        configs = compose_jobs(command_line)
    if command_line.help:
        groups = explain_groups([*GROUPS, "hydra/launcher"])
        print(help_text, groups, explain_keys(configs[0]), explain_launcher(), sep="\n")
        return exits.DONE
    if left_out and ranks.is_first:
        keys = ", ".join(sorted({key.partition(".")[0] for key in left_out}))
        print(f"W&B resumes this trial with its whole config; left out, as no settings: {keys}", file=sys.stderr)
    if command_line.inspect:
        return run_hydra(command_line, PROGRAM)
    launcher = slurm_launcher(command_line)
    if launcher is not None:
        return _train_on_slurm(configs, command_line, launcher)
    if command_line.multirun:
        return _train_jobs(configs, command_line, ranks, signals)
    return _train_one(configs[0], ranks, signals)


def _train_one(config: Config, ranks: Ranks, signals: Signals, *, alone: bool = True) -> int:
    with importing():
        import_torchmetrics()
        from textrnn.training.run import run
    return run(config, [Path(sys.argv[0]).name, *sys.argv[1:]], ranks, signals, alone=alone)


def _train_jobs(configs: Sequence[Config], command_line: CommandLine, ranks: Ranks, signals: Signals) -> int:
    """Train the jobs of a multirun one after another and compare them; return the first exit code that is not 0."""
    from textrnn.distributed.slurm import will_requeue
    from textrnn.multirun.comparison import conclude
    from textrnn.multirun.jobs import Multirun

    with ranks.barrier():
        _check_processes(configs, ranks)
    multirun = Multirun.share(configs, command_line, ranks)
    for number, job in enumerate(multirun.jobs):
        ranks.begin_job(number)
        with exits.exit_code() as outcome:
            outcome.code = _train_one(job.config, ranks, signals, alone=False)
        job.exit_code = outcome.code
        if job.exit_code in (exits.INTERRUPTED, exits.PREEMPTED):
            if ranks.is_first and not (job.exit_code == exits.PREEMPTED and will_requeue()):
                print(_how_to_resume(multirun.parent, command_line), file=sys.stderr)
            return job.exit_code
        if job.exit_code == exits.CRASH and ranks.launch.is_external:  # some ranks may still wait for others
            if ranks.is_first:
                print(
                    f"job {number} has crashed, and its {ranks.launch.world_size} processes can't begin those after "
                    "it; the same command with resume=auto can",
                    file=sys.stderr,
                )
            break
    if ranks.is_first:
        conclude(multirun)
    return multirun.exit_code


def _how_to_resume(parent: Path, command_line: CommandLine) -> str:
    own = ("run_dir=", "resume=")
    kept = [override for override in command_line.overrides if not override.lstrip("+").startswith(own)]
    command = shlex.join(["python", PROGRAM, "-m", *kept, f"run_dir={parent}", "resume=auto"])
    return f"resume all jobs: {command}"


def _train_on_slurm(configs: Sequence[Config], command_line: CommandLine, launcher: dict[str, object]) -> int:
    """Train the jobs of a multirun as SLURM jobs, each a run of its own, and compare them."""
    from textrnn.multirun.comparison import conclude
    from textrnn.multirun.jobs import Multirun
    from textrnn.multirun.slurm_jobs import launch, refuse_while_queued

    if any(config.trainer.precision == "auto" for config in configs):
        raise InputError(
            "trainer.precision=auto: jobs on nodes with other processors could decide otherwise; type "
            "trainer.precision=bf16-mixed or trainer.precision=32-true for all of them."
        )
    multirun = Multirun.claim(configs, command_line)
    commands = []
    for job in multirun.jobs:
        typed = [override for override in job.overrides if not override.startswith(NOT_OF_A_JOB)]
        own = {"tracking.group": job.config.tracking.group, "run_dir": job.config.run_dir}
        commands.append([*typed, *(as_override(key, value) for key, value in own.items())])
    folder = multirun.parent / "slurm"
    try:
        refuse_while_queued(folder)
        codes = launch(train, commands, launcher, folder)
    except InputError:
        multirun.remove_if_unused()
        raise
    for job, code in zip(multirun.jobs, codes, strict=True):
        job.exit_code = code
    conclude(multirun)
    return multirun.exit_code


def _check_processes(configs: Sequence[Config], ranks: Ranks) -> None:
    """Refuse -m if Lightning would start the whole command again for each process of each job."""
    if not ranks.launch.is_external and any(starts_several(config.trainer) for config in configs):
        raise InputError(
            "-m can't start several processes a job; start them all with torchrun or srun, which -m works under, "
            "run the jobs one by one, or use trainer.devices=1 with -m."
        )
