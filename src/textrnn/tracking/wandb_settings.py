"""Decides whether a run is online in Weights & Biases, without a prompt and with a time limit."""

import configparser
import contextlib
import http.client
import math
import netrc
import os
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from textrnn.base.console import LOGGER, duration
from textrnn.base.errors import InputError
from textrnn.base.process import in_time
from textrnn.config.schema import TRACKERS, TrackingConfig

PROBE_TIMEOUT = 3.0
"""Seconds in which W&B's server must answer to count as reachable, name lookup included."""

START_TIMEOUT = 30.0
"""Seconds in which W&B must take a run, unless WANDB_INIT_TIMEOUT is set."""
TRIAL_TIMEOUT = 300.0
"""The same for an agent's trial: without W&B its sweep would never get the trial's values."""
SILENCE = 10.0
"""Seconds after which a run that waits for W&B to take it says so."""

_MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "none"}
"""Values of WANDB_MODE (or of the settings file that `wandb offline` writes) as values of `tracking.mode`."""


def resolve_mode(tracking: TrackingConfig, run_dir: Path) -> tuple[str, str | None]:
    """Decide on "online", "offline", "none" or another tracker; return it with the line to print about it, if any.

    `tracking.mode=auto` follows WANDB_MODE where that is set; otherwise it is online with credentials (environment,
    netrc, settings file) and a server that answers within `PROBE_TIMEOUT` seconds, and offline without. The start of
    an agent's trial waits for the server.

    Raises:
        InputError: online was asked for by name and can't be, or WANDB_INIT_TIMEOUT or WANDB_FINISH_TIMEOUT is not a
            number of seconds.
    """
    mode, line = _mode(tracking, run_dir)
    if mode in ("online", "offline"):
        for variable in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
            timeout(variable, default=0)
    return mode, line


def is_trial() -> bool:
    """Return whether this run is a trial that W&B's agent has started."""
    return "WANDB_SWEEP_ID" in os.environ


def by_hand() -> str:
    """Return what starts this trial again: W&B gives no agent a trial that has failed."""
    names = ("WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SWEEP_ID", "WANDB_RUN_ID")
    typed = " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in names if name in os.environ)
    return (
        "no agent gets this trial again; when W&B answers, type python sweep.py --resume if sweep.py runs the sweep, "
        f"else this trial's command with {typed} before it"
    )


def start_timeout() -> float:
    """Return the seconds in which W&B must take this run; the client repeats requests as the server asks (Retry-After).

    Raises:
        InputError: WANDB_INIT_TIMEOUT is not a number of seconds above 0.
    """
    return timeout("WANDB_INIT_TIMEOUT", default=TRIAL_TIMEOUT if is_trial() else START_TIMEOUT)


@contextlib.contextmanager
def says_it_waits() -> Iterator[None]:
    """Log that the body waits for W&B, if it takes long."""
    line = f"W&B has not taken the run yet; it is asked again for up to {duration(start_timeout())}"
    timer = threading.Timer(SILENCE, LOGGER.info, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def timeout(variable: str, *, default: float) -> float:
    """Return the seconds in a variable of the client, or `default` if it isn't set.

    Raises:
        InputError: it is not a number of seconds above 0.
    """
    said = os.environ.get(variable)
    if not said:
        return default
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"{variable}={said!r} is not a number of seconds above 0; type for example 60, or unset it.")
    return seconds


def _mode(tracking: TrackingConfig, run_dir: Path) -> tuple[str, str | None]:
    if tracking.mode in ("none", "offline", *TRACKERS):
        return tracking.mode, offline_line("as asked", run_dir) if tracking.mode == "offline" else None
    settings = _client_settings()
    wanted = tracking.mode
    if wanted == "auto" and (said := settings.get("mode")):
        if said not in _MODES:
            raise InputError(f"WANDB_MODE={said!r} is not known: type online, offline or disabled, or unset it.")
        wanted = _MODES[said]
        if wanted != "online":
            return wanted, offline_line("WANDB_MODE", run_dir) if wanted == "offline" else None
    obstacle = _obstacle(settings)
    if obstacle is None:
        return "online", None
    reason, remedy = obstacle
    if wanted == "online":
        said, instead = "WANDB_MODE", "tracking=offline"
        if tracking.mode == "online":
            said, instead = "tracking", "tracking=offline or tracking=auto"
        raise InputError(f"{said} is online: {reason}; {remedy}, or type {instead}.")
    return "offline", offline_line(reason, run_dir)


