"""Segments: the stream in order, little on the disk, and a background process that is never left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from doubles.review_files import reviews, write
from doubles.small_stores import ListSource

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.review_file import Split
from textrnn.data.segments import Segments, SegmentStream, new_directory
from textrnn.data.sources import Row
from textrnn.data.store import Store, open_source, prepare_store


class NumberedSource:
    """`count` training reviews that name their number; fails at one of them if told."""

    name = "numbers"

    def __init__(self, count: int, fails_at: int | None = None, how: str = "error") -> None:
        self.count = count
        self.fails_at = fails_at
        self.how = how

    def identity(self) -> dict[str, str | int | float | None]:
        return {"kind": "numbers", "count": self.count}

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        for number in range(self.count):
            if number == self.fails_at:
                if self.how == "exit":
                    os._exit(7)
                raise ConnectionError("the stream broke") if self.how == "error" else InputError("data.path: bad row")
            if "train" in splits:
                yield Row("train", f"review {number}", number % 2)
            if "validation" in splits and number % 5 == 0:
                yield Row("validation", f"validation {number}", number % 2)
        if "test" in splits:
            yield Row("test", "a test", 1)

    def expected_rows(self, splits: Collection[str]) -> int | None:
        return None


def texts(split: Split) -> list[str]:
    return [split.text(number) for number in range(len(split))]


def numbered(numbers: range) -> list[str]:
    return [f"review {number}" for number in numbers]


def open_segments(
    tmp_path: Path, source: NumberedSource, size: int = 10, tokenizer: str = "word"
) -> tuple[DataConfig, Store, Segments]:
    data = DataConfig(cache_dir=str(tmp_path), segment_size=size, tokenizer=tokenizer)
    store = prepare_store(data, source=NumberedSource(source.count))
    return data, store, Segments(data, store, directory=new_directory(data), source=source)


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("segments/*/*"))


def test_segments_are_the_stream_pass_after_pass_with_two_on_the_disk(tmp_path: Path) -> None:
    _, store, segments = open_segments(tmp_path, NumberedSource(25))
    assert len(store.split("validation")) == 2  # those met during the first segment
    assert len(store.split("test")) == 1
    expected = [range(10), range(10, 20), range(20, 25), range(10), range(10, 20)]
    for index, numbers in enumerate(expected):
        split = segments.segment(index)
        assert texts(split) == numbered(numbers)
        assert segments.segment(index) is split
        on_disk = files(tmp_path)
        drafts = {name for name in on_disk if name.startswith(f".{index + 1:06d}.arrow.")}
        assert set(on_disk) - drafts <= {f"{index:06d}.arrow", f"{index + 1:06d}.arrow"}
        assert len(on_disk) <= 2
    assert 0 < segments.waited_seconds < 60
    segments.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stores"]
    assert texts(split) == numbered(expected[-1])  # what is open stays readable


@pytest.mark.slow
def test_the_background_process_cuts_by_spacy_as_the_store_does(tmp_path: Path) -> None:
    _, store, segments = open_segments(tmp_path, NumberedSource(25), tokenizer="spacy")
    first, last = store.split("train"), segments.segment(3)  # of the first pass and of the second
    assert [last.token_ids(n).tolist() for n in range(10)] == [first.token_ids(n).tolist() for n in range(10)]
    assert first.lengths.tolist() == [2] * 10
    segments.close()


@pytest.mark.parametrize("index", [2, 7])
def test_a_resumed_run_starts_at_its_segment(tmp_path: Path, index: int) -> None:
    _, _, segments = open_segments(tmp_path, NumberedSource(25))
    for number in (index, index + 1):
        first = (number % 3) * 10
        assert texts(segments.segment(number)) == numbered(range(first, min(first + 10, 25)))
    segments.close()


@pytest.mark.parametrize(("count", "size"), [(25, 10), (20, 10), (7, 10), (10, 10), (5, 1)])
def test_a_stream_is_cut_the_same_wherever_it_starts(count: int, size: int) -> None:
    a_pass = [range(start, min(start + size, count)) for start in range(0, count, size)]
    for start in range(2 * len(a_pass) + 2):
        stream = SegmentStream(NumberedSource(count), size)
        for index in (start, start + 1, start + 3 * len(a_pass)):
            rows = stream.segment(index)
            assert [row.text for row in rows] == numbered(a_pass[index % len(a_pass)])


def test_generated_reviews_in_segments_are_the_whole_training_set(tmp_path: Path) -> None:
    reviews = SyntheticConfig(train_reviews=700, test_reviews=50)
    whole = DataConfig(source="synthetic", synthetic=reviews)
    data = DataConfig(source="synthetic", synthetic=reviews, cache_dir=str(tmp_path), segment_size=300)
    expected = [row.text for row in open_source(whole).rows(("train",))]
    store = prepare_store(data)
    segments = Segments(data, store, directory=new_directory(data))
    found = [text for index in range(3) for text in texts(segments.segment(index))]
    assert found == expected
    segments.close()


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("error", RuntimeError, "segment 1 failed(.|\n)*ConnectionError: the stream broke"),
        ("input", InputError, "data.path: bad row"),
        ("exit", RuntimeError, "exit code 7"),
    ],
)
def test_what_fails_in_the_background_is_raised(tmp_path: Path, how: str, kind: type[Exception], message: str) -> None:
    _, _, segments = open_segments(tmp_path, NumberedSource(25, fails_at=15, how=how))
    segments.segment(0)
    with pytest.raises(kind, match=message):
        segments.segment(1)
    segments.close()
    assert not (tmp_path / "segments").exists()


def test_other_processes_of_a_run_read_what_one_encodes(tmp_path: Path) -> None:
    data, store, segments = open_segments(tmp_path, NumberedSource(25))
    directory = next(path for path in (tmp_path / "segments").iterdir() if path.is_dir())
    other = Segments(data, store, directory=directory, encodes=False)
    for index in range(3):
        assert texts(segments.segment(index)) == texts(other.segment(index))
    other.close()
    assert directory.exists()
    segments.close()
    with pytest.raises(RuntimeError, match="has ended"):
        other.segment(9)


RUN = """
import sys, time
from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.segments import Segments, new_directory
from textrnn.data.store import prepare_store
if __name__ == "__main__":
    reviews = SyntheticConfig(train_reviews=500_000, test_reviews=50)
    data = DataConfig(source="synthetic", synthetic=reviews, cache_dir=sys.argv[1], segment_size=int(sys.argv[2]))
    segments = Segments(data, prepare_store(data), directory=new_directory(data))
    segments.segment(0)
    print("pid", segments._encoder._process.pid, flush=True)
    time.sleep(100)
