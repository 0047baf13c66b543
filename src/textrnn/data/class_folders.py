"""A folder per class of text files, such as `train/pos/0_9.txt`: each text's label is the name of its folder."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import UNLABELLED
from textrnn.data.split_names import UNLABELLED_NAMES, exactly, is_unlabelled, listed, named_splits, real

_TEXTS = ("", ".txt")


def class_of(folder: Path, root: Path) -> str | None:
    """Return the class of the texts in a folder: the first name below `root` and the folder of a split."""
    parts = folder.relative_to(root).parts
    splits = [number for number, part in enumerate(parts) if named_splits(part)]
    below = parts[splits[-1] + 1 if splits else 0 :]
    return below[0] if below else None


def texts_of_classes(
    files: Sequence[Path], root: Path, origin: str, *, unlabelled: bool
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return the text files in the folders of classes, by split, and those named after none; name what isn't read.

    A folder such as `train/unsup` of aclImdb is no class: its texts have no labels.

    Args:
        files: All files below `root`, sorted.
        root: The folder that was typed.
        origin: It, as it was typed.
        unlabelled: Whether texts without labels are read.

    Raises:
        InputError: a file's split is not certain.
    """
    splits: dict[str, list[Path]] = {}
    others: list[Path] = []
    unread: list[str] = []
    for folder, group in groupby(files, key=lambda file: file.parent):
        members, name = list(group), class_of(folder, root)
        texts = [file for file in members if file.suffix.lower() in _TEXTS]
        if name is not None and name.lower() in UNLABELLED_NAMES:
            if unlabelled and is_unlabelled(*folder.relative_to(root).parts):
                splits.setdefault(UNLABELLED, []).extend(texts)
                continue
            LOGGER.info(f"{origin}: {folder.relative_to(root)} has no labels, so its {len(texts):,} texts are not read")
            continue
        if name is None:
            unread += [file.relative_to(root).as_posix() for file in members]
            continue
        there = set(texts)
        unread += [file.relative_to(root).as_posix() for file in members if file not in there]
        if texts:
            split = _split_of(folder, texts, root, origin)
            (others if split is None else splits.setdefault(split, [])).extend(texts)
    if (splits or others) and unread:
        LOGGER.info(f"{origin}: no text in the folder of a class, so not read: {listed(unread)}")
    return splits, others


def _split_of(folder: Path, texts: Iterable[Path], root: Path, origin: str) -> str | None:
    """Return the split that a folder of texts is named after, if any."""
    named = named_splits(*folder.relative_to(root).parts)
    if real(folder) != real(root) / folder.relative_to(root):
        named |= exactly(real(folder)) | exactly(real(folder).parent)
    for text in texts:
        held = named_splits(text.name) | (exactly(real(text).parent) if text.is_symlink() else set())
        if len(named | held) > 1 or held - named:
            raise InputError(
                f"{origin}: {text.relative_to(root).as_posix()} is named as {' and '.join(sorted(held | named))} data; "
                "move it into a folder of that split, such as test/pos, or rename it"
            )
    if len(named) > 1:
        splits = ", ".join(sorted(named))
        raise InputError(f"{origin}: {folder.relative_to(root)} is named after several splits ({splits}); rename it")
    return next(iter(named), None)


def digest(files: Iterable[Path], root: Path) -> str:
    """Return a digest of the files' names, sizes and times of change, which are too many to list."""
    seen = hashlib.blake2b(digest_size=10)
    for file in files:
        status = file.stat()
        seen.update(f"{file.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return seen.hexdigest()
