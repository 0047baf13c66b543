"""Comparisons as tables, on the terminal and as CSV."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from textrnn.base.files import write_csv
from textrnn.comparing.comparison import Comparison, Disagreement, Group, by_class, by_length, disagreements, shown_p
from textrnn.comparing.settings import Setting
from textrnn.comparing.statistics import Estimate, accuracy

CLASSES = 20
"""Classes up to which a table has all of them; of more it has those that differ most."""

TextOf = Callable[[int], str]


def settings_table(settings: Sequence[Setting]) -> Table:
    """Return the accuracy of each setting with its 95 % interval."""
    table = _table("setting")
    for column in ("accuracy", "95 % interval", "seeds"):
        table.add_column(column, justify="right", no_wrap=True)
    for setting in settings:
        found = accuracy(setting.right(setting.seeds))
        table.add_row(
            Text(setting.name),
            _percent(found.value),
            f"{_percent(found.low)} to {_percent(found.high)}",
            _seeds(setting),
        )
    return table


def differences_table(comparisons: Sequence[Comparison], *, brief: bool = False) -> Table:
    """Return the differences to the reference, in points; `brief` is for narrow terminals."""
    table = _table(f"minus {comparisons[0].reference.name}")
    over = "seeds and reviews" if any(comparison.pairs > 1 for comparison in comparisons) else "reviews"
    columns = ["points", f"95 %, {over}", "95 %, these models", "pairs", "p", "p, Holm", "could show"]
    left_out = (
        {"95 %, these models", "could show", *(["p"] if len(comparisons) > 1 else ["p, Holm"])} if brief else set()
    )
    if over == "reviews":
        left_out.add("95 %, these models")
    shown = [column for column in columns if column not in left_out]
    for column in shown:
        table.add_column(column, justify="right", no_wrap=True)
    for comparison in comparisons:
        cells = [
            _points(comparison.difference.value),
            _interval(comparison.difference),
            _interval(comparison.over_reviews),
            str(comparison.pairs),
            shown_p(comparison.p).removeprefix("p ").removeprefix("= "),
            shown_p(comparison.corrected).removeprefix("p ").removeprefix("= "),
            f"{100 * comparison.smallest:.2f}",
        ]
        kept = [cell for column, cell in zip(columns, cells, strict=True) if column in shown]
        table.add_row(Text(comparison.setting.name), *kept)
    return table


def overlap_table(comparisons: Sequence[Comparison]) -> Table:
    """Return who has which reviews right, in percent."""
    table = _table(f"right, beside {comparisons[0].reference.name}")
    for column in ("both", "it alone", "the other alone", "neither", "kappa of errors"):
        table.add_column(column, justify="right", no_wrap=True)
    for comparison in comparisons:
        found = comparison.overlap
        shares = (found.both, found.only_first, found.only_second, found.neither)
        table.add_row(Text(comparison.setting.name), *map(_percent, shares), f"{found.kappa:.2f}")
    return table


def groups_table(comparison: Comparison) -> Table:
    """Return the difference by length and by class."""
    table = _table(f"{comparison.setting.name} minus {comparison.reference.name}")
    for column in ("reviews", "accuracy", "of the other", "points", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    classes = by_class(comparison)
    if len(classes) > CLASSES:
        classes = sorted(classes, key=lambda group: -abs(group.difference.value))[:CLASSES]
    for group in (*by_length(comparison), *classes):
        table.add_row(
            Text(" ".join(group.name.split())),
            f"{group.reviews:,}",
            _percent(group.accuracy),
            _percent(group.of_reference),
            _points(group.difference.value),
            _interval(group.difference),
        )
    table.caption = "intervals of single groups: among twenty, one misses by chance"
    return table


def disagreements_table(comparison: Comparison, found: Sequence[Disagreement], text: TextOf | None) -> Table:
    """Return reviews that the two settings label differently, with the probabilities of the true class."""
    table = _table("row")
    for column in ("label", comparison.setting.name, comparison.reference.name):
        table.add_column(Text(" ".join(column.split())), justify="right")
    if text is not None:
        table.add_column("end of the text")
    for review in found:
        words = [] if text is None else text(review.index).split()
        excerpt = [] if text is None else [Text(" ".join(["...", *words[-20:]] if len(words) > 20 else words))]
        label = Text(" ".join(review.label.split()))
        table.add_row(str(review.index), label, f"{review.of_label:.4f}", f"{review.of_reference:.4f}", *excerpt)
    return table


def write_tables(
    folder: Path, settings: Sequence[Setting], comparisons: Sequence[Comparison], *, reviews: int, text: TextOf | None
) -> None:
    """Write `settings.csv`, `comparisons.csv`, `groups.csv` and `disagreements.csv`; shares are between 0 and 1.

    Args:
        folder: The folder, which is made if it is missing.
        settings: The settings.
        comparisons: Their comparisons.
        reviews: Maximum number of disagreements of each comparison.
        text: Returns a review's text by its row; None: texts are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["setting", "accuracy", "low", "high", "seeds"]
    rows: list[list[Any]]
    rows = [[setting.name, *_ends(accuracy(setting.right(setting.seeds))), _seeds(setting)] for setting in settings]
    write_csv(folder / "settings.csv", columns, rows)
    sides = ["setting", "reference"]
    columns = [
        *("pairs", "reviews", "difference", "low", "high", "low_these_models", "high_these_models", "p", "p_holm"),
        *("smallest", "mcnemar_by_seed", "both", "only_setting", "only_reference", "neither", "kappa"),
    ]
    write_csv(folder / "comparisons.csv", [*sides, *columns], [[*_sides(c), *_comparison(c)] for c in comparisons])
    columns = ["by", "group", "reviews", "accuracy", "reference_accuracy", "difference", "low", "high"]
    rows = [
        [*_sides(comparison), by, *_group(group)]
        for comparison in comparisons
        for by, groups in (("length", by_length(comparison)), ("class", by_class(comparison)))
        for group in groups
    ]
    write_csv(folder / "groups.csv", [*sides, *columns], rows)
    columns = ["index", "label", "probability", "reference_probability", *([] if text is None else ["text"])]
    rows = [
        [*_sides(comparison), review.index, review.label, f"{review.of_label:.6g}", f"{review.of_reference:.6g}"]
        + ([] if text is None else [text(review.index)])
        for comparison in comparisons
        for review in disagreements(comparison, reviews)
    ]
    write_csv(folder / "disagreements.csv", [*sides, *columns], rows)


