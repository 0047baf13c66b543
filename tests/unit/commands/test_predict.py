"""Labels for texts that spaCy cuts: by the ids that training would have, or not at all."""

import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pytest
import spacy
import torch
from doubles.review_files import write
from doubles.tiny_checkpoint import write_checkpoint
from support import ROOT, Command

from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.store import prepare_store
from textrnn.data.tokenizer import load_tokenizer, train_tokenizer, vocabulary
from textrnn.model.kernels import layer as compiled
from textrnn.model.network import class_probabilities
from textrnn.training.checkpoints import load_checkpoint

TEXTS = ["I don't like it!", "It's a fine film.<br />Isn't it?"]


@pytest.fixture
def checkpoint(workplace: Path) -> Path:
    tokenizer = train_tokenizer(TEXTS, "spacy", 100)
    return write_checkpoint(workplace / "best.ckpt", tokenizer, DataConfig(source="synthetic", tokenizer="spacy"))


def test_texts_are_cut_by_spacy_as_in_training(here: Command, checkpoint: Path) -> None:
    told = here("predict.py", str(checkpoint), *TEXTS)
    assert told.returncode == 0, told.stderr
    read = load_checkpoint(checkpoint)
    known = vocabulary(train_tokenizer(TEXTS, "spacy", 100))
    classifier, english = read.classifier(), spacy.blank("en")
    for text, line in zip(TEXTS, told.stdout.splitlines(), strict=True):
        words = [token.lower_ for token in english(text.replace("<br />", " "))]
        ids = torch.tensor([[known.index(word) for word in words]])
        with torch.inference_mode():
            probability = classifier(ids, torch.tensor([len(words)])).sigmoid().item()
        assert json.loads(line)["probabilities"]["positive"] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("command", [("predict.py", "best.ckpt", "a film"), ("evaluate.py", "best.ckpt")])
