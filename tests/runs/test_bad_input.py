"""Bad options and bad files: one line that says what to do, and status 2."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from brodmann.cli import main

from .parts import SMALL


@pytest.mark.parametrize(
    ("arguments", "wording"),
    [
        (["digitz"], "Did you mean 'digits'"),
        (["digits", "--rule", "kolen-polack"], "Did you mean 'kolen-pollack'"),
        (["digits", "--optimiser", "adm"], "Did you mean 'adam'"),
        (["digits", "--schedule", "cosin"], "Did you mean 'cosine'"),
        (["digits", "--loss", "cross_entropy"], "Did you mean 'cross-entropy'"),
        (["digits", "--loss", "sum-of-squares", "--label-smoothing", "0.1"], "with cross-entropy on classes, not with"),
        (["digits", "--loss", "binary-cross-entropy"], "but these targets are classes"),
        (["digits", "--activation", "rellu"], "Did you mean 'relu'"),
        (["digits", "--width", "-4"], "at least 1"),
        (["digits", "--areas", "0"], "at least 1"),
        (["digits", "--layers", "0"], "at least 1"),
        (["digits", "--residual", "--layers", "2"], "at least 3"),
        (["digits", "--epochs", "0"], "at least 1"),
        (["digits", "--batch-size", "0"], "at least 1"),
        (["digits", "--lr", "-1"], "above 0"),
        (["digits", "--decay", "-1"], "at least 0"),
        (["digits", "--momentum", "0.9"], "works only with --optimiser sgd"),
        (["digits", "--areas", "999999999999"], "GB of memory"),
        (["digits", "--cells", "999999999999"], "GB of memory"),
        (["digits", "--batch-size", "100000000000000000000"], "batch_size to be a whole number"),
        (["digits", "--threads", "100000000000000"], "at most 4096 threads"),
        (["digits", "--balance", "nan"], "balance_rate to be a number of at least 0, got nan"),
        (["digits", "--temperature", "nan"], "temperature to be a number above 0, got nan"),
        (
            ["digits", "--gated", "--gate-feedback", "sign"],
            "--gate-feedback works only with --gated and --routing layer",
        ),
        (
            ["digits", "--gated", "--routing", "layer", "--gate-feedback", "sing"],
            "Unknown feedback 'sing'. Did you mean 'sign'?",
        ),
        (["digits", "--clip", "inf"], "clip to be a number above 0, got inf"),
        (["digits", "--device", "meta"], "not available"),
        (["digits", "--partition", "manual"], "Unknown partition 'manual'.*fixed, growing"),
        (["letter", "--data-dir", "nowhere"], "The folder of the data, nowhere, does not exist"),
        (["digits", "--momentum", "2", "--optimiser", "sgd"], r"in \[0, 1\)"),
        (["digits", "--dropout", "1.5"], "dropout"),
        (["digits", "--patience", "2", "--validation", "0"], "validation part"),
        (["digits", "--validation", "1.5"], "alidation"),
        (["digits", "--device", "quantum"], "not available"),
        (["digits", "--cells", "3"], "cells to be a whole number of at least 16"),
        (["digits", "--checkpoint", "x"], "--checkpoint needs --resume"),
    ],
)
def test_bad_options_give_one_line_and_status_2(
    arguments: list[str], wording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments, "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert re.search(wording, message), message


@pytest.mark.parametrize(
    "kind", ["nan", "infinite", "empty", "one class", "strings", "missing key", "no npz", "absent"]
)
def test_bad_files_give_one_line_and_status_2(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.npz"
    x, y = np.ones((20, 3)), np.arange(20) % 2
    x[3, 1] = {"nan": np.nan, "infinite": np.inf}.get(kind, 1.0)
    if kind == "empty":
        x, y = x[:0], y[:0]
    elif kind == "one class":
        y = y * 0
    elif kind == "strings":
        x = x.astype(str)
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    if kind == "missing key":
        parts.pop("y_test")
    np.savez(path, **parts)
    if kind == "no npz":
        path.write_text("hello")
    if kind == "absent":
        path.unlink()
    with pytest.raises(SystemExit) as stop:
        main(["train", str(path), "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_inputs_that_do_not_vary_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.ones((20, 3)), np.arange(20) % 2
    np.savez(tmp_path / "flat.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "flat.npz"), "--out", str(tmp_path / "run")])
    assert "are equal: there is nothing to learn from" in capsys.readouterr().err


def test_a_share_that_leaves_one_sample_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--validation", "0.999", *SMALL])
    assert "A validation share of 0.999 leaves one sample to train on: lower it." in capsys.readouterr().err


def test_an_unknown_rule_hints_at_imports_unless_it_is_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    for name, hint in (("lion", True), ("adm", False)):
        with pytest.raises(SystemExit, match="2"):
            main(["train", "digits", "--optimiser", name])
        assert ("in a file that `brodmann --import FILE` loads" in capsys.readouterr().err) is hint


def test_divergence_names_the_layer(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(table), *SMALL, "--optimiser", "sgd", "--lr", "1e30", "--out", str(tmp_path / "run")])
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"Step \d+: The loss is (nan|inf): NaN or infinite values first appear in layer 'body\.", message)


def test_memory_that_ran_out_ends_a_command_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("brodmann.cli.doctor.Doctor.run", lambda _: torch.empty(10**15))
    with pytest.raises(SystemExit, match="2"):
        main(["doctor"])
    assert capsys.readouterr().err.startswith("error: There is not enough memory: use fewer areas")
