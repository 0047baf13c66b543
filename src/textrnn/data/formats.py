"""What a file's name says: its reader, how it is compressed; and its text, decompressed and decoded."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

READERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv"} | dict.fromkeys(
    (".jsonl", ".ndjson", ".json"), "json"
)
"""How files are read, by their endings."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings after those of csv and json files. A zip archive holds one file, whose name counts."""
OTHER_FORMATS = (".feather", ".xls", ".xlsx", ".ods", ".xml", ".pkl", ".tar", ".tgz", ".7z", ".rar")
"""Endings of data that are not read; other files, such as scripts and notes, may be named after a split too."""
UNREADABLE = (OSError, EOFError, ValueError, csv.Error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What the libraries raise for a damaged file."""


def reader_of(path: Path) -> str | None:
    """Return how a file is read: "csv", "json", "parquet" or "arrow"; None for another kind of file."""
    if path.suffix.lower() not in COMPRESSED:
        return READERS.get(path.suffix.lower())
    inside = zipped_name(path) if path.suffix.lower() == ".zip" else path.stem
    reader = READERS.get(Path(inside or "").suffix.lower())
    return reader if reader in ("csv", "json") else None


def is_data(path: str | Path) -> bool:
    """Return whether a file's ending is that of data, read or not."""
    return Path(path).suffix.lower() in (*READERS, *COMPRESSED, *OTHER_FORMATS)


def zipped_name(path: Path) -> str | None:
    """Return the name of the only file in a zip archive; None if it holds several, or is none."""
    names = zipped_names(path)
    return names[0] if len(names) == 1 else None


def zipped_names(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, without what macOS adds."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]


@contextlib.contextmanager
def opened_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """Open a file's text, without a byte order mark and with the line ends that it has."""
    with contextlib.ExitStack() as stack:
        binary = _opened(path, stack)
        name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        yield stack.enter_context(io.TextIOWrapper(binary, encoding=name, newline=""))


def _opened(path: Path, stack: contextlib.ExitStack) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], stack.enter_context(gzip.open(path)))
        case ".bz2":
            return cast(IO[bytes], stack.enter_context(bz2.open(path)))
        case ".xz":
            return cast(IO[bytes], stack.enter_context(lzma.open(path)))
        case ".zst":
            import pyarrow as pa

            return cast(IO[bytes], stack.enter_context(pa.input_stream(str(path), compression="zstd")))
        case ".zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            return stack.enter_context(archive.open(str(zipped_name(path))))
    return stack.enter_context(path.open("rb"))
