"""A linear model beside a run, on the same splits: python benchmarks/baseline.py [--train] [KEY=VALUE ...].

Takes the words that train.py takes, such as data.path=reviews.csv. Needs scikit-learn (pip install -e ".[dev]").
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from machine import ROOT
from textrnn.config.compose import compose_jobs, parse_command_line
from textrnn.data.review_file import Split
from textrnn.data.store import prepare_store

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse strengths of the regularization (scikit-learn's C); validation chooses one."""


def main(argv: Sequence[str]) -> int:
    """Print the accuracy of the linear model and, with `--train`, of a run with the same keys."""
    parser = argparse.ArgumentParser(prog="benchmarks/baseline.py", description=__doc__)
    parser.add_argument("--train", action="store_true", help="also run train.py with the same words")
    arguments, words = parser.parse_known_args(argv)
    (config,) = compose_jobs(parse_command_line(words))
    store = prepare_store(config.data)
    train, validation, test = (store.split(name) for name in ("train", "validation", "test"))
    strength, chosen, tested = linear_model(train, validation, test)
    print(f"reviews: {len(train):,} train, {len(validation):,} validation, {len(test):,} test")
    print(f"logistic regression, TF-IDF of words and pairs, C={strength:g}: val {chosen:.4f}, test {tested:.4f}")
    if arguments.train:
        with tempfile.TemporaryDirectory() as folder:
            own = [*words, f"run_dir={folder}/run", "tracking=none"]
            subprocess.run([sys.executable, str(ROOT / "train.py"), *own], check=True)
            summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
        print(f"{config.model.cell}: val {summary['val/accuracy']:.4f}, test {summary['test/accuracy']:.4f}")
    return 0


def linear_model(train: Split, validation: Split, test: Split) -> tuple[float, float, float]:
    """Return C, validation's accuracy and the test's; with several labels a text, all of them must be right."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(_texts(train))
    validated = vectorizer.transform(_texts(validation)), _labels(validation)
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000)
        fitted = (OneVsRestClassifier(model) if train.labels.ndim == 2 else model).fit(features, _labels(train))
        found.append((strength, float(fitted.score(*validated)), fitted))
    strength, accuracy, fitted = max(found, key=lambda of: of[1])
    return strength, accuracy, float(fitted.score(vectorizer.transform(_texts(test)), _labels(test)))


def _texts(split: Split) -> list[str]:
    return [split.text(row) for row in range(len(split))]


def _labels(split: Split) -> npt.NDArray[np.int64]:
    return split.labels.astype(np.int64)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
