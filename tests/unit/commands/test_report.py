from pathlib import Path

import pytest
from doubles.report_runs import make_run

from textrnn.base.errors import InputError
from textrnn.commands.report import main

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_page_is_in_the_folder_of_one_or_else_here_or_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make_run(Path("runs", name), {}, steps=20)
    for arguments, expected in (
        (["runs/a"], Path("runs/a/report.html")),
        (["runs/a", "runs/b"], Path("report.html")),
        (["runs", "--output", "x.HTML"], Path("x.HTML")),
    ):
        assert main(arguments) == 0
        assert expected.read_text(encoding="utf-8").startswith("<!doctype html>")
        assert f"report: {expected} (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "no such folder"),
        (["."], "no run in this folder"),
        ([".", "--output", "runs/a/metrics.csv"], r"ends with \.html"),
        (["a", "--output", "no/such/x.html"], "can't be written"),
        ([".", "--live", "--output", "x.html"], "leave --output out"),
        ([".", "--port", "80"], "add --live"),
        ([".", "--live", "--port", "70000"], "from 1 to 65535"),
    ],
)
def test_wrong_input_says_what_to_type(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "a":
        make_run(Path("a"), {}, steps=20)
    with pytest.raises(InputError, match=message):
        main(arguments)
