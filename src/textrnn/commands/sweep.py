"""The command `sweep`: one sweep file on all workers of this machine."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from textrnn.base import exits
from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.config.overrides import quote_texts
from textrnn.config.schema import Config
from textrnn.distributed.launch import refuse_ranks
from textrnn.sweeping.checks import check_values
from textrnn.sweeping.engine import Engine
from textrnn.sweeping.local import LocalSweep
from textrnn.sweeping.metric import GOALS, Metric
from textrnn.sweeping.online import OnlineSweep
from textrnn.sweeping.processes import find_program, share_out, trial_command
from textrnn.sweeping.results import record
from textrnn.sweeping.sweep_file import Sweep, added_settings, read_sweep
from textrnn.sweeping.sweep_loop import SweepLoop
from textrnn.sweeping.trials import SweepDirectory, Trial, described, next_number
from textrnn.tracking.metrics_csv import best_is
from textrnn.tracking.wandb_settings import resolve_mode

COMPARED = ("program", "command", "method", "scheduler", "metric", "metrics", "parameters", "early_terminate", "seed")
"""What makes a sweep; the rest of its file are names and the number of trials."""
PREVIEW = 10
"""Settings that --dry-run prints at most."""
DESCRIPTION = """\
Runs a W&B sweep file on all workers of this machine: with a W&B account as a
sweep in W&B with one agent per worker, without one offline by W&B's engine.
KEY=VALUE is an override of every trial. The best setting becomes an experiment:
python train.py experiment=runs/SWEEP/best.yaml."""
EXAMPLES = """\
examples:
  python sweep.py sweeps/smoke.yaml
  python sweep.py sweeps/gru_bayes.yaml --agents 2 data.path=reviews.csv
  python sweep.py sweeps/lstm_random.yaml --seed 0 --dry-run
  python sweep.py --resume runs/SWEEP --count 60"""


def main(argv: Sequence[str]) -> int:
    """`python sweep.py FILE [--agents auto|N] [--count N] [--resume SWEEP] [KEY=VALUE ...]`; returns the exit code.

    Everything about the file is checked before the first trial. The results are in `runs/SWEEP`: `leaderboard.csv`,
    `sweep.png`, and `best.yaml`, an experiment that `python train.py experiment=runs/SWEEP/best.yaml` runs as it is.
    0: all trials have finished or were stopped early; 1: some failed, or the sweep gave up; 75 and 130: interrupted,
    `--resume` continues. A sweep that was stopped in W&B ends with 0, one that was cancelled or deleted there with 1.

    Raises:
        InputError: for a sweep file or an argument that is wrong.
    """
    arguments = _arguments(argv)
    refuse_ranks("sweep.py")  # their trials would take each other for ranks of one run
    log_to_console()
    sweep, directory = _resumed(arguments) if arguments.resume is not None else (_read(arguments), None)
    try:
        config = check_values(sweep)
        trial_command(sweep, {})
        workers = share_out(arguments.agents, config.trainer)
        if arguments.dry_run:
            return _preview(sweep, [] if directory is None else directory.trials())
        if directory is not None:
            directory.write(sweep)  # --count, and values that were added to a grid
        metric = sweep.metric or _default_metric(config)
        online, directory = _begin(sweep, config, directory)
        if online is not None:
            running: SweepLoop = OnlineSweep(sweep, online, metric, directory, workers)
        else:
            mode, line = resolve_mode(config.tracking, directory.path / "*")
            if line is not None:
                print(line)
            environment = {"WANDB_MODE": "offline"} if mode == "offline" else {}
            running = LocalSweep(sweep, metric, directory, workers, environment, config.tracking)
        print(f"sweep {directory.path.name}: {sweep.search} of {sweep.path}, {len(workers)} worker(s)")
        code = running.run()
        _conclude(sweep, metric, directory, running, arguments.agents)
        return code
    finally:
        if directory is not None:
            directory.release()


def _preview(sweep: Sweep, trials: list[Trial]) -> int:
    """Print the next settings, as a search without further results proposes them; return the exit code."""
    engine = Engine(sweep)
    first = next_number(trials)
    for number in range(first, first + PREVIEW if sweep.cap is None else min(first + PREVIEW, sweep.cap + 1)):
        parameters = engine.propose(trials)
        if parameters is None:
            break
        trials.append(Trial(number=number, run_id=f"preview-{number}", parameters=parameters))
        print(f"trial {number}: {described(parameters)}")
    if sweep.search != "grid" and sweep.seed is None:
        print("a search without --seed draws others")
    if sweep.search in ("bayes", "optuna"):
        print(f"{sweep.search}: from its first results on the search proposes others")
    return exits.DONE


def _begin(sweep: Sweep, config: Config, directory: SweepDirectory | None) -> tuple[str | None, SweepDirectory]:
    """Return the sweep's path at W&B, None without an account, and its directory; on a resume both are as before."""
    if directory is not None:
        registered = directory.registered
        return registered.read_text(encoding="utf-8").strip() if registered.is_file() else None, directory
    SweepDirectory.check()  # before the sweep is registered at W&B
    mode, _ = resolve_mode(config.tracking, Path("runs"))
    if mode != "online":
        return None, SweepDirectory.create(sweep)
    if sweep.search == "optuna":
        print("Optuna proposes on this machine: in W&B the trials are a group of runs, not a sweep")
        return None, SweepDirectory.create(sweep)
    if sweep.seed is not None:
        raise InputError(
            f"seed: {sweep.seed} is for a search on this machine, and W&B's server has none; leave it out, or type "
            "tracking=offline."
        )
    from textrnn.sweeping.agents import register

    online = register(sweep, config)
    return online, SweepDirectory.create(sweep, online)


