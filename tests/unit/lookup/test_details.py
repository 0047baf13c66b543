from pathlib import Path

from doubles.recorded_runs import make_run

from textrnn.lookup.details import compared, described, last_line, told_bytes, unsent, wandb_place
from textrnn.lookup.records import read_run
from textrnn.tracking.metrics_csv import COLUMNS, HEADER


def test_a_run_in_full(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", cell="rnn", git_commit="a" * 40, git_dirty=True, version="1", command=["train.py"])
    (path / "metrics.csv").write_bytes(HEADER + b"10,0,0.5,0.75" + b"," * (len(COLUMNS) - 4) + b"\n12,0,0.4")
    (path / "train.log").write_text("first\nlast line é\n\n", encoding="utf-8")
    (path / "diff.patch").write_text("--- a\n+++ b\n+new\n")
    text = "\n".join(described(read_run(path)))
    for part in (
        "killed, at step 10",
        f"commit {'a' * 12} with changes (diff.patch)",
        "model.cell            rnn  default gru",
        "model.embedding.size  8    default 100",
        "last metrics so far:",
        "train/accuracy  0.7500",
        "last line of the log: last line é",
        "no W&B run",
    ):
        assert part in text, part
    assert "optimizer.betas" not in text  # as the default


def test_what_differs_between_two_runs(tmp_path: Path) -> None:
    summary = {"val/accuracy": 0.5}
    first = make_run(tmp_path / "a", summary=summary, torch="2.6", git_commit="b", id="x")
    second = make_run(tmp_path / "b", seed=1, summary={"val/accuracy": 0.25}, torch="2.7", git_commit="b", id="x")
    (second / "diff.patch").write_text("--- a\n+++ b\n+new\n-old\n+new\n")
    words = [line.split() for line in compared(read_run(first), read_run(second))]
    for row in (
        ["seed", "0", "1"],
        ["val/accuracy", "0.5000", "0.2500"],
        ["torch", "2.6", "2.7"],
        ["changes", "diff.patch:", "+2", "-1"],
    ):
        assert row in words
    assert "environment: the same" in "\n".join(compared(read_run(first), read_run(first)))


def test_where_a_run_is_in_wandb(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", summary={})
    part = path / "wandb" / "offline-run-1-a"
    part.mkdir(parents=True)
    (part / "run-a.wandb").touch()
    run = read_run(path)
    assert unsent(path)
    assert wandb_place(run) == f"not uploaded; upload: wandb sync {path}/wandb/offline-run-*"
    (part / "run-a.wandb.synced").touch()
    assert (unsent(path), wandb_place(run)) == (False, "uploaded")
    (path / "wandb-url").write_text("https://example.org/a\n")
    (path / "wandb-unsent").touch()
    assert (unsent(path), wandb_place(run)) == (True, "https://example.org/a (a part is not uploaded)")


def test_the_last_line_of_a_long_log_and_sizes(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    assert last_line(log) == ""
    log.write_text("é" * 100_000 + "\nend\n", encoding="utf-8")
    assert last_line(log) == "end"
    assert [told_bytes(size) for size in (999, 1000, 2_500_000, 3 * 10**9)] == ["999 B", "1.0 kB", "2.5 MB", "3.0 GB"]
