"""The settings of the runs that were typed: which runs, on which split, in which groups, and compared with which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.comparing.predictions import Predictions, read_predictions
from textrnn.comparing.settings import Setting, differing, group, names
from textrnn.lookup.records import RunRecord, RunSet, read_set, sweep_metrics

DEFAULT_SPLITS = ("test", "validation")
"""The split that is compared: the first of these on which all runs were measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """Settings to compare, and what was decided on the way to them."""

    settings: list[Setting]
    reference: Setting
    split: str
    lines: list[str] = field(default_factory=list)
    """What was decided, a line each."""
    records: list[RunRecord] = field(default_factory=list)
    """The runs that are compared."""


def collect(sides: Sequence[Sequence[str]], *, split: str | None = None, against: str | None = None) -> Collected:
    """Read the predictions of the runs that were typed.

    Args:
        sides: Paths of runs, sweeps, multiruns and folders; two lists are two groups to compare.
        split: The split; None: the first of `DEFAULT_SPLITS` on which all runs were measured.
        against: A run whose setting the others are compared with; None: the second of two groups, a sweep's best
            setting on validation, or else the first one.

    Raises:
        InputError: for runs that can't be read or compared.
    """
    lines: list[str] = []
    sets = [[read_set(typed) for typed in side] for side in sides]
    measured = [_measured(side, split, lines) for side in sets]
    split = split or _common_split([record for side in measured for record in side])
    if len(sides) == 2:
        groups = measured
        labels = _labels(groups, [", ".join(side) for side in sides])
    else:
        groups = group(measured[0])
        labels = names([records[0].config for records in groups])
    _check_number(groups, len(sides))
    _add_other_keys(groups, labels, lines)
    settings = [
        _setting(name, records, split, lines, strict=len(sides) == 2)
        for name, records in zip(labels, groups, strict=True)
    ]
    kept = [place for place, setting in enumerate(settings) if setting.by_seed]
    groups, settings = [groups[place] for place in kept], [settings[place] for place in kept]
    _check_number(groups, len(sides))
    number, reason = _reference(groups, sets, against)
    if len(settings) > 2 or against is not None:
        lines.append(f"compared with {settings[number].name}{reason}")
    lines += _warnings(sets, settings, split)
    return Collected(
        settings=settings,
        reference=settings[number],
        split=split,
        lines=lines,
        records=[record for records in groups for record in records],
    )


def _measured(sets: Sequence[RunSet], split: str | None, lines: list[str]) -> list[RunRecord]:
    """Return the runs with an evaluation, each once; of sets the others are left out, with a line."""
    found: dict[Path, RunRecord] = {}
    left_out = []
    for runs in sets:
        for record in runs.runs:
            if _splits(record) and split in (None, *_splits(record)):
                found.setdefault(record.path.resolve(), record)
            elif runs.kind == "run":
                wanted = split or "test"
                raise InputError(
                    f"{record.path} ({record.state}) was not measured on {wanted}; type python evaluate.py "
                    f"{record.path} --split {wanted} first."
                )
            else:
                left_out.append(f"{record.path} ({record.state})")
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        lines.append(f"left out, as not measured{f' on {split}' if split else ''}: {', '.join(left_out[:3])}{more}")
    return list(found.values())


def _splits(record: RunRecord) -> list[str]:
    return [split for split in DEFAULT_SPLITS if (record.path / f"evaluation-{split}" / "predictions.csv").is_file()]


def _common_split(records: Sequence[RunRecord]) -> str:
    """Return the first split on which all runs were measured."""
    for split in DEFAULT_SPLITS:
        if all(split in _splits(record) for record in records):
            return split
    missing = next(record for record in records if "test" not in _splits(record))
    raise InputError(
        f"{missing.path} was measured on validation alone, and other runs on test alone; type python evaluate.py "
        f"{missing.path} --split test, or measure the others with --split validation."
    )


