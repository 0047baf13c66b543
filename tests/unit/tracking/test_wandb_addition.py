"""Tables that are added to the W&B run of a run that has ended."""

from dataclasses import asdict
from pathlib import Path

import pytest
import wandb
import yaml
from doubles.wandb_cases import STEPS, SmallRun, patient
from doubles.wandb_server import WandbServer

from textrnn.base.errors import InputError
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.wandb_addition import EndedRun
from textrnn.tracking.wandb_internals import table_artifact


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_a_table_is_added_to_a_run_that_has_ended(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    run = SmallRun(tmp_path / "run", "ended001")
    run.train(server, None)
    directory = run.directory
    directory.config_yaml.write_text(yaml.safe_dump(asdict(run.config)))
    before = {name: value for name, value in server.runs["ended001"].summary.items() if name[0] != "_"}
    with EndedRun(directory.path, flag="--wandb") as ended:
        with pytest.raises(InputError, match="in use"):
            RunDirectory.claim(directory.path, resume=True)
        for word in ("fine", "dull"):  # the second one replaces the first
            page = wandb.Html(f"<b>{word}</b>", inject=False)
            url = ended.log_tables({"test/explanations": wandb.Table(columns=["text"], data=[[page]])})
    arrived = server.runs["ended001"]
    assert url.endswith("/runs/ended001")
    assert (arrived.state, [row["_step"] for row in arrived.rows]) == ("finished", list(STEPS))
    assert arrived.summary["test/explanations"]["_type"] == "table-file"
    assert {name: arrived.summary[name] for name in before} == before
    table = server.artifact(table_artifact("ended001", "test/explanations"))
    assert table is not None
    (html,) = [content for name, content in table.files.items() if name.endswith(".html")]
    assert html == b"<b>dull</b>"

    directory.wandb_unsent.touch()
    with pytest.raises(InputError, match=r"--wandb: W&B lacks a part of .*; type python train.py resume="):
        EndedRun(directory.path, flag="--wandb")
    server.runs.pop("ended001")
    with pytest.raises(InputError, match="--wandb: W&B has no run ended001"):
        EndedRun(directory.path, flag="--wandb")
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(InputError, match=r"--wandb: no W&B account .*run `wandb login`, or leave --wandb out"):
        EndedRun(directory.path, flag="--wandb")
    directory.summary_json.unlink()
    with pytest.raises(InputError, match="has not ended"):
        EndedRun(directory.path, flag="--wandb")
    run.config.tracking.mistakes = 0
    directory.config_yaml.write_text(yaml.safe_dump(asdict(run.config)))
    with pytest.raises(InputError, match=r"tracking\.mistakes=0 keeps texts out of W&B; leave --wandb out"):
        EndedRun(directory.path, flag="--wandb")
