"""Names of the W&B client that are not in its public interface, tested with version 0.31 (the bound in pyproject.toml).

Imports are inside the functions: the client takes a second to import, and only some runs need it.
"""

import math
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from textrnn.base.signals import PREEMPTING, kept_from_children

if TYPE_CHECKING:
    import wandb


def service_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a client whose service has died; all but the first are raised while it waits for answers."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, MailboxClosedError, HandleAbandonedError


def answer_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a question to the server that gets no answer; its client mixes them.

    The server refuses it or is silent, or the client's own service has died.
    """
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    return wandb.errors.Error, WandbApiFailedError, OSError, ValueError, *service_errors()


def is_of_dead_service(error: Exception) -> bool:
    """Return whether a question has no answer because the client's own service has died: somewhere it has said so."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, service_errors()):
        cause = cause.__context__  # of an error that is raised `from None` too
    return cause is not None


def leave_dead_service() -> None:
    """Forget the client's service: the next run starts one, and at Python's exit the client prints no traceback."""
    import wandb
    from wandb.sdk import wandb_setup

    connection = wandb_setup.singleton()._connection
    try:
        wandb.teardown()
    except (ConnectionError, SystemExit):  # it doesn't answer; or it has just died, and the client exits with its code
        if connection is not None and connection._proc is not None:
            connection._proc.join()  # or it would stay a zombie


def is_uploaded_as_artifact(value: object) -> bool:
    """Return whether logging `value` waits for the server: the client makes artifacts of tables and of their charts."""
    import wandb
    from wandb.plot.custom_chart import CustomChart

    return isinstance(value, wandb.Table | CustomChart)


def table_of(name: str, value: Any) -> "tuple[str, wandb.Table]":
    """Return the key and the table under which W&B's row holds a table or a chart that is logged as `name`."""
    from wandb.plot.custom_chart import CustomChart

    if isinstance(value, CustomChart):
        value.set_key(name)
        return value.spec.table_key, value.table
    return name, value


def give_up_soon(artifact: "wandb.Artifact") -> None:
    """Make downloads of an artifact give up after three retries, some seconds, in place of sixteen and 20 minutes.

    The client downloads in threads that hold the process up at its end, however long they retry.
    """
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    retries = Retry(total=3, backoff_factor=1, status_forcelist=(408, 409, 429, 500, 502, 503, 504))
    for scheme in ("http://", "https://"):
        artifact.manifest.storage_policy._session.mount(scheme, HTTPAdapter(max_retries=retries))  # type: ignore[attr-defined]


def is_chart(value: object) -> bool:
    """Return whether `value` is a chart: a table that W&B's config of the run says how to draw."""
    from wandb.plot.custom_chart import CustomChart

    return isinstance(value, CustomChart)


def show_chart(run: "wandb.Run", name: str, value: Any) -> None:
    """Put into W&B's config of the run how the chart that is logged as `name` is drawn, as logging it does."""
    value.set_key(name)
    run._config_callback(key=value.spec.config_key, val=value.spec.config_value)


