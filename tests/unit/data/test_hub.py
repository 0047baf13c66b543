"""The Hub as a source, through the real client and a Hub on loopback that can fail like the real one.

Every case runs in a process of its own, because the client reads HF_ENDPOINT when it is imported.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from doubles.hub import LoopbackHub
from pyarrow import parquet
from support import TESTS

REPO = "stanfordnlp/imdb"
LABELS = ClassLabel(names=["neg", "pos"])
CARD = """---
dataset_info:
  config_name: plain_text
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names: {{'0': neg, '1': pos}}
  splits:
  - {{name: train, num_bytes: 1, num_examples: {train}}}
  - {{name: test, num_bytes: 1, num_examples: 50}}
  - {{name: unsupervised, num_bytes: 1, num_examples: 10}}
configs:
- config_name: plain_text
  default: true
  data_files:
  - {{split: train, path: plain_text/train-*}}
  - {{split: test, path: plain_text/test-*}}
  - {{split: unsupervised, path: plain_text/unsupervised-*}}
---
"""

PRELUDE = """
import json, sys, time
hosts = set()
sys.addaudithook(lambda event, args: event == "socket.getaddrinfo" and hosts.add(args[0]))

from textrnn.config.schema import DataConfig
from textrnn.config.schema import ALL_SPLITS, SPLITS, SplitsConfig
from textrnn.data.hub import HubUnreachable
from textrnn.data.store import open_source
from textrnn.base.errors import InputError
def outcome(work):
    started = time.monotonic()
    try:
        result = work()
    except (HubUnreachable, InputError) as error:
        result = [type(error).__name__, str(error)]
    return {"result": result, "seconds": time.monotonic() - started}
def unlabelled(split):
    return open_source(DataConfig(unlabelled=True, splits=SplitsConfig(unlabelled=split)))
