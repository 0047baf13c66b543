"""Plain `wandb sweep` and `wandb agent`, without our command: what they run is whole, read back with `wandb.Api`."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import wandb
from doubles.quick_agent import QUICK_AGENT, told_at_once
from doubles.review_files import some_reviews
from doubles.sweep_runs import SMALL, sweep_file, wait
from doubles.tracked_runs import assert_whole, log_in
from doubles.wandb_server import Fault, WandbServer
from support import IMDB, ROOT, Command


@pytest.fixture
def server(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """An account on a server that answers, for the commands and for this process."""
    with WandbServer() as running:
        log_in(environment, running)
        # `${interpreter}` is plain `python`, as in a virtual environment that is activated.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        for name in ("WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_ERROR_REPORTING"):
            monkeypatch.setenv(name, environment[name])
        yield running
    wandb.teardown()


@pytest.mark.slow
@pytest.mark.skipif(not IMDB.is_dir(), reason="needs the real reviews")
def test_two_agents_with_two_trials_each(server: WandbServer, workplace: Path, environment: dict[str, str]) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    parameters = {"optimizer.lr": {"values": [0.001, 0.01]}, "model": {"values": ["gru", "rnn"]}}
    path = sweep_file(workplace, tracking="auto", project="films", parameters=parameters)
    text = path.read_text().replace("data=synthetic", f"data.path={some_reviews(workplace, train=600, test=200)}")
    path.write_text(text.replace("- data.synthetic.train_reviews=300\n", ""))
    registered = [sys.executable, "-m", "wandb", "sweep", str(path)]
    subprocess.run(registered, cwd=workplace, env=environment, capture_output=True, timeout=60, check=True)
    (sweep,) = server.sweeps.values()
    agent = [*QUICK_AGENT, "--count", "2", f"tester/films/{sweep.id}"]
    agents = [
        subprocess.Popen(agent, cwd=workplace, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(timeout=240) for process in agents] == [0, 0]
    assert len({name for name, _ in sweep.handed_out}) == 2

    runs = list(wandb.Api().runs("tester/films"))
    asked = {(lr, cell) for lr in (0.001, 0.01) for cell in ("gru", "rnn")}
    assert {(run.config["optimizer.lr"], run.config["model.cell"]) for run in runs} == asked
    assert all(run.config["model"] == run.config["model.cell"] for run in runs), "the sweep locks its own keys alone"
    assert {run.state for run in runs} == {"finished"}
    for run in runs:
        directory = workplace / "runs" / sweep.id / run.id
        assert (directory / "checkpoints" / "best.ckpt").is_file()
        steps = [row["_step"] for row in run.scan_history(keys=["_step", "train/loss"])]
        assert steps == sorted(set(steps))
        assert steps
        assert 0.4 < run.summary["val/accuracy"] <= 1
        (model,) = [artifact for artifact in run.logged_artifacts() if artifact.type == "model"]
        assert {"best", "latest"} <= set(model.aliases)
        assert model.metadata["val/accuracy"] == run.summary["val/accuracy"]
    assert len({run.summary["val/loss"] for run in runs}) == len(asked), "each has its own parameters"


@pytest.mark.slow
def test_a_trial_that_is_pre_empted_twice_is_one_whole_run(
    server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    parameters = {"trainer.max_epochs": {"value": 30}, "model": {"values": ["lstm"]}}
    path = sweep_file(workplace, tracking="online", parameters=parameters)
    path.write_text(path.read_text().replace("- resume=auto", "- resume=auto\n- early_stopping.patience=null"))
    registered = [sys.executable, "-m", "wandb", "sweep", "--project", "films", str(path)]
    subprocess.run(registered, cwd=workplace, env=environment, capture_output=True, timeout=60, check=True)
    (sweep,) = server.sweeps.values()
    agent = subprocess.Popen(
        [*QUICK_AGENT, "--forward-signals", f"tester/films/{sweep.id}"],
        cwd=workplace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rows = 0

    def has_been_handed_out(turns: int) -> bool:
        return len(sweep.handed_out) == turns

    def has_trained_on(turns: int) -> bool:
        """Whether the trial has been handed out so often and has written rows since."""
        files = list(workplace.glob("runs/*/*/metrics.csv"))
        return has_been_handed_out(turns) and bool(files) and files[0].read_text().count("\n") > rows + 3

    for turn in (1, 2):
        wait(agent, partial(has_trained_on, turn))
        agent.send_signal(signal.SIGUSR1)  # which it forwards, and lives on
        wait(agent, partial(has_been_handed_out, turn + 1))
        (trial,) = sweep.runs
        rows = (workplace / "runs" / sweep.id / trial.id / "metrics.csv").read_text().count("\n")
    output = agent.communicate(timeout=200)[0]
    assert agent.returncode == 0, output
    assert [run for _, run in sweep.handed_out] == [trial.id] * 3, output
    assert_whole(server, workplace / "runs" / sweep.id / trial.id)
    assert trial.config["model"] == "lstm"
    assert output.count("W&B resumes this trial with its whole config; left out, as no settings: _wandb, run") == 2


@pytest.mark.slow
def test_a_trial_that_is_pre_empted_while_python_starts_is_one_whole_run(
    server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "train.py").write_text(
        "import os, signal\n"
        "if not os.path.exists('hit'):\n"
        "    open('hit', 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n" + (ROOT / "train.py").read_text()
    )
    path = sweep_file(workplace, tracking="online")
    registered = [sys.executable, "-m", "wandb", "sweep", "--project", "films", str(path)]
    subprocess.run(registered, cwd=workplace, env=environment, capture_output=True, timeout=60, check=True)
    (sweep,) = server.sweeps.values()
    environment["PYTHONPATH"] = told_at_once(workplace)
    agent = [sys.executable, "-m", "textrnn.sweeping.cluster_agent", f"tester/films/{sweep.id}"]
    done = subprocess.run(
        agent, cwd=workplace, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    trial = sweep.runs[0]
    assert [run for _, run in sweep.handed_out].count(trial.id) == 2, done.stderr
    assert {run.state for run in sweep.runs} == {"finished"}, done.stdout + done.stderr


@pytest.mark.slow
def test_a_trial_that_w_and_b_does_not_take_says_what_starts_it_again(
    server: WandbServer, workplace: Path, environment: dict[str, str], script: Command
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    path = sweep_file(workplace, tracking="auto", project="films")
    registered = [sys.executable, "-m", "wandb", "sweep", str(path)]
    subprocess.run(registered, cwd=workplace, env=environment, capture_output=True, timeout=60, check=True)
    (sweep,) = server.sweeps.values()
    server.faults.append(Fault("UpsertBucket", 429, times=None))
    done = subprocess.run(
        [*QUICK_AGENT, f"tester/films/{sweep.id}"],
        cwd=workplace,
        env=environment | {"WANDB_INIT_TIMEOUT": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    ((_, trial),) = sweep.handed_out
    names = dict(re.findall(r" (WANDB_\w+)=(\S+)", done.stdout))
    told = {"WANDB_ENTITY": "tester", "WANDB_PROJECT": "films", "WANDB_SWEEP_ID": sweep.id, "WANDB_RUN_ID": trial}
    assert names == told, done.stdout
    server.faults.clear()
    arguments = (*SMALL, "tracking=auto", "resume=auto", "test=false", "optimizer.lr=0.01")
    again = script("train.py", *arguments, **names)
    assert again.returncode == 0, again.stderr
    assert_whole(server, workplace / "runs" / sweep.id / trial)
