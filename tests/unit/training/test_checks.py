"""A run against this machine: what it can't compute is refused before any review is read."""

import pytest
import torch

from textrnn.base.errors import InputError
from textrnn.config.schema import Config, TrainerConfig
from textrnn.training.checks import check_implementation


@pytest.mark.parametrize(("accelerator", "precision"), [("cpu", "16-mixed"), ("auto", "16")])
def test_float16_is_not_mixed_on_a_cpu(accelerator: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would compute in bfloat16, and config.yaml would still say 16-mixed."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"type trainer\.precision=bf16-mixed"):
        check_implementation(Config(trainer=TrainerConfig(accelerator=accelerator, precision=precision)))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    if accelerator == "auto":
        check_implementation(Config(trainer=TrainerConfig(accelerator=accelerator, precision=precision)))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # a Mac, on which auto is the processor
    with pytest.raises(InputError, match=r"type trainer\.precision=bf16-mixed"):
        check_implementation(Config(trainer=TrainerConfig(accelerator=accelerator, precision=precision)))