def shown_charts(raw_config: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the charts in W&B's config of a run, as its server has it."""
    return frozenset(raw_config.get("_wandb", {}).get("visualize", {}))


def table_artifact(run_id: str, key: str) -> str:
    """Return the name of the artifact that the client makes of the table in the row's `key`."""
    from wandb.sdk.artifacts._internal_artifact import sanitize_artifact_name

    return str(sanitize_artifact_name(f"run-{run_id}-{key}"))


def log_lines(path: str, *, seconds: float) -> int:
    """Ask the server how many lines the Logs of the run ENTITY/PROJECT/ID have; the client resumes behind them.

    Raises:
        answer_errors(): it does not answer, or refuses to.
    """
    import wandb

    query = """query RunLogLines($entity: String, $project: String, $name: String!) {
        project(name: $project, entityName: $entity) { run(name: $name) { logLineCount } }
    }"""
    entity, project, name = path.split("/")
    names = {"entity": entity, "project": project, "name": name}
    answer: dict[str, Any] = wandb.Api(timeout=math.ceil(seconds))._service_api.execute_graphql(
        query, names, timeout=seconds
    )
    return int(answer["project"]["run"]["logLineCount"] or 0)


def service_variable() -> str:
    """Return the environment variable by which child processes share the client's service with this one."""
    from wandb.env import SERVICE

    return str(SERVICE)


def sweep_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Return parameters as the client's agent types them for `${args_no_hyphens}`."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    args = {key: {"value": value} for key, value in parameters.items()}
    typed: list[str] = create_sweep_command_args({"args": args})["args_no_hyphens"]
    return typed


def resume_sweep(sweep: str) -> None:
    """Run `wandb sweep --resume SWEEP`.

    Raises:
        Exception: the client's, when the server doesn't answer.
    """
    from wandb.cli.cli import cli

    cli.main(["sweep", "--resume", sweep], standalone_mode=False)


def run_plain_agent(arguments: Sequence[str]) -> None:
    """Run `wandb agent ARGUMENT ...`, whose trials keep signals that come while Python starts.

    A program that isn't textrnn's never gets them: it has to unblock `PREEMPTING` itself.

    Raises:
        SystemExit: at its end, with its exit code.
    """
    from wandb import wandb_agent
    from wandb.cli.cli import cli

    class StartedProcess(wandb_agent.AgentProcess):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            with kept_from_children(PREEMPTING):
                super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

    wandb_agent.AgentProcess = StartedProcess  # type: ignore  # the client uses this name
    cli(["agent", *arguments])


def run_agent(
    sweep: str, begin: Callable[[str, dict[str, Any]], Path], end: Callable[[str, int, bool, bool], None]
) -> bool:
    """Run the client's agent, which forwards signals to its trial, until the sweep has no more trials for it.

    Return whether the server has told it to exit. Without that it has given up: the server doesn't know it any more.

    Args:
        sweep: The sweep's path, ENTITY/PROJECT/ID.
        begin: Called with a trial's run id and parameters before it starts; returns the file its output is appended to.
        end: Called, in a thread, with its run id and exit code, whether the agent has killed it, and whether a signal
            has ended it by the server's command.

    Raises:
        Exception: the client's, when the server doesn't answer or the sweep isn't there.
    """
    import wandb
    from wandb import wandb_agent

    class RecordedProcess(wandb_agent.AgentProcess):
        last_sigterm_time: float | None = None
        """Set by the agent when the server commands it to end the process."""

        def __init__(self, *, env: dict[str, str], command: list[str], **options: Any) -> None:
            self._run_id, self._killed = env["WANDB_RUN_ID"], False
            try:
                given = yaml.safe_load(Path(env["WANDB_SWEEP_PARAM_PATH"]).read_text(encoding="utf-8"))
                log = begin(self._run_id, {key: given[key]["value"] for key in given if key != "wandb_version"})
            except Exception:
                traceback.print_exc()
                os._exit(1)  # the agent would log the error, take the next trial, and so lose them all
            # `exec`: the process that the agent signals is the trial itself.
            command = ["/bin/sh", "-c", 'exec "$@" >> "$0" 2>&1', str(log), *command]
            with kept_from_children(PREEMPTING):
                super().__init__(env=env, command=command, **options)  # type: ignore[no-untyped-call]
            # A thread, which outlives the agent's loop: that doesn't wait for what it kills.
            threading.Thread(target=self._record).start()

        def kill(self) -> None:
            self._killed = True
            super().kill()  # type: ignore[no-untyped-call]

        def _record(self) -> None:
            code = self.wait()
            end(self._run_id, code, self._killed, code < 0 and self.last_sigterm_time is not None)

    class CommandedAgent(wandb_agent.Agent):
        was_told_to_exit = False

        def _command_exit(self, command: dict[str, Any]) -> None:
            CommandedAgent.was_told_to_exit = True
            super()._command_exit(command)  # type: ignore[no-untyped-call]

    # The client uses these names.
    wandb_agent.AgentProcess = RecordedProcess  # type: ignore
    wandb_agent.Agent = CommandedAgent  # type: ignore
    wandb.agent(sweep, forward_signals=True)
    return CommandedAgent.was_told_to_exit