def _conclude(sweep: Sweep, metric: Metric, directory: SweepDirectory, ended: SweepLoop, agents: int | None) -> None:
    record(sweep, metric, directory, ended.trials)
    if ended.stop_reason is not None:
        print(f"stopped: {ended.stop_reason}")
    if not ended.is_over and (ended.stop_reason is not None or any(not trial.status.ended for trial in ended.trials)):
        workers = "" if agents is None else f" --agents {agents}"
        print(f"resume: python sweep.py --resume {directory.shown()}{workers}")
    print(f"sweep directory: {directory.shown()}")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sweep.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", metavar="FILE | KEY=VALUE", nargs="*", help="the sweep file; what all trials share")
    parser.add_argument("--agents", default="auto", help="trials at once (default: auto, one for each GPU, else one)")
    parser.add_argument("--count", help="trials at most, with those before --resume")
    parser.add_argument("--seed", help="seed of the search on this machine: the same seed draws the same trials")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the first settings, at most 10, and start nothing"
    )
    parser.add_argument("--resume", metavar="SWEEP", type=Path, help="directory or id of a sweep to resume")
    arguments = parser.parse_intermixed_args(list(argv))
    arguments.agents = None if arguments.agents == "auto" else _number("agents", arguments.agents)
    arguments.count = None if arguments.count is None else _number("count", arguments.count)
    arguments.seed = None if arguments.seed is None else _number("seed", arguments.seed)
    files = [word for word in arguments.words if "=" not in word]
    arguments.typed = quote_texts([word for word in arguments.words if "=" in word])
    if len(files) > 1 or (not files and arguments.resume is None):
        raise InputError(f"one sweep file is needed, not {len(files)}; type for example sweep.py sweeps/smoke.yaml.")
    arguments.file = Path(files[0]) if files else None
    return arguments


def _number(name: str, text: str) -> int:
    least = 0 if name == "seed" else 1
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"--{name} {text}: type a whole number from {least}{', or auto' * (name == 'agents')}.")
    return int(text)


def _read(arguments: argparse.Namespace) -> Sweep:
    return read_sweep(arguments.file, arguments.typed, arguments.count, arguments.seed)


def _resumed(arguments: argparse.Namespace) -> tuple[Sweep, SweepDirectory]:
    """Open a sweep to resume, as it was started."""
    for typed in (*arguments.typed, *(["--seed"] if arguments.seed is not None else [])):
        raise InputError(f"{typed}: can't change in a sweep that has begun; leave it out.")
    file = None if arguments.file is None else arguments.file.absolute()
    directory = SweepDirectory.open(arguments.resume)
    try:
        _go_where_it_began(directory)
        sweep = read_sweep(directory.sweep_yaml, count=arguments.count)
        if arguments.count is not None and directory.registered.is_file():
            raise InputError(f"--count {arguments.count}: this sweep is W&B's and keeps its run_cap; leave it out.")
        if file is not None:
            _compare(read_sweep(file, directory.typed(), sweep.cap, sweep.seed), sweep, directory)
    except BaseException:
        directory.release()
        raise
    return sweep, directory


def _compare(given: Sweep, begun: Sweep, directory: SweepDirectory) -> None:
    """Take values that were added to a grid into the sweep; refuse any other difference but names and the count."""
    for key in COMPARED:
        # The program is stored as the path for the agents.
        values = [find_program(sweep) if key == "program" else sweep.config.get(key) for sweep in (given, begun)]
        if values[0] == values[1]:
            continue
        if key == "parameters" and not directory.registered.is_file():
            if new := added_settings(given, begun):
                print(f"{new} new setting{'s' * (new > 1)} in {given.path}")
                begun.config[key] = given.parameters
                continue
            hint = "only a grid may change, by more values of its parameters; leave the file out."
        else:
            hint = "can't change in a sweep that has begun; leave the file out."
        raise InputError(f"{given.path}: {key}: is another one than in {directory.sweep_yaml}, and {hint}")


def _go_where_it_began(directory: SweepDirectory) -> None:
    """Change to the folder of `runs`: a command's relative paths are relative to it, and agents write to runs/SWEEP.

    Raises:
        InputError: for a sweep of W&B whose agents would write to another folder.
    """
    path = directory.path
    if path.is_absolute() and path.parent.name == "runs":
        os.chdir(path.parent.parent)
        print(f"resuming in {Path.cwd()}, where the sweep was started")
    if directory.registered.is_file():
        name = directory.registered.read_text(encoding="utf-8").strip().rpartition("/")[2]
        agents = Path("runs", name)
        if not (agents.is_dir() and agents.samefile(path)):
            raise InputError(f"{path}: W&B's agents would write to {agents.absolute()}; move it there first.")


def _default_metric(config: Config) -> Metric:
    """Return the metric by which the trials choose their best checkpoint."""
    name = config.early_stopping.monitor
    return Metric(name=name, goal=GOALS[best_is(name)], target=None)
