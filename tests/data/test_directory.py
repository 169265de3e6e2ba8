"""Where data lies, and the list of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from brodmann import BrodmannError
from brodmann.cli import main
from brodmann.data import available, data_directory, load
from brodmann.doctor import diagnose

from .sources import MIXED, MIXED_ROWS, write_mnist, write_npz, write_table


def test_a_file_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~nobody.csv").write_text("0.5,1.5,a\n1,2,b\n" * 5)
    assert load("./~nobody.csv").shape == (2,)
    with pytest.raises(BrodmannError, match="begins with a home folder that does not exist"):
        load("~nobody.csv")


def test_data_directory_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path / "environment"))
    assert data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert data_directory("~/data") == tmp_path / "data"
    assert data_directory() == tmp_path / "environment"
    monkeypatch.setenv("BRODMANN_DATA", "")
    assert data_directory() == tmp_path / "cache/brodmann"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_directory() == tmp_path / ".cache/brodmann"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_directory() == tmp_path / ".cache/brodmann"


def test_what_needs_no_folder_loads_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_: Path) -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", no_home)
    for name in ("BRODMANN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BrodmannError, match="begins with a home folder that does not exist"):
        data_directory()
    assert len(load("digits").x_train) == 1437
    assert diagnose()["data folder"].startswith("none: ~/.cache begins with a home folder that does not exist")


def test_endings_in_capital_letters_are_listed(tmp_path: Path) -> None:
    """As some programs write them; `load` takes them."""
    (tmp_path / "T.CSV").write_text("0.5,1.5,a\n1,2,b\n" * 5)
    write_npz(tmp_path / "mine.npz")
    (tmp_path / "mine.npz").rename(tmp_path / "MINE.NPZ")
    (tmp_path / "folder.csv").mkdir()
    rows = {row.name: row for row in available(tmp_path) if row.present}
    assert rows.keys() == {"digits", "T.CSV", "MINE"}
    assert (rows["T.CSV"].kind, rows["MINE"].kind) == ("csv", "npz")
    for name in (*rows, "MINE.NPZ"):
        assert len(load(name, tmp_path).x_train)


def test_available_lists_what_is_there_and_what_could_be(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_npz(tmp_path / "semeion.npz")
    write_npz(tmp_path / "mine.npz")
    for name in ("table.csv", "table.tsv"):
        (tmp_path / name).write_text("0.5,1.5,a\n1,2,b\n" * 5)
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    rows = {row.name: row for row in available(tmp_path)}
    assert len(rows) == len(available(tmp_path))
    assert (rows["digits"].kind, rows["digits"].present) == ("bundled", True)
    assert (rows["mnist"].kind, rows["mnist"].present) == ("images", True)
    assert (rows["cifar10"].present, rows["cifar10"].where) == (
        False,
        str(tmp_path / "cifar-10-batches-py/data_batch_1"),
    )
    assert (rows["semeion"].kind, rows["mine"].where) == ("npz", str(tmp_path / "mine.npz"))
    for kind in ("csv", "tsv"):
        assert (rows[f"table.{kind}"].kind, rows[f"table.{kind}"].where) == (kind, str(tmp_path / f"table.{kind}"))
    assert (rows["openml:small"].kind, rows["openml:7"].present) == ("openml", True)
    for name, row in rows.items():
        if row.present:
            assert len(load(name, tmp_path).x_train)


def test_the_command_lists_whole_names_and_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path / f"{'long ' * 20}name.npz")
    main(["data", "list", "--data-dir", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert any(path.stem in line and str(path) in line for line in lines)


def test_an_unknown_name_may_be_that_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("0.5,1.5,a\n1,2,b\n" * 5)
    with pytest.raises(BrodmannError, match="Unknown data set 'prices'. Did you mean 'prices.csv'?"):
        load("prices", tmp_path)


def test_available_without_a_directory(tmp_path: Path) -> None:
    assert [row.name for row in available(tmp_path / "absent") if row.present] == ["digits"]
