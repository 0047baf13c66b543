"""Several splits as one."""

from pathlib import Path

import numpy as np
from doubles.small_stores import write_split

from textrnn.data.training_split import JoinedSplit


def test_a_joined_split_has_the_reviews_of_its_parts_in_order(tmp_path: Path) -> None:
    parts = [write_split(tmp_path / f"{reviews}.arrow", reviews) for reviews in (7, 1, 5)]
    joined = JoinedSplit(parts)
    assert len(joined) == 13
    rows = [(part, row) for part in parts for row in range(len(part))]
    for index, (part, row) in enumerate(rows):
        assert np.array_equal(joined.token_ids(index), part.token_ids(row))
        assert joined.text(index) == part.text(row)
        assert (joined.lengths[index], joined.labels[index]) == (part.lengths[row], part.labels[row])
    size = 1 + max(int(joined.token_ids(index).max()) for index in range(13))
    counted = np.bincount(np.concatenate([joined.token_ids(index) for index in range(13)]), minlength=size)
    assert np.array_equal(joined.token_counts(size), counted)