def _table(first: str) -> Table:
    table = Table(show_edge=False, title_justify="left", caption_justify="left")
    table.add_column(Text(first), overflow="fold")  # cropped names could be equal
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _interval(found: Estimate) -> str:
    return f"{_points(found.low)} to {_points(found.high)}"


def _seeds(setting: Setting) -> str:
    return " ".join(map(str, setting.seeds))


def _sides(comparison: Comparison) -> list[str]:
    return [comparison.setting.name, comparison.reference.name]


def _ends(found: Estimate) -> list[str]:
    return [f"{number:.6g}" for number in (found.value, found.low, found.high)]


def _comparison(comparison: Comparison) -> list[Any]:
    models, overlap = comparison.over_reviews, comparison.overlap
    numbers = (models.low, models.high, comparison.p, comparison.corrected, comparison.smallest)
    return [
        *(comparison.pairs, comparison.reviews, *_ends(comparison.difference), *(f"{value:.6g}" for value in numbers)),
        " ".join(f"{p:.3g}" for p in comparison.mcnemar),
        *(f"{value:.6g}" for value in (overlap.both, overlap.only_first, overlap.only_second, overlap.neither)),
        f"{overlap.kappa:.6g}",
    ]


def _group(group: Group) -> list[Any]:
    return [group.name, group.reviews, f"{group.accuracy:.6g}", f"{group.of_reference:.6g}", *_ends(group.difference)]
