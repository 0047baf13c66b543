"""Batches and training steps that `gpu.py` measures: the program's network, and a bare loop over cuDNN."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models import EMBEDDING_SIZE, model_config
from reviews import data_config, open_store, representative_batches
from textrnn.config.schema import OptimizerConfig
from textrnn.data.batches import Batch
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.loss import training_loss

HIDDEN = (128, 256, 1024)
PRECISIONS = ("float32", "tf32", "bf16-mixed", "16-mixed")
"""float32: no TF32 anywhere; tf32: in products and cuDNN."""
STEPS = 8


class Bench:
    """Device, reviews and batches that all parts share.

    Args:
        device: cuda or cpu.
        path: Folder of the real reviews; None: generated ones.
        quick: Tiny sizes.
    """

    def __init__(self, device: str, path: str | None, *, quick: bool) -> None:
        self.device, self.quick = torch.device(device), quick
        config = data_config(path, quick=quick, max_length=32 if quick else 400)
        store = open_store(config)
        self.vocab_size = store.vocab_size
        self.batches = [
            self._on_device(batch)
            for batch in representative_batches(
                store, max_length=config.max_length, batch_size=8 if quick else 64, count=2 if quick else STEPS
            )
        ]
        self.tokens = sum(int(batch["lengths"].sum()) for batch in self.batches)

    def _on_device(self, batch: Batch) -> Batch:
        return cast(
            Batch,
            {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in batch.items()},
        )

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the widths to measure."""
        return (8,) if self.quick else HIDDEN

    @property
    def precisions(self) -> tuple[str, ...]:
        """Return the precisions of this device."""
        return PRECISIONS if self.device.type == "cuda" else ("float32",)

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class BareClassifier(nn.Module):
    """Embedding, torch's layer on the padded batch, maximum over all steps, logit: what cuDNN alone takes.

    It reads padding, so it is a lower bound of the time and no model to use.
    """

    def __init__(self, cell: str, vocab_size: int, hidden: int) -> None:
        super().__init__()
        kernels: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE, padding_idx=0)
        self.kernel = kernels[cell](EMBEDDING_SIZE, hidden, bidirectional=True)
        self.output = nn.Linear(2 * hidden, 1)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits, (batch,), of (batch, time) token ids."""
        states, _ = self.kernel(self.embedding(token_ids.T))
        logits: Tensor = self.output(states.amax(dim=0)).squeeze(1)
        return logits


class Training:
    """Training steps of a network in one precision: forward, backward, clipping, optimizer.

    Args:
        loss: The loss of a batch.
        network: On its device.
        optimizer: Of its parameters.
        precision: One of `PRECISIONS`.
        device: cuda or cpu.
    """

    def __init__(
        self,
        loss: Callable[[Batch], Tensor],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: str,
        device: torch.device,
    ) -> None:
        self._loss, self._network, self._optimizer = loss, network, optimizer
        self._device, self._precision = device, precision
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")

    def step(self, batch: Batch) -> None:
        """Train on a batch."""
        self._optimizer.zero_grad()
        with self._autocast():
            loss = self._loss(batch)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _autocast(self) -> AbstractContextManager[Any]:
        kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        kind = kinds.get(self._precision)
        return nullcontext() if kind is None else torch.autocast(self._device.type, dtype=kind)


def ours(bench: Bench, cell: str, hidden: int, precision: str, **changes: Any) -> Training:
    """Return training steps of the program's network."""
    config = model_config(cell, hidden, **changes)
    module = ReviewClassifier(config, OptimizerConfig(), vocab_size=bench.vocab_size, seed=0).to(bench.device)
    optimizer = cast(torch.optim.Optimizer, cast(dict[str, Any], module.configure_optimizers())["optimizer"])
    return Training(
        lambda batch: training_loss(module.model, batch, config).loss, module, optimizer, precision, bench.device
    )


def bare(bench: Bench, cell: str, hidden: int, precision: str, *, compiled: bool = False) -> Training:
    """Return training steps of `BareClassifier`."""
    network = BareClassifier(cell, bench.vocab_size, hidden).to(bench.device)
    run = cast(Callable[[Tensor], Tensor], torch.compile(network, dynamic=True) if compiled else network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
    return Training(
        lambda batch: binary_cross_entropy_with_logits(run(batch["token_ids"]), batch["labels"].float()),
        network,
        optimizer,
        precision,
        bench.device,
    )


@contextmanager
def tensor_cores(precision: str) -> Iterator[None]:
    """Allow or forbid TF32 inside."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
