"""Which split a file, a folder or a split of the Hub is named after, and the files of a folder by their splits.

Nothing that names a split is pooled, left out or replaced in silence: it is read as that split, refused, or named in a
line as not read. `datasets` recognizes fewer names (`datasets.data_files.SPLIT_KEYWORDS`), and falls back to pooling.
"""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import SPLITS

READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
FORMATS = "a folder or a parquet, csv or jsonl file"
OTHER_FORMATS = (
    *(".tsv", ".ndjson", ".arrow", ".feather", ".xls", ".xlsx"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz"),
)
"""Endings of data that are not read; other files, such as scripts and notes, may be named after a split too."""

_NAMES = {
    "train": "train|training|trn",
    "validation": "validation|validate|valid|val|vld|dev|development",
    "test": "test|testing|tst|eval|evaluation",
}
_SPLITS = {split: re.compile(rf"({names})(data)?(set|split)?s?") for split, names in _NAMES.items()}
_HELD_OUT = re.compile(r"(?<![^\W\d_])(held|hold)[\W\d_]*out", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL_CASE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_GLUED = re.compile(r"train|test|valid")
"""Parts of words, as in imdbtrain.csv; also of testimonials.csv and latest.csv, so that one alone says nothing."""
_LISTED = 5
"""Files that a line names."""


def named_splits(*names: str) -> set[str]:
    """The splits that names stand for, with a whole word: testimonials.csv is none of test."""
    found: set[str] = set()
    for name in names:
        plain = _HELD_OUT.sub(" test ", name)
        words = {*_WORD.findall(plain.lower()), *(word.lower() for word in _CAMEL_CASE.findall(plain))}
        found |= {split for split, names in _SPLITS.items() if any(map(names.fullmatch, words))}
    return found


def choose_splits(names: Collection[str], origin: str) -> dict[str, str]:
    """The splits of a data set on the Hub by ours; says which are not read.

    Raises:
        InputError: several could be one of ours.
    """
    chosen: dict[str, str] = {}
    for split in SPLITS:
        named = [split] if split in names else [name for name in names if named_splits(name) == {split}]
        if len(named) > 1:
            raise InputError(
                f"{origin} has several {split} splits ({', '.join(named)}) and none called {split}; download it, and "
                "type data.path=FOLDER with the files that you want"
            )
        if named:
            chosen[split] = named[0]
    others = [name for name in names if name not in chosen.values()]
    if others:
        LOGGER.info(f"{origin}: splits that are not read: {', '.join(others)}")
    return chosen


def refuse_glued_names(names: Iterable[str], origin: str) -> None:
    """Refuse to pool files such as imdbtrain.csv and imdbtest.csv.

    Raises:
        InputError: naming them.
    """
    glued = [name for name in names if _GLUED.search(name.lower())]
    if len({part for name in glued for part in _GLUED.findall(name.lower())}) > 1:
        raise InputError(
            f"{origin} holds files that may be named after splits ({listed(glued)}); write the split's name as a word "
            "of its own, such as imdb-test.csv, or type data.path=FILE for one of them"
        )


def files_by_split(path: Path, origin: str) -> dict[str, list[Path]]:
    """The files to read in each split, at least in train; says which are not read.

    Args:
        path: A folder, or a file, which is cut.
        origin: Where the rows come from as it is typed, such as "data.path=reviews.csv".

    Raises:
        InputError: there is no training file, or a file's split is not certain.
    """
    if path.is_file():
        if path.suffix.lower() not in READERS:
            raise InputError(
                f"{origin} has the unknown ending {path.suffix!r}; type data.path={FORMATS} ({', '.join(READERS)})"
            )
        for file in (path, _real(path)):
            _refuse_to_train_on(named_splits(file.name) | _exactly(file.parent), origin)
        _report_beside(path, origin)
        return {"train": [path]}
    files, others, unread = _sorted_out(path, origin)
    if not files and not others:
        raise InputError(f"{origin} holds no file ending in {', '.join(READERS)}; put a train file there: train.csv")
    _report_unread(unread, path, files, origin)
    names = [file.relative_to(path).as_posix() for file in others]
    if "train" in files:
        if others:
            LOGGER.info(f"{origin}: named after no split, so not read: {listed(names)}")
        return files
    if not others:
        raise InputError(
            f"{origin} holds only files for {' and '.join(files)}; put a train file there, such as train.csv"
        )
    refuse_glued_names(names, origin)
    for folder in (path, _real(path)):
        _refuse_to_train_on(_exactly(folder), origin)
    LOGGER.info(f"{origin}: named after no split, so read as training reviews: {listed(names)}")
    if _exactly(path):
        _report_beside(path, origin)
    return {"train": others, **files}


def _sorted_out(path: Path, origin: str) -> tuple[dict[str, list[Path]], list[Path], list[tuple[Path, set[str]]]]:
    """A folder's files by split, those named after none, and those named after one that are not read."""
    names: dict[Path, set[str]] = {}
    first: dict[Path, Path] = {}  # of the paths to a file, of which links make several
    for file in _walk(path, origin):
        relative, target = file.relative_to(path), _real(file)
        named = named_splits(*relative.parts)
        if target != _real(path) / relative:
            named |= named_splits(target.name) | _exactly(target.parent)
        names.setdefault(target, set()).update(named)
        first.setdefault(target, file)
    files: dict[str, list[Path]] = {}
    others: list[Path] = []
    unread: list[tuple[Path, set[str]]] = []
    for target, file in first.items():
        named = names[target]
        if file.suffix.lower() not in READERS or not file.is_file():
            unread += [(file, named)] if named else []
        elif len(named) > 1:
            raise InputError(
                f"{origin}: {file.relative_to(path).as_posix()} is named after several splits "
                f"({', '.join(sorted(named))}; its folders and links count); rename it, or move it elsewhere"
            )
        else:
            (files.setdefault(next(iter(named)), []) if named else others).append(file)
    return files, others, unread


def _walk(path: Path, origin: str) -> list[Path]:
    """Files and empty folders in a folder and in those that it links to, in order, hidden ones left out."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{origin}: {error.filename} can't be read ({error.strerror}); make it readable") from error

    found: list[Path] = []
    for folder, folders, names in os.walk(path, followlinks=True, onerror=refuse):
        here = Path(folder)
        way = {_real(above) for above in (here, *here.parents)}  # on which a link back would have no end
        folders[:] = [name for name in folders if name[0] != "." and _real(here / name) not in way]
        found += [here / name for name in names if name[0] != "."] if names or folders else [here]
    return sorted(found)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` fails where links go in a circle


def _exactly(folder: Path) -> set[str]:
    """The split that is a folder's whole name: a folder that is typed may be called test-of-something."""
    words = _WORD.findall(_HELD_OUT.sub("test", folder.name))
    return named_splits(folder.name) if len(words) == 1 else set()


def _refuse_to_train_on(named: set[str], origin: str) -> None:
    if named and "train" not in named:
        raise InputError(
            f"{origin} is named as {' and '.join(sorted(named))} data, which is never trained on; type the folder that "
            "also holds training files, or rename it"
        )


def _report_beside(path: Path, origin: str) -> None:
    """Say what lies beside a file or folder of training reviews and is named after another split."""
    if not os.access(path.parent, os.R_OK):
        return
    names = [
        other.name
        for other in sorted(path.parent.iterdir())
        if other != path and (other.is_dir() or is_data(other)) and _held_out(other)
    ]
    if names:
        LOGGER.info(f"{origin}: named after a split, but beside it, so not read: {listed(names)}")


def _held_out(path: Path) -> bool:
    return bool((_exactly(path) if path.is_dir() else named_splits(path.name)) - {"train"})


def is_data(name: str | Path) -> bool:
    """Whether a file's ending is that of data, read or not."""
    return Path(name).suffix.lower() in (*READERS, *OTHER_FORMATS)


def _report_unread(unread: Iterable[tuple[Path, set[str]]], path: Path, files: Collection[str], origin: str) -> None:
    """Name the files that are named after a split and not read; refuse what would then be replaced.

    Raises:
        InputError: a split has no other file than such.
    """
    for file, named in unread:
        if is_data(file) and not named & set(files):
            name, split = file.relative_to(path).as_posix(), " and ".join(sorted(named))
            there = "can't be read" if file.suffix.lower() in READERS else f"doesn't end in {', '.join(READERS)}"
            raise InputError(
                f"{origin}: {name} is named as {split} data, but {there}; save it so, or move it elsewhere"
            )
    if names := [file.relative_to(path).as_posix() for file, _ in unread]:
        LOGGER.info(f"{origin}: named after a split, but no {', '.join(READERS)}, so not read: {listed(names)}")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
