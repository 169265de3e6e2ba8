"""The command line from training to prediction: every rule, every kind of target, and the twin of equal size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from brodmann import BrodmannError
from brodmann.baselines import in_proportion
from brodmann.cli import main
from brodmann.runs import Run

from ..pairs import diagonal
from .parts import SMALL, weights


@diagonal(rule=["kolen-pollack", "random", "sign", "direct", "transpose", "backprop"], residual=[False, True])
def test_every_rule_trains_evaluates_and_predicts(
    table: Path, tmp_path: Path, rule: str, residual: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    extra = ["--residual", "--layers", "4"] if residual else []
    main(
        [
            "train",
            str(table),
            *SMALL,
            "--epochs",
            "15",
            "--rule",
            rule,
            "--lr",
            "0.01",
            *extra,
            "--out",
            str(run),
            "--json",
        ]
    )
    said = capsys.readouterr().out
    result = json.loads(said)  # one object and nothing else
    main(["train", "--resume", str(run), "--json"])
    assert capsys.readouterr().out == said
    expected = "dataset rule areas layers width test_accuracy validation_accuracy train_seconds active_parameters"
    assert {*expected.split(), "total_parameters", "peak_rss_mb", "run"} <= result.keys()
    assert result["test_accuracy"] > 0.5
    main(["evaluate", str(run), "--json"])
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["test_accuracy"] == result["test_accuracy"]
    main(["predict", str(run), str(table), "--json", "--probabilities"])
    likely = json.loads(capsys.readouterr().out.splitlines()[-1])
    main(["predict", str(run), str(table), "--json"])
    predictions = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    truth = np.load(table)["y_test"]
    assert np.mean([int(p) == t for p, t in zip(predictions, truth, strict=True)]) == result["test_accuracy"]
    np.testing.assert_allclose(np.sum(likely["predictions"], 1), 1.0, rtol=1e-5)
    assert predictions == [likely["classes"][index] for index in np.argmax(likely["predictions"], 1)]


def test_regression_runs_from_training_to_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4)).astype(np.float32)
    y = np.stack([1000 + 200 * x[:, 0], 0.01 * (x[:, 1] - x[:, 2])], 1)  # far from mean 0 and variance 1
    path = tmp_path / "plane.npz"
    np.savez(path, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    run = tmp_path / "run"
    main(["train", str(path), "--width", "32", "--epochs", "20", "--lr", "0.01", "--out", str(run), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["test_r2"] > 0.9
    main(["predict", str(run), str(path)])
    found = np.array([line.split() for line in capsys.readouterr().out.splitlines()], dtype=float)
    rest = ((found - y[200:]) ** 2).sum(0) / ((y[200:] - y[200:].mean(0)) ** 2).sum(0)
    assert rest.max() < 0.1  # predictions are in the targets' own units
    with pytest.raises(BrodmannError, match="learned by mean-squared-error, whose outputs are not probabilities"):
        Run.read(run).predict_proba(x)

    scales = run / "targets.json"
    kept = scales.read_text()
    for damage in (None, "null", "{}", '{"mean": [0, 0], "scale": [1]}', '{"mean": [0, 0], "scale": [1, "x"]}'):
        scales.unlink() if damage is None else scales.write_text(damage)
        with pytest.raises(SystemExit, match="2"):
            main(["predict", str(run), str(path)])
        said = capsys.readouterr().err
        assert (
            f"Cannot read {scales}" in said if damage is None else "Stored scales of targets must have a finite" in said
        )
    scales.write_text(kept)
    far = np.full((1, 4), 3e38)
    np.save(tmp_path / "far.npy", far)
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(run), str(tmp_path / "far.npy")])
    assert "sample 0, counted from 0" in capsys.readouterr().err


def test_labels_run_from_training_to_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = np.stack([x[:, 0] > 0, x[:, 1] > x[:, 2], x[:, 3] > 1], 1).astype(np.float32)
    path, run = tmp_path / "labels.npz", tmp_path / "run"
    np.savez(path, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    sizes = ["--width", "32", "--epochs", "20", "--lr", "0.01", "--out", str(run)]
    main(["train", str(path), "--loss", "binary-cross-entropy", *sizes])
    assert "label_accuracy on the test and validation parts" in capsys.readouterr().out
    main(["evaluate", str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    main(["predict", str(run), str(path)])
    probabilities = np.array([line.split() for line in capsys.readouterr().out.splitlines()], dtype=float)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert 0.85 < found["test_label_accuracy"] == pytest.approx(((probabilities > 0.5) == y[200:]).mean())
    assert found["test_label_accuracy"] == json.loads((run / "result.json").read_text())["test_label_accuracy"]
    assert not (run / "targets.json").exists()


def test_compare_trains_the_twin_at_equal_active_parameters(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", str(table), *SMALL, "--compare", "--out", str(tmp_path / "run"), "--json"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    twin = result["backpropagation"]
    assert twin["rule"] == "backprop"
    assert abs(twin["active_parameters"] - result["active_parameters"]) <= 10
    main(["evaluate", str(tmp_path / "run" / "backpropagation"), "--json"])  # a run like any other
    assert json.loads(capsys.readouterr().out)["test_accuracy"] == twin["test_accuracy"]


def test_a_width_for_each_hidden_layer_goes_through_the_command_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    sizes = ["--width", "12", "6", "--areas", "3"]
    others = ["--epochs", "2", "--compare", "--no-figures", "--out", str(run), "--json"]
    main(["train", *sizes[:3], str(table), *sizes[3:], *others])  # the data may follow a list
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    twin = result["backpropagation"]
    assert "12, 6" in printed
    assert ", ".join(map(str, twin["width"])) in printed
    assert (result["layers"], result["width"], twin["layers"]) == (3, [12, 6], 3)
    assert twin["width"] == list(in_proportion([12, 6], twin["width"][0]))
    assert abs(twin["active_parameters"] - result["active_parameters"]) <= 20
    for place in (run, run / "backpropagation"):
        assert Run.read(place).options.width == tuple(result["width"] if place == run else twin["width"])
        main(["evaluate", str(place), "--json"])
        expected = result if place == run else twin
        assert json.loads(capsys.readouterr().out)["test_accuracy"] == expected["test_accuracy"]
    before = weights(run)
    (run / "result.json").unlink()
    main(["train", "--resume", str(run), *sizes, "--no-figures"])  # from its checkpoint
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run).items())
    for wrong, message in (
        (["--resume", str(run), "--width", "12", "7"], r"in which --width is \(12, 6\): leave \(12, 7\) out"),
        ([str(table), "--width", "8", "6", "--layers", "4"], "Expected 3 linear layers, one for each width"),
        ([str(table), "--width", "8", "6", "--residual"], r"A residual network has one width, .* got \[8, 6\]"),
        ([str(table), "--width", "8", "6", "--channels", "4"], "--width cannot be combined with --channels"),
        ([str(table), "--width"], "Expected width to be a list, one number for each hidden layer"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["train", *wrong])
        assert re.search(message, capsys.readouterr().err)


def test_the_twin_of_a_clipped_run_is_not_clipped(table: Path, tmp_path: Path) -> None:
    main(["train", str(table), *SMALL, "--clip", "1", "--compare", "--out", str(tmp_path / "run")])
    config = json.loads((tmp_path / "run" / "backpropagation" / "config.json").read_text())
    assert config["options"]["clip"] is None
