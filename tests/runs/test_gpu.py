"""A run on a GPU: trained, resumed, measured and used. The same on the processor shows that the tests are right."""

import json
from pathlib import Path

import pytest
from doubles.run_files import SMALL, summary
from support import Command

from textrnn import load

ON = {"cpu": "trainer=cpu", "cuda": "trainer=gpu"}
MIXED = [pytest.param("cuda", precision, marks=pytest.mark.gpu) for precision in ("32-true", "bf16-mixed", "16-mixed")]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("device", "precision"), [("cpu", "32-true"), *MIXED])
def test_a_run_is_trained_resumed_measured_and_used(here: Command, place: Path, device: str, precision: str) -> None:
    typed = (*SMALL, ON[device], f"trainer.precision={precision}", "optimizer.average=0.5", "optimizer.layer_decay=0.5")
    for name, epochs in (("parts", "1"), ("whole", "2")):
        done = here(
            "train.py", *typed, f"run_dir={name}", "optimizer.schedule=constant", f"trainer.max_epochs={epochs}"
        )
        assert done.returncode == 0, done.stderr
    done = here("train.py", "resume=parts", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    whole, parts = summary(place / "whole"), summary(place / "parts")
    assert parts["tokens"] == whole["tokens"]
    assert parts["val/loss"] == pytest.approx(whole["val/loss"], rel=1e-3)

    done = here("evaluate.py", "whole", "--output", "again")
    assert done.returncode == 0, done.stderr
    again = json.loads((place / "again" / "metrics.json").read_text())
    assert again["test/loss"] == pytest.approx(whole["test/loss"], rel=1e-2 if "mixed" in precision else 1e-5)
    texts = ["a fine film", "a film that is much longer, and dull"]
    on_device = load(place / "whole").to(device).logits(texts)
    assert on_device.tolist() == pytest.approx(load(place / "whole").logits(texts).tolist(), abs=1e-4)
