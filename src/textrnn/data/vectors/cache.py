"""The cache of text files of vectors, which are read once and kept as NAME.npy and NAME.txt for memory-mapping.

An entry is a folder named by the text file's path, size and time. It is written under another name and renamed when it
is whole, under a lock: of many processes that need it, one reads the text.
"""

import contextlib
import hashlib
import time
from pathlib import Path
from typing import IO

import numpy as np

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors, making, replacing_folder
from textrnn.config.checks import words_file
from textrnn.data.vectors.arrays import WordVectors, open_array
from textrnn.data.vectors.text_file import read_text_vectors

FORMAT = 1
"""Version of the kept files and their rules."""


def open_text(path: Path, size: int, name: str, cache: Path) -> WordVectors:
    """Open the vectors of a text file, from `cache`, or read the text and keep it there.

    Args:
        path: The file.
        size: Components of a vector.
        name: The path as typed.
        cache: Folder of kept files, made if necessary.

    Raises:
        InputError: the file is invalid, or the disk has no room.

    """
    kept = cache / _key(path, size, name)
    with contextlib.suppress(InputError):  # missing or damaged
        return open_array(kept / "vectors.npy", size, name)
    with making(kept, "reads vectors into"):
        with contextlib.suppress(InputError):  # as above; another process may have kept it while this one waited
            return open_array(kept / "vectors.npy", size, name)
        started = time.monotonic()
        with replacing_folder(kept) as draft, disk_errors(cache):
            rows = _convert(path, size, name, draft / "vectors.npy")
    LOGGER.info(f"{rows:,} vectors of {name} read in {time.monotonic() - started:.0f} s and kept in {kept}")
    return open_array(kept / "vectors.npy", size, name)


def _key(path: Path, size: int, name: str) -> str:
    try:
        real = path.resolve(strict=True)
        state = real.stat()
    except OSError as error:
        raise InputError(
            f"model.embedding.vectors={name} can't be read ({error.strerror}); give a text file with a word and"
            f" {size} numbers per line."
        ) from error
    facts = (str(real), state.st_size, state.st_mtime_ns, size, FORMAT)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def _convert(path: Path, size: int, name: str, array: Path) -> int:
    """Write the words and vectors of a text file; return the number of words."""
    rows = 0
    with array.open("wb") as numbers, words_file(array).open("wb") as words:
        _write_header(numbers, rows, size)
        for some, vectors in read_text_vectors(path, size, name):
            vectors.tofile(numbers)
            words.write(b"\n".join(some) + b"\n")
            rows += len(some)
        if not rows:
            raise InputError(f"model.embedding.vectors={name} has no vector for any word; give another file.")
        numbers.seek(0)
        _write_header(numbers, rows, size)
    return rows


def _write_header(file: IO[bytes], rows: int, size: int) -> None:
    """Write NumPy's own header, which has room for a first axis of any length and can be overwritten in place."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, size)})
