"""A run is its reviews: it goes on with them wherever they are by now, and with no others."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from doubles.hub import LoopbackHub
from doubles.review_files import imdb_on_hub, write
from doubles.run_files import metrics, summary
from support import Command

from textrnn.data.synthetic import generate_review

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = ("trainer=cpu", "tracking=none", "model.hidden_size=4", "model.embedding.size=4", "data.batch_size=64")
FIRST = ("train.py", *SMALL, "data.vocab_size=300", "trainer.max_epochs=1", "run_dir=run")


def write_reviews(place: Path, training: int, names: Sequence[object] = (0, 1)) -> Path:
    """So many training reviews, and always the same of the others; all vocabularies have the same size."""
    for split, count, first in (("train", training, 0), ("validation", 40, 10_000), ("test", 60, 20_000)):
        rows = (generate_review(1, "train", first + number, 0.2) for number in range(count))
        write(place / f"{split}.csv", [(text, names[label]) for text, label in rows])
    return place


def forget_store(workplace: Path) -> None:
    """As on another machine."""
    shutil.rmtree(workplace.parent / "home" / "cache" / "textrnn" / "stores")


def test_a_run_goes_on_with_its_reviews_when_the_file_has_changed(here: Command, workplace: Path) -> None:
    write_reviews(workplace / "reviews", 300)
    assert here(*FIRST, "data.path=reviews").returncode == 0
    shutil.copytree(workplace / "run", workplace / "other")
    assert here("train.py", "resume=other", "trainer.max_epochs=2").returncode == 0
    write_reviews(workplace / "reviews", 400)
    done = here("train.py", "resume=run", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert "data.path=reviews has changed since the run began; the run's reviews are still stored here" in done.stderr
    assert metrics(workplace / "run") == metrics(workplace / "other")
    assert summary(workplace / "run") == summary(workplace / "other")
    (workplace / "reviews" / "train.csv").unlink()
    assert here("evaluate.py", "run").returncode == 0, "no folder of reviews any more"


def test_other_reviews_are_refused_and_nothing_has_changed(here: Command, workplace: Path) -> None:
    write_reviews(workplace / "reviews", 300)
    assert here(*FIRST, "data.path=reviews").returncode == 0
    write_reviews(workplace / "more", 400)
    shutil.move(workplace / "reviews", workplace / "elsewhere")
    before = {path: path.read_bytes() for path in (workplace / "run").rglob("*.*") if path.name != "train.log"}
    forget_store(workplace)
    gone = here("train.py", "resume=run", "trainer.max_epochs=2")
    assert gone.returncode == 2
    assert "data.path=reviews does not exist" in gone.stderr
    refused = here("train.py", "resume=run", "trainer.max_epochs=2", "data.path=more")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        "error: resume: these are not the reviews that run began with (those for train differ); give the old ones with "
        "data.path, or start a new run."
    )
    write_reviews(workplace / "named", 300, ["ham", "spam"])
    refused = here("train.py", "resume=run", "trainer.max_epochs=2", "data.path=named")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        "error: resume: the classes are now ham, spam, and were negative, positive when run began; give the old "
        "reviews with data.path, or start a new run."
    )
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((workplace / "run" / "run.json").read_text())["classes"] == ["negative", "positive"]
    done = here("train.py", "resume=run", "trainer.max_epochs=2", "data.path=elsewhere")
    assert done.returncode == 0, done.stderr
    assert summary(workplace / "run")["status"] == "finished"


def test_a_label_that_was_corrected_makes_other_reviews(here: Command, workplace: Path) -> None:
    reviews = write_reviews(workplace / "reviews", 300)
    assert here(*FIRST, "data.path=reviews").returncode == 0
    rows = [generate_review(1, "train", 20_000 + number, 0.2) for number in range(60)]
    write(reviews / "test.csv", [(rows[0][0], 1 - rows[0][1]), *rows[1:]])
    kept = here("evaluate.py", "run")
    assert kept.returncode == 0, "its own reviews are stored"
    forget_store(workplace)
    for command in (("evaluate.py", "run"), ("train.py", "resume=run", "trainer.max_epochs=2")):
        refused = here(*command)
        assert refused.returncode == 2
        assert "test" in refused.stderr.splitlines()[-1]
    assert here("evaluate.py", "run", "--split", "validation").returncode == 0
    typed = here("evaluate.py", "run", "--data-path", "reviews", "--output", "corrected")
    assert typed.returncode == 0
    assert "--data-path reviews: its test reviews are not the run's" in typed.stdout + typed.stderr


def test_a_run_stays_with_its_commit_of_the_hub(
    script: Command, here: Command, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = imdb_on_hub(tmp_path_factory.mktemp("hub"))
    with LoopbackHub(folder) as hub:
        began = script(*FIRST, "data=imdb", HF_ENDPOINT=hub.url)
        assert began.returncode == 0, began.stderr
        (folder / "README.md").write_text((folder / "README.md").read_text() + "\nA line more.\n")
        done = here("train.py", "resume=run", "trainer.max_epochs=2")
        assert done.returncode == 0, "its reviews are stored here, and no Hub is asked"
        forget_store(workplace)
        refused = script("train.py", "resume=run", "trainer.max_epochs=3", HF_ENDPOINT=hub.url)
        assert refused.returncode == 2, "the double has forgotten the old commit, which the run asks for"
        assert "is not a branch, tag or commit" in refused.stderr
