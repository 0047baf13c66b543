"""Names of the W&B client that are not in its public interface, tested with version 0.31 (the bound in pyproject.toml).

Imports are inside the functions: the client takes a second to import, and only some runs need it.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def service_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a client whose service has died; all but the first are raised while it waits for answers."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, MailboxClosedError, HandleAbandonedError


def is_uploaded_as_artifact(value: object) -> bool:
    """Return whether logging `value` waits for the server: the client makes artifacts of tables and of their charts."""
    import wandb
    from wandb.plot.custom_chart import CustomChart

    return isinstance(value, wandb.Table | CustomChart)


def service_variable() -> str:
    """Return the environment variable by which child processes share the client's service with this one."""
    from wandb.env import SERVICE

    return str(SERVICE)


def sweep_command(parts: Sequence[Any]) -> list[str]:
    """Return a sweep file's `command` as the client's agent reads it, with `${envvar:NAME}` replaced."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command

    command: list[str] = create_sweep_command(list(parts))
    return command


def sweep_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Return parameters as the client's agent types them for `${args_no_hyphens}`."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    args = {key: {"value": value} for key, value in parameters.items()}
    typed: list[str] = create_sweep_command_args({"args": args})["args_no_hyphens"]
    return typed
