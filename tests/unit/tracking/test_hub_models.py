"""A model on the Hub by its reference: what isn't there is one sentence, what was kept is used without a network."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.hub_uploads import UploadHub
from doubles.shared_runs import TOKEN, use_client
from huggingface_hub import constants

from textrnn.base.errors import InputError
from textrnn.tracking.hub_models import local_model

REPO = "alice/tiny"
NAMES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    with UploadHub(tmp_path / "served", {TOKEN: {"alice"}}) as served:
        use_client(monkeypatch, served, tmp_path / "home", token=None)
        served.make(REPO)
        served.add(REPO, {name: name.encode() for name in (*NAMES, "run_me.py", "pytorch_model.bin")})
        yield served


def test_three_files_of_one_commit_are_fetched_once(hub: UploadHub) -> None:
    first = hub.commit(REPO)
    folder = local_model(f"hub:{REPO}")
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    requests = hub.data_requests
    assert local_model(f"hub:{REPO}") == local_model(f"hub:{REPO}@{first}") == folder
    assert hub.data_requests == requests == 3
    hub.add(REPO, {"config.json": b"new"})
    assert (local_model(f"hub:{REPO}") / "config.json").read_bytes() == b"new"
    assert local_model(f"hub:{REPO}@{first}") == folder


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("hub:tiny", "that is not a model on the Hub; type hub:OWNER/NAME"),
        ("hub:a/b/c", "that is not a model on the Hub"),
        ("hub:alice/tiny@", "that is not a model on the Hub"),
        ("hub:alice/../etc", "that is not a model on the Hub"),
        ("hub:alice/a--b", "has no model alice/a--b, or not for this account"),
        ("hub:bob/tiny", "has no model bob/tiny, or not for this account"),
        ("hub:alice/tiny@v9", "has no branch, tag or commit v9 of alice/tiny; type hub:alice/tiny"),
        ("hub:alice/pickled", "has no model.safetensors; type the name of a model that textrnn push uploaded"),
        ("hub:alice/hidden", "has no model alice/hidden, or not for this account"),
    ],
)
def test_what_the_hub_has_not(hub: UploadHub, typed: str, told: str) -> None:
    hub.make("alice/pickled")
    hub.add("alice/pickled", {"pytorch_model.bin": b"a pickle", "config.json": b"{}"})
    hub.make("alice/hidden", private=True)
    with pytest.raises(InputError) as refused:
        local_model(typed)
    assert told in str(refused.value)
    assert str(refused.value).startswith(typed)
    assert "\n" not in str(refused.value)


def test_a_private_model_is_its_owners(hub: UploadHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.make("alice/hidden", private=True)
    hub.add("alice/hidden", dict.fromkeys(NAMES, b""))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (local_model("hub:alice/hidden") / "model.safetensors").is_file()


def test_a_kept_model_is_used_without_a_network(
    hub: UploadHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = local_model(f"hub:{REPO}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, logger="textrnn"):
        assert local_model(f"hub:{REPO}") == kept
    assert "the Hub is out of reach: using alice/tiny as kept in" in caplog.text
    with pytest.raises(InputError, match=r"^hub:alice/other: the Hub is out of reach \(.+\) and this model has not"):
        local_model("hub:alice/other")


@pytest.mark.parametrize(("fault", "told"), [("403", "refuses this account"), ("500", "the Hub is out of reach")])
def test_a_hub_that_refuses(hub: UploadHub, fault: str, told: str) -> None:
    hub.fail(fault, on="api")
    with pytest.raises(InputError, match=told):
        local_model(f"hub:{REPO}")
