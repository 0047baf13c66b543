"""Vectors in a text file, a word and its numbers per line: the formats of GloVe and word2vec, also as .gz or .zip."""

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from textrnn.base.console import Progress
from textrnn.base.errors import InputError

LINES_AT_A_TIME = 1000
MEGABYTE = 10**6

Floats = npt.NDArray[np.float32]


def read_text_vectors(path: Path, size: int, name: str) -> Iterator[tuple[list[bytes], Floats]]:
    """Read a file of vectors, `LINES_AT_A_TIME` words at a time, with a progress bar.

    A first line "words size" (the format of word2vec) is checked against the other lines. A word may contain spaces, as
    some of glove.840B do. Words are bytes, as such files have some in broken encodings.

    Args:
        path: The file; in a .zip with several, the one whose name contains ".100d." is read for size 100.
        size: Components of a vector.
        name: The path as typed.

    Yields:
        Words, and their vectors, (words, size).

    Raises:
        InputError: the file can't be read or is too short, a line is malformed, or vectors have another size.

    """
    words: list[bytes] = []
    numbers: list[bytes] = []
    promised: int | None = None
    number = rows = shown = blank = 0
    try:
        with _opened(path, size, name) as (lines, length, place), _progress(length) as progress:
            for at, line in enumerate(lines, start=1):
                fields = line.rstrip().split(b" ")
                if fields == [b""]:  # allowed at the end, where editors leave some
                    blank = blank or at
                    continue
                if blank:
                    raise _malformed(name, blank, size)
                number = at
                if number == 1 and _is_header(fields, name, size):
                    promised = int(fields[0])
                    continue
                words.append(_word(fields, name, number, size, first=rows == 0))
                numbers += fields[-size:]
                rows += 1
                if len(words) == LINES_AT_A_TIME:
                    yield words, _vectors(numbers, size, name, number)
                    words, numbers = [], []
                    progress.advance(place() // MEGABYTE - shown)
                    shown = place() // MEGABYTE
            if words:
                yield words, _vectors(numbers, size, name, number)
    # RuntimeError: an archive with a password.
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        where = f" after line {number}" if number else ""
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"model.embedding.vectors={name} can't be read{where} ({reason}); give a whole text file with a word and "
            f"{size} numbers per line."
        ) from error
    if promised is not None and rows != promised:
        raise InputError(
            f"model.embedding.vectors={name}: line {number} is the last one, after {rows} words, but line 1 says "
            f"{promised}; get the whole file."
        )


def check_size(actual: int, name: str, size: int) -> None:
    """Raise InputError unless the vectors called `name` are as long as the model's."""
    if actual != size:
        raise InputError(
            f"model.embedding.size={size}, but the vectors in model.embedding.vectors={name} have {actual} numbers;"
            f" type model.embedding.size={actual}, or give another file."
        )


def _progress(length: int) -> Progress:
    return Progress("read", length // MEGABYTE, "MB of vectors")


@contextlib.contextmanager
def _opened(path: Path, size: int, name: str) -> Iterator[tuple[IO[bytes], int, Callable[[], int]]]:
    """The lines of a file, its length in bytes, and how many of these are read; of a .gz both as they are packed."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, size, name)
            with archive.open(member) as packed:
                yield packed, member.file_size, packed.tell
        return
    with path.open("rb") as raw:
        # A GzipFile is read like any file, but its type says otherwise.
        lines: IO[bytes] = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
        yield lines, path.stat().st_size, raw.tell


def _member(archive: zipfile.ZipFile, size: int, name: str) -> zipfile.ZipInfo:
    """The file of an archive that holds vectors of this size, as glove.6B.zip has one for each of four sizes."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    fitting = members if len(members) == 1 else [member for member in members if f".{size}d." in member.filename]
    if len(fitting) != 1:
        raise InputError(
            f"model.embedding.vectors={name}: which file has vectors of model.embedding.size={size}? It has "
            f"{', '.join(member.filename for member in members) or 'none'}; unpack it and give the file."
        )
    return fitting[0]


def _is_header(fields: list[bytes], name: str, size: int) -> bool:
    """Return whether the first line is word2vec's "words size"; with size 1 it could be any other word."""
    if size == 1 or len(fields) != 2 or not all(field.isdigit() for field in fields):
        return False
    check_size(int(fields[1]), name, size)
    return True


def _word(fields: list[bytes], name: str, number: int, size: int, *, first: bool) -> bytes:
    """Return the word of a line; its numbers are only counted here."""
    if b"" in fields[max(1, len(fields) - size - 1) :]:
        raise _malformed(name, number, size)
    if first and len(fields) > 2:
        check_size(len(fields) - 1, name, size)
    # With more numbers than `size` the line is malformed, and not a word with spaces.
    if len(fields) <= size or (len(fields) > size + 1 and _is_number(fields[-size - 1])):
        raise _malformed(name, number, size)
    return b" ".join(fields[:-size])


def _malformed(name: str, number: int, size: int) -> InputError:
    return InputError(
        f"model.embedding.vectors={name}: line {number} is not a word and {size} numbers with one space before each;"
        " repair or remove it."
    )


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _vectors(numbers: list[bytes], size: int, name: str, last: int) -> Floats:
    """Return the numbers of some lines, of which `last` is the last one."""
    with contextlib.suppress(ValueError):
        vectors = _floats(numbers).reshape(-1, size)
        if np.isfinite(vectors).all():
            return vectors
    rows = len(numbers) // size
    bad = next(row for row in range(rows) if not _are_finite(numbers[row * size : (row + 1) * size]))
    raise InputError(
        f"model.embedding.vectors={name}: line {last - rows + 1 + bad} has a value that is not a finite number."
    )


def _floats(numbers: list[bytes]) -> Floats:
    with np.errstate(over="ignore"):  # too large for float32, so infinite, which is refused
        return np.array(numbers, dtype=np.float32)


def _are_finite(numbers: list[bytes]) -> bool:
    try:
        return bool(np.isfinite(_floats(numbers)).all())
    except ValueError:
        return False
