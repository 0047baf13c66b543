"""Which split a file, a folder or a split of the Hub is named after, and the files of a folder by their splits.

Nothing that names a split is pooled, left out or replaced in silence: it is read as that split, refused, or named in a
line as not read. `datasets` recognizes fewer names (`datasets.data_files.SPLIT_KEYWORDS`), and falls back to pooling.
"""

import functools
import json
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import SPLITS, UNLABELLED
from textrnn.data.class_folders import texts_of_classes
from textrnn.data.formats import COMPRESSED, READERS, is_data, reader_of, zipped_name, zipped_names
from textrnn.data.split_names import exactly, is_unlabelled, listed, named_splits, real, refuse_glued_names

FORMATS = "a folder or a csv, tsv, json, jsonl, parquet or arrow file"
_SAVED = ("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""What `save_to_disk` of `datasets` writes beside the rows."""


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


def files_by_split(
    paths: Sequence[Path], origin: str, *, unlabelled: bool = False, measured: bool = False
) -> tuple[Path, dict[str, list[Path]]]:
    """The folder of all files, and the files to read in each split, at least in train; says which are not read.

    Args:
        paths: A folder, or a file, which is cut; or several of them.
        origin: Where the rows come from as it is typed, such as "data.path=reviews.csv".
        unlabelled: Whether there are to be files in the split `UNLABELLED` too.
        measured: Whether a model is only measured on the files: there need be none in train, and there may be any.

    Raises:
        InputError: there is no training file, or no unlabelled one, or a file's split is not certain.
    """
    root, files = _labeled_and_unlabelled(paths, origin, unlabelled=unlabelled, measured=measured)
    if unlabelled and UNLABELLED not in files:
        raise InputError(
            f"data.unlabelled=true: {origin} holds no unlabelled reviews; put a file such as unlabelled.csv, or a "
            "folder of texts called unlabelled, beside the training files"
        )
    return root, files


def _labeled_and_unlabelled(
    paths: Sequence[Path], origin: str, *, unlabelled: bool, measured: bool
) -> tuple[Path, dict[str, list[Path]]]:
    if len(paths) == 1 and paths[0].is_file():
        return paths[0].parent, {"train": [_one_file(paths[0], origin, measured=measured)]}
    root = paths[0] if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))
    walked = list(dict.fromkeys(file for p in paths for file in (_walk(p, origin) if p.is_dir() else [p])))
    if any(reader_of(file) and file.name not in _SAVED for file in walked):
        files, others, unread = _sorted_out(walked, root, origin, unlabelled=unlabelled)
        _report_unread(unread, root, files, origin)
    else:
        texts = [file for file in walked if file.is_file()]
        files, others = texts_of_classes(texts, root, origin, unlabelled=unlabelled)
    if not files and not others:
        raise InputError(
            f"{origin} holds no file ending in {', '.join(READERS)}, and no folder of text files for each class; put "
            "a train file there: train.csv"
        )
    if "train" in files:
        _report_others(others, root, origin)
        return root, files
    if not others:
        if measured:
            return root, files
        raise InputError(
            f"{origin} holds only files for {' and '.join(files)}; put a train file there, such as train.csv"
        )
    return root, {"train": _as_training(others, root, origin, alone=len(paths) == 1, measured=measured), **files}


def _one_file(path: Path, origin: str, *, measured: bool) -> Path:
    if reader_of(path) is None:
        inside = zipped_names(path)
        if len(inside) > 1:
            raise InputError(f"{origin} holds several files ({listed(inside)}); unpack it and type data.path=FOLDER")
        raise InputError(
            f"{origin} has the unknown ending {path.suffix!r}; type data.path={FORMATS} ({', '.join(READERS)}; csv and "
            f"json may be compressed, {', '.join(COMPRESSED)})"
        )
    if measured:
        return path
    for file in (path, real(path)):
        _refuse_to_train_on(_named(file, file.parent) | exactly(file.parent), origin)
    _report_beside(path, origin)
    return path


def _as_training(files: list[Path], root: Path, origin: str, *, alone: bool, measured: bool) -> list[Path]:
    """Return files that are named after no split as the training files; `alone`: they are of one folder."""
    shown = files if reader_of(files[0]) else dict.fromkeys(file.parent for file in files)
    names = [path.relative_to(root).as_posix() for path in shown]
    refuse_glued_names(names, origin)
    if measured:
        return files
    for folder in (root, real(root)):
        _refuse_to_train_on(exactly(folder), origin)
    LOGGER.info(f"{origin}: named after no split, so read as training reviews: {listed(names)}")
    if exactly(root) and alone:
        _report_beside(root, origin)
    return files


