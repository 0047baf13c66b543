"""What all tests share: a home of their own, and the entry scripts as a user runs them."""

import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.fork_server import start
from doubles.slurm import NoSlurmError, Slurm, cluster
from doubles.wandb_server import WandbServer
from hypothesis import HealthCheck, settings
from matplotlib.figure import Figure
from support import KERNELS, OUT_OF_REACH, ROOT, TESTS, Command, environment_of

from textrnn.base.console import LOGGER
from textrnn.base.signals import FROM_A_TERMINAL, NUMBERS
from textrnn.cli import run as run_command
from textrnn.distributed.launch import SHARED_RUN

KEY = "0123456789abcdef" * 2 + "secret42"
"""A well-formed API key of W&B."""

os.environ["HF_ENDPOINT"] = OUT_OF_REACH  # the Hub's client reads it when it is imported

# Speed is no test's business, least of all on a machine that does other things too.
settings.register_profile("textrnn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("textrnn")


def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder of compiled kernels and one of fonts for all tests and their processes, rather than one a home."""
    shared = _shared_folder(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KERNELS, str(shared / "kernels"))
        patch.setenv("MPLCONFIGDIR", str(shared / "matplotlib"))
        yield


@pytest.fixture(autouse=True)
def _propagating_logger() -> None:
    """A command in this process ends the logger's propagation; then `caplog` would have each line twice, or none."""
    LOGGER.propagate = True


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """torch draws the same numbers in a test whichever came before it; those that need no torch don't import it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    try:
        with cluster(_shared_folder(tmp_path_factory)) as running:
            yield running
    except NoSlurmError as reason:
        pytest.skip(str(reason))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's folder marks its kind; tests that need the cluster wait for their turn, which counts as theirs."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.timeout(900))


def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto` one more than cores: tests wait for schedulers, servers and one another's processes too."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


@pytest.fixture
def slurm(_slurm: Slurm) -> Iterator[Slurm]:
    """A real SLURM of two nodes with two GPUs each, for tests marked `cluster`.

    All workers of a session share one, which is started once, and have it in turn: an urgent job displaces others'.
    """
    with _slurm.turn():
        yield _slurm


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a person with an empty home and no network."""
    home = tmp_path / "home"
    home.mkdir()
    return environment_of(home)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """An empty directory to run commands in."""
    place = tmp_path / "workplace"
    place.mkdir()
    return place


@pytest.fixture
def script(environment: dict[str, str], workplace: Path) -> Command:
    """Runs an entry script of the checkout in `workplace`, as `script("train.py", "model=gru", ...)`.

    In a process of its own, which has Lightning already; where the start itself matters, `cold_script` is the one.
    """

    def run(
        name: str, *arguments: str, timeout: float = 120, stdin: str = "", **extra: str
    ) -> subprocess.CompletedProcess[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [str(ROOT / name), *arguments]
        with start(command, cwd=workplace, env=environment | extra, text=True, **pipes) as process:
            try:
                output, errors = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    return run


@pytest.fixture
def cold_script(environment: dict[str, str], workplace: Path) -> Command:
    """As `script`, with a Python that is started for it."""

    def run(name: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / name), *arguments],
            cwd=workplace,
            env=environment | extra,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder for this test, where the index of runs is written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def place(workplace: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`workplace`, to train in, in this process and with the environment of a person."""
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workplace)
    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    for number in FROM_A_TERMINAL:
        signal.signal(number, signal.SIG_DFL)  # ignored where the tests run with nohup, or with & in a script
    yield workplace
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.pop(SHARED_RUN, None)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures made in this process are empty files: drawing them is a third of a small run's time."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, **how: Path(out).touch())


@pytest.fixture
def here(place: Path, environment: dict[str, str]) -> Command:
    """As `script`, in this process: for what is not about processes, which take seconds each to start."""

    def run(name: str, *arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        output, errors = io.StringIO(), io.StringIO()
        os.environ.pop(SHARED_RUN, None)  # or it would be the run of the call before
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in (environment | extra).items():
                patch.setenv(variable, value)
            patch.setattr(sys, "argv", [str(ROOT / name), *arguments])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                code = run_command(name.removesuffix(".py"), arguments)
        return subprocess.CompletedProcess([name, *arguments], code, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without W&B account, settings or environment, whose working directory is an empty folder."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(work)
    import wandb

    wandb.teardown()  # the client keeps the environment that it first saw
    yield home
    wandb.teardown()
    with warnings.catch_warnings():
        # Folders of the client's tables and services that a test has killed; else a later test would be blamed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def api_key() -> str:
    """A well-formed API key."""
    return KEY


@pytest.fixture
def server(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """An account on a server that answers; an operation that the double doesn't know fails the test."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with WandbServer() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running


@pytest.fixture
def quick(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    """The server, with a client that sends history every second."""
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS", "1")
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS", "1")
    return server
