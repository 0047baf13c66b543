"""Plain `wandb sweep` and `wandb agent`, without our command: what they run is whole, read back with `wandb.Api`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from doubles.quick_agent import QUICK_AGENT
from doubles.review_files import some_reviews
from doubles.sweep_runs import sweep_file
from doubles.tracked_runs import log_in
from doubles.wandb_server import WandbServer
from support import IMDB, ROOT


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
