"""Signals at every kind of batch boundary: the same command goes on and ends as if it had not been disturbed."""

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.review_files import marked_films, write
from doubles.run_files import SMALL, json_of, metrics, predictions, summary
from support import Command

from textrnn.commands.train import train
from textrnn.data.review_file import ReviewWriter
from textrnn.distributed.launch import SHARED_RUN
from textrnn.model.classifier import ReviewClassifier
from textrnn.training.checkpoint_writing import AtomicCheckpointIO

PHASES: dict[str, tuple[type, str]] = {
    "encode": (ReviewWriter, "write_batch"),
    "start": (ReviewClassifier, "configure_optimizers"),
    "train": (ReviewClassifier, "training_step"),
    "validation": (ReviewClassifier, "validation_step"),
    "test": (ReviewClassifier, "test_step"),
    "save": (AtomicCheckpointIO, "save_checkpoint"),
}
Moment = tuple[str, int]
"""A phase and the number of its call in a process, from 1."""
BATCHES_OF_16 = ("data.batch_size=16", "data.eval_batch_size=16")  # 18 of training, 4 of test
TWO_VALIDATION_BATCHES = (*SMALL, *BATCHES_OF_16, "early_stopping.patience=null")


def run(*arguments: str, moment: Moment | None = None, number: signal.Signals = signal.SIGTERM) -> int:
    """Trains in this process; it gets a signal at `moment`, and two more while the checkpoint is written."""
    os.environ.pop(SHARED_RUN, None)
    calls = dict.fromkeys(PHASES, 0)
    handlers: set[Any] = set()

    def signalled(phase: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*values: Any, **named: Any) -> Any:
            calls[phase] += 1
            handlers.add(signal.getsignal(signal.SIGTERM))
            if (phase, calls[phase]) == moment:
                signal.raise_signal(number)
            elif phase == "save" and moment is not None and calls[moment[0]] >= moment[1]:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGUSR1)
            return step(*values, **named)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for phase, (owner, name) in PHASES.items():
            patch.setattr(owner, name, signalled(phase, getattr(owner, name)))
        code = train(list(arguments))
    assert len(handlers) <= 1, "Lightning has put its own handler there"
    return code


def assert_equal(one: Path, other: Path) -> None:
    """Two runs are the same, timings aside."""
    assert metrics(one) == metrics(other)
    assert summary(one) == summary(other)
    assert predictions(one) == predictions(other)


VARIANTS: dict[str, tuple[tuple[str, ...], list[Moment]]] = {
    "validation after each epoch": (
        (),
        [
            *(("start", 1), ("train", 1), ("start", 1), ("train", 16), ("train", 1)),
            *(("validation", 1), ("validation", 2), ("train", 18)),
            *(("validation", 1), ("validation", 2), ("test", 1), ("test", 3)),
        ],
    ),
    "validation within the epoch too": (
        ("trainer.val_check_interval=7", "checkpoint.every_n_train_steps=3"),
        [
            *(("train", 5), ("train", 2), ("validation", 1), ("validation", 2), ("train", 7)),
            *(("validation", 2), ("train", 4), ("validation", 1), ("train", 7), ("validation", 1)),
        ],
    ),
    "early stopping": (
        ("early_stopping.patience=1", "trainer.val_check_interval=6"),
        [("train", 6), ("validation", 1), ("validation", 3), ("validation", 2), ("test", 1)],
    ),
    "several batches a step": (
        ("trainer.accumulate_grad_batches=4", "trainer.val_check_interval=6"),
        [("train", 1), ("validation", 1), ("train", 7), ("validation", 1), ("train", 1)],
    ),
    "epochs without validation": (
        (
            *("trainer.max_steps=30", "trainer.max_epochs=4"),
            *("trainer.limit_train_batches=12", "trainer.check_val_every_n_epoch=2"),
        ),
        [("train", 12), ("train", 12), ("validation", 1), ("validation", 2), ("train", 2)],
    ),
    "averaged weights, bigrams and virtual adversarial training": (
        (
            *(
                "optimizer.average=0.9",
                "optimizer.layer_decay=0.5",
                "model.embedding.bigrams=100",
                "model.virtual_adversarial=0.1",
            ),
            *("data.unlabelled=true", "data.synthetic.unlabelled_reviews=50", "data.unlabelled_batch_size=7"),
            "trainer.val_check_interval=7",
        ),
        [("train", 5), ("validation", 1), ("validation", 2), ("train", 8), ("test", 1)],
    ),
    "several labels a text": (
        ("data.path=films.jsonl", "data.labels_per_text=many"),
        [("train", 3), ("validation", 1), ("train", 8), ("test", 1)],
    ),
    "segments": (
        ("data.segment_size=110", "trainer.max_epochs=4", "optimizer.warmup_steps=2"),  # 7, 7, 4 batches and again
        [("train", 6), ("validation", 1), ("train", 6), ("train", 3), ("validation", 2)],
    ),
}
"""What is trained, and when each process of the run gets its signal."""


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("variant", VARIANTS)
def test_signaled_at_every_kind_of_batch_it_ends_as_if_undisturbed(place: Path, variant: str) -> None:
    arguments, moments = VARIANTS[variant]
    if "data.path=films.jsonl" in arguments:
        write(place / "films.jsonl", marked_films(200))
    command = (*TWO_VALIDATION_BATCHES, *arguments, "resume=auto")
    assert run(*command, "run_dir=whole") == 0
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    for turn, moment in enumerate(moments):
        number = numbers[turn % len(numbers)]
        code, status = (130, "interrupted") if number == signal.SIGINT else (75, "preempted")
        assert run(*command, "run_dir=disturbed", moment=moment, number=number) == code, moment
        assert json_of(place / "disturbed" / "summary.json")["status"] == status
    assert run(*command, "run_dir=disturbed") == 0
    assert_equal(place / "disturbed", place / "whole")


