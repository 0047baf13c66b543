"""Csv and json files as people have them: delimiters, compression, encodings, and files that are damaged."""

import bz2
import gzip
import json
import logging
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from doubles.review_files import read, refusal, reviews, write

from textrnn.data.table_files import SHUFFLE_BUFFER, mixed

ROWS = reviews(60)


def texts_of(path: Path, **options: Any) -> list[tuple[str, Any]]:
    return [(row.text, row.label) for row in read(path, **options)]


@pytest.mark.parametrize(
    ("name", "delimiter", "told"),
    [
        ("a.csv", ",", None),
        ("a.tsv", "\t", None),
        ("a.csv", ";", "semicolons"),
        ("a.csv", "|", "vertical bars"),
        ("a.csv", "\t", "tabs"),
        ("a.tsv", ",", "commas"),
    ],
)
def test_the_delimiter_is_found(
    tmp_path: Path,
    name: str,
    delimiter: str,
    told: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / name
    lines = ["text,label", *(f'"review {n}, with; all | of\tthem",{n % 2}' for n in range(60))]
    path.write_text("\n".join(delimiter.join(line.rsplit(",", 1)) for line in lines))
    with caplog.at_level(logging.INFO, "textrnn"):
        assert texts_of(path) == [(f"review {n}, with; all | of\tthem", n % 2) for n in range(60)]
    where = f"data.path={path}: {name}: its columns are separated by {told}"
    assert caplog.messages == ([where] if told else [])
    assert texts_of(path, delimiter="tab" if delimiter == "\t" else delimiter) == texts_of(path)


def test_a_typed_delimiter_decides(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,of,it#label\n" + "".join(f"fine, {n}, so on#{n % 2}\n" for n in range(60)))
    assert "no column 'text'" not in refusal(path)  # found: commas
    assert read(path, delimiter="#", text_column="text,of,it")[7].text == "fine, 7, so on"


@pytest.mark.parametrize("start", ["\ufeff", "sep=;\r\n", "\ufeffsep=;\r\n", "\r\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path: Path, start: str, end: str) -> None:
    path = tmp_path / "mine.csv"
    lines = [f'"review {n}{end}""quoted"" and a 2nd line";{n % 2}' for n in range(60)]
    path.write_bytes((start + end.join(["text;label", *lines, "", ""])).encode())
    assert texts_of(path) == [(f'review {n}{end}"quoted" and a 2nd line', n % 2) for n in range(60)]


def zstd(content: bytes) -> bytes:
    compressed = pa.compress(content, codec="zstd", asbytes=True)
    assert isinstance(compressed, bytes)
    return compressed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_compressed_files(tmp_path: Path, packer: str, ending: str) -> None:
    content = write(tmp_path / "plain" / f"a.{ending}", ROWS).read_bytes()
    path = tmp_path / f"mine.{ending}{packer}"
    path.write_bytes(PACKERS[packer](content))
    assert texts_of(path) == ROWS
    path.write_bytes(PACKERS[packer](content * 9)[:-200])
    message = refusal(path)
    assert f"{path.name} cannot be read as {'csv' if ending == 'csv' else 'json'} (after" in message
    path.write_bytes(b"nothing of the sort, and longer than a header")
    assert f"{path.name} cannot be read as" in refusal(path)


def test_a_zip_archive_holds_one_file_whose_name_counts(tmp_path: Path) -> None:
    path, content = tmp_path / "archive.zip", write(tmp_path / "plain" / "a.csv", ROWS).read_bytes()

    def pack(*names: str) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, content)

    pack("IMDB Dataset.csv", "__MACOSX/._IMDB Dataset.csv")
    assert texts_of(path) == ROWS
    pack("test.csv")
    assert "named as test data, which is never trained on" in refusal(path)
    pack("a.csv", "b.csv")
    assert "holds several files (a.csv, b.csv); unpack it and type data.path=FOLDER" in refusal(path)
    pack("notes.txt")
    assert "unknown ending '.zip'" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_encodings_are_typed(tmp_path: Path, encoding: str, ending: str) -> None:
    path = write(tmp_path / f"mine.{ending}", ROWS)
    text = path.read_text(encoding="utf-8")
    if ending == "jsonl":
        text = "".join(json.dumps(json.loads(line), ensure_ascii=False) + "\n" for line in text.splitlines())
    path.write_text(text, encoding=encoding, newline="")
    message = refusal(path)
    assert f"mine.{ending} is not UTF-8 text (after 0 rows: invalid" in message
    assert f"type data.encoding={encoding} or the encoding that it has" in message
    assert [text.replace("\r\n", "\n") for text, _ in texts_of(path, encoding=encoding)] == [t for t, _ in ROWS]
    assert "is not ASCII text" in refusal(path, encoding="ascii")


def test_json_that_is_an_array(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"text": text, "label": label, "n": {}} for text, label in ROWS], indent=2))
    assert texts_of(path) == ROWS
    path.write_text("[1, 2]")
    assert "no column 'text' (columns: none)" in refusal(path)
    path.write_text('[{"text": "a", "label": 1}, 5]')
    assert "row 1 is no object with columns" in refusal(path)
    path.write_text('{"text": "a",\n "label": 1}')
    assert "cannot be read as json (after 0 rows: Expecting property name" in refusal(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text;label\ngood;1\nbad,0\n", "row 1 has 1 fields between semicolons, and the header 2"),
        ("text,label\ngood, very good,1\n", "row 0 has 3 fields between commas, and the header 2: texts with commas"),
        ("text,text,label\na,b,1\n", "it has 2 columns called 'text'"),
        ('text,label\n"good" film,1\n', "',' expected after '\"'"),
        ('text,label\n"a \\"good\\" film",1\n', 'quotes within its texts are written \\", and csv doubles them: "";'),
        ('text,label\n"he \\"ends\\"",1\n"and, another",1\n', "escapechar="),
        ('text,label\n"C:\\",1\n"good" film,1\n', "',' expected after '\"'"),
    ],
)
def test_rows_that_dont_fit_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    assert told in refusal(path)


def test_mixed_streams_are_the_same_values_in_a_fixed_order() -> None:
    def streams() -> list[list[int]]:
        return [[0] * 15_000, [1] * 9_000, *([2] for _ in range(30))]

    seen = list(mixed(map(iter, streams())))
    assert seen == list(mixed(map(iter, streams())))
    assert sorted(seen) == sorted(value for stream in streams() for value in stream)
    assert 0.3 < sum(value == 1 for value in seen[:1000]) / 1000 < 0.7
    assert len(seen) > SHUFFLE_BUFFER
