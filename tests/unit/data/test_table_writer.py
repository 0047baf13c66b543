"""Tables are written with all their columns and new ones, or not at all."""

import csv
import datetime
import json
import resource
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from textrnn.base.errors import InputError
from textrnn.data.table_writer import check_output, table_writer
from textrnn.data.text_table import TEXTS_AT_A_TIME, WholeTable, read_texts_of, table_of_texts, whole_table

TEXTS = ['a "fine", film', "two\nlines\r\nand\rmore", "", "café; 映画\ttab", "NA"] * 30


def copied(table: WholeTable, output: Path, new: dict[str, type] | None = None) -> Path:
    """Write a table with a label and a probability for each row, in windows of two parts."""
    number = 0
    with table_writer(output, table, new or {"labels": list, "probability": float}) as writer:
        while parts := list(islice(table.rows, 2)):
            rows = range(number, number := number + sum(len(part.texts) for part in parts))
            writer.write(parts, {"labels": [["a", str(row)] for row in rows], "probability": [row / 7 for row in rows]})
    return output


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return found
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_csv_file_keeps_its_cells_in_every_format(tmp_path: Path, ending: str) -> None:
    source = tmp_path / "in.csv"
    cells = [{"id": f"{number:03}", "text": text, "": "x"} for number, text in enumerate(TEXTS)]
    with source.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["id", "text", ""], delimiter=";")
        table.writeheader()
        table.writerows(cells)
    written = rows_of(copied(whole_table(str(source), ["text"]), tmp_path / f"out.{ending}"))
    assert [{name: row[name] for name in ("id", "text", "")} for row in written] == cells
    for number, row in enumerate(written):
        labels = f"a|{number}" if ending in ("csv", "tsv") else ["a", str(number)]
        assert (row["labels"], float(row["probability"])) == (labels, number / 7)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.csv", f"out.{ending}"]


def typed_table(rows: int) -> pa.Table:
    return pa.table(
        {
            "text": [f"film {number}" for number in range(rows)],
            "stars": pa.array(range(rows), pa.int8()),
            "day": pa.array([datetime.date(2026, 11, 29)] * rows),
            "tags": pa.array([["a", None]] * rows, pa.list_(pa.string())),
            "gap": pa.array([None] * rows, pa.float32()),
        }
    )


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_types_are_kept_where_the_format_has_them(tmp_path: Path, ending: str) -> None:
    features = {"text": {"dtype": "string", "_type": "Value"}, "stars": {"names": ["a", "b"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table, source = typed_table(100).replace_schema_metadata(metadata), tmp_path / f"in.{ending}"
    if ending == "parquet":
        parquet.write_table(table, source)
    else:
        with pa.ipc.new_file(str(source), table.schema) as writer:
            writer.write_table(table)
    whole = whole_table(str(source), ["text"])
    assert whole.total == (100 if ending == "parquet" else None)
    written = parquet.read_table(copied(whole, tmp_path / "out.parquet"))
    assert written.select(table.column_names).equals(table)
    assert written.schema.field("probability").type == pa.float64()
    kept = json.loads(written.schema.metadata[b"huggingface"])["info"]["features"]
    assert kept == features | {
        "labels": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "probability": {"dtype": "float64", "_type": "Value"},
    }
    row = rows_of(copied(whole_table(str(source), ["text"]), tmp_path / "out.jsonl"))[99]
    assert (row["stars"], row["day"], row["tags"], row["gap"]) == (99, "2026-11-29", ["a", None], None)
    row = rows_of(copied(whole_table(str(source), ["text"]), tmp_path / "out.csv"))[99]
    assert (row["stars"], row["day"], row["tags"], row["gap"]) == ("99", "2026-11-29", '["a", null]', "")


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_json_rows_keep_their_own_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a", "half": "\ud83d"},
        {"id": 2**60, "text": "é"},
        {"text": "x", "more": {"a": [1.5, None]}},
    ]
    source = str(jsonl(tmp_path / "in.jsonl", rows))
    written = rows_of(copied(whole_table(source, ["text"]), tmp_path / "out.jsonl"))
    assert [{name: row[name] for name in row if name not in ("labels", "probability")} for row in written] == rows
    for ending in ("csv", "parquet"):
        with pytest.raises(InputError, match=r"which (csv|parquet) can't hold; give a file that ends in \.jsonl"):
            copied(whole_table(source, ["text"]), tmp_path / f"out.{ending}")
    rows = [{"text": "x", "n": 1, "deep": {"a": [1]}}, {"text": "y", "n": None, "deep": None}]
    source = str(jsonl(tmp_path / "in.jsonl", rows))
    assert rows_of(copied(whole_table(source, ["text"]), tmp_path / "out.parquet"))[0]["deep"] == {"a": [1]}
    assert rows_of(copied(whole_table(source, ["text"]), tmp_path / "out.csv"))[0]["deep"] == '{"a": [1]}'


@pytest.mark.parametrize("later", [{"text": "y", "n": "many"}, {"text": "y", "other": 1}])
def test_what_a_later_window_brings_must_fit(tmp_path: Path, later: dict[str, Any]) -> None:
    rows = [{"text": "x", "n": 1}] * (2 * TEXTS_AT_A_TIME)
    source = str(jsonl(tmp_path / "in.jsonl", [*rows, later]))
    with pytest.raises(InputError, match=r"out.parquet: a row.* of the first rows|the first rows lack"):
        copied(whole_table(source, ["text"]), tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_no_rows(tmp_path: Path, ending: str) -> None:
    written = copied(table_of_texts([]), tmp_path / f"out.{ending}")
    assert rows_of(written) == []
    if ending == "parquet":
        assert parquet.read_schema(written).names == ["text", "labels", "probability"]
    if ending == "csv":
        assert written.read_text() == "text,labels,probability\n"


def test_bytes_are_only_for_parquet(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"], "picture": [b"x"]}), tmp_path / "in.parquet")
    for ending in ("csv", "jsonl"):
        with pytest.raises(InputError, match=rf"of the type bytes, which {ending} can't hold; give .* \.parquet"):
            copied(whole_table(str(tmp_path / "in.parquet"), ["text"]), tmp_path / f"out.{ending}")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, ending: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"out\.\w+: can't be written \(File too large\); make room there"):
            copied(table_of_texts([f"film {number}" for number in range(9000)]), tmp_path / f"out.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    source = str(jsonl(tmp_path / "in.jsonl", [{"text": "\U0001f600"}, {"text": "half \ud83d"}]))
    for read in (lambda: whole_table(source, ["text"]).rows, lambda: read_texts_of(source, ["text"])):
        with pytest.raises(InputError, match="row 2 has half a character"):
            list(read())


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,a,a\nx,1,2\n")
    with pytest.raises(InputError, match="has 2 columns called 'a'; rename one"):
        whole_table(str(tmp_path / "in.csv"), ["text"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("out.xlsx", r"type a file that ends in \.csv, \.tsv, \.jsonl or \.parquet"),
        ("in.csv", "that is the file that is read"),
        ("there.csv", "is there already; remove it"),
        ("absent/out.csv", "there is no folder .*absent"),
    ],
)
def test_outputs_that_are_refused(tmp_path: Path, name: str, told: str) -> None:
    for there in ("in.csv", "there.csv"):
        (tmp_path / there).touch()
    with pytest.raises(InputError, match=told):
        check_output(str(tmp_path / name), str(tmp_path / "in.csv"))
    assert check_output(str(tmp_path / "OUT.CSV"), "-") == tmp_path / "OUT.CSV"
