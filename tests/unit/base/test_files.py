"""Whole files and whole folders."""

from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.base.files import (
    make_folders,
    making,
    remove_folders,
    replacing_folder,
    writable_cache,
    write_atomically,
    write_csv,
)


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "ü")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "folder", "x")
    assert path.read_bytes() == b"new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "record.json"]


def test_a_table_has_the_line_ends_of_csv_or_those_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, ["name", "value"], [("a,b", 1), ("c", 2.5)])
    assert path.read_bytes() == b'name,value\r\n"a,b",1\r\nc,2.5\r\n'
    write_csv(path, ["name"], [["a"]], lineterminator="\n")
    assert path.read_bytes() == b"name\na\n"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "parents" / "folder"

    def make(content: str, *, fails: bool = False) -> None:
        with making(folder, "makes"), replacing_folder(folder) as draft:
            (draft / "file").write_text(content)
            if fails:
                raise InputError("refused")

    with pytest.raises(InputError, match="refused"):
        make("one", fails=True)
    assert list(tmp_path.iterdir()) == []
    make("one")
    with pytest.raises(InputError, match="refused"):
        make("two", fails=True)
    assert (folder / "file").read_text() == "one"
    make("two")
    assert (folder / "file").read_text() == "two"
    assert list(folder.parent.iterdir()) == [folder]


def test_folders_that_were_made_are_removed_if_they_are_empty(tmp_path: Path) -> None:
    made = make_folders(tmp_path / "a" / "b" / "c")
    assert made == [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert make_folders(tmp_path / "a") == []
    (tmp_path / "a" / "file").write_text("")
    remove_folders(made)
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "file"]
    with pytest.raises(OSError, match=r"exists|directory"):
        make_folders(tmp_path / "a" / "file" / "below")


def test_a_cache_without_a_home_that_can_be_written_lasts_until_the_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert writable_cache("fonts") == str(tmp_path / "caches" / "fonts")
    (tmp_path / "a-file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for home in (str(tmp_path / "a-file"), "~"):  # "~" stays where there is no home
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        made = Path(writable_cache("fonts"))
        assert (made.parent, made.is_dir()) == (tmp_path, True)
    assert not (tmp_path / "~").exists()