def _check_number(groups: Sequence[Sequence[RunRecord]], sides: int) -> None:
    """Refuse less than two groups of runs."""
    runs = [record for records in groups for record in records]
    if len(groups) > 1 and all(groups):
        return
    if len(runs) < 2 or sides == 2:
        raise InputError(
            f"{len(runs)} measured run(s) can't be compared; type two runs, a sweep, a multirun or A -- B."
        )
    raise InputError(
        f"all {len(runs)} runs are of one setting, as they differ in their seed only; type A... -- B... to compare "
        "groups of your own."
    )


def _labels(groups: Sequence[Sequence[RunRecord]], typed: Sequence[str]) -> list[str]:
    """Return a name for each of two groups: what tells them apart or, if they are mixed, what was typed."""
    if all(len(group(records)) == 1 for records in groups):
        found = names([records[0].config for records in groups])
        if len(set(found)) == len(found):
            return found
    return list(typed)


def _add_other_keys(groups: Sequence[Sequence[RunRecord]], labels: Sequence[str], lines: list[str]) -> None:
    """Add a line with the keys that differ too, which the names of the settings leave out."""
    keys = differing([record.config for records in groups for record in records])
    if others := [key for key in keys if f"{key}=" not in labels[0]]:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        lines.append(f"the runs also differ in {', '.join(others[:8])}{more}")


def _setting(name: str, records: Sequence[RunRecord], split: str, lines: list[str], *, strict: bool) -> Setting:
    """Return a setting of the runs' predictions; a seed counts once, and a model that has diverged doesn't."""
    setting = Setting(name=name)
    for record in records:
        if record.seed in setting.by_seed:
            if strict:
                raise InputError(f"{record.path}: another run of its side has seed {record.seed} too; leave one out.")
            lines.append(f"left out, as seed {record.seed} of {name} counts once: {record.path}")
            continue
        predictions = read_predictions(record.path / f"evaluation-{split}")
        if predictions.has_diverged:
            lines.append(f"left out, as it has diverged: {record.path}")
            continue
        setting.by_seed[record.seed] = predictions
        lines += _measured_again(record, predictions, split)
    return setting


def _measured_again(record: RunRecord, predictions: Predictions, split: str) -> Iterator[str]:
    own = record.metrics.get(f"{'val' if split == 'validation' else split}/accuracy")
    found = float(predictions.right.mean())
    if own is not None and abs(own - found) > 2 / len(predictions.labels):
        yield f"{predictions.folder}: accuracy {found:.4f}, the run's own {own:.4f}: it was measured again"


def _reference(
    groups: Sequence[Sequence[RunRecord]], sets: Sequence[Sequence[RunSet]], against: str | None
) -> tuple[int, str]:
    """Return the number of the setting that the others are compared with, and why."""
    if against is not None:
        path = Path(against).resolve()
        for number, records in enumerate(groups):
            if any(record.path.resolve() == path for record in records):
                return number, ""
        raise InputError(f"--against {against}: it is not one of the runs that are compared.")
    if len(sets) == 2:
        return 1, ""
    if all(runs.kind == "sweep" for runs in sets[0]):
        values = [[record.metrics.get("val/accuracy") for record in records] for records in groups]
        known = [[value for value in found if value is not None] for found in values]
        if all(known):
            means = [sum(found) / len(found) for found in known]
            return means.index(max(means)), ", the best on validation"
    return 0, ", the first"


def _warnings(sets: Sequence[Sequence[RunSet]], settings: Sequence[Setting], split: str) -> Iterator[str]:
    """Yield a line for each way in which the split was, or would be, used to choose."""
    if split == "validation":
        yield "validation chose the epoch of each run, so its accuracies are a little too high; test was not used"
        return
    swept = [(runs.path, metric["name"]) for side in sets for runs in side for metric in sweep_metrics(runs.path)]
    for path, metric in swept:
        if metric.startswith("test/"):
            yield f"{path} is a sweep by {metric}: a setting that was chosen by it looks better on test than it is"
    if len(settings) > 2:
        yield (
            f"{len(settings)} settings are ranked on test: the accuracy of one that is chosen by it is too high; "
            "choose with --split validation"
        )
