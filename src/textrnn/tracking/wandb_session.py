"""Weights & Biases: whether a run is online, and the run itself. Never a prompt, never a hang."""

import configparser
import contextlib
import logging
import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from textrnn import exit_codes
from textrnn.config import Config, TrackingConfig
from textrnn.errors import InputError
from textrnn.tracking.identity import RunIdentity

if TYPE_CHECKING:
    import torch
    import wandb

PROBE_TIMEOUT = 3.0
"""Seconds in which W&B's server must answer to count as there, name lookup included."""
INIT_TIMEOUT = 30.0
"""Seconds in which the server must have registered the run."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run waits for its last uploads; what is missing then waits in the run directory."""

_MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "none"}
"""What WANDB_MODE (or `wandb offline`, which writes it to a settings file) may say, in our terms."""

logger = logging.getLogger("textrnn")


def resolve_mode(tracking: TrackingConfig, run_dir: Path) -> tuple[str, str | None]:
    """Decide on "online", "offline" or "none", and give the line to print about it, if there is one to say.

    `tracking.mode=auto` follows WANDB_MODE where that is set; otherwise it is online with credentials (environment,
    netrc, settings file) and a server that answers within `PROBE_TIMEOUT` seconds, and offline without. An explicit
    online without them is an `InputError`.
    """
    if tracking.mode in ("none", "offline"):
        return tracking.mode, _offline_line("as asked", run_dir) if tracking.mode == "offline" else None
    settings = _client_settings()
    wanted = tracking.mode
    if wanted == "auto" and (said := settings.get("mode")):
        if said not in _MODES:
            raise InputError(f"WANDB_MODE={said!r} is not known: say online, offline or disabled, or unset it.")
        wanted = _MODES[said]
        if wanted != "online":
            return wanted, _offline_line("WANDB_MODE", run_dir) if wanted == "offline" else None
    base_url = settings.get("base_url") or _default_base_url()
    if not _has_credentials(settings, base_url):
        reason, remedy = f"no API key for {base_url} found", "run `wandb login`, or type"
    elif not _answers(base_url):
        reason, remedy = f"{base_url} does not answer", "look at the network, or type"
    else:
        return "online", None
    if wanted == "online":
        raise InputError(f"tracking is online but {reason}: {remedy} tracking=offline or tracking=auto.")
    return "offline", _offline_line(reason, run_dir)


class WandbRun:
    """One W&B run, with the run's own id and its files in `<run_dir>/wandb`. Only rank 0 has one.

    From its start on nothing that happens to W&B costs the run: a server that dies or stalls only delays uploads, and
    if the client's own service dies, a line in the log says so and the run goes on without.
    """

    def __init__(self, run: "wandb.Run") -> None:
        self._run = run
        self._last_step = run.starting_step - 1
        self._broken = False

    @classmethod
    def start(
        cls,
        config: Config,
        identity: RunIdentity,
        run_dir: Path,
        *,
        mode: str,
        resume: bool,
        on_stop: Callable[[], None] | None = None,
    ) -> Self:
        """Start the run ("online" or "offline"); with `resume` the server continues the run of this id.

        `on_stop` is called, from another thread, when somebody stops the run in W&B, or a sweep does.

        With `tracking.mode=auto` a server that fails here sends the run offline, with one line in the log; otherwise
        that, and whatever W&B refuses, is an `InputError`.
        """
        if mode == "offline":
            # The client reports its own errors to W&B; a run that is offline touches no network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        try:
            return cls(_init(config, identity, run_dir, mode=mode, resume=resume, on_stop=on_stop))
        except (wandb.errors.CommError, TimeoutError) as error:
            reason = str(error).partition("\n")[0]
            wrong_key = isinstance(error, wandb.errors.AuthenticationError)
            if wrong_key or mode != "online" or config.tracking.mode != "auto":
                raise InputError(f"tracking: W&B did not take the run ({reason}): type tracking=offline.") from error
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"tracking: W&B refuses the run ({reason}): correct it, or type tracking=none.") from error
        wandb.teardown()  # the client's service still holds the id of the run that it could not start
        logger.warning(_offline_line(reason, run_dir))
        return cls(_init(config, identity, run_dir, mode="offline", resume=resume, on_stop=on_stop))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the row of global step `step`; steps go up. A row that the server of a resumed run has is left out."""
        if step > self._last_step:
            self._last_step = step
            with self._unharmed():
                self._run.log(dict(metrics), step=step, commit=True)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set final values, such as the number of parameters, over the last value of each metric."""
        with self._unharmed():
            self._run.summary.update(dict(values))

    def tag(self, tag: str) -> None:
        """Add a tag."""
        with self._unharmed():
            self._run.tags = (*(self._run.tags or ()), tag)

    def watch(self, model: "torch.nn.Module", *, what: str, every_n_steps: int) -> None:
        """Send histograms of the gradients, or with `what="all"` of parameters too, every so many backward passes."""
        with self._unharmed():
            self._run.watch(model, log="all" if what == "all" else "gradients", log_freq=every_n_steps)

    def finish(self, exit_code: int) -> None:
        """End the run; any exit code but 0 shows it as failed, `PREEMPTED` as one that a sweep shall start again.

        Waits for uploads, at most `FINISH_TIMEOUT` seconds; then a line in the log says how to bring the rest.
        """
        with self._unharmed():
            if exit_code == exit_codes.PREEMPTED:
                self._run.mark_preempting()
            try:
                self._run.finish(exit_code=exit_code)
            except TimeoutError:
                logger.warning(f"W&B does not answer; to upload what it lacks: wandb sync {self.directory}")

    @property
    def url(self) -> str | None:
        """Where to look at the run; None offline."""
        return self._run.url

    @property
    def directory(self) -> Path:
        """Where the run's W&B files are; what `wandb sync` takes."""
        return Path(self._run.dir).parent

    @contextlib.contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Do nothing more with W&B once the client's service is gone."""
        if self._broken:
            return
        try:
            yield
        except ConnectionError as error:
            self._broken = True
            logger.warning(
                f"W&B's client has died ({error}); the run goes on, its metrics are in metrics.csv; resume=auto brings "
                f"what W&B lacks, and so, as far as it came, does: wandb sync {self.directory}"
            )


