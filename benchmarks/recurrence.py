"""Training steps of each cell: tokens a second, against the tutorials' way and against the matrix products alone.

`--peers` adds the tutorials' way (shuffled batches, packed, Adam; in a process of its own, with none of our settings)
and our bucketed batches packed. Their steps take seconds, so a repeat has one of them and more of ours, on batches that
represent an epoch. The layer alone is measured at twice the width too.
"""

from contextlib import ExitStack

from report import Claim, Report, Table
from settings import Settings
from timing import Measure, paired, ratios, shares_of_limit
from worker import Worker

SCRIPT = "recurrence_worker.py"
OVER_TUTORIAL = {"lstm": 60.0, "gru": 12.0, "rnn": 5.0}
OF_GEMMS = {"lstm": 0.7, "gru": 0.5, "rnn": 0.5}
CELLS = ("lstm", "gru", "rnn")
OURS = ("auto 32-true", "auto bf16-mixed", "fused 32-true")
SLOW_STEPS, STEPS, WIDE = 1, 8, 256
TIME_STEPS = 256


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    quick = settings.quick
    options = {"path": settings.data_path, "quick": quick, "max_length": 64 if quick else 512}
    with ExitStack() as stack:
        ours = stack.enter_context(Worker(SCRIPT))
        ours.ask(what="open", ours=True, **options)
        peer = None
        if settings.peers:
            peer = stack.enter_context(Worker(SCRIPT, ours=False))
            peer.ask(what="open", ours=False, **options)
        for hidden in (16,) if quick else (128, WIDE):
            for cell in CELLS:
                if hidden != WIDE:
                    _training(cell, hidden, ours, peer, settings, report)
                _layers(cell, hidden, ours, settings, report)


def _training(cell: str, hidden: int, ours: Worker, peer: Worker | None, settings: Settings, report: Report) -> None:
    def measure(worker: Worker, variant: str, steps: int) -> Measure:
        return lambda repeat: float(
            worker.ask(what="train", variant=variant, cell=cell, hidden=hidden, steps=steps, repeat=repeat)
        )

    variants = {variant: measure(ours, variant, 2 if settings.quick else STEPS) for variant in OURS}
    if peer is not None:
        variants["packed 32-true"] = measure(ours, "packed 32-true", SLOW_STEPS)
        variants["tutorial"] = measure(peer, "tutorial", SLOW_STEPS)
    values = paired(variants, settings.repeats)
    table = _table(report, "training steps, batch 64, bidirectional", "tokens/s")
    for variant in reversed(list(values)):
        table.add(variant, f"{cell} {hidden}", values[variant])
    if peer is not None:
        gain = ratios(values["auto 32-true"], values["tutorial"])
        name = f"{cell} {hidden}: tokens/s over the tutorials' code"
        report.claims.append(Claim(name=name, values=gain, at_least=OVER_TUTORIAL[cell]))
        gain = ratios(values["auto bf16-mixed"], values["tutorial"])
        report.claims.append(Claim(name=f"{name}, in bf16-mixed", values=gain))


def _layers(cell: str, hidden: int, ours: Worker, settings: Settings, report: Report) -> None:
    def measure(variant: str) -> Measure:
        time_steps, calls = (16, 1) if settings.quick else (TIME_STEPS, 2)
        return lambda _: float(
            ours.ask(what="layer", variant=variant, cell=cell, hidden=hidden, time_steps=time_steps, calls=calls)
        )

    values = paired({name: measure(name) for name in ("gemms", *OURS)}, settings.repeats)
    table = _table(report, f"layer alone, forward and backward, {TIME_STEPS} steps, batch 64", "GFLOP/s")
    for variant in values:
        table.add(variant, f"{cell} {hidden}", values[variant])
    share, busy = shares_of_limit(
        measure("auto 32-true"), measure("gemms"), settings.repeats, values["auto 32-true"], values["gemms"]
    )
    name = f"{cell} {hidden}: layer's rate over its GEMMs' alone"
    report.claims.append(Claim(name=name, values=share, at_least=OF_GEMMS[cell], busy=busy))


def _table(report: Report, title: str, unit: str) -> Table:
    """Return the report's table of this title, made by the first cell that needs it."""
    for table in report.tables:
        if table.title == title:
            return table
    report.tables.append(Table(title=title, unit=unit))
    return report.tables[-1]
