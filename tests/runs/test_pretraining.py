"""Language models as runs, and classifiers that start from them."""

import shutil
from pathlib import Path

import pytest
import torch
from doubles.run_files import SMALL, json_of, metrics, start, summary, wait_for_step
from support import Command
from torch import Tensor

PRETRAIN = (*SMALL, "objective=language_model", "pretraining.candidates=20")


def weights(checkpoint: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


@pytest.mark.usefixtures("undrawn")
def test_a_classifier_starts_from_a_language_model(here: Command, workplace: Path) -> None:
    unlabelled = ("data.unlabelled=true", "data.synthetic.unlabelled_reviews=100")
    done = here("pretrain.py", *SMALL, *unlabelled, "run_dir=lm")
    assert done.returncode == 0, done.stderr
    results = summary(workplace / "lm")
    assert float(str(results["val/perplexity"])) > 1
    assert int(str(results["step"])) > 2 * (300 / 32), "two epochs of more than the training reviews"
    assert not any("accuracy" in name or name.startswith("test/") for name in results)
    assert "perplexity_backward" in done.stdout
    assert not (workplace / "lm" / "evaluation-validation").exists()
    assert str(json_of(workplace / "lm" / "run.json")["name"]).startswith("lm-gru-8x1-bi")

    still = ("optimizer.lr=1e-12", "optimizer.weight_decay=0", "run_dir=tuned", "model.pretrained=lm")
    tuned = here("train.py", *SMALL, *still)
    assert tuned.returncode == 0, tuned.stderr
    assert "embedding and recurrent layers start from lm (lm-gru-8x1-bi s0, step " in tuned.stderr
    before, after = (weights(workplace / run / "checkpoints" / "best.ckpt") for run in ("lm", "tuned"))
    parts = [name for name in after if name.startswith(("model.embedding.", "model.encoder."))]
    assert len(parts) == 9
    for name in parts:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert json_of(workplace / "tuned" / "run.json")["pretrained"] == json_of(workplace / "lm" / "run.json")["id"]

    refused = {
        ("train.py", *SMALL, "model.pretrained=lm", "model.hidden_size=9", "model.cell=rnn"): "error: "
        "model.pretrained=lm: that model is another one; type model.cell='gru' model.hidden_size=8, or pretrain one "
        "like this.",
        ("train.py", *SMALL, "model.pretrained=lm", "data.vocab_size=50"): "its vocabulary is another one (",
        ("train.py", *SMALL, "run_dir=lm", "resume=auto"): "resume: objective, ",
        ("pretrain.py", "resume=tuned"): "its objective is classification, which can't change",
        ("evaluate.py", "lm"): "is a language model, which labels nothing",
    }
    for (name, *arguments), sentence in refused.items():
        answer = here(name, *arguments)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert sentence in answer.stderr

    # The checkpoint of a run that has begun holds its weights.
    shutil.rmtree(workplace / "lm")
    assert here("train.py", "resume=tuned", "trainer.max_epochs=3").returncode == 0
    assert here("train.py", *SMALL, *still, "resume=auto", "trainer.max_epochs=4").returncode == 0


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_undisturbed_one(
    script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    longer = (*PRETRAIN, "trainer.max_epochs=4", "checkpoint.every_n_train_steps=3", "resume=auto")
    process = start((*longer, "run_dir=killed"), workplace, environment)
    wait_for_step(workplace / "killed", 12, process)
    process.kill()
    assert process.wait() == -9, "the run was over before the kill"
    for run in ("killed", "whole"):
        done = script("train.py", *longer, f"run_dir={run}")
        assert done.returncode == 0, done.stderr
    assert metrics(workplace / "killed") == metrics(workplace / "whole")
    killed, whole = (weights(workplace / run / "checkpoints" / "last.ckpt") for run in ("killed", "whole"))
    assert all(torch.equal(killed[name], weight) for name, weight in whole.items())


@pytest.mark.slow
def test_two_ranks_train_and_measure_as_one(script: Command, workplace: Path) -> None:
    in_float64 = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=64-true", "data.batch_size=31")
    exact = (*PRETRAIN, *in_float64, "model.embedding_dropout=0", "model.output_dropout=0", "trainer.max_epochs=1")
    for devices in (1, 2):
        done = script("train.py", *exact, f"trainer.devices={devices}", f"run_dir={devices}", timeout=200)
        assert done.returncode == 0, done.stderr
    for one, other in zip(metrics(workplace / "1"), metrics(workplace / "2"), strict=True):
        for name in one.keys() - {"train/padding"}:
            assert (float(other[name] or 0)) == pytest.approx(float(one[name] or 0), rel=1e-10), name
