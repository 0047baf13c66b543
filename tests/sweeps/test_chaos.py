"""A sweep at W&B under faults: `benchmarks/chaos.py` in small."""

from pathlib import Path

import pytest
from doubles.chaos import Chaos


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_under_faults_each_trial_is_finished_once_and_whole(tmp_path: Path) -> None:
    # This seed draws a kill and an agent that is forgotten, in the middle of the two trials, and nothing after them.
    chaos = Chaos(seed=13745, trials=2, workers=2, place=tmp_path, epochs=2)
    wrong = chaos.play()
    assert wrong == [], chaos.output
    assert sorted(kind for kind, _ in chaos.done) == ["expire", "kill"]