"""


@pytest.mark.slow
def test_a_killed_run_takes_its_process_along_and_the_next_run_cleans(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    cache = tmp_path / "cache"
    command = [sys.executable, str(script), str(cache), "400"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid = int(run.stdout.readline().split()[1])
    while not any(cache.glob("segments/*/*")):
        time.sleep(0.01)
    # Another run of the same data leaves a living run's segments alone.
    _, _, other = open_segments(cache, NumberedSource(25))
    assert len([path for path in (cache / "segments").iterdir() if path.is_dir()]) == 2
    other.close()
    os.kill(pid, 0)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert any((cache / "segments").iterdir())
    _, _, following = open_segments(cache, NumberedSource(25))
    assert len([path for path in (cache / "segments").iterdir() if path.is_dir()]) == 1
    following.close()
    assert not (cache / "segments").exists()


class SortedSource(NumberedSource):
    """Its first half is of class 0, as in a file that is sorted by label."""

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        for number, row in enumerate(super().rows(splits, interleave=interleave)):
            yield row._replace(label=int(number >= self.count // 2))


def test_a_source_too_sorted_for_segments_is_refused(tmp_path: Path) -> None:
    source = SortedSource(160)
    data = DataConfig(cache_dir=str(tmp_path), segment_size=40)
    with pytest.raises(InputError, match=r"segment 0 holds reviews of class 0 only.*data\.classes"):
        prepare_store(data, source=source)
    data.classes = ["0", "1"]
    segments = Segments(data, prepare_store(data, source=source), directory=new_directory(data), source=source)
    try:
        with pytest.raises(InputError, match="segment 0 holds reviews of class 0 only"):
            segments.segment(0)
    finally:
        segments.close()


class LateSource(NumberedSource):
    """Its labels are spam and ham, and in the third ten of training reviews eggs."""

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        for row in super().rows(splits, interleave=interleave):
            late = row.split == "train" and int(row.text.split()[-1]) >= 20
            yield row._replace(label="eggs" if late else ("spam", "ham")[int(str(row.label))])


def test_a_class_that_comes_in_a_later_segment_is_refused_unless_it_is_typed(tmp_path: Path) -> None:
    source = LateSource(30)
    data = DataConfig(cache_dir=str(tmp_path), segment_size=10)
    store = prepare_store(data, source=source)
    assert store.classes == ("ham", "spam")
    segments = Segments(data, store, directory=new_directory(data), source=source)
    segments.segment(1)
    with pytest.raises(InputError, match=r"'eggs', which no training row of segment 0 has.*classes=\[ham,spam,eggs\]"):
        segments.segment(2)
    segments.close()
    data.classes = ["spam", "ham", "eggs"]
    store = prepare_store(data, source=source)
    segments = Segments(data, store, directory=new_directory(data), source=source)
    assert segments.segment(0).labels.tolist() == [0, 1] * 5
    assert set(segments.segment(2).labels.tolist()) == {2}
    segments.close()


FILES = """
import sys
from textrnn.config.schema import DataConfig
from textrnn.data.segments import Segments, new_directory
from textrnn.data.store import prepare_store

if __name__ == "__main__":
    data = DataConfig(path=sys.argv[1], cache_dir=sys.argv[2], segment_size=40)
    segments = Segments(data, prepare_store(data), directory=new_directory(data))
    print(*(len(segments.segment(index)) for index in range(2)))
    segments.close()
"""


@pytest.mark.slow
def test_segments_of_a_file_end_without_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", reviews(200))
    script = tmp_path / "run.py"
    script.write_text(FILES)
    command = [sys.executable, str(script), str(path), str(tmp_path / "cache")]
    light = os.environ | {"USE_TORCH": "0"}  # torch takes seconds to import
    done = subprocess.run(command, env=light, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "40 40\n", "")


def test_segments_are_read_from_the_stores_commit(tmp_path: Path) -> None:
    data = DataConfig(cache_dir=str(tmp_path), revision="main", segment_size=2)
    rows = [Row("train", f"review {number}", number % 2) for number in range(4)]
    rows += [Row("validation", "v", 0), Row("test", "t", 0)]
    segments = Segments(data, prepare_store(data, source=ListSource(rows, "7" * 40)), directory=new_directory(data))
    assert segments._encoder is not None
    assert segments._encoder._arguments[0].revision == "7" * 40
    segments.close()
