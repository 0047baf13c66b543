"""Render benchmarks/results/*.json into the pages of docs/: python benchmarks/pages.py."""

import sys
from collections.abc import Sequence
from pathlib import Path

import bodies
import deviations_picture
import stragglers
from machine import ROOT
from report import Claim, Report, Table, heading, number
from timing import spread

RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
BENCHMARKS = (
    *("recurrence", "losses", "tutorials", "pipeline", "loop", "startup", "memory", "tracking", "lookup"),
    "gpu",
)
PAGES = {
    DOCS / "results" / "benchmarks.md": BENCHMARKS,
    DOCS / "speed.md": ("cost",),
    DOCS / "scaling.md": ("scaling", "stragglers"),
    DOCS / "deviations.md": ("deviations",),
    DOCS / "howto" / "export.md": ("parity",),
    DOCS / "howto" / "serve.md": ("serving", "bodies"),
}
"""The results that each page shows, in order."""
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEADINGS = {
    "recurrence": "Training steps on full reviews",
    "losses": "Agreement with packing",
    "tutorials": "The tutorials' systems, original and recipe",
    "pipeline": "Data pipeline",
    "loop": "Training loop",
    "startup": "Start-up time",
    "memory": "Memory",
    "tracking": "Tracking",
    "lookup": "Look-up of 10,000 runs",
    "serving": "Serving",
    "bodies": "Random bodies",
    "parity": "ONNX Runtime beside the checkpoint",
    "gpu": "One GPU",
    "cost": "Training steps, one choice changed",
    "scaling": "Processes on one machine",
    "stragglers": "Stragglers, simulated",
    "deviations": "Cost of deviations",
}
PICTURES = {"stragglers": stragglers.draw, "deviations": deviations_picture.draw, "bodies": bodies.draw}
"""What draws docs/NAME.png."""


def render(names: Sequence[str], results: Path = RESULTS) -> str:
    """Return the part of a page between the markers, for the results that exist."""
    reports = [Report.read(path) for name in names if (path := results / f"{name}.json").is_file()]
    if not reports:
        return "No results yet: `make bench`."
    return "\n\n".join(block for report in reports for block in _blocks(report))


def replace_part(page: str, part: str) -> str:
    """Return `page` with `part` between the markers; raise `ValueError` where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def _blocks(report: Report) -> list[str]:
    blocks = [f"### {HEADINGS[report.benchmark]}", f"Measured on {_where(report)}."]
    if report.claims:
        blocks.append(_claims(report.claims))
    return blocks + [f"{table.title}, {table.how}, {table.unit}:\n\n{_table(table)}" for table in report.tables]


def _where(report: Report) -> str:
    machine, versions = report.where["machine"], report.where["versions"]
    repeats = report.settings["repeats"]
    peers = f", TensorFlow {versions['tensorflow']}" if "tensorflow" in versions else ""
    if report.benchmark == "parity":
        peers = f", ONNX Runtime {versions['onnxruntime']}"
    return (
        f"{report.where['date']} with {report.settings['reviews']} reviews, {_counted(repeats, 'repeat')}; "
        f"{machine['cpu']}, {_counted(machine['cores'], 'core')}, PyTorch {versions['torch']}{peers}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _claims(claims: list[Claim]) -> str:
    has_target = any(claim.target for claim in claims)
    lines = [
        f"| | {heading(claims)} | min to max |{' target |' * has_target}",
        "|---" * (3 + has_target) + "|",
    ]
    for claim in claims:
        median, low, high = spread(claim.values)
        met = {True: ", met", False: ", **missed**", None: ""}[claim.met]
        met += " (busy machine)" if claim.busy else ""
        target = f" {claim.target}{met} |" * has_target
        lines.append(f"| {claim.name} | {number(median)} {claim.unit} | {number(low)} to {number(high)} |{target}")
    return "\n".join(lines)


def _table(table: Table) -> str:
    lines = [f"| | {' | '.join(table.columns)} |", "|---" * (1 + len(table.columns)) + "|"]
    rows = (" | ".join([row, *(table.told(row, column) for column in table.columns)]) for row in table.cells)
    return "\n".join([*lines, *(f"| {row} |" for row in rows)])


def main() -> int:
    """Rewrite the pages and the pictures."""
    for path, names in PAGES.items():
        path.write_text(replace_part(path.read_text(encoding="utf-8"), render(names)), encoding="utf-8")
    for name, draw in PICTURES.items():
        if (found := RESULTS / f"{name}.json").is_file():
            draw(Report.read(found), ROOT / "docs" / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
