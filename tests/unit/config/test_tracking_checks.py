"""Checks of the names that go to W&B."""

import pytest

from textrnn.base.errors import InputError
from textrnn.config.compose import compose
from textrnn.config.schema import TrackingConfig
from textrnn.config.tracking_checks import LONGEST_RUN_ID, check_tracking
from textrnn.tracking.wandb_internals import table_artifact


def test_names_that_wandb_refuses_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    offline, none = TrackingConfig(mode="offline"), TrackingConfig(mode="none")
    for variable, name, most in (
        ("WANDB_NAME", "a" * 129, 128),
        ("WANDB_RUN_GROUP", "a" * 129, 128),
        ("WANDB_JOB_TYPE", "a" * 65, 64),
        ("WANDB_TAGS", f"b,{'a' * 65}", 64),
        ("WANDB_RUN_ID", "a" * (LONGEST_RUN_ID + 1), LONGEST_RUN_ID),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, name)
            with pytest.raises(InputError, match=rf"^{variable}='a.* type 1 to {most},"):
                check_tracking(offline)
            check_tracking(none)
            patch.setenv(variable, name[:-1])
            check_tracking(offline)


def test_the_longest_run_id_fits_into_the_names_of_its_tables() -> None:
    for prefix in ("test", "val"):
        for chart in ("confusion_matrix", "accuracy_by_length", "roc", "precision_recall"):
            assert len(table_artifact("a" * LONGEST_RUN_ID, f"{prefix}/{chart}_table")) <= 128


@pytest.mark.parametrize(
    "path",
    [
        *("wandb-registry-model/imdb", "film-lab/wandb-registry-model/imdb"),
        "Film Lab/wandb-registry-Golden models/imdb gru.2",
    ],
)
def test_a_collection_of_a_registry(path: str) -> None:
    check_tracking(TrackingConfig(registry=path))


def test_a_collection_is_typed_without_quotes() -> None:
    path = "Film Lab/wandb-registry-Golden models/imdb"
    assert compose([f"tracking.registry={path}"]).tracking.registry == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "imdb", "model/imdb", "wandb-registry-model", "wandb-registry-/imdb", "wandb-registry-model/"),
        *("a/b/wandb-registry-model/imdb", "wandb-registry-model/a/b", "wandb-registry-model/imdb:latest"),
        *("tester/model/imdb", "wandb-registry-model/ ", "/wandb-registry-model/imdb", "wandb-registry-a?/imdb"),
        f"wandb-registry-model/{'a' * 129}",
    ],
)
def test_what_is_no_collection_of_a_registry_is_refused(path: str) -> None:
    wanted = "type wandb-registry-NAME/COLLECTION or ORGANIZATION/wandb-registry-NAME/COLLECTION, such as"
    with pytest.raises(InputError, match=wanted):
        check_tracking(TrackingConfig(registry=path))


def test_a_registry_needs_w_and_b_and_the_model() -> None:
    path = "wandb-registry-model/imdb"
    for tracking, said in (
        (TrackingConfig(registry=path, mode="none"), "in W&B, which tracking=none doesn't use"),
        (TrackingConfig(registry=path, mode="tensorboard"), "in W&B, which tracking=tensorboard doesn't use"),
        (TrackingConfig(registry=path, artifact=False), "type tracking.artifact=true"),
    ):
        with pytest.raises(InputError, match=said):
            check_tracking(tracking)
