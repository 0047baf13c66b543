"""Run directories with made-up numbers, as `train.py` and `sweep.py` leave them; nothing is trained."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import yaml

from textrnn.config.schema import LABELS, Config
from textrnn.tracking.metrics_csv import COLUMNS

VALIDATIONS = 10
WORDS = (
    *("the", "film", "plot", "actors", "music", "a", "dull", "fine", "moving", "slow", "was", "is", "not", "very"),
    *("and", "but", "of", "with", "scene", "end", "story"),
)


def make_run(
    path: Path,
    changes: Mapping[str, Any],
    *,
    quality: float = 0.87,
    name: str | None = None,
    state: str = "finished",
    steps: int = 2000,
    every: int = 10,
    evaluated: bool = True,
    classes: Sequence[str] = LABELS,
) -> Path:
    """Write a run's directory; it has `changes` of the configuration and an accuracy of about `quality`."""
    random = np.random.default_rng(abs(hash_of(str(path.name))))
    path.mkdir(parents=True)
    config = configured(changes)
    seed = config["seed"]
    label = name or f"{config['model']['cell']}-{config['model']['hidden_size']}x1-bi s{seed}"
    identity = {"id": path.name[:8], "name": label, "seed": seed, "classes": list(classes), "source": "0" * 16}
    (path / "run.json").write_text(json.dumps(identity))
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    last = steps if state == "finished" else max(every, steps // 3)
    rows = metric_rows(random, quality, last, steps, every)
    write_metrics(path, rows)
    if state in ("running", "killed"):
        return path
    measured = [row for row in rows if "val/accuracy" in row]
    best = max(measured, key=lambda row: row["val/accuracy"], default=rows[-1])
    summary = {key: value for key, value in (rows[-1] | best).items() if "/" in key}
    if state == "finished":
        summary |= {
            "test/loss": round(best["val/loss"] + 0.012, 5),
            "test/accuracy": round(best["val/accuracy"] - 0.006, 5),
        }
    summary |= {"status": state, "parameters": 120_000, "tokens": last * 12_000, "seconds": round(last * 0.21, 1)}
    summary |= {"step": last, "best_step": best["step"], "best_epoch": best["epoch"]}
    if evaluated and state == "finished":
        summary["test/accuracy"] = make_evaluation(path / "evaluation-test", random, summary["test/accuracy"], classes)
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def hash_of(text: str) -> int:
    """Return a number that is the same in each process."""
    return int.from_bytes(text.encode(errors="surrogateescape")[-7:], "big")


def configured(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default configuration with changed keys, some of which may be unknown."""
    config = asdict(Config())
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return config


def metric_rows(random: np.random.Generator, quality: float, last: int, steps: int, every: int) -> list[dict[str, Any]]:
    """Return rows of a run that learns quickly at first, and overfits a little at the end."""
    rows: list[dict[str, Any]] = []
    epoch = max(steps // VALIDATIONS, every)
    for step in range(every, last + 1, every):
        share = step / steps
        accuracy = 0.5 + (quality + 0.03 - 0.5) * (1 - math.exp(-6 * share)) + random.normal(0, 0.02)
        loss = 0.69 * math.exp(-3.2 * share * quality) + 0.12 + random.normal(0, 0.035)
        row = {"step": step, "epoch": (step - 1) // epoch, "lr": 0.002 * min(1, 10 * share) * (1 - share)}
        row |= {"train/loss": round(max(loss, 0.01), 5), "train/accuracy": round(min(accuracy, 1), 5)}
        row |= {
            "train/grad_norm": round(float(random.lognormal(0, 0.3)), 4),
            "train/tokens_per_second": 61_000 + step % 97,
        }
        if step % epoch == 0:
            validated = 0.5 + (quality - 0.5) * (1 - math.exp(-7 * share)) + random.normal(0, 0.004)
            row |= {"val/accuracy": round(validated, 5), "val/f1": round(validated - 0.004, 5)}
            row |= {"val/loss": round(0.69 - 1.05 * (validated - 0.5) + 0.09 * share**2, 5)}
        rows.append(row)
    return rows


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as the `metrics.csv` of a run."""
    with (path / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def make_evaluation(
    folder: Path, random: np.random.Generator, accuracy: float, classes: Sequence[str], *, texts: Sequence[str] = ()
) -> float:
    """Write an evaluation of 2,000 reviews that is a little too sure of itself; return its accuracy."""
    folder.mkdir()
    labels = random.integers(0, len(classes), 2000)
    distance = math.sqrt(2) * NormalDist().inv_cdf(accuracy)  # with which two classes are told apart so often
    logits = random.normal(0, 1, (2000, len(classes)))
    logits[np.arange(2000), labels] += distance
    probabilities = np.exp(1.5 * distance * logits)  # without the 1.5 they would be right
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    record: dict[str, Any] = {
        "test/loss": 0.31,
        "test/accuracy": round(float((labels == predicted).mean()), 5),
        "test/f1": 0.86,
    }
    record |= {"test/auroc": 0.94, "test/calibration_error": 0.031, "reviews": 2000, "classes": list(classes)}
    (folder / "metrics.json").write_text(json.dumps(record | {"confusion_matrix": matrix.tolist()}))
    told = probabilities[:, 1:] if len(classes) == 2 else probabilities
    names = ["probability"] if len(classes) == 2 else [f"probability_{' '.join(name.split())}" for name in classes]
    with (folder / "predictions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["index", "label", "tokens", *names])
        table.writerows([row, labels[row], 200, *(f"{p:.6g}" for p in told[row])] for row in range(2000))
    confidences = probabilities.max(axis=1)
    wrong = sorted(np.flatnonzero(labels != predicted).tolist(), key=lambda row: -confidences[row])[:20]
    of_sentiment = tuple(classes) == LABELS
    with (folder / "mistakes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["index", *(["label"] if of_sentiment else ["true", "predicted"]), "probability", "text"])
        for place, row in enumerate(wrong):
            names = [str(labels[row])] if of_sentiment else [classes[labels[row]], classes[predicted[row]]]
            text = texts[place] if place < len(texts) else " ".join(random.choice(WORDS, 60)).capitalize() + "."
            table.writerow([row, *names, f"{confidences[row]:.4f}", text])
    return float(record["test/accuracy"])


def make_sweep(path: Path, trials: int = 30, *, steps: int = 2000, evaluated: bool = True) -> Path:
    """Write a random search over five keys; the learning rate has a best value in the middle, the seed of data none."""
    random = np.random.default_rng(7)
    path.mkdir(parents=True)
    metric = {"name": "val/accuracy", "goal": "maximize"}
    (path / "sweep.yaml").write_text(yaml.safe_dump({"method": "random", "metric": metric, "parameters": {}}))
    for number in range(trials):
        lr = float(10 ** random.uniform(-4, -1.5))
        hidden, cell = int(random.choice([32, 64, 128, 256])), str(random.choice(["rnn", "lstm", "gru"]))
        dropout = round(float(random.uniform(0, 0.6)), 3)
        quality = 0.88 - 0.035 * (math.log10(lr) + 2.7) ** 2 + 0.004 * math.log2(hidden / 32)
        quality += {"rnn": -0.03, "lstm": 0.0, "gru": 0.008}[cell] + random.normal(0, 0.006)
        changes = {"optimizer.lr": lr, "model.hidden_size": hidden, "model.cell": cell, "model.output_dropout": dropout}
        changes |= {"data.batch_size": int(random.choice([32, 64]))}
        state = "failed" if number == trials - 2 else "stopped" if number % 9 == 8 else "finished"
        made: dict[str, Any] = {
            "quality": quality,
            "name": f"{cell}-{hidden}x1-bi s0",
            "state": state,
            "steps": steps,
            "evaluated": evaluated,
        }
        make_run(path / f"trial{number:03}", changes, **made)
    return path


def make_comparison(path: Path, seeds: int = 3) -> Path:
    """Write a multirun of three cells, each with several seeds."""
    path.mkdir(parents=True)
    (path / "jobs.json").write_text("{}")
    for number, (cell, seed) in enumerate((cell, seed) for cell in ("rnn", "lstm", "gru") for seed in range(seeds)):
        quality = {"rnn": 0.81, "lstm": 0.865, "gru": 0.875}[cell] + 0.004 * (seed - 1)
        make_run(path / str(number), {"model.cell": cell, "seed": seed}, quality=quality)
    return path
