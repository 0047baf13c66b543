"""Imports without the garbage collector and without what nothing uses."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from textrnn.base.process import import_torchmetrics, importing

PROGRAM = """
import atexit, gc, json, sys
from textrnn.base.process import import_torchmetrics, importing
told = {}
def tell():  # registered first, and so called last
    print(json.dumps(told | {"looked at in the end": len(gc.get_objects())}))
atexit.register(tell)
with importing():
    import_torchmetrics()
told["loaded"] = sorted({"scipy.signal", "scipy.stats"} & sys.modules.keys())
told["looked at"] = len(gc.get_objects())
made = [[] for _ in range(100000)]
import scipy.signal
told["real"] = scipy.signal.detrend([1.0, 2.0, 3.0]).round(6).tolist()
"""


@pytest.mark.slow
def test_torchmetrics_comes_without_scipys_signals_and_nothing_of_it_is_looked_through() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(done.stdout)
    assert told["loaded"] == []
    assert told["real"] == [0, 0, 0]
    assert told["looked at"] < 1000
    assert told["looked at in the end"] < 1000


@pytest.mark.slow
def test_a_torchmetrics_that_needs_scipys_signals_has_them(tmp_path: Path) -> None:
    (tmp_path / "torchmetrics.py").write_text("from scipy.signal import detrend, hilbert\n")
    code = (
        "from textrnn.base.process import import_torchmetrics\nimport_torchmetrics()\n"
        "import scipy.signal, torchmetrics\nassert torchmetrics.hilbert is scipy.signal.hilbert"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_the_collector_works_again_after_imports() -> None:
    def failing() -> None:
        with importing():
            assert not gc.isenabled()
            raise ImportError

    assert gc.isenabled()
    with pytest.raises(ImportError):
        failing()
    assert gc.isenabled()
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled(), "who has stopped it wants it so"
    finally:
        gc.enable()


def test_scipys_signals_stay_where_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.signal", sys)
    import_torchmetrics()
    assert sys.modules["scipy.signal"] is sys
