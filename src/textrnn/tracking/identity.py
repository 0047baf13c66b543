"""A run's identity, shared by its directory, its checkpoints and its W&B run."""

import hashlib
import json
import os
import platform
import re
import secrets
import string
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import textrnn
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.config.schema import Config

ID_LENGTH = 8
GIT_TIMEOUT = 5.0
"""Time limit of each git command, in seconds; a checkout on a slower disk has no recorded commit."""


@dataclass(kw_only=True, slots=True)
class RunIdentity:
    """Facts that all parts of a run share and that a resume doesn't change. Plain JSON values."""

    id: str
    """The W&B run id: 8 characters of a-z and 0-9, or WANDB_RUN_ID."""
    name: str
    """Display name: `tracking.name`, WANDB_NAME, or cell, size and seed such as `gru-128x1-bi s0` (`lm-gru-...`)."""
    group: str | None
    """`tracking.group`, or WANDB_RUN_GROUP."""
    created: str
    """Time of the run's first start: ISO 8601, UTC."""
    git_commit: str | None
    """Commit of the checkout that the package runs from; None for an installed wheel."""
    git_dirty: bool | None
    """Whether that checkout had uncommitted changes; None without a commit."""
    seed: int
    """The run's seed."""
    version: str
    """Version of textrnn."""
    source: str
    """A digest of the package's files, which includes local edits."""
    python: str
    """Version of Python."""
    torch: str
    """Version of PyTorch."""
    command: list[str]
    """The command line."""
    sweep_id: str | None
    """WANDB_SWEEP_ID, in a W&B agent."""
    slurm_job: str | None = None
    """The SLURM batch job that the run began in, which resumes it when SLURM requeues the job."""
    classes: list[str] | None = None
    """Names of the classes by id; None until the reviews have been read."""
    pretrained: str | None = None
    """Id of the run whose weights it started from, by `model.pretrained`."""

    def described_source(self) -> str:
        """Return the source in words: the commit or else the version, whether it was edited, and the digest."""
        commit = f"version {self.version}" if self.git_commit is None else f"commit {self.git_commit[:7]}"
        edited = " with changes" if self.git_dirty else ""
        return f"{commit}{edited} (source {self.source[:8]})"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the identity that `to_dict` made; unknown keys, of a newer version, are ignored.

        Raises `InputError` if a field is missing.
        """
        names = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise InputError(f"the run's identity has no {', '.join(missing)}: it was not written by textrnn.")
        return cls(**{name: values[name] for name in names if name in values})


def new_identity(config: Config, command: Sequence[str], *, slurm_job: str | None = None) -> RunIdentity:
    """Make the identity of a new run; `command` is its command line (`sys.argv`), `slurm_job` its batch job.

    Raises `InputError` if WANDB_RUN_ID can't be the name of a directory.
    """
    commit, dirty = _git_state(Path(textrnn.__file__).resolve().parent)
    return RunIdentity(
        id=_run_id(),
        name=config.tracking.name or os.environ.get("WANDB_NAME") or default_name(config),
        group=config.tracking.group or os.environ.get("WANDB_RUN_GROUP") or None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        git_dirty=dirty,
        seed=config.seed,
        version=version("textrnn"),
        python=platform.python_version(),
        torch=version("torch"),
        command=list(command),
        sweep_id=os.environ.get("WANDB_SWEEP_ID") or None,
        source=source_digest(),
        slurm_job=slurm_job,
    )


def source_digest() -> str:
    """Return a digest of the package's files, which includes local edits, unlike a version or a commit."""
    package = Path(textrnn.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".c", ".h", ".yaml")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def default_name(config: Config) -> str:
    """Return cell, hidden size x layers, direction and seed, such as `gru-128x1-bi s0` or `lm-gru-128x1-bi s0`."""
    model = config.model
    direction = "-bi" if model.bidirectional else ""
    return f"{model_kind(config)}-{model.hidden_size}x{model.num_layers}{direction} s{config.seed}"


def model_kind(config: Config) -> str:
    """Return the cell, of a language model after lm-: as names of runs begin."""
    return f"lm-{config.model.cell}" if config.objective == "language_model" else config.model.cell


def refuse_one_id_for_all() -> None:
    """Refuse WANDB_RUN_ID for several runs, which would share one W&B run.

    Raises:
        InputError: WANDB_RUN_ID is set.
    """
    if given := os.environ.get("WANDB_RUN_ID"):
        raise InputError(f"WANDB_RUN_ID={given} would make one W&B run of all jobs of -m; unset it, or leave out -m.")


def read_identity(run_json: Path) -> RunIdentity:
    """Read the `run.json` of a run directory; raises `InputError` if it is missing or damaged."""
    try:
        values = json.loads(run_json.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(run_json)!r} can't be read ({error}): name a directory that train.py made.") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(run_json)!r} is not a run's identity: name a directory that train.py made.")
    return RunIdentity.from_dict(values)


def write_identity(run_json: Path, identity: RunIdentity) -> None:
    """Write `run.json` atomically."""
    write_atomically(run_json, json.dumps(identity.to_dict(), indent=2) + "\n")


def _run_id() -> str:
    given = os.environ.get("WANDB_RUN_ID")
    if not given:
        # Not from `random`: runs with the same seed are different runs.
        return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(ID_LENGTH))
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", given):
        raise InputError(f"WANDB_RUN_ID={given!r} can't be a run's id: use letters, digits, - and _, or unset it.")
    return given


def _git_state(package: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirtiness of the checkout whose `src/textrnn` is `package`; (None, None) without one."""
    state = _git(package, "rev-parse", "--show-toplevel", "HEAD")
    if state is None:
        return None, None
    checkout, commit = state.splitlines()
    # An installed package may be in a virtual environment inside another repository.
    if Path(checkout).resolve() / "src" / package.name != package:
        return None, None
    changes = _git(package, "status", "--porcelain")
    return commit, None if changes is None else bool(changes.strip())


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None without git, repository or commit, or on a timeout."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # `status` must not refresh the index
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
