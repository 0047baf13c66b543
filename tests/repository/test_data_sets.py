"""The shipped data sets: each `data=NAME` reads a small data set in the shape that the Hub has it in.

Shapes are those of the cards (`dataset_info` and `configs` of README.md in the repositories) and, where a card has
none, of the files: SetFit/20_newsgroups and SetFit/TREC-QC are train.jsonl and test.jsonl. One process reads them all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from doubles.hub import LoopbackHub

from textrnn.config.overrides import CONF_DIR
from textrnn.data.store import Store

Shape = tuple[str, dict[str, Any], dict[str, int]]
"""Repository; columns with their types or the names of classes; rows of each split in its config."""

STARS = ["1 star", "2 star", "3 stars", "4 stars", "5 stars"]
THINGS = (
    "Company EducationalInstitution Artist Athlete OfficeHolder MeanOfTransportation Building NaturalPlace Village "
    "Animal Plant Album Film WrittenWork"
)
TITLED = {"title": "string", "content": "string"}
SHAPES: dict[str, Shape] = {
    "sst2": (
        "stanfordnlp/sst2",
        {"idx": "int32", "sentence": "string", "label": ["negative", "positive"]},
        {"data/train": 60, "data/validation": 8, "data/test": 6},
    ),
    "rotten_tomatoes": (
        "cornell-movie-review-data/rotten_tomatoes",
        {"text": "string", "label": ["neg", "pos"]},
        {"train": 60, "validation": 8, "test": 6},
    ),
    "ag_news": (
        "fancyzhx/ag_news",
        {"text": "string", "label": ["World", "Sports", "Business", "Sci/Tech"]},
        {"data/train": 80, "data/test": 8},
    ),
    "yelp_polarity": (
        "fancyzhx/yelp_polarity",
        {"text": "string", "label": ["1", "2"]},
        {"plain_text/train": 60, "plain_text/test": 6},
    ),
    "yelp_full": (
        "Yelp/yelp_review_full",
        {"label": STARS, "text": "string"},
        {"yelp_review_full/train": 90, "yelp_review_full/test": 10},
    ),
    "amazon_polarity": (
        "fancyzhx/amazon_polarity",
        {"label": ["negative", "positive"], **TITLED},
        {"amazon_polarity/train": 60, "amazon_polarity/test": 6},
    ),
    "dbpedia": (
        "fancyzhx/dbpedia_14",
        {"label": THINGS.split(), **TITLED},
        {"dbpedia_14/train": 280, "dbpedia_14/test": 14},
    ),
    "trec": (
        "SetFit/TREC-QC",
        {"text": "string", "label": range(12), "label_coarse": range(6)},
        {"train": 120, "test": 12},
    ),
    "twenty_newsgroups": (
        "SetFit/20_newsgroups",
        {"text": "string", "label": range(20), "label_text": [f"group.{number}" for number in range(20)]},
        {"train": 300, "test": 20},
    ),
    "emotion": (
        "dair-ai/emotion",
        {"text": "string", "label": ["sadness", "joy", "love", "anger", "fear", "surprise"]},
        {"split/train": 120, "split/validation": 12, "split/test": 12, "unsplit/train": 10},
    ),
}


def write(folder: Path, name: str) -> None:
    """Write a data set in a shape of `SHAPES`, with a card where the Hub's has one."""
    _, columns, splits = SHAPES[name]
    card: dict[str, Any] = {}
    for place, rows in splits.items():
        config, _, split = place.rpartition("/")
        named = {column: kind for column, kind in columns.items() if not isinstance(kind, str)}
        table: dict[str, list[Any]] = {}
        table |= {
            column: [f"{column} {n} of {place}" for n in range(rows)] for column in columns if column not in named
        }
        table |= {column: [n % len(kind) for n in range(rows)] for column, kind in named.items()}
        folder.joinpath(config).mkdir(parents=True, exist_ok=True)
        if name in ("trec", "twenty_newsgroups"):
            texts = {column: kind for column, kind in named.items() if isinstance(kind, list)}
            table |= {column: [kind[n] for n in table[column]] for column, kind in texts.items()}
            lines = [json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)]
            folder.joinpath(f"{split}.jsonl").write_text("\n".join(lines))
            continue
        if "idx" in table:
            table["idx"] = list(range(rows))
        if name == "sst2" and split == "test":
            table["label"] = [-1] * rows
        kinds = {column: ClassLabel(names=kind) if column in named else Value(kind) for column, kind in columns.items()}
        Dataset.from_dict(table, features=Features(kinds)).to_parquet(
            folder / config / f"{split}-00000-of-00001.parquet"
        )
        entry = card.setdefault(config or "default", {"features": [], "splits": [], "files": []})
        entry["features"] = Features(kinds)._to_yaml_list()
        entry["splits"].append({"name": split, "num_bytes": 1, "num_examples": rows})
        entry["files"].append({"split": split, "path": f"{place}-*"})
    if card:
        info = [{"config_name": c, "features": e["features"], "splits": e["splits"]} for c, e in card.items()]
        configs: list[dict[str, Any]] = [{"config_name": c, "data_files": e["files"]} for c, e in card.items()]
        if name == "emotion":
            configs[0]["default"] = True
        folder.joinpath("README.md").write_text(
            f"---\n{yaml.safe_dump({'dataset_info': info, 'configs': configs})}---\n"
        )


