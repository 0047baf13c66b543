"""Pretrained vectors: what files are read and refused, what is kept of them, and the table that comes out."""

import contextlib
import gzip
import logging
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.data.vectors import text_file
from textrnn.data.vectors.arrays import WordVectors
from textrnn.data.vectors.sources import open_vectors
from textrnn.data.vectors.table import VectorTable, vector_table
from textrnn.model.embedding import TokenEmbedding

VOCABULARY = ["<pad>", "<unk>", "film", "good", ". . ."]
FILE = "the 0.1 0.2 0.3\ngood 1 2 3\n. . . 4 5 6\nfilm -1e-1 0 0.5\ngood 7 7 7\n"
EXPECTED = [[-0.1, 0.0, 0.5], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def opened(path: Path, size: int = 3, cache: Path | None = None) -> WordVectors:
    cache = cache or path.parent / "cache"
    return open_vectors(EmbeddingConfig(kind="vectors", vectors=str(path), size=size), cache)


def table_of(path: Path, seed: int = 0) -> VectorTable:
    return vector_table(opened(path), VOCABULARY, seed=seed)


def write(folder: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def save(folder: Path, rows: npt.NDArray[Any], words: str = "film\ngood\n. . .\n") -> Path:
    write(folder, words, "mine.txt")
    np.save(folder / "mine.npy", rows)
    return folder / "mine.npy"


def zipped(folder: Path, **files: str) -> Path:
    path = folder / "vectors.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: write(folder, FILE),
        lambda folder: write(folder, "5 3\n" + FILE),
        lambda folder: write(folder, FILE.replace("\n", " \r\n").rstrip()),
        lambda folder: write(folder, "5 3\n" + FILE + "\n \n"),
        lambda folder: write(folder, gzip.compress(FILE.encode()), "vectors.txt.gz"),
        lambda folder: zipped(folder, vectors_txt=FILE),
        lambda folder: zipped(folder, glove_2d_txt="the 1 2\n", glove_3d_txt=FILE),
        lambda folder: save(folder, np.array(EXPECTED)),
        lambda folder: save(folder, np.array([*EXPECTED, [7, 7, 7]], np.float32), "film\r\ngood\r\n. . .\r\ngood"),
    ],
    ids=["glove", "word2vec", "spaces", "lines", "gz", "zip", "zip-of-sizes", "npy-float64", "npy-duplicate"],
)
def test_every_format_gives_the_same_vectors(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    table = table_of(make(tmp_path))
    torch.testing.assert_close(table.values[2:], torch.tensor(EXPECTED))
    assert table.values.dtype == torch.float32
    assert torch.all(table.values[0] == 0)
    assert table.has_vector.tolist() == [False, False, True, True, True]


def test_words_without_a_vector_start_from_the_mean_and_spread_of_those_that_were_found() -> None:
    rows = np.random.default_rng(0).normal([5.0, -3.0], [0.5, 2.0], (400, 2)).astype(np.float32)
    words = [f"known{number}" for number in range(400)]
    missing = [f"missing{number}" for number in range(3000)]
    vectors = WordVectors("x", [word.encode() for word in words], rows)
    known = vector_table(vectors, ["<pad>", "<unk>", *words, *missing], seed=0)
    rest = known.values[402:]
    torch.testing.assert_close(rest.mean(dim=0), torch.from_numpy(rows.mean(axis=0)), atol=0.15, rtol=0)
    torch.testing.assert_close(rest.std(dim=0), torch.from_numpy(rows.std(axis=0)), atol=0, rtol=0.05)
    again = vector_table(vectors, ["<pad>", "<unk>", *words, *missing], seed=0)
    other = vector_table(vectors, ["<pad>", "<unk>", *words, *missing], seed=1)
    assert torch.equal(known.values, again.values)
    assert torch.equal(known.values[2:402], other.values[2:402])
    assert not torch.any(known.values[402:] == other.values[402:])
    assert not torch.any(known.values[1] == other.values[1]), "<unk> starts like a word without a vector"


def test_the_table_starts_from_them_and_is_frozen_or_tuned(tmp_path: Path) -> None:
    values = table_of(write(tmp_path, FILE)).values
    for trainable in (True, False):
        embedding = EmbeddingConfig(kind="vectors", vectors="x", size=3, trainable=trainable)
        table = TokenEmbedding(ModelConfig(embedding=embedding), len(VOCABULARY), values).eval()
        torch.testing.assert_close(table(torch.tensor([[3, 0]]))[0].detach(), torch.tensor([EXPECTED[1], [0.0] * 3]))
        assert all(parameter.requires_grad == trainable for parameter in table.parameters())


def test_coverage_is_that_of_words_and_of_running_tokens(tmp_path: Path) -> None:
    table = vector_table(opened(write(tmp_path, FILE)), [*VOCABULARY, "rare"], seed=0)
    counts = np.array([0, 4, 10, 5, 0, 1])
    assert table.coverage(counts) == {"vectors/vocabulary_coverage": 3 / 4, "vectors/text_coverage": 15 / 20}


def test_words_in_a_broken_encoding_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, b"caf\xe9 1 2 3\n\xc2\x85 1 2 3\ngood 4 5 6\n")
    for _ in ("read", "kept"):
        assert table_of(path).values[3].tolist() == [4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (FILE, 4, r"model\.embedding\.size=4, but .* have 3 numbers; type model\.embedding\.size=3"),
        (FILE, 2, r"model\.embedding\.size=2, but .* have 3 numbers"),
        ("5 3\n" + FILE, 4, r"model\.embedding\.size=4, but .* have 3 numbers"),
        ("6 3\n" + FILE, 3, r": line 6 is the last one, after 5 words, but line 1 says 6"),
        ("4 3\n" + FILE, 3, r": line 6 is the last one, after 5 words, but line 1 says 4"),
        (FILE + "cut 1 2", 3, r": line 6 is not a word and 3 numbers"),
        ("good 1 2 3\nfilm 1 2\n", 3, r"model\.embedding\.vectors=.*: line 2 is not a word and 3 numbers"),
        ("good 1 2 3\nfilm 1 2 3 4\n", 3, r"model\.embedding\.vectors=.*: line 2 is not a word and 3 numbers"),
        ("good 1 2 3\n\nfilm 1 2 3\n", 3, r": line 2 is not a word"),
        ("\ngood 1 2 3\n", 3, r": line 1 is not a word"),
        ("good  1 2 3\nfilm 1 2 3\n", 3, r": line 1 is not a word and 3 numbers with one space before each"),
        ("good 1 2 3\nfilm 1 2  3\n", 3, r": line 2 is not a word and 3 numbers with one space before each"),
        ("good 1 2 3\nfilm  1 2 3\n", 3, r": line 2 is not a word and 3 numbers with one space before each"),
        ("the 1 2 3\ngood 1 x 3\n", 3, r": line 2 has a value that is not a finite number"),
        ("the 1 2 3\ngood 1 2 3\nnowhere 1 nan 3\nfilm 1 2 3\n", 3, r": line 3 has a value that is not a finite"),
        ("the 1 2 3\ngood 1 1e39 3\n", 3, r": line 2 has a value that is not a finite number"),
        ("2 3\nthe 1 2 3\ngood 1 inf 3\n", 3, r": line 3 has a value that is not a finite number"),
        ("the 1 2 3\n", 3, r"model\.embedding\.vectors=.* has no vector for any of the 5 tokens"),
        ("<unk> 1 2 3\n<pad> 1 2 3\n", 3, r"model\.embedding\.vectors=.* has no vector for any of the 5 tokens"),
        ("", 3, r"model\.embedding\.vectors=.* has no vector for any"),
        ("5 3\n", 3, r": line 1 is the last one, after 0 words"),
    ],
)
def test_bad_text_files(tmp_path: Path, content: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        vector_table(opened(write(tmp_path, content), size), VOCABULARY, seed=0)
    assert "\n" not in str(refusal.value)
    assert "has no vector" in message or not (tmp_path / "cache").exists(), "nothing is kept"


def test_lines_are_counted_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_file, "LINES_AT_A_TIME", 2)
    lines = [f"w{number} 1 2 {number}\n" for number in range(7)]
    assert opened(write(tmp_path, "".join(lines))).rows[:, 2].tolist() == list(range(7))
    for bad in range(7):
        broken = [line if number != bad else "bad 1 x 3\n" for number, line in enumerate(lines)]
        with pytest.raises(InputError, match=f": line {bad + 1} has"):
            opened(write(tmp_path, "".join(broken)))
        with pytest.raises(InputError, match=f": line {bad + 2} has"):
            opened(write(tmp_path, "7 3\n" + "".join(broken)))