def must_be_online(tracking: TrackingConfig) -> bool:
    """Return whether online was asked for: by `tracking.mode`, or where that is auto by WANDB_MODE or by an agent."""
    if tracking.mode != "auto":
        return tracking.mode == "online"
    return is_trial() or _MODES.get(_client_settings().get("mode", "")) == "online"


def check_account(*, needed_for: str, instead: str) -> None:
    """Check for credentials and a server that answers; `instead` is the alternative in the message.

    Raises:
        InputError: one of them is missing; raised within `PROBE_TIMEOUT` seconds.
    """
    obstacle = _obstacle(_client_settings())
    if obstacle is not None:
        reason, remedy = obstacle
        raise InputError(f"{needed_for}: {reason}: {remedy}, or {instead}.")


def _obstacle(settings: Mapping[str, str]) -> tuple[str, str] | None:
    """Return why the run can't be online, and the remedy; None if it can."""
    base_url = settings.get("base_url") or _default_base_url()
    try:
        address = urlsplit(base_url)
    except ValueError as error:
        return f"the address of W&B's server is not a URL ({error})", "correct WANDB_BASE_URL"
    host = address.netloc.rpartition("@")[2]
    shown = address._replace(netloc=host).geturl()  # no password in a terminal or a log
    is_default = base_url == _default_base_url()
    if not _has_credentials(settings, host, is_default=is_default):
        return f"no W&B account configured{'' if is_default else f' for {shown}'}", "run `wandb login`"
    if not is_trial() and not _answers(base_url):
        return f"{shown} does not answer", "check the network"
    return None


def offline_line(reason: str, run_dir: Path) -> str:
    """Return the line with the reason why W&B is offline and the commands to view and upload the run.

    A `run_dir` named `*` stands for all trials of a sweep; `wandb leet` shows one at a time. Other characters are
    quoted for a shell.
    """
    one = every = shlex.quote(str(run_dir))
    if run_dir.name == "*":
        sweep = shlex.quote(str(run_dir.parent))
        one, every = f"{sweep}/TRIAL", f"{sweep}/*"
    return (
        f"W&B is offline ({reason}). To view: wandb leet {one}/wandb; "
        f"to upload later: wandb sync {every}/wandb/offline-run-*"
    )


def _default_base_url() -> str:
    import wandb

    return wandb.Settings().base_url


def _client_settings() -> dict[str, str]:
    """Return the client's settings that are needed here, from its sources: files, then environment."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path("~", ".config", "wandb"))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([folder.expanduser() / "settings", Path("wandb", "settings")], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"W&B's settings file can't be read ({error}): correct or remove it.") from error
    settings = dict(parser["default"]) if parser.has_section("default") else {}
    for name in ("mode", "base_url", "api_key", "identity_token_file"):
        if value := os.environ.get(f"WANDB_{name.upper()}"):
            settings[name] = value
    return settings


def _has_credentials(settings: Mapping[str, str], host: str, *, is_default: bool) -> bool:
    if settings.get("api_key") or settings.get("identity_token_file"):
        return True
    hosts = [host]
    if is_default:
        hosts.append("api.wandb.ai")  # the default server's earlier name, under which older logins are kept
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entries = netrc.netrc(str(path)).hosts
    except FileNotFoundError:
        return False
    except (OSError, netrc.NetrcParseError) as error:
        LOGGER.warning(f"{path} can't be read, so no W&B key is taken from it ({type(error).__name__})")
        return False
    return any(host in entries and entries[host][2] for host in hosts)


def _answers(base_url: str) -> bool:
    """Return whether the server answers anything but a server error within `PROBE_TIMEOUT` seconds."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(base_url, timeout=PROBE_TIMEOUT):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return error.code < 500

    try:
        return in_time(ask, PROBE_TIMEOUT)  # a socket's timeout does not limit the lookup of a name
    except (OSError, ValueError, http.client.HTTPException):  # the last: the server does not speak HTTP
        return False
