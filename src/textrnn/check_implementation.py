"""Whether this machine can run the implementation asked for; imports torch if it has to ask."""

from textrnn.config import Config

_DTYPES = {"16-true": "float16", "bf16-true": "bfloat16", "64-true": "float64", "64": "float64"}
_MIXED = ("16-mixed", "bf16-mixed", "16", "bf16")


def check_implementation(config: Config) -> None:
    """Refuses, before any review is read, a `model.implementation` that the first training step would fail with.

    Raises:
        InputError: this machine can't run it.
    """
    model, accelerator, precision = config.model, config.trainer.accelerator, str(config.trainer.precision)
    if model.implementation in ("auto", "cell"):
        return
    import torch

    from textrnn.model.implementations import check_implementation as check

    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    # "meta" stands for any device but the processor, none of which is touched before its process is started.
    dtype: torch.dtype = getattr(torch, _DTYPES.get(precision, "float32"))
    weights = torch.empty(0, dtype=dtype, device="cpu" if on_cpu else "meta")
    check(model.implementation, model.cell, weights, torch.bfloat16 if precision in _MIXED else None)