def out(**results):
    print(json.dumps({**results, "hosts": sorted(map(str, hosts))}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 training rows in two files of 150, 50 test rows, 10 without labels."""
    root = tmp_path / "repository"
    (root / "plain_text").mkdir(parents=True)
    (root / "README.md").write_text(CARD.format(train=300))
    (root / ".gitattributes").write_text("*.parquet filter=lfs\n")
    for name, start, count in (
        ("train-00000-of-00002", 0, 150),
        ("train-00001-of-00002", 150, 150),
        ("test-00000-of-00001", 1000, 50),
        ("unsupervised-00000-of-00001", 2000, 10),
    ):
        labels = [-1 if start == 2000 else number % 2 for number in range(count)]
        table = pa.table({"text": [f"review {number}" for number in range(start, start + count)], "label": labels})
        parquet.write_table(table, root / "plain_text" / f"{name}.parquet")
    return root


@pytest.fixture
def hub(folder: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(folder) as served:
        yield served


def ask(url: str, home: Path, code: str, **environment: str) -> dict[str, Any]:
    """What `code` gives to `out`, run by a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    finished = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        # Without torch, which the client would only import to see whether it is in one of torch's data workers.
        env={**inherited, "HF_ENDPOINT": url, "HF_HOME": str(home), "USE_TORCH": "0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    results: dict[str, Any] = json.loads(finished.stdout)
    assert set(results["hosts"]) <= {"127.0.0.1"}
    return results


@pytest.mark.slow
def test_rows_are_streamed_from_the_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    code = """
source = open_source(DataConfig())
identity = source.identity()
out(identity=identity, name=source.name, expected=source.expected_rows(SPLITS), rows=list(source.rows(SPLITS)))
"""
    seen = ask(hub.url, tmp_path, code)
    assert seen["identity"]["revision"] == hub.sha
    assert seen["identity"]["repo"] == REPO
    assert seen["name"] == f"{REPO}@main"
    assert seen["expected"] == 350
    texts = {split: [text for place, text, _ in seen["rows"] if place == split] for split in ("train", "test")}
    assert texts["test"] == [f"review {number}" for number in range(1000, 1050)]
    assert 240 < len(texts["train"]) < 290
    assert sorted(text for place, text, _ in seen["rows"] if place != "test") == sorted(
        f"review {number}" for number in range(300)
    )
    assert not [request for request in hub.requests if "unsupervised" in request]
    assert all(f"/{hub.sha}/" in request for request in hub.requests if "/resolve/" in request)


@pytest.mark.slow
def test_only_what_is_wanted_is_asked_for(hub: LoopbackHub, tmp_path: Path) -> None:
    code = "source = open_source(DataConfig())\nout(identity=source.identity())"
    ask(hub.url, tmp_path, code)
    assert hub.data_requests == hub.data_bytes == 0
    ask(hub.url, tmp_path, code + "\nlist(source.rows(('test',)))")
    assert hub.data_requests
    assert not [request for request in hub.requests if "train-" in request]


@pytest.mark.slow
def test_interleaved_rows_are_the_same_rows(hub: LoopbackHub, tmp_path: Path) -> None:
    code = """
source = open_source(DataConfig())
mixed = [list(source.rows(("train",), interleave=True)) for _ in range(2)]
more = unlabelled(None)
out(
    mixed=mixed,
    plain=list(source.rows(("train",))),
    unlabelled=list(more.rows(("unlabelled",))),
    all=list(more.rows(ALL_SPLITS)),
    expected=more.expected_rows(ALL_SPLITS),
)
"""
    seen = ask(hub.url, tmp_path, code)
    assert seen["unlabelled"] == [["unlabelled", f"review {number}", -1] for number in range(2000, 2010)]
    assert seen["all"][-10:] == seen["unlabelled"]
    assert len(seen["all"]) == seen["expected"] == 360
    assert seen["mixed"][0] == seen["mixed"][1] != seen["plain"]
    assert sorted(seen["mixed"][0]) == sorted(seen["plain"])


@pytest.mark.slow
def test_what_the_hub_doesnt_have_is_bad_input(hub: LoopbackHub, tmp_path: Path) -> None:
    code = """
out(
    repo=outcome(lambda: open_source(DataConfig(repo="stanfordnlp/imbd")).identity()),
    name=outcome(lambda: open_source(DataConfig(repo="a/b/c")).identity()),
    revision=outcome(lambda: open_source(DataConfig(revision="mian")).identity()),
    column=outcome(lambda: list(open_source(DataConfig(text_column="texts")).rows(SPLITS))),
    unlabelled=outcome(lambda: list(unlabelled("extra").rows(ALL_SPLITS))),
    held_out=outcome(lambda: list(unlabelled("test").rows(ALL_SPLITS))),
)
"""
    seen = ask(hub.url, tmp_path, code)
    for case, key in (("repo", "data.repo"), ("name", "data.repo"), ("revision", "data.revision")):
        kind, message = seen[case]["result"]
        assert (kind, key in message) == ("InputError", True), message
    assert "(columns: text, label); type data.text_column=text" in seen["column"]["result"][1]
    assert "has no such unlabelled split; type data.splits.unlabelled=NAME" in seen["unlabelled"]["result"][1]
    assert "held-out data is never trained on" in seen["held_out"]["result"][1]
    assert hub.data_requests == 0


@pytest.mark.slow
def test_a_row_of_the_hub_can_be_refused(folder: Path, tmp_path: Path) -> None:
    bad = pa.table({"text": ["a", "b", "c"], "label": [0, 1, 2]})
    parquet.write_table(bad, folder / "plain_text" / "test-00000-of-00001.parquet")
    with LoopbackHub(folder) as hub:
        seen = ask(hub.url, tmp_path, "out(bad=outcome(lambda: list(open_source(DataConfig()).rows(('test',)))))")
    assert "row 2 (counted from 0) of split test has the class number 2" in seen["bad"]["result"][1]


@pytest.mark.slow
def test_a_file_of_the_hub_that_is_no_text_is_no_matter_of_the_network(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.csv").write_bytes("text,label\na fine café,1\n".encode("latin-1"))
    with LoopbackHub(tmp_path / "hub") as hub:
        seen = ask(hub.url, tmp_path, "out(seen=outcome(lambda: list(open_source(DataConfig()).rows(('train',)))))")
    kind, message = seen["seen"]["result"]
    assert kind == "InputError"
    assert "split train is not UTF-8 text" in message


def test_classes_and_splits_of_the_hub_are_those_of_their_names(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text(CARD.format(train=300).replace("'0': neg, '1': pos", "'0': pos, '1': neg"))
    code = """
import logging
from textrnn.base.console import LOGGER
told = logging.handlers.MemoryHandler(100)
LOGGER.addHandler(told)
LOGGER.setLevel(logging.INFO)
rows = list(open_source(DataConfig()).rows(("test",)))
out(rows=rows[:2], told=[record.getMessage() for record in told.buffer])
"""
    with LoopbackHub(folder) as hub:
        seen = ask(hub.url, tmp_path, "import logging.handlers" + code)
    assert seen["rows"] == [["test", "review 1000", "pos"], ["test", "review 1001", "neg"]]
    assert seen["told"] == ["data.repo=stanfordnlp/imdb: splits that are not read: unsupervised"]
    card, pooled = folder / "README.md", folder / "csv"
    for path in (card, *(folder / "plain_text").iterdir()):
        path.unlink()
    pooled.mkdir()
    (pooled / "train.csv").write_text(
        "text,label\n" + "".join(f"review {n},{n % 2}\n" for n in range(60)) + ",1\nNA,0\n"
    )
    (pooled / "heldout.csv").write_text("text,label\nreview,1\n")
    with LoopbackHub(folder) as hub:
        seen = ask(
            hub.url, tmp_path, "import logging.handlers" + code.replace('("test",)', "SPLITS").replace("[:2]", "[-2:]")
        )
    assert [row[1:] for row in seen["rows"]] == [["", 1], ["NA", 0]]  # as a local file's
    assert seen["told"] == [
        "data.repo=stanfordnlp/imdb: named after a split that is not there, but not read: csv/heldout.csv",
        "data.repo=stanfordnlp/imdb: no test split is read, so the test set is cut from train, by hash",
    ]
    (pooled / "train.csv").rename(pooled / "trainset.csv")  # names that the client doesn't know: it pools all files
    with LoopbackHub(folder) as hub:
        seen = ask(hub.url, tmp_path, "out(seen=outcome(lambda: list(open_source(DataConfig()).rows(SPLITS))))")
    kind, message = seen["seen"]["result"]
    assert (kind, "its train split has csv/heldout.csv, named as test data" in message) == ("InputError", True), message


CONFIGS = """---
configs:
- config_name: first
  data_files: [{split: train, path: first/train-*}, {split: test, path: first/test-*}]
- config_name: second
  data_files: [{split: all, path: second/all-*}, {split: dev, path: second/dev-*}, {split: held, path: second/held-*}]
---
"""


def test_configs_splits_and_columns_are_typed(tmp_path: Path) -> None:
    folder, kinds = (
        tmp_path / "repository",
        Features({"Title": Value("string"), "Review": Value("string"), "STARS": LABELS}),
    )
    for place, rows in {
        "first/train": 80,
        "first/test": 9,
        "second/all": 80,
        "second/dev": 9,
        "second/held": 9,
    }.items():
        labels = [-1] * rows if place == "first/test" else [n % 2 for n in range(rows)]
        titles = [("T", None, "")[n % 3] for n in range(rows)]
        table = {"Title": titles, "Review": [f"{place} {n}" for n in range(rows)], "STARS": labels}
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(table, features=kinds).to_parquet(folder / f"{place}-00000-of-00001.parquet")
    (folder / "README.md").write_text(CONFIGS)
    code = """
from textrnn.config.schema import SplitsConfig
def rows(config=None, splits=SPLITS, **keys):
    typed = {key: keys.pop(key) for key in SPLITS if key in keys}
    data = DataConfig(config=config, splits=SplitsConfig(**typed), **keys)
    return outcome(lambda: list(open_source(data).rows(splits)))["result"]
def identity(**keys):
    return open_source(DataConfig(**keys)).identity()
out(
    several=rows(),
    absent=rows("third"),
    hidden=rows("first"),
    cut=rows("first", train="train"),
    joined=rows("second", train="all", test="held", text_column=["Title", "Review"]),
    none=rows("second"),
    unknown=rows("second", train="al"),
    twice=rows("second", train="all", validation="held", test="held"),
    held_out=rows("second", train="dev", test="all"),
    identities=[identity(), identity(config="second", splits=SplitsConfig(train="all"))],
)
"""
    with LoopbackHub(folder) as hub:
        seen = ask(hub.url, tmp_path, code)
    told = {case: result[1] for case, result in seen.items() if case not in ("cut", "joined", "hosts", "identities")}
    assert told["several"].endswith("has several configs; type data.config= with one of first, second")
    assert told["absent"].endswith("has no config 'third'; type data.config= with one of first, second")
    assert "the labels of its test split are hidden; leave it out with 'data.splits={train: train}'" in told["hidden"]
    assert "has no train split (its splits: all, dev, held); type data.splits.train=NAME" in told["none"]
    assert (
        "data.splits.train=al: data.repo=stanfordnlp/imdb has no such split (its splits: all, dev, h" in told["unknown"]
    )
    assert "data.splits.validation=held: data.splits names it twice" in told["twice"]
    assert "data.splits.train=dev: held-out data is never trained on" in told["held_out"]
    assert {split for split, _, _ in seen["cut"]} == {"train", "validation", "test"}
    assert sorted(text for _, text, _ in seen["cut"]) == sorted(f"first/train {n}" for n in range(80))
    held = [text for split, text, _ in seen["joined"] if split == "test"]
    assert held[:3] == ["T\n\nsecond/held 0", "second/held 1", "second/held 2"]
    first, second = seen["identities"]
    assert (second["config"], second["split train"]) == ("second", "all")
    assert set(second) - set(first) == {"config", "split train"}


def test_a_refused_account_is_bad_input(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.fail("401", on="api")
    seen = ask(hub.url, tmp_path, "out(seen=outcome(lambda: open_source(DataConfig()).identity()))")["seen"]
    assert seen["result"][0] == "InputError"
    assert "not for this account" in seen["result"][1]


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["refused", "silent", "no such host", "503", "cut", "offline"])
def test_a_hub_out_of_reach_is_noticed_within_five_seconds(hub: LoopbackHub, tmp_path: Path, problem: str) -> None:
    environment: dict[str, str] = {}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"  # refuses connections until it listens
        if problem == "silent":
            listener.listen()
        elif problem == "offline":
            environment["HF_HUB_OFFLINE"] = "1"
        elif problem == "no such host":
            url = "http://127.0.0.1.invalid"
        elif problem != "refused":
            url = hub.url
            hub.fail(problem, on="api")
        code = "seen = outcome(lambda: open_source(DataConfig()).identity())\nhosts.clear()\nout(seen=seen)"
        seen = ask(url, tmp_path, code, **environment)["seen"]
    assert seen["result"][0] == "HubUnreachable"
    assert "\n" not in seen["result"][1]
    assert seen["seconds"] < 6
    if problem == "offline":
        assert seen["seconds"] < 0.5
        assert not hub.requests


IMPATIENT = """
import huggingface_hub.constants
huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.2
time.sleep = lambda seconds: None  # the client's waits between its attempts
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "cut", "stall"])
def test_a_stream_that_breaks_gives_no_fewer_rows_in_silence(hub: LoopbackHub, tmp_path: Path, fault: str) -> None:
    hub.fail(fault, after=1)  # the second of two training files
    code = IMPATIENT + "out(seen=outcome(lambda: list(open_source(DataConfig()).rows(('train',)))))"
    kind, message = ask(hub.url, tmp_path, code)["seen"]["result"]
    assert kind == "HubUnreachable"
    assert "broke after 150 rows of train" in message
    assert "\n" not in message


def test_a_short_break_is_bridged(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.fail("cut", times=2)
    code = IMPATIENT + "out(rows=len(list(open_source(DataConfig()).rows(SPLITS))))"
    assert ask(hub.url, tmp_path, code)["rows"] == 350


def test_fewer_rows_than_the_card_names_are_an_error(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text(CARD.format(train=301))
    with LoopbackHub(folder) as hub:
        seen = ask(hub.url, tmp_path, "out(seen=outcome(lambda: list(open_source(DataConfig()).rows(SPLITS))))")
    assert seen["seen"]["result"][0] == "HubUnreachable"
    assert "ended after 300 of the 301 rows of train" in seen["seen"]["result"][1]


@pytest.mark.slow
def test_a_stream_left_half_read_ends_the_process_cleanly(hub: LoopbackHub, tmp_path: Path) -> None:
    code = """
rows = open_source(DataConfig()).rows(("train",))
first = next(rows)
rows.close()
out(first=first)
"""
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda number: ask(hub.url, tmp_path / str(number), code), range(3)))
    assert [seen["first"][1] for seen in runs] == ["review 0"] * 3


def test_the_double_serves_by_hand(folder: Path, tmp_path: Path) -> None:
    script = TESTS / "doubles" / "hub.py"
    with subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            started = time.monotonic()
            assert ask(url, tmp_path, "out(identity=open_source(DataConfig()).identity())")["identity"]["revision"]
            assert time.monotonic() - started < 30
        finally:
            server.kill()