def test_packed_files_that_are_damaged(tmp_path: Path) -> None:
    text = "".join(f"w{number} 1 2 {number}\n" for number in np.random.default_rng(0).integers(0, 10**9, 3000))
    packed = gzip.compress(text.encode())
    with pytest.raises(InputError, match=r"can't be read after line \d+ \(.*end-of-stream"):
        opened(write(tmp_path, packed[: len(packed) // 2], "vectors.gz"))
    with pytest.raises(InputError, match=r"can't be read \(Not a gzipped file"):
        opened(write(tmp_path, text, "plain.gz"))
    with pytest.raises(InputError, match=r"can't be read \(File is not a zip file\)"):
        opened(write(tmp_path, text, "plain.zip"))
    archive = zipped(tmp_path, a_2d_txt="the 1 2\n", a_4d_txt="the 1 2 3 4\n")
    with pytest.raises(InputError, match=r"It has a\.2d\.txt, a\.4d\.txt; unpack it"):
        opened(archive)


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (np.zeros((3, 4), np.float32), "a\nb\nc\n", r"size=3, but .* have 4 numbers"),
        (np.zeros((3, 3), np.float32), "a\nb\n", r"has 3 rows, but .*mine\.txt has 2 words"),
        (np.zeros((3, 3), np.int64), "a\nb\nc\n", r"holds int64 of shape \(3, 3\)"),
        (np.zeros(3), "a\nb\nc\n", r"holds float64 of shape \(3,\)"),
        (np.array([None, 1]), "a\nb\n", r"can't be read"),
        (np.array([[1, 2, 3], [4, np.inf, 6]]), "the\ngood\n", r"row 1 .* is not a finite number"),
        (np.array([[1, 2, 3], [4, 1e39, 6]]), "the\ngood\n", r"row 1 .* is not a finite number"),
    ],
)
def test_bad_arrays(tmp_path: Path, rows: npt.NDArray[Any], words: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        table_of(save(tmp_path, rows, words))
    assert "\n" not in str(refusal.value)


def test_an_array_that_is_cut_or_has_no_words(tmp_path: Path) -> None:
    path = save(tmp_path, np.zeros((3, 3)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"mine\.npy can't be read"):
        opened(path)
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(InputError, match=r"needs its words, one per line in the order of its rows, in .*mine\.txt"):
        opened(path)


def test_a_text_file_is_read_once_for_every_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, FILE)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        table_of(path)
        with monkeypatch.context() as patch:
            patch.setattr("textrnn.data.vectors.cache.read_text_vectors", None)
            kept = vector_table(opened(path), ["<pad>", "<unk>", "the"], seed=0)
        assert isinstance(opened(path).rows, np.memmap)
    torch.testing.assert_close(kept.values[2], torch.tensor([0.1, 0.2, 0.3]))
    assert len(re.findall(r"5 vectors of .*vectors\.txt read in \d+ s and kept in", caplog.text)) == 1
    write(tmp_path, FILE.replace("1 2 3", "1 2 33"))
    assert table_of(path).values[3].tolist() == [1.0, 2.0, 33.0]


def test_what_was_kept_and_damaged_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    table_of(path)
    (kept,) = (tmp_path / "cache" / "vectors").iterdir()
    for name in ("vectors.npy", "vectors.txt"):
        (kept / name).write_bytes((kept / name).read_bytes()[:-6])
        torch.testing.assert_close(table_of(path).values[2:], torch.tensor(EXPECTED))
    abandoned = kept.with_name(f".tmp-{kept.name}-0")
    abandoned.mkdir()
    os.utime(path)
    table_of(path)
    assert not abandoned.exists(), "what a killed process left is cleared away"


@pytest.mark.slow
def test_processes_that_start_at_once_read_a_file_once(tmp_path: Path) -> None:
    path = write(tmp_path, FILE * 2000)
    code = """
import logging, sys
from pathlib import Path
from textrnn.config.schema import EmbeddingConfig
from textrnn.data.vectors.sources import open_vectors
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
sys.stdin.read()
vectors = open_vectors(EmbeddingConfig(kind="vectors", vectors=sys.argv[1], size=3), Path(sys.argv[2]))
print("sum", float(vectors.rows.sum()), len(vectors.words), "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(5)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        said = [process.stdout.read() for process in processes if process.stdout is not None]
    assert [process.returncode for process in processes] == [0] * 5
    assert len({line for text in said for line in text.splitlines() if line.startswith("sum")}) == 1
    assert "False" in said[0], "torch isn't imported to read vectors"
    assert sum("read in" in text for text in said) == 1


def test_a_waiting_process_says_so_and_finds_what_the_other_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, FILE)
    table_of(path)
    (kept,) = (tmp_path / "cache" / "vectors").iterdir()
    kept.rename(tmp_path / "aside")
    acquire = FileLock.acquire

    def busy(lock: FileLock, *, blocking: bool = True) -> bool:
        if not blocking:
            return False
        (tmp_path / "aside").rename(kept)  # the other process is done
        return acquire(lock)

    monkeypatch.setattr(FileLock, "acquire", busy)
    monkeypatch.setattr("textrnn.data.vectors.cache.read_text_vectors", None)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        table_of(path)
    assert "waiting for another process that reads vectors" in caplog.text


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"data\.cache_dir: cannot write to .*cache"):
        opened(write(tmp_path, FILE))