def _init(
    config: Config,
    identity: RunIdentity,
    run_dir: Path,
    *,
    mode: str,
    resume: bool,
    on_stop: Callable[[], None] | None,
) -> "wandb.Run":
    import wandb

    tracking = config.tracking
    settings = wandb.Settings(
        silent=True,  # what there is to say, we say
        console="off",  # the console belongs to the progress bar; its text is in train.log
        symlink=False,
        save_code=False,
        disable_code=True,
        # The client would look at the repository of the working directory, which may be anybody's.
        disable_git=True,
        git_commit=identity.git_commit,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        stop_fn=on_stop,  # otherwise W&B would send Ctrl-C
    )
    wandb.setup(wandb.Settings(silent=True))  # the login speaks before it reads the settings of the run
    # What is None here, the client takes from WANDB_ENTITY, WANDB_TAGS, WANDB_NOTES.
    return wandb.init(
        id=identity.id,
        resume="allow" if resume else None,
        project=tracking.effective_project(),
        entity=tracking.entity,
        name=identity.name,
        group=identity.group,
        job_type=tracking.job_type or os.environ.get("WANDB_JOB_TYPE") or "train",
        tags=tracking.tags or None,
        notes=tracking.notes,
        dir=str(run_dir.resolve()),
        config=_flat({**asdict(config), "run": identity.to_dict()}),
        mode="online" if mode == "online" else "offline",
        reinit="finish_previous",
        settings=settings,
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under the keys of the command line, such as `optimizer.lr`.

    A sweep locks the keys that it chooses: `model`, a choice of file, would lock our whole model out of W&B's config.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def _offline_line(reason: str, run_dir: Path) -> str:
    return (
        f"W&B is offline ({reason}). To look: wandb leet {run_dir / 'wandb'}; "
        f"to upload later: wandb sync {run_dir / 'wandb' / 'offline-run-*'}"
    )


def _default_base_url() -> str:
    import wandb

    return wandb.Settings().base_url


def _client_settings() -> dict[str, str]:
    """Return the client's settings that matter here, read where it reads them: files, then environment."""
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


def _has_credentials(settings: Mapping[str, str], base_url: str) -> bool:
    if settings.get("api_key") or settings.get("identity_token_file"):
        return True
    hosts = [urlsplit(base_url).netloc]
    if base_url == _default_base_url():
        hosts.append("api.wandb.ai")  # the default server's earlier name, under which older logins are kept
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entries = netrc.netrc(str(path)).hosts
    except FileNotFoundError:
        return False
    except (OSError, netrc.NetrcParseError) as error:
        logger.warning(f"{path} can't be read, so no W&B key is taken from it ({type(error).__name__})")
        return False
    return any(host in entries and entries[host][2] for host in hosts)


def _answers(base_url: str) -> bool:
    """Return whether the server answers anything but a server error within `PROBE_TIMEOUT` seconds."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(base_url, timeout=PROBE_TIMEOUT):
                answered.set()
        except urllib.error.HTTPError as error:
            with error:
                if error.code < 500:
                    answered.set()
        except (OSError, ValueError):
            return

    # In a thread of its own, because the timeout of a socket does not bound the lookup of a name.
    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(PROBE_TIMEOUT)
    return answered.is_set()
