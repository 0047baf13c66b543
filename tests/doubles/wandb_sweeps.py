"""The sweeps of the loopback W&B server: W&B's own engine chooses parameters and stops trials.

At each heartbeat an agent reports the trials that it runs, and the server
- sends `stop` for each trial that should stop, because of hyperband or `wandb.Api().run(...).stop()`;
- sends an idle agent the next trial: first a pre-empted one (see `wandb_runs`) by the command `resume`, under its run
  id and with the run's whole config, the client's own `_wandb` included (the agent's logs in issues 4237 and 9143 of
  the client); then by `run` one with new parameters;
- sends `exit` once `run_cap` runs were handed out or the grid is finished, unless a trial is being pre-empted and may
  come back. The sweep is FINISHED then. `wandb sweep --stop` (agents exit when idle), `--cancel` (at once) and
  `--pause` (they wait) set the state from outside;
- answers 404 once the sweep is deleted (`del server.sweeps[id]`) or the agent is unknown (`expire_agent`): the client's
  `_agent_heartbeat` and its "Sweep was deleted or agent was not found". An agent then lets its trial end and exits with
  0; one without a trial exits with 1.
"""

import json
import math
import secrets
import warnings
from dataclasses import dataclass, field
from typing import Any

import yaml
from doubles.wandb_answers import Operations, RefusedError, Variables, now, project
from doubles.wandb_runs import RunStore, ServerRun, sampled

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its models are written for pydantic 1, on which pydantic 2 remarks
    import sweeps


@dataclass(kw_only=True)
class ServerSweep:
    """One sweep."""

    id: str
    project: str
    config: dict[str, Any]
    """The sweep file as it was registered."""
    state: str = "RUNNING"
    runs: list[ServerRun] = field(default_factory=list)
    handed_out: list[tuple[str, str]] = field(default_factory=list)
    """(agent, run) of every trial that was handed out, in order; a pre-empted run appears more than once."""
    created: str = field(default_factory=now)

    @property
    def engine_config(self) -> dict[str, Any]:
        """The part of the config that W&B's engine knows."""
        return {key: value for key, value in self.config.items() if key != "run_cap"}

    @property
    def expected_runs(self) -> int | None:
        """The number of runs, None where the search doesn't end (`expected_run_count` of the client's `Sweep`)."""
        grid = [len(values.get("values", [0])) for values in self.config["parameters"].values()]
        size = math.prod(grid) if self.config["method"] == "grid" else None
        return min((count for count in (self.config.get("run_cap"), size) if count is not None), default=None)

    @property
    def engine_runs(self) -> list[sweeps.SweepRun]:
        """The runs as W&B's engine reads them; it silently drops other names than these."""
        return [
            sweeps.SweepRun(
                name=run.id,
                state=run.state,
                config={key: {"value": value} for key, value in run.parameters.items()},
                sampledHistory=run.lines,
                summaryMetrics=run.summary,
                stopped=run.stopped,
            )
            for run in self.runs
        ]


