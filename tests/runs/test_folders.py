"""Folders of runs: what is never replaced, what is found again, and which paths are taken."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brodmann import BrodmannError, Network
from brodmann.builders import mlp
from brodmann.cli import main
from brodmann.cli.train import free_folder
from brodmann.losses import LOSSES
from brodmann.runs import Run, RunOptions, execution, start_run
from brodmann.training import SCHEDULES

from .parts import SMALL, options_for, weights


def test_a_path_that_is_not_utf8_is_refused_before_the_training(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"jos\xe9")
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(table), *SMALL, "--out", str(folder)])
    assert "expected a path in UTF-8, choose another folder" in capsys.readouterr().err
    assert not folder.exists()
    with pytest.raises(BrodmannError, match=r"expected a path in UTF-8, choose another folder\.$"):
        Network(mlp(2, 2)).save(folder / "model.safetensors")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")  # as under LC_ALL=C without Python's UTF-8 mode
    with pytest.raises(BrodmannError, match=r"choose another folder, or set LC_ALL=C\.UTF-8\.$"):
        Network(mlp(2, 2)).save(folder / "model.safetensors")


def test_a_data_file_is_found_from_any_folder_and_where_it_has_moved(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", table.name, *SMALL, "--out", "run", "--json"])
    expected = json.loads(capsys.readouterr().out.splitlines()[-1])["test_accuracy"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    main(["evaluate", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["test_accuracy"] == expected
    table.rename(elsewhere / table.name)
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(tmp_path / "run")])
    main(["evaluate", str(tmp_path / "run"), "--data-dir", str(elsewhere), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["test_accuracy"] == expected


def test_what_is_refused_replaces_no_run(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for refused in (["--patience", "2", "--validation", "0"], ["--tensorboard"]):
        for place, options in (("run", ["--overwrite"]), ("other", [])):
            with pytest.raises(SystemExit, match="2"):
                main(["train", str(table), *SMALL, *refused, "--out", str(tmp_path / place), *options])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "other").exists()
    assert "TensorBoard is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_that_are_none_replace_no_run(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    data = {f"x_{name}": rng.normal(size=(100, 3)) for name in ("train", "test")}
    data |= {f"y_{name}": rng.integers(0, 2, (100, 2)).astype(float) for name in ("train", "test")}
    data[f"y_{part}"][57, 1] = 1.5
    np.savez(tmp_path / "labels.npz", **data)
    given = ["train", str(tmp_path / "labels.npz"), "--loss", "binary-cross-entropy", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert "1.5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("loss", "Expected a loss that returns a tensor with one number, got shape"),
        ("schedule", "Expected the share that a schedule returns to be a number of at least 0"),
    ],
)
def test_what_cannot_learn_replaces_no_run(
    kind: str, message: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "mine", lambda: lambda output, target, weight=None: output.sum(1))
    monkeypatch.setitem(SCHEDULES, "mine", lambda done: 0.75 - done)
    with pytest.raises(BrodmannError, match=message):
        start_run(replace(RunOptions(str(table)), **{kind: "mine"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_homes_are_found_and_a_missing_one_is_said(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main(["train", f"~/{table.name}", *SMALL, "--data-dir=~/data", "--out=~/run"])
    assert Run.read("~/run").folder == tmp_path / "run"
    assert Run.read("~/run").options.dataset == str(table)
    assert Run.read("~/run").data_dir == str(tmp_path / "data")
    assert not (tmp_path / "~").exists()
    (tmp_path / "elsewhere").mkdir()
    capsys.readouterr()
    for command in (["train", "~nobody-at-all/t.csv"], ["data", "list", "--data-dir=~nobody-at-all"]):
        with pytest.raises(SystemExit, match="2"):
            main(command)
        assert "begins with a home folder that does not exist: write the path in full" in capsys.readouterr().err


def test_an_existing_folder_is_never_touched(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for extra in ([], ["--overwrite"]):
        with pytest.raises(SystemExit, match="2"):
            main(["train", str(table), *SMALL, *extra, "--out", str(other)])
        assert (other / "thesis.txt").read_text() == "years of work"
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "run"):
        with pytest.raises(SystemExit, match="2"):
            main(["train", str(table), *SMALL, "--overwrite", "--out", str(place)])
    assert file.read_text() == "x"
    for command in (["evaluate", str(other)], ["inspect", str(other)], ["train", "--resume", str(other)]):
        with pytest.raises(SystemExit, match="2"):
            main(command)
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_of_another_folder_is_not_taken_for_one_that_is_missing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "other" / table.name), *SMALL, "--out", str(tmp_path / "run")])
    assert "no file is there" in capsys.readouterr().err


def test_a_run_is_never_replaced_where_its_data_lies_in_it(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = run / "mine.npz"
    inside.write_bytes(table.read_bytes())
    monkeypatch.chdir(run)
    monkeypatch.setenv("HOME", str(tmp_path))
    of_home = ["~/run/mine.npz"], ["digits", "--data-dir=~/run"]
    for data in (
        [str(inside)],
        ["mine.npz"],
        ["mine", "--data-dir", str(run)],
        ["digits", "--data-dir", str(run)],
        *of_home,
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["train", *data, *SMALL, "--overwrite", "--out", str(run)])
        assert "would be emptied: choose another --out." in capsys.readouterr().err
        assert inside.is_file()
        assert (run / "model.safetensors").is_file()


def test_a_run_may_replace_the_folder_one_stands_in_and_what_a_link_leads_to(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    for extra in ([], ["--overwrite"]):
        main(["train", str(table), *SMALL, *extra, "--out", str(tmp_path / "link")])
    assert (tmp_path / "link").is_symlink()
    first = weights(real)
    monkeypatch.chdir(real)
    main(["train", str(table), *SMALL, "--overwrite", "--out", "."])
    assert all(torch.equal(tensor, first[name]) for name, tensor in weights(real).items())


def test_what_is_no_run_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for content in ("{}", "[1, 2]", "hello", '{"options": {"colour": 1}}', '{"options": null}'):
        (other / "config.json").write_text(content)
        for command in (["train", "digits", "--out", str(other), "--overwrite"], ["evaluate", str(other)]):
            with pytest.raises(SystemExit, match="2"):
                main(command)
            assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (other / "thesis.txt").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--out", str(tmp_path / ("x" * 300))])
    assert "File name too long. Choose another path." in capsys.readouterr().err


def test_a_run_that_begins_elsewhere_meanwhile_is_never_replaced(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    load = execution.load_data

    def slow(*arguments: Any, **named: Any) -> object:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        return load(*arguments, **named)

    monkeypatch.setattr(execution, "load_data", slow)
    with pytest.raises(BrodmannError, match="exists: resume it"):
        start_run(options_for(table), folder)
    assert (folder / "config.json").read_text() == "{}"


def test_runs_without_a_name_get_folders_of_their_own_and_leave_none_behind_in_vain(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = free_folder(options_for(table)), free_folder(options_for(table))
    assert first != second
    with pytest.raises(SystemExit):
        main(["train", str(table), "--width", "0"])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [first.name, second.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--rule", "backprop", "--activation", "swish"],
            "Unknown activation 'swish'. Choose one of: gelu, relu, tanh",
        ),
        (["--rule", "backprop", "--clip", "1"], "--clip cannot be combined with the baseline 'backprop'"),
    ],
)
def test_what_the_baseline_cannot_do_leaves_no_folder(
    arguments: list[str],
    message: str,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(table), *arguments])
    assert message in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []
