"""The choice of `trainer.precision=auto`. Imports torch only to look for a GPU."""

from textrnn.config.schema import Config
from textrnn.distributed.launch import trains_on_cpu
from textrnn.model.kernels.library import computes_in_bfloat16

MEASURED = ("gru", "lstm")
"""Cells whose accuracy over seeds in bf16-mixed is in docs/speed.md."""


def automatic_precision(config: Config) -> tuple[str, str]:
    """Return the precision for this machine, and the reason in words.

    It is bf16-mixed where docs/speed.md has measured that it is faster at the same accuracy: with our C code on a
    processor that multiplies bfloat16; everywhere else 32-true.
    """
    if not trains_on_cpu(config.trainer):
        return "32-true", "as half precision has been measured on processors only"
    model = config.model
    if model.cell not in MEASURED or model.implementation not in ("auto", "compiled"):
        return "32-true", f"as half precision has not been measured with {model.cell}, {model.implementation}"
    if not computes_in_bfloat16():
        return "32-true", "as this processor has no instructions for bfloat16 (AVX-512 BF16)"
    return "bf16-mixed", "as this processor multiplies bfloat16 about twice as fast (AVX-512 BF16)"
