"""A sweep at W&B under random faults: pre-emptions, kills, server outages, expired and killed agents.

    wrong = Chaos(seed=0, trials=50, workers=3, place=folder).play()

The sweep is `sweep.py`'s own with W&B's real client and agents, against the loopback server. All trials have the same
settings but their names, so whatever happens to them they must end with the same rows. `play` runs `sweep.py` under
faults and then, without faults, `sweep.py --resume` until it ends with 0, as the documentation says; it returns what
was lost, doubled or reported wrongly. `chaos_slurm` has the same with plain agents on a SLURM cluster.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from doubles.quick_agent import told_at_once
from doubles.tracked_runs import log_in, rows_of, summary_of, untimed
from doubles.wandb_server import ServerRun, WandbServer
from support import ROOT, environment_of

TINY = (
    *("data=synthetic", "data.synthetic.train_reviews=600", "data.synthetic.test_reviews=100", "data.max_length=40"),
    *("model.hidden_size=8", "model.embedding.size=8", "data.batch_size=16", "model.adversarial=0"),
    *("trainer=cpu", "trainer.log_every_n_steps=5", "early_stopping.monitor=val/loss", "early_stopping.patience=null"),
)
FAULTS = {"pre-empt": 5, "terminate": 2, "kill": 3, "outage": 2, "stall": 1, "expire": 2, "kill the agent": 1}
"""How often each is drawn. terminate: by SIGTERM, which may also be an agent's; expire: the server forgets an agent."""
SIGNALS = {"pre-empt": signal.SIGUSR1, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}
RESUMES = 4
"""So many times `--resume` may be needed."""


@dataclass
class Planned:
    """A fault that happens to one start of a trial."""

    kind: str
    agent: str
    run: ServerRun
    row: int
    """It happens when metrics.csv has so many rows: -1 is while the program starts, and more than there are is when
    summary.json has been written and the rest is uploaded."""