def test_another_version_of_spacy_is_refused(
    here: Command, checkpoint: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7")
    refused = here(*command)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: data.tokenizer=spacy needs spaCy ")
    assert refused.stderr.count("\n") == 1
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["best.ckpt"]


def test_a_model_is_read_where_the_implementation_of_its_training_is_not(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = load_checkpoint(checkpoint)
    read.config.model.implementation = "compiled"
    monkeypatch.setattr(compiled, "is_available", lambda like: False)
    assert read.classifier()(torch.tensor([[2, 3]]), torch.tensor([2])).shape == (1,)


@pytest.fixture
def words(workplace: Path) -> Path:
    data = DataConfig(source="synthetic")
    return write_checkpoint(workplace / "words.ckpt", train_tokenizer(TEXTS, "word", 100), data)


def piped(checkpoint: Path, given: bytes, environment: dict[str, str], *arguments: bytes) -> tuple[int, bytes, bytes]:
    command = [sys.executable, str(ROOT / "predict.py"), str(checkpoint), *(arguments or ("--file", "-"))]
    done = subprocess.run(command, input=given, env=environment, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_texts_are_utf_8_whatever_the_locale(words: Path, environment: dict[str, str]) -> None:
    plain = environment | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = piped(words, "un café\n".encode(), plain)
    assert code == 0, err
    assert json.loads(out)["text"] == "un café"
    for arguments in ((), (b"caf\xe9",)):
        code, out, err = piped(words, b"caf\xe9\n", plain, *arguments)
        assert (code, out) == (2, b"")
        assert (b"text 1 is not UTF-8" if arguments else b"line 1 is not UTF-8") in err
        assert err.count(b"\n") == 1


def test_labels_have_the_names_of_the_runs_classes(here: Command, words: Path) -> None:
    for classes in (["ham", "spam"], ["World", "Sports", "Sci, Tech"]):
        data = DataConfig(source="synthetic")
        path = write_checkpoint(
            words.with_name("named.ckpt"), train_tokenizer(TEXTS, "word", 100), data, {"classes": classes}
        )
        checkpoint = load_checkpoint(path)
        logits = checkpoint.classifier()(torch.tensor([[1, 1]]), torch.tensor([2]))
        told = here("predict.py", str(path), "unknown words")
        assert told.returncode == 0, told.stderr
        line = json.loads(told.stdout)
        assert list(line["probabilities"]) == classes
        assert list(line["probabilities"].values()) == pytest.approx(class_probabilities(logits)[0].tolist(), abs=1e-5)
        assert line["label"] == max(classes, key=lambda name: line["probabilities"][name])


def test_a_file_is_read_from_its_first_letter_and_named_by_its_line(
    here: Command, words: Path, environment: dict[str, str]
) -> None:
    marked = b"\xef\xbb\xbfa film\r\nun caf\xc3\xa9\n"
    file = words.with_name("marked.txt")
    file.write_bytes(marked)
    told = here("predict.py", str(words), "--file", str(file)).stdout
    assert [json.loads(line)["text"] for line in told.splitlines()] == ["a film", "un café"]
    assert piped(words, marked, environment)[1].decode() == told
    file.write_bytes(b"a film\n" * 5000 + b"caf\xe9\n")
    assert "line 5001 is not UTF-8 text" in here("predict.py", str(words), "--file", str(file)).stderr


def test_texts_of_a_table(here: Command, words: Path, environment: dict[str, str]) -> None:
    texts = ["a film", "un café, fine", ""]
    for ending in ("csv", "jsonl", "parquet"):
        table = write(words.with_name(f"reviews.{ending}"), [(text, 1) for text in texts])
        told = here("predict.py", str(words), "--file", str(table))
        assert told.returncode == 0, told.stderr
        assert [json.loads(line)["text"] for line in told.stdout.splitlines()] == texts
        write(table, [("a film", 0), ("a film", 1)], ("review", "v1"))
        read = here("predict.py", str(words), "--file", str(table))
        assert (read.stdout.count("a film"), read.stderr) == (2, "columns: review\n")
        refused = here("predict.py", str(words), "--file", str(table), "--text-column", "text")
        assert "has no column 'text' (columns: review, v1); type --text-column" in refused.stderr
        columns = ("--text-column", "review", "--text-column", "review")
        read = here("predict.py", str(words), "--file", str(table), *columns)
        assert read.stdout.count("a film\\n\\na film") == 2
        table.write_bytes(b'caf\xe9,"')
        refused = here("predict.py", str(words), "--file", str(table))
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    saved, batch = words.with_name("saved.arrow"), pa.record_batch({"text": texts})
    for new in (pa.ipc.new_stream, pa.ipc.new_file):
        with new(str(saved), batch.schema) as writer:
            writer.write(batch)
        told = here("predict.py", str(words), "--file", str(saved))
        assert [json.loads(line)["text"] for line in told.stdout.splitlines()] == texts
    assert "--text-column is for a table" in here("predict.py", str(words), "a film", "--text-column", "text").stderr
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, str(ROOT / "predict.py"), str(words), "a film"]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == b"error: the output can't be written (No space left on device); send it elsewhere.\n"


def test_a_table_of_labels(here: Command, words: Path) -> None:
    (words.parent / "in.txt").write_text("a film\n\nit's fine\n")
    out = words.parent / "out.jsonl"
    told = here("predict.py", str(words), "--file", "in.txt", "--output", "out.jsonl", "--probabilities")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("labeled: out.jsonl (3 texts in ")
    assert told.stderr == "warning: text 2 is empty: such labels mean nothing\n"
    printed = [json.loads(line) for line in here("predict.py", str(words), "--file", "in.txt").stdout.splitlines()]
    for line, row in zip(printed, map(json.loads, out.read_text().splitlines()), strict=True):
        assert (row["text"], row["label"]) == (line["text"], line["label"])
        assert {name: row[f"probability_{name}"] for name in ("negative", "positive")} == line["probabilities"]
    told = here("predict.py", str(words), "a film", "it's fine", "--output", "typed.csv")
    assert told.returncode == 0, told.stderr
    assert (words.parent / "typed.csv").read_text().startswith("text,label,probability\na film,")
    assert not list(words.parent.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("predict.py", "--file", "reviews.xlsx"), "--file reviews.xlsx: .xlsx is not read; save it as text"),
        (("predict.py", "--file", "absent.csv"), "--file absent.csv: can't be read (No such file"),
        (("predict.py", "--file", "absent.txt"), "--file absent.txt: can't be read (No such file"),
        (("predict.py", "--file", "."), "--file .: can't be read (Is a directory"),
        (
            ("predict.py", "--file", "a-file", "--output", "a-file.xlsx"),
            "type a file that ends in .csv, .tsv, .jsonl or",
        ),
        (("predict.py", "--file", "a.csv", "--output", "./a.csv"), "--output ./a.csv: that is the file that is read"),
        (("predict.py", "--file", "a-file", "--output", "a.csv"), "--output a.csv: is there already; remove it"),
        (("predict.py", "--file", "a-file", "--output", "absent/b.csv"), "there is no folder "),
        (("predict.py", "--file", "a-file", "--probabilities"), "type --output OUT.csv"),
        (("evaluate.py", "--output", "a-file/results"), "a-file is a file); give another folder"),
        (("evaluate.py", "--output", "~nosuchuser/results"), "there is no such home directory"),
    ],
)
def test_files_are_looked_at_before_the_run(here: Command, place: Path, typed: tuple[str, ...], told: str) -> None:
    (place / "a-file").touch()
    (place / "a.csv").touch()
    refused = here(*typed, "wandb:no-entity/no-project/no-model")
    assert refused.returncode == 2
    assert told in refused.stderr