class SweepStore:
    """All sweeps, and the answers to `wandb sweep`, its agents and `wandb.Api`."""

    def __init__(self, runs: RunStore) -> None:
        self.runs = runs
        self.sweeps: dict[str, ServerSweep] = {}
        self.agents: dict[str, ServerSweep] = {}
        """The sweep of each agent that the server knows."""
        self._registered = 0
        self.operations: Operations = {
            "UpsertSweep": self._upsert,
            "CreateAgent": self._create_agent,
            "Heartbeat": self._heartbeat,
            "SweepWithRuns": lambda v: self._sweep(v, v["sweep"]),
            "GetSweep": lambda v: self._sweep(v, v["name"]),
            "GetSweepState": lambda v: self._sweep(v, v["sweep"]),
        }

    def _upsert(self, variables: Variables) -> dict[str, Any]:
        if variables.get("id"):
            sweep = self.sweeps[variables["id"]]
        else:
            new = f"sweep{len(self.sweeps) + 1:03}"
            sweep = self.sweeps[new] = ServerSweep(id=new, project=variables["projectName"], config={})
        if variables.get("config"):
            sweep.config = yaml.safe_load(variables["config"])
        sweep.state = variables.get("state") or sweep.state
        warnings = sweeps.schema_violations_from_proposed_config(sweep.engine_config)
        told = {"id": sweep.id, "name": sweep.id, "state": sweep.state, "project": project(sweep.project)}
        return {"upsertSweep": {"sweep": told, "configValidationWarnings": warnings}}

    def _create_agent(self, variables: Variables) -> dict[str, Any]:
        self._registered += 1
        agent = f"agent{self._registered:03}"
        self.agents[agent] = self.sweeps[variables["sweep"]]
        return {"createAgent": {"agent": {"id": agent, "name": agent}}}

    def _heartbeat(self, variables: Variables) -> dict[str, Any]:
        agent = variables["id"]
        if agent not in self.agents or self.agents[agent].id not in self.sweeps:
            raise RefusedError(404, f"agent {agent} not found")
        sweep = self.agents[agent]
        running = [self.runs.runs[run] for run in json.loads(variables.get("runState") or "{}")]
        if sweep.config.get("early_terminate"):
            for weak in sweeps.stop_runs(sweep.engine_config, sweep.engine_runs):
                self.runs.runs[weak.name].stopped = True
        commands: list[dict[str, Any]] = [{"type": "stop", "run_id": run.id} for run in running if run.stopped]
        if sweep.state == "CANCELED":
            commands = [{"type": "exit"}]
        elif not running and sweep.state != "PAUSED":
            commands = self._hand_out(sweep, agent)
        return {"agentHeartbeat": {"agent": {"id": agent}, "commands": json.dumps(commands)}}

    def _hand_out(self, sweep: ServerSweep, agent: str) -> list[dict[str, Any]]:
        if sweep.state != "RUNNING":
            return [{"type": "exit"}]
        preempted = next((run for run in sweep.runs if run.state == "preempted" and not run.stopped), None)
        run = preempted or self._new_run(sweep)
        if run is None and any(run.state == "preempting" for run in sweep.runs):
            return []
        if run is None:
            sweep.state = "FINISHED"
            return [{"type": "exit"}]
        run.goes_on()
        run.preempting = False
        sweep.handed_out.append((agent, run.id))
        told = {"run_id": run.id, "program": sweep.config.get("program")}
        if preempted:
            return [{"type": "resume", **told, "args": run.raw_config}]
        return [{"type": "run", **told, "args": {key: {"value": value} for key, value in run.parameters.items()}}]

    def _new_run(self, sweep: ServerSweep) -> ServerRun | None:
        """Return a run with new parameters, or None if the sweep is finished."""
        if len(sweep.runs) >= sweep.config.get("run_cap", len(sweep.runs) + 1):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the search's Gaussian process remarks on its few points, which is no fault
            chosen = sweeps.next_run(sweep.engine_config, sweep.engine_runs)
        if chosen is None:
            return None
        config = json.dumps(chosen.config, default=lambda number: number.item())  # the engine's numbers are numpy's
        run = self.runs.add(secrets.token_hex(4), sweep.project)
        run.record = {"config": config, "sweep": sweep.id}
        run.parameters = run.config
        sweep.runs.append(run)
        return run

    def _sweep(self, variables: Variables, name: str) -> dict[str, Any]:
        sweep = self.sweeps.get(name)
        return {"project": project(variables["project"], sweep=self._node(sweep, variables) if sweep else None)}

    def _node(self, sweep: ServerSweep, variables: Variables) -> dict[str, Any]:
        metric = sweep.config.get("metric", {})
        losses = [run.summary[metric["name"]] for run in sweep.runs if metric.get("name") in run.summary]
        best = (max if metric.get("goal") == "maximize" else min)(losses, default=None)
        nodes = [self._run_node(run, variables.get("specs", "{}")) for run in sweep.runs]
        return {
            "__typename": "Sweep",
            "id": sweep.id,
            "name": sweep.id,
            "displayName": None,
            "method": sweep.config["method"],
            "state": sweep.state,
            "description": sweep.config.get("description"),
            "config": yaml.safe_dump(sweep.config),
            "bestLoss": best,
            "createdAt": sweep.created,
            "updatedAt": sweep.created,
            "heartbeatAt": now(),
            "runCount": len(sweep.runs),
            "runCountExpected": sweep.expected_runs,
            "earlyStopJobRunning": False,
            "controller": None,
            "scheduler": None,
            "runs": {"edges": [{"node": node} for node in nodes]},
        }

    def _run_node(self, run: ServerRun, spec: str) -> dict[str, Any]:
        told = {"exitcode": run.exit_code, "shouldStop": run.stopped, "sampledHistory": sampled(run, [spec])}
        return self.runs.node(run) | told | {"failed": run.state == "failed", "running": run.state == "running"}
