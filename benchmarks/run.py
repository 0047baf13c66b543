"""Run benchmarks: python benchmarks/run.py NAME [--peers] [--repeats 5] [--data-path DIR] [--quick]."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from textrnn.base.process import let_idle_threads_sleep

HERE = Path(__file__).resolve().parent
NAMES = (
    *("recurrence", "losses", "pipeline", "loop", "startup", "tutorials", "cost", "memory", "tracking"),
    *("lookup", "serving", "bodies", "parity"),
    *("scaling", "stragglers", "deviations"),
)


def main(argv: Sequence[str]) -> int:
    """Run the named benchmarks, print their results and write them as JSON."""
    arguments = _parser().parse_args(argv)
    let_idle_threads_sleep()  # as the program does, before torch
    # After the command line, which says at once what is wrong with it.
    from rich.console import Console

    import machine
    from report import Report, show
    from reviews import IMDB
    from settings import Settings

    data_path = arguments.data_path or (IMDB if IMDB.is_dir() else None)
    settings = Settings(
        repeats=arguments.repeats,
        data_path=None if data_path is None else str(data_path),
        quick=arguments.quick,
        peers=arguments.peers,
        only=arguments.only.split(",") if arguments.only else [],
        tensorflow_python=arguments.tensorflow_python,
        output=arguments.output,
    )
    for name in NAMES if arguments.name == "all" else (arguments.name,):
        report = Report(benchmark=name, settings=settings.record(), where=machine.describe())
        load = machine.load()
        importlib.import_module(name).run(settings, report)
        report.where["load"] = {"before": load, "after": machine.load()}
        show(report, Console())
        report.keep(settings.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Medians of paired, interleaved repeats.")
    parser.add_argument("name", metavar="NAME", choices=(*NAMES, "all"), help=f"{', '.join(NAMES)} or all")
    parser.add_argument("--repeats", type=int, default=5, help="paired repeats (default 5)")
    parser.add_argument("--data-path", type=Path, help="the real reviews (default ../shared/imdb, else generated ones)")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for the JSON")
    parser.add_argument("--quick", action="store_true", help="tiny sizes on generated reviews: to see that it runs")
    parser.add_argument("--peers", action="store_true", help="also the tutorials' code, and TensorFlow where it is")
    parser.add_argument("--only", metavar="RECIPES", help="tutorials: these recipes, separated by commas")
    parser.add_argument("--tensorflow-python", help="tutorials: the python of an environment with TensorFlow")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