def _named(file: Path, root: Path) -> set[str]:
    """The splits that a file below `root` is named after, by itself, its archive or the split that was saved in it."""
    names = list(file.relative_to(root).parts)
    if file.suffix.lower() == ".zip":
        names.append(zipped_name(file) or "")
    named = named_splits(*names)
    state = _saved_state(file.parent) if file.suffix.lower() == ".arrow" and not named else None
    return named if state is None else named_splits(str(state.get("_split") or ""))


def _sorted_out(
    walked: Iterable[Path], root: Path, origin: str, *, unlabelled: bool
) -> tuple[dict[str, list[Path]], list[Path], list[tuple[Path, set[str]]]]:
    """The files by split, those named after none, and those named after one that are not read."""
    names: dict[Path, set[str]] = {}
    first: dict[Path, Path] = {}  # of the paths to a file, of which links make several
    for file in walked:
        state = _saved_state(file.parent)
        saved = () if state is None else [str(rows.get("filename")) for rows in state["_data_files"]]
        # `datasets` also keeps cache-*.arrow there, which is not part of what was saved.
        if file.name in _SAVED if state is None else file.name not in saved:
            continue
        relative, target = file.relative_to(root), real(file)
        named = _named(file, root)
        if target != real(root) / relative:
            named |= named_splits(target.name) | exactly(target.parent)
        names.setdefault(target, set()).update(named)
        first.setdefault(target, file)
    files: dict[str, list[Path]] = {}
    others: list[Path] = []
    unread: list[tuple[Path, set[str]]] = []
    for target, file in first.items():
        named = names[target]
        if reader_of(file) is None or not file.is_file():
            unread += [(file, named)] if named else []
        elif len(named) > 1:
            raise InputError(
                f"{origin}: {file.relative_to(root).as_posix()} is named after several splits "
                f"({', '.join(sorted(named))}; its folders and links count); rename it, or move it elsewhere"
            )
        elif unlabelled and named <= {"train"} and is_unlabelled(*file.relative_to(root).parts):
            files.setdefault(UNLABELLED, []).append(file)
        else:
            (files.setdefault(next(iter(named)), []) if named else others).append(file)
    return files, others, unread


@functools.cache
def _saved_state(folder: Path) -> Any:
    """The record that `save_to_disk` writes beside a data set's rows: the names of their files, and the split."""
    try:
        state = json.loads((folder / _SAVED[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and isinstance(state.get("_data_files"), list) else None


def _walk(path: Path, origin: str) -> list[Path]:
    """Files and empty folders in a folder and in those that it links to, in order, hidden ones left out."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{origin}: {error.filename} can't be read ({error.strerror}); make it readable") from error

    found: list[Path] = []
    for folder, folders, names in os.walk(path, followlinks=True, onerror=refuse):
        here = Path(folder)
        way = {real(above) for above in (here, *here.parents)}  # on which a link back would have no end
        folders[:] = [name for name in folders if name[0] != "." and real(here / name) not in way]
        found += [here / name for name in names if name[0] != "."] if names or folders else [here]
    return sorted(found)


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


def _report_others(others: Iterable[Path], root: Path, origin: str) -> None:
    unlabelled: list[str] = []
    rest: list[str] = []
    for path in (file.relative_to(root) for file in others):
        (unlabelled if is_unlabelled(*path.parts) else rest).append(path.as_posix())
    if unlabelled:
        LOGGER.info(f"{origin}: not read without data.unlabelled=true: {listed(unlabelled)}")
    if rest:
        LOGGER.info(f"{origin}: named after no split, so not read: {listed(rest)}")


def _held_out(path: Path) -> bool:
    return bool((exactly(path) if path.is_dir() else named_splits(path.name)) - {"train"})


def _report_unread(unread: Iterable[tuple[Path, set[str]]], path: Path, files: Collection[str], origin: str) -> None:
    """Name the files that are named after a split and not read; refuse what would then be replaced.

    Raises:
        InputError: a split has no other file than such.
    """
    for file, named in unread:
        if is_data(file) and not named & set(files):
            name, split = file.relative_to(path).as_posix(), " and ".join(sorted(named))
            there = "can't be read" if reader_of(file) else f"doesn't end in {', '.join(READERS)}"
            raise InputError(
                f"{origin}: {name} is named as {split} data, but {there}; save it so, or move it elsewhere"
            )
    if names := [file.relative_to(path).as_posix() for file, _ in unread]:
        LOGGER.info(f"{origin}: named after a split, but no {', '.join(READERS)}, so not read: {listed(names)}")