@pytest.mark.usefixtures("undrawn")
def test_a_second_ctrl_c_leaves_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ReviewClassifier.training_step

    def impatient(module: ReviewClassifier, batch: Any, batch_idx: int) -> Any:
        for _ in range(2 if batch_idx == 4 else 0):
            signal.raise_signal(signal.SIGINT)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(ReviewClassifier, "training_step", impatient)
    assert run(*SMALL, "run_dir=run") == 130
    assert json_of(place / "run" / "summary.json")["status"] == "interrupted"
    assert not (place / "run" / "checkpoints" / "last.ckpt").exists()
    log = (place / "run" / "train.log").read_text()
    assert "interrupted before the first checkpoint; the same command with run_dir=run resume=auto begins again" in log
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN, "a third one ends what hangs"


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_ends_a_multirun_and_names_the_command_that_continues(
    here: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ReviewClassifier.training_step

    def interrupted(module: ReviewClassifier, batch: Any, batch_idx: int) -> Any:
        signal.raise_signal(signal.SIGINT)
        return step(module, batch, batch_idx)

    typed = [*SMALL, "trainer.max_epochs=1", "seed=0,1", "run_dir=two jobs"]
    with monkeypatch.context() as patch:
        patch.setattr(ReviewClassifier, "training_step", interrupted)
        ended = here("train.py", "-m", *typed)
    assert ended.returncode == 130
    assert "the run stopped in epoch 1 at step 1, saved in two jobs/0/checkpoints/last.ckpt" in ended.stderr
    assert "resume: python train.py resume=" not in ended.stderr, "one command, for all jobs"
    assert not (place / "two jobs" / "1").exists()
    _, _, command = ended.stderr.partition("resume all jobs: python ")
    done = here(*shlex.split(command.partition("\n")[0]))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs done" in done.stdout
    again = here(*shlex.split(command.partition("\n")[0]))
    assert "two jobs/0 is finished\ntwo jobs/1 is finished\n" in again.stderr


@pytest.mark.slow
def test_pre_empted_while_the_reviews_are_encoded_it_leaves_at_once(place: Path) -> None:
    command = (*SMALL, "trainer.max_epochs=1", "data.cache_dir=cache", "run_dir=run", "resume=auto")
    assert run(*command, moment=("encode", 2)) == 75
    assert not list(place.glob("cache/stores/*")), "nothing is left half made"
    identity = json_of(place / "run" / "run.json")
    assert run(*command) == 0
    classes = ["negative", "positive"]  # which the reviews tell
    assert json_of(place / "run" / "run.json") == {**identity, "classes": classes}, "the same run goes on"


@pytest.mark.usefixtures("undrawn")
def test_told_to_stop_before_its_first_batch_it_takes_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure = ReviewClassifier.configure_optimizers

    def told(module: ReviewClassifier) -> Any:
        (place / "run" / "early-stop").write_text("worse than the others\n")
        signal.raise_signal(signal.SIGTERM)
        return configure(module)

    monkeypatch.setattr(ReviewClassifier, "configure_optimizers", told)
    assert run(*SMALL, "run_dir=run") == 0
    ended = json_of(place / "run" / "summary.json")
    assert (ended["status"], ended["step"]) == ("stopped", 1)
    assert (place / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.usefixtures("undrawn")
def test_a_signal_in_the_last_batch_of_the_test_changes_nothing(place: Path) -> None:
    assert run(*TWO_VALIDATION_BATCHES, "trainer.max_epochs=1", "run_dir=run", moment=("test", 4)) == 0
    assert json_of(place / "run" / "summary.json")["status"] == "finished"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_steps_ended_within_an_epoch_goes_on_there(place: Path) -> None:
    command = (*TWO_VALIDATION_BATCHES, "optimizer.schedule=constant", "trainer.val_check_interval=7", "resume=auto")
    assert run(*command, "trainer.max_steps=40", "trainer.max_epochs=3", "run_dir=whole") == 0
    for steps in (5, 7, 18, 20, 40):  # 18 is an epoch's last one, 7 that before a validation
        assert run(*command, f"trainer.max_steps={steps}", "trainer.max_epochs=3", "run_dir=parts") == 0
        assert json_of(place / "parts" / "summary.json")["step"] == steps
    rows = metrics(place / "parts")
    assert [int(row["epoch"]) for row in rows] == [(int(row["step"]) - 1) // 18 for row in rows], "also of the tests"

    def trained(run: Path) -> list[dict[str, str]]:
        """Rows without those of the tests, of which the one in parts has had five."""
        rows = [{key: value for key, value in row.items() if not key.startswith("test/")} for row in metrics(run)]
        return [row for row in rows if row["train/loss"] or row["val/loss"]]

    assert trained(place / "parts") == trained(place / "whole")
    assert summary(place / "parts") == summary(place / "whole")
    assert predictions(place / "parts") == predictions(place / "whole")
