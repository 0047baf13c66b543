"""The sister scripts of train.py, each after a run of its own."""

import csv
import json
import shlex
from pathlib import Path

import pytest
from doubles.review_files import reviews, write
from doubles.run_files import SMALL, json_of, predictions, summary
from support import Command

from textrnn.data.sources import split_of, split_shares


def test_evaluate_and_predict(here: Command, workplace: Path) -> None:
    run = "run [b] $a^$"  # no markup, no formula
    done = here("train.py", *SMALL, f"run_dir='{run}'", "tracking.name='named [/b] $a^$'")
    assert done.returncode == 0, done.stderr
    assert "named [/b] $a^$: finished" in done.stdout
    folder = workplace / run / "evaluation-test"
    by_training = json_of(folder / "metrics.json")
    for path in folder.iterdir():
        path.unlink()
    done = here("evaluate.py", run, "--split", "test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{run}/checkpoints/best.ckpt on test (60 reviews)\n")
    names = [
        *("calibration.png", "evaluation.png", "metrics.json", "mistakes.csv", "mistakes.html", "predictions.csv"),
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    measured = json_of(folder / "metrics.json")
    trained = json_of(workplace / run / "summary.json")
    for name in ("test/loss", "test/accuracy", "test/f1", "test/auroc"):
        assert measured[name] == pytest.approx(trained[name], abs=1e-5)
    counts = measured["confusion_matrix"]
    assert isinstance(counts, list)
    assert sum(map(sum, counts)) == measured["reviews"] == 60
    assert measured["confusion_matrix"] == by_training["confusion_matrix"]
    assert measured["accuracy_by_length"] == by_training["accuracy_by_length"]
    assert (folder / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "mistakes.csv").open() as file:
        mistakes = list(csv.DictReader(file))
    assert len(mistakes) == min(50, counts[0][1] + counts[1][0])
    confidence = [round(abs(float(row["probability"]) - 0.5), 6) for row in mistakes]  # six digits are told
    assert confidence == sorted(confidence, reverse=True)

    texts = ['"Quoted", a=b, c', "model=gru", "", "-5 stars? é"]
    told = here("predict.py", run, "--", *texts)
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert told.stderr == "warning: text 3 is empty: such labels mean nothing\n"
    for line in lines:
        probabilities = line["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1)
        assert line["label"] == max(probabilities, key=lambda label: probabilities[label])
    piped = here("predict.py", f"{run}/checkpoints/best.ckpt", "--file", "-", stdin="\n".join(texts) + "\n")
    assert [json.loads(line) for line in piped.stdout.splitlines()] == lines


def test_without_the_test_the_best_validation_is_evaluated(here: Command, workplace: Path) -> None:
    done = here("train.py", *SMALL, "test=false", "tracking.mistakes=3", "run_dir=run")
    assert done.returncode == 0, done.stderr
    folder = workplace / "run" / "evaluation-validation"
    measured, trained = json_of(folder / "metrics.json"), summary(workplace / "run")
    assert measured["reviews"] == len(predictions(workplace / "run", "validation")) > 0
    for name in ("loss", "accuracy", "f1"):
        assert measured[f"validation/{name}"] == pytest.approx(trained[f"val/{name}"], abs=1e-5)
    with (folder / "mistakes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert not (workplace / "run" / "evaluation-test").exists()


def test_any_path_can_be_typed(script: Command, workplace: Path, environment: dict[str, str]) -> None:
    home = Path(environment["HOME"])
    path = write(home / "we ird [x] #1; 50% (é)=" / "it's.csv", reviews(200))
    for typed in (f"~/{path.relative_to(home)}", str(path)):
        made = script("prepare.py", f"data.path={typed}", "data.cache_dir=~/c~")
        assert made.returncode == 0, made.stderr
    assert len(list((home / "c~" / "stores").glob("[!.]*/meta.json"))) == 1, "one store, however the path is typed"
    spaced = workplace.parent / "spaced.csv"
    spaced.write_text(path.read_text().replace("text,label", "text, my label"))
    advice = script("prepare.py", f"data.path={spaced}", "data.cache_dir=~/c~").stderr.split(" type ")[1].strip()
    made = script("prepare.py", f"data.path={spaced}", "data.cache_dir=~/c~", *shlex.split(advice))
    assert made.returncode == 0, made.stderr
    (home / "mine~.yaml").write_text(f"data: {{path: {json.dumps(str(path))}, cache_dir: ~/c~}}\n")
    made = script("prepare.py", "experiment=~/mine~.yaml")
    assert made.returncode == 0, made.stderr
    assert list(workplace.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_prepare_makes_the_store_that_training_uses(
    here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    prepared = here("prepare.py", *SMALL)
    assert prepared.returncode == 0, prepared.stderr
    path = Path(prepared.stdout.splitlines()[-1].removeprefix("token store: "))
    assert path.is_relative_to(Path(environment["XDG_CACHE_HOME"]) / "textrnn")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    assert here("train.py", *SMALL, "run_dir=run").returncode == 0
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    assert len(list(path.parent.glob("[!.]*/"))) == 1


def test_prepare_says_which_reviews_are_of_training_too(here: Command, workplace: Path) -> None:
    write(workplace / "own" / "train.csv", reviews(100))
    write(workplace / "own" / "test.csv", [*reviews(20, "other"), *reviews(100)[:7]])
    shares = split_shares(["train", "test"])["train"]
    in_training = sum(split_of(text, shares) == "train" for text, _ in reviews(7))
    for _ in range(2):  # also of a store that is there already
        prepared = here("prepare.py", "data.path=own")
        assert prepared.returncode == 0, prepared.stderr
        (line,) = [line for line in prepared.stdout.splitlines() if line.startswith("test: 27 reviews, ")]
        assert line.endswith(f" tokens; {in_training} are training reviews too")
        assert prepared.stdout.count("training reviews too") == 1
