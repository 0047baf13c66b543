"""Unlabelled reviews that are held-out ones: equal, nearly equal, and what only looks so."""

import logging
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from textrnn.base.errors import InputError
from textrnn.data.duplicates import COMMON, leave_out_held_out, sketch
from textrnn.data.review_file import TEXTS, ReviewWriter, read_texts

WORDS = [f"word{number}" for number in range(2000)]


def draft(folder: Path, **splits: list[str]) -> Path:
    for name, texts in splits.items():
        with ReviewWriter(folder / f"{name}.texts", TEXTS) as writer:
            for start in range(0, len(texts), 1000):
                part = texts[start : start + 1000]
                writer.write([0] * len(part), part)
    return folder


def review(seed: int, words: int = 100) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def test_equal_and_near_reviews_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "textrnn")
    test, validation = [review(number) for number in range(60)], [review(number) for number in range(100, 140)]
    equal = [test[3].upper().replace(" ", ", ", 4), f"<br />{validation[5]}!"]
    near = [test[7].replace(" ", " and ", 3), f"{review(900, 20)} {test[8]}", f"{validation[9]} {review(901, 10)}"]
    others = [review(number) for number in range(1000, 2100)]
    others += [f"{review(3000, 150)} {test[11]}", "Fine.", "A short one", "", " ".join(reversed(test[0].split()))]
    made = draft(tmp_path, test=[*test, "Fine film."], validation=validation, unlabelled=[*equal, *near, *others])
    counts = {"equal_test": 1, "near_test": 2, "equal_validation": 1, "near_validation": 1}
    assert leave_out_held_out(made) == (len(others), counts)
    batches = list(read_texts(made / "unlabelled.texts"))
    assert [text for batch in batches for text in batch.column("text").to_pylist()] == others
    assert [len(batch) for batch in batches] == [1000, len(others) - 1000]
    assert "left out 5 of the 1,110 unlabelled reviews, which are 1 test reviews word by word and 2 nearly" in (
        caplog.text
    )


def test_what_many_held_out_reviews_have_counts_as_not_shared(tmp_path: Path) -> None:
    frame = review(1, 40)
    test = [f"{frame} {review(number, 20)}" for number in range(10, 10 + COMMON + 1)]
    made = draft(tmp_path, test=test, validation=[review(2)], unlabelled=[f"{frame} {review(5000, 20)}", test[0]])
    assert leave_out_held_out(made)[0] == 1


def test_nothing_that_remains_is_refused(tmp_path: Path) -> None:
    made = draft(tmp_path, test=[review(1)], validation=[review(2)], unlabelled=[review(1), review(2)])
    with pytest.raises(InputError, match="all 2 unlabelled reviews are held-out ones"):
        leave_out_held_out(made)


def test_a_sketch_is_the_same_in_every_process() -> None:
    whole, numbers = sketch(["A fine film.", review(1)])
    assert np.count_nonzero(numbers, axis=1).tolist() == [0, 32]
    code = "from textrnn.data.duplicates import sketch; print(int(sketch(['a FINE <br> film'])[0][0]))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(finished.stdout) == int(whole[0])
