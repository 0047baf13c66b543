"""The build of `recurrence/`, our C code: compiled once per machine, kept in the cache, loaded through ctypes.

It is compiled at run time and not at installation, for the CPU that runs it, and needs only a C compiler. A machine
without one uses torch's kernels: the same results, more slowly. If the library can't be kept, each process compiles its
own.

Environment variables: CC names another compiler, TEXTRNN_KERNELS another folder than `$XDG_CACHE_HOME/textrnn/kernels`.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import replacing, user_cache

SOURCES = Path(__file__).with_name("recurrence")
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-pthread")
KINDS = {
    "float": ("-DREAL=float",),
    "double": ("-DREAL=double",),
    "bfloat16": ("-DREAL=float", "-DLOW=1"),
}
"""The libraries that are built from the sources; that of bfloat16 only runs where float's `has_low()` is true."""
COMPILE_SECONDS = 120.0
"""Time limit of the compiler, in seconds; it takes about three."""


@functools.cache
def load_library(kind: str) -> ctypes.CDLL | None:
    """Return the library of a kind of `KINDS`, compiled if necessary; None if that fails.

    A failure is logged once per process, with its reason and a remedy.
    """
    try:
        library = _loaded(kind)
    except (OSError, ValueError, InputError, subprocess.SubprocessError) as error:  # ValueError: CC's quotes
        detail = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else error
        instead = "on torch's kernels, several times as slow for gru and rnn" if kind != "bfloat16" else "in float32"
        LOGGER.warning(
            "the recurrence runs %s: recurrence.c was not compiled (%s); "
            "install a C compiler, such as gcc, or name one in CC",
            instead,
            detail,
        )
        return None
    library.run_pass.restype = ctypes.c_int
    library.find_largest.restype = None
    library.vector_length.restype = library.has_low.restype = ctypes.c_int64
    for name in ("tile_rows", "forward_width", "backward_width"):
        getattr(library, name).restype = ctypes.c_int64
        getattr(library, name).argtypes = [ctypes.c_int64]
    return library


def _loaded(kind: str) -> ctypes.CDLL:
    """Return the compiled library; a kept one that can't be loaded is compiled again, for this process."""
    path = _library(kind)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # in a folder mounted noexec, or truncated by a power failure
        reason = str(error).removeprefix(f"{path}: ")  # as below: one folder for all
        own = Path(_own_folder(f"{path.parent}: {reason}").name) / path.name
        _compile(KINDS[kind], own)
        return ctypes.CDLL(str(own))


def _library(kind: str) -> Path:
    """Return the path of the compiled library."""
    sources = [path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".h")]
    # Depends on the C library too: a library compiled in a container may need a newer one than the host has.
    made_for = (_processor(), platform.libc_ver(), os.environ.get("CC"))
    key = hashlib.sha256(repr((sources, FLAGS, KINDS[kind], made_for)).encode())
    name = f"recurrence-{kind}-{key.hexdigest()[:16]}.so"
    try:
        path = Path(os.environ.get("TEXTRNN_KERNELS") or user_cache() / "kernels") / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()  # permission bits don't show a read-only disk
    except (OSError, InputError) as error:
        # Without the file's name, or each library would get a folder and a log line of its own.
        reason = f"{path.parent}: {error.strerror}" if isinstance(error, OSError) else str(error)
        path = Path(_own_folder(reason).name) / name
    _compile(KINDS[kind], path)
    return path


@functools.cache
def _own_folder(reason: str) -> "tempfile.TemporaryDirectory[str]":
    """Return a folder for this process, removed at its end."""
    LOGGER.warning("each start compiles recurrence.c again (%s); set TEXTRNN_KERNELS to a folder to keep it in", reason)
    return tempfile.TemporaryDirectory(prefix="textrnn-kernels-")


def _compile(defines: Sequence[str], path: Path) -> None:
    """Compile the library `path`; processes that start together may each do it, and each sees a whole library."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "clang"]
    started = time.monotonic()
    with replacing(path) as beside:
        output = ["-o", str(beside), str(SOURCES / "recurrence.c"), "-lm"]
        try:
            _run([*compiler, *FLAGS, "-march=native", *defines, *output])
        except subprocess.CalledProcessError:  # some compilers don't know the name "native"
            _run([*compiler, *FLAGS, *defines, *output])
    LOGGER.info("recurrence.c compiled for this machine in %.0f s: %s", time.monotonic() - started, path)


def _run(command: list[str]) -> None:
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS, stdin=subprocess.DEVNULL
    )


def computes_in_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16 (AVX-512 BF16), about twice as fast as in float32."""
    return "avx512_bf16" in _processor().split()


def _processor() -> str:
    """Return what "native" means on this CPU: a home shared by different machines holds a library for each."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.machine() + platform.processor()
