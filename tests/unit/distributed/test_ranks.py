"""Ranks that wait for each other: they say for whom."""

import socket

import pytest

from textrnn.base.errors import RankLost
from textrnn.distributed import ranks as module
from textrnn.distributed.launch import Launch
from textrnn.distributed.ranks import Ranks


def test_a_rank_says_whom_it_waits_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(module, "NOTICE", 0.1)
    monkeypatch.setattr(module, "ARRIVAL", 0.5)
    first = Ranks(Launch(by="torchrun", world_size=2, local_world_size=2))
    first.rendezvous()
    with pytest.raises(RankLost, match="rank 1 has not answered"), first.barrier(patience=0.5):
        pass
    assert capsys.readouterr().err.count("waiting for rank 1 of the 2 that torchrun starts") == 1
