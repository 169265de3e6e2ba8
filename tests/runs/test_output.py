"""What commands print: whole lines for people, one object for programs, on every terminal and into any pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import brodmann
from brodmann.cli import main
from brodmann.cli.output import OUT

from .parts import SMALL


def test_what_is_no_number_is_null_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, x = tmp_path / "outlier.npz", np.random.RandomState(0).randn(90, 3)
    y = np.r_[x[:, 0], 1e30]
    np.savez(table, x_train=x, y_train=x[:, 0], x_test=np.r_[x, x[:1]], y_test=y)
    main(["train", str(table), *SMALL, "--epochs", "1", "--no-figures", "--out", str(tmp_path / "run"), "--json"])
    result = capsys.readouterr().out.splitlines()[-1]
    assert '"test_loss": null' in result
    assert "Infinity" not in result


def test_a_narrow_terminal_hides_nothing_of_a_result(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OUT, "width", 40)
    main(["train", str(table), *SMALL, "--rule", "kolen-pollack-noisy", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert said[0].split() == ["rule", "areas", "width", "test", "validation", "active", "total", "seconds"]
    assert said[1].startswith("kolen-pollack-noisy  4 ")
    assert f"{result['test_accuracy']:.4f}" in said[1]
    assert f"{result['train_seconds']:.2f}" in said[1]


def test_paths_with_brackets_are_shown_as_they_are(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", str(table), *SMALL, "--out", "lr[adam][/i]"])
    assert "Everything is in lr[adam][/i]" in capsys.readouterr().out


COMMANDS = """
import json, sys
from brodmann.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit:
        pass
    print("--")
"""
"""Runs commands one after the other, in one process: it takes seconds to begin."""


def test_lines_are_whole_and_every_terminal_can_show_them(table: Path, tmp_path: Path) -> None:
    place = tmp_path / ("long name " * 12) / "unä"
    training, evaluation = ["train", str(table), *SMALL, "--out", str(place)], ["evaluate", str(place)]
    commands = [sys.executable, "-c", COMMANDS, json.dumps([training, evaluation, training])]
    done = subprocess.run(commands, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    trained, evaluated, *_ = done.stdout.decode("ascii").split("--\n")
    whole = str(place).encode("ascii", "backslashreplace").decode()
    assert f"Everything is in {whole}" in trained.splitlines()
    (line,) = evaluated.splitlines()
    assert line.startswith(f"{table}, kolen-pollack: test_loss")
    assert f"resume it with --resume '{whole}'," in done.stderr.decode("ascii")


def test_a_reader_that_has_seen_enough_is_no_error(run: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.npy"
    np.save(many, np.zeros((100_000, 6), np.float32))
    program = "from brodmann.cli import main; main()"
    command = f"{sys.executable} -c '{program}' predict {run} {many} | head -n 1"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_output_that_cannot_be_written_is_said(run: Path, table: Path) -> None:
    program = "from brodmann.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for end, status, said in (
        (">&-", 0, ""),
        ("> /dev/full", 2, "error: Cannot write the output: No space left on device."),
    ):
        command = f"{sys.executable} -c '{program}' predict {run} {table} {end}"
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.strip()) == (status, said)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"brodmann {brodmann.__version__}\n"


def test_arguments_without_names_are_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help"])
    assert "brodmann predict [-h] RUN FILE" in capsys.readouterr().out
