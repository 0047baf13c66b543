"""Worker that runs the program block by block, on requests from `tracking.py`: first the run, then each block."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl

from loop import run_program
from models import model_config
from reviews import data_config
from textrnn.base.process import keep_freed_memory
from textrnn.config.schema import Config, EarlyStoppingConfig, TrackingConfig, TrainerConfig
from worker import Reply, requests

WARM_UP = 10


class _Blocks(pl.Callback):
    """Answer a request for a block when the block's last step has ended, and wait for the next request there."""

    def __init__(self, asked: Iterator[tuple[dict[str, Any], Reply]], ready: Reply, steps: int, warm_up: int) -> None:
        self._asked, self._reply, self._steps, self._warm_up = asked, ready, steps, warm_up
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *batch: Any) -> None:  # noqa: ARG002 - Lightning passes it
        """The time between the ends of two steps includes all costs of the steps between."""
        done = trainer.global_step - self._warm_up
        if done < 0 or done % self._steps != 0:
            return
        self._reply(time.perf_counter() - self._started)
        # After the last block there are no more requests.
        _, self._reply = next(self._asked, ({}, self._reply))
        self._started = time.perf_counter()


def main() -> None:
    """Serve one run."""
    asked = requests()
    request, ready = next(asked)
    quick = request["quick"]
    account = {"WANDB_BASE_URL": request["url"], "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
    os.environ.update(account)
    keep_freed_memory()
    warm_up = 2 if quick else WARM_UP
    config = Config(
        model=model_config("gru", 16 if quick else 128),
        data=data_config(request["data_path"], quick=quick, **({"batch_size": 8} if quick else {})),
        early_stopping=EarlyStoppingConfig(patience=None),
        tracking=TrackingConfig(mode=request["mode"]),
        trainer=TrainerConfig(
            accelerator="cpu",
            devices=1,
            enable_checkpointing=False,
            max_epochs=-1,
            log_every_n_steps=request["log_every"],
            max_steps=warm_up + request["blocks"] * request["steps"],
            limit_val_batches=0,
        ),
        test=False,
    )
    run_program(config, _Blocks(asked, ready, request["steps"], warm_up))


if __name__ == "__main__":
    main()