def test_an_output_is_looked_at_before_reviews_are(here: Command, generated: Path) -> None:
    (generated.parents[1] / "evaluation-test").touch()
    refused = here("evaluate.py", "run", "--data-path", "absent")
    assert "evaluation-test is a file" in refused.stderr


def test_data_that_moved_are_asked_for_by_a_flag_that_there_is(here: Command, generated: Path) -> None:
    refused = here("evaluate.py", "run", "--data-path", "absent")
    assert refused.returncode == 2
    assert "--data-path absent does not exist (looked for /" in refused.stderr
    assert "data.path=" not in refused.stderr


@pytest.fixture
def generated(workplace: Path) -> Path:
    """A checkpoint in a run directory, of generated reviews whose store is there."""
    reviews = SyntheticConfig(train_reviews=200, test_reviews=50)
    data = DataConfig(source="synthetic", synthetic=reviews, cache_dir=str(workplace.parent / "cache"))
    store = prepare_store(data)
    path = workplace / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    return write_checkpoint(path, load_tokenizer(store.tokenizer_json), data, store.record())


@pytest.mark.parametrize(("verb", "arguments"), [("predict.py", ["a film"]), ("evaluate.py", [])])
def test_a_run_that_has_diverged_labels_and_measures_nothing(
    here: Command, generated: Path, verb: str, arguments: list[str]
) -> None:
    checkpoint = torch.load(generated, weights_only=True)
    for tensor in checkpoint["state_dict"].values():
        if tensor.is_floating_point():
            tensor.fill_(math.nan)
    torch.save(checkpoint, generated)
    refused = here(verb, "run", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "its weights give NaN, so the run has diverged" in refused.stderr
    assert [path.name for path in Path("run").iterdir()] == ["checkpoints"]


def test_a_threshold_between_two_texts(here: Command, words: Path) -> None:
    texts = ("like it", "a fine film")
    shares = [json.loads(line)["probabilities"] for line in here("predict.py", str(words), *texts).stdout.splitlines()]
    low, high = sorted(share["positive"] for share in shares)
    told = here("predict.py", str(words), *texts, "--threshold", str((low + high) / 2))
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["probabilities"] for line in lines] == shares
    assert [line["label"] == "positive" for line in lines] == [share["positive"] == high for share in shares]
    refused = here("predict.py", "absent", *texts, "--threshold", "1.5")
    assert (refused.returncode, refused.stderr) == (2, "error: --threshold 1.5: type a number between 0 and 1.\n")


def test_a_threshold_is_chosen_on_validation_and_written(here: Command, generated: Path) -> None:
    checkpoint = torch.load(generated, weights_only=True)
    checkpoint["textrnn"]["temperature"] = 0.1
    torch.save(checkpoint, generated)
    chosen = []
    for split in ("test", "validation"):
        done = here("evaluate.py", "run", "--split", split, "--output", split, "--threshold", "f1")
        assert done.returncode == 0, done.stderr
        written = json.loads((Path(split) / "threshold.json").read_text())
        chosen.append(written["threshold"])
        assert f"threshold {chosen[-1]}, chosen on validation by f1" in done.stdout
        assert "with temperature 0.1" in done.stdout
        assert {row["split"] for row in written["figures"]} == {"validation", split}
    assert chosen[0] == chosen[1]
    assert not (Path("test") / "threshold.json").samefile(Path("validation") / "threshold.json")
    checkpoint["state_dict"]["model.output.weight"].zero_()  # all reviews are equally probable
    torch.save(checkpoint, generated)
    for rule, words in (("best", "type f1, precision=0.95"), ("precision=0.99", "the highest precision on validation")):
        refused = here("evaluate.py", "run", "--output", "refused", "--threshold", rule)
        assert (refused.returncode, words in refused.stderr) == (2, True)
        assert not Path("refused").exists()
    for order in (("run", "--threshold", "0.7", "a film"), ("--threshold", "0.7", "run", "a film")):
        assert here("predict.py", *order).returncode == 0
    refused = here("evaluate.py", "run", "run", "--threshold", "f1")
    assert "--threshold is for one run" in refused.stderr