class Chaos:
    """One sweep and what happens to it."""

    faults = FAULTS

    def __init__(
        self, *, seed: int, trials: int, workers: int, place: Path, epochs: int = 4, share: float = 0.8
    ) -> None:
        """`share` of the trials' starts meet a fault."""
        self._random = random.Random(seed)
        self._trials, self._workers, self._share = trials, workers, share
        self._rows = 8 * epochs
        self._place = place / "workplace"
        self._place.mkdir(parents=True)
        home = place / "home"
        home.mkdir()
        self._server = WandbServer(crashed_after=30.0)
        self._environment = environment_of(home)
        log_in(self._environment, self._server)
        self._environment |= {
            f"WANDB_X_{what}_RETRY_WAIT_{bound}_SECONDS": "1"
            for what in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL")
            for bound in ("MIN", "MAX")
        }
        self._environment["PYTHONPATH"] = told_at_once(place, patience=2)
        config = {
            "program": "train.py",
            "method": "grid",
            "metric": {"name": "val/loss", "goal": "minimize"},
            "parameters": {"tracking.name": {"values": self._names()}},
            "command": [
                *("${env}", "${interpreter}", "${program}", *TINY, f"trainer.max_epochs={epochs}"),
                *("resume=auto", "tracking=online", "test=false", "${args_no_hyphens}"),
            ],
        }
        (self._place / "sweep.yaml").write_text(yaml.safe_dump(config))
        self._planned: list[Planned] = []
        self._seen = 0
        self.done: list[tuple[str, str]] = []
        """The faults that have happened: kind, and the trial's name."""
        self.output = ""
        """What `sweep.py` has printed, all of its starts."""
        self.codes: list[int] = []
        """The exit codes of `sweep.py`."""

    def _names(self) -> list[str]:
        return [f"t{number:02}" for number in range(1, self._trials + 1)]

    def play(self) -> list[str]:
        """Return what is wrong in the end."""
        with self._server:
            self._run([str(self._place / "sweep.yaml"), "--agents", str(self._workers)], faults=True)
            while self._has_more_to_do() and len(self.codes) <= RESUMES:
                self._run(["--resume", str(self._directory), "--agents", str(self._workers)], faults=False)
            return self._wrong()

    def _has_more_to_do(self) -> bool:
        """Whether the last start of `sweep.py` says that another one has something to do."""
        last = self.output.rpartition("\nsweep ")[2]
        return self.codes[-1] != 0 or "W&B may lack parts of trial" in last

    def _run(self, arguments: list[str], *, faults: bool) -> None:
        log = self._place / "sweep.log"
        with log.open("a") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "sweep.py"), *arguments],
                cwd=self._place,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                if faults:
                    self._play_due()
                time.sleep(0.1)
        self.output = log.read_text()
        self.codes.append(process.returncode)

    def _play_due(self) -> None:
        """Play the faults whose time has come."""
        self._plan()
        for planned in [each for each in self._planned if self._is_reached(each)]:
            self._planned.remove(planned)
            self._strike(planned)

    def _plan(self) -> None:
        """Draw the faults of the trials that were handed out since the last look."""
        handed_out = [pair for sweep in self._server.sweeps.values() for pair in sweep.handed_out]
        for agent, run in handed_out[self._seen :]:
            if self._random.random() < self._share:
                kind = self._random.choices(list(self.faults), weights=list(self.faults.values()))[0]
                row = self._random.choice([-1, self._random.randint(0, self._rows), self._rows + 1])
                self._planned.append(Planned(kind, agent, self._server.runs[run], row))
        self._seen = len(handed_out)

    def _is_reached(self, planned: Planned) -> bool:
        run = self._directory / planned.run.id
        if planned.row < 0:
            return bool(self._processes(planned.run.id))
        if planned.row > self._rows:
            return (run / "summary.json").is_file()
        return (run / "metrics.csv").is_file() and (run / "metrics.csv").read_text().count("\n") > planned.row

    @property
    def _directory(self) -> Path:
        runs = self._place / "runs"
        assert runs.is_dir(), self.output  # what refused the sweep
        (directory,) = runs.iterdir()
        return directory

    def _strike(self, planned: Planned) -> None:
        """Do it; a trial that has ended meanwhile is spared."""
        kind = planned.kind
        if kind in SIGNALS:
            for pid in self._processes(planned.run.id):
                self._note(planned)
                os.kill(pid, SIGNALS[kind])
        elif kind == "kill the agent":
            for parent in self._processes(planned.run.id).values():
                self._note(planned)
                os.kill(parent, signal.SIGKILL)
        elif kind == "expire":
            self._note(planned)
            self._server.expire_agent(planned.agent)
        else:
            begin, end = (
                (self._server.die, self._server.come_back)
                if kind == "outage"
                else (self._server.stall, self._server.go_on)
            )
            self._note(planned)
            begin()
            time.sleep(self._random.uniform(1.0, 15.0))
            end()

    def _note(self, planned: Planned) -> None:
        name = planned.run.parameters["tracking.name"]
        self.done.append((planned.kind, name))
        with (self._place / "faults.log").open("a") as file:
            print(time.strftime("%H:%M:%S"), planned.kind, name, planned.run.id, planned.row, file=file)

    def _processes(self, run_id: str) -> dict[int, int]:
        """Return the process of a trial that runs, with its parent, the agent; it is of this sweep by its folder."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                inside = (folder / "cwd").readlink() == self._place
                mine = f"WANDB_RUN_ID={run_id}".encode() in (folder / "environ").read_bytes().split(b"\0")
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except (OSError, IndexError):  # it has ended meanwhile
                continue
            if inside and mine and b"python" in words[0] and words[1].endswith(b"train.py"):
                found[int(folder.name)] = int(parent)
        return found

    def _wrong(self) -> list[str]:
        wrong = [f"exit codes {self.codes}"] if self.codes[-1] != 0 else []
        (sweep,) = self._server.sweeps.values()
        for run in sweep.runs:
            record = self._directory / "trials" / f"{run.id}.json"
            # None where its agent was killed.
            if json.loads(record.read_text())["exit_code"] not in (0, None):
                wrong.append(f"{run.id} ({run.record.get('displayName')}): exit code")
        return wrong + self._wrong_runs() + self._misreported()

    def _wrong_runs(self) -> list[str]:
        """Return what is not as it must be of the runs at W&B and of their directories."""
        wrong = []
        directory = self._directory
        (sweep,) = self._server.sweeps.values()
        names = [run.record["displayName"] for run in sweep.runs if "displayName" in run.record]
        if sorted(names) != self._names() or len(self._server.runs) != self._trials:
            wrong.append(f"runs at W&B: {sorted(names)}, {len(self._server.runs)} in all")
        undisturbed: list[dict[str, Any]] = []
        for run in sweep.runs:
            here = directory / run.id
            if not (here / "summary.json").is_file():
                wrong.append(f"{run.id}: no summary.json here")
                continue
            rows, summary = rows_of(here), summary_of(here)
            undisturbed = undisturbed or untimed(rows)
            checks = {
                "state": (run.state, run.exit_code) == ("finished", 0),
                "rows at W&B": untimed(run.rows) == untimed(rows),
                "rows": untimed(rows) == undisturbed,
                "summary at W&B": {name: run.summary.get(name) for name in summary} == summary,
                "status": summary["status"] == "finished",
                "everything uploaded": not (here / "wandb-unsent").exists(),
                "model": self._server.artifact(f"gru-{run.id}:best") is not None,
            }
            wrong += [
                f"{run.id} ({run.record.get('displayName')}): {what}" for what, right in checks.items() if not right
            ]
        return wrong

    def _misreported(self) -> list[str]:
        """Return the failures that `sweep.py` reports of trials that were not killed."""
        killed = Counter(whom for kind, whom in self.done if kind == "kill")
        named = dict(re.findall(r"^trial (\d+) \(\w+\) starts: tracking\.name=(\w+)", self.output, re.MULTILINE))
        wrong = []
        for line in self.output.splitlines():
            if (failed := re.match(r"trial (\d+) failed", line)) is not None:
                name = named.get(failed[1], "")
                killed[name] -= 1
                if killed[name] < 0 or "exit code -9" not in line:
                    wrong.append(f"{name}: {line}")
        return wrong