READ = """
import json, sys
from dataclasses import replace
from textrnn.config.compose import compose
from textrnn.config.schema import SPLITS
from textrnn.data.columns import find_columns
from textrnn.data.store import open_source, prepare_store
seen = {}
for name in sys.argv[2:]:
    data = replace(compose([f"data={name}"]).data, cache_dir=sys.argv[1])
    source = open_source(data)
    rows = {split: source.expected_rows((split,)) for split in SPLITS}
    found = find_columns(source._columns("train"), name, data)
    seen[name] = {"rows": rows, "columns": [*found.text_columns(), found.label_column]}
    if STORES:
        store = prepare_store(replace(data, segment_size=None))
        seen[name]["classes"] = store.classes
        seen[name]["rows"] = {split: counts["reviews"] for split, counts in store.meta["splits"].items()}
print(json.dumps(seen))
"""
HAS_CLASSES = hasattr(Store, "classes")
"""Whether stores have other classes than negative and positive; otherwise only columns and splits are read."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("hub")
    with LoopbackHub(place / "none") as hub:
        for name, (repo, _, _) in SHAPES.items():
            write(place / name, name)
            hub.others[repo] = place / name
        done = subprocess.run(
            [sys.executable, "-c", READ.replace("STORES", str(HAS_CLASSES)), str(place / "cache"), *SHAPES],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(place / "home"), "USE_TORCH": "0"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shipped_data_set_is_read(seen: dict[str, Any], name: str) -> None:
    _, columns, splits = SHAPES[name]
    rows = seen[name]["rows"]
    held = {place.rpartition("/")[2]: count for place, count in splits.items() if not place.startswith("unsplit")}
    if name == "sst2":  # the labels of its test split are hidden
        held = {"train": held["train"], "test": held["validation"]}
    if all(count is not None for count in rows.values()):  # no card has the numbers of jsonl files
        assert sum(rows.values()) == sum(held.values())
        assert rows["test"] == held["test"]
    *texts, label = seen[name]["columns"]
    assert texts == [column for column, kind in columns.items() if kind == "string"]
    if HAS_CLASSES:
        assert len(seen[name]["classes"]) == len(columns[label])


def test_every_shipped_data_set_is_tried() -> None:
    assert {path.stem for path in CONF_DIR.glob("data/*.yaml")} == {*SHAPES, "imdb", "synthetic"}
