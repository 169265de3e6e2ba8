"""Runs end to end: the command line, interruption at random moments, exact resume, damaged checkpoints, bad input."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import brodmann
from brodmann import SGD, BrodmannError, Network
from brodmann.baselines import in_proportion
from brodmann.builders import BUILDERS, mlp
from brodmann.cli import main
from brodmann.cli.output import OUT
from brodmann.cli.train import free_folder
from brodmann.data import catalogue, load
from brodmann.kernels import library
from brodmann.losses import LOSSES
from brodmann.runs import Run, RunOptions, continue_run, execution, inspect_run, inspection, start_run
from brodmann.runs.assembly import build_learner
from brodmann.telemetry import area_usage
from brodmann.training import SCHEDULES, Callback, Interrupted, Trainer, records
from brodmann.training.checkpoints import checkpoint_names

from .blobs import write_blobs
from .data.sources import Frame

SMALL = ["--width", "12", "--areas", "4", "--epochs", "3", "--no-figures"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small classification set of three blobs."""
    return write_blobs(tmp_path / "blobs.npz", 240, 6, 3)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def metrics(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def options(table: Path) -> RunOptions:
    return RunOptions(str(table), width=12, areas=4, epochs=30, dropout=0.2, batch_size=16, patience=30)


def test_a_builder_with_a_rule_of_its_own_trains_at_the_rate_that_suits_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def downhill(in_features: int, outputs: int, **common: Any) -> brodmann.Layer:
        return mlp(in_features, outputs, width=8, areas=1, update=SGD())

    rates: list[float] = []

    class Rates(Callback):
        def on_start(self, trainer: Trainer) -> None:
            rates.append(trainer.lr)

    monkeypatch.setitem(BUILDERS, "downhill", downhill)
    for given in (None, 0.01):
        start_run(RunOptions(str(table), builder="downhill", lr=given, epochs=1), tmp_path / str(given))
        continue_run(tmp_path / str(given), callbacks=lambda *_: [Rates()])
    assert rates == [0.3, 0.01]


def test_a_run_killed_at_random_moments_resumes_bit_for_bit(table: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    start_run(options(table), whole, compare=True)
    library.active()  # compiles at a machine's first use, which would make a run look long
    began = time.monotonic()
    continue_run(whole)
    length = time.monotonic() - began
    chance = random.Random(0)
    stops = runs = 0
    while stops < 21:
        broken = tmp_path / f"broken-{runs}"
        runs += 1
        start_run(options(table), broken, compare=True)
        while not (broken / "result.json").is_file():
            child = os.fork()
            if child == 0:
                try:
                    continue_run(broken)
                except BaseException:
                    os._exit(1)
                os._exit(0)
            time.sleep(chance.uniform(0, length / 4))
            os.kill(child, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[stops % 3])
            _, status = os.waitpid(child, 0)
            stops += status != 0
        assert_same_weights(whole, broken)
        assert_same_weights(whole / "backpropagation", broken / "backpropagation")
        assert metrics(whole) == metrics(broken)


class Amidst(Callback):
    """Does something in the middle of the second epoch."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if (trainer.progress.epoch, trainer.progress.batch) == (1, 2):
            self.act()


def test_a_run_has_its_folder_to_itself(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    others = (
        lambda: start_run(replace(options(table), epochs=1), run, overwrite=True),
        lambda: continue_run(run),
    )
    refused = []

    def begin() -> None:
        for other in others:
            with pytest.raises(BrodmannError, match=f"Another process is working in {run}: wait for it"):
                other()
            refused.append(other)

    start_run(options(table), run)
    result = continue_run(run, callbacks=lambda *_: [Amidst(begin)])
    assert refused == list(others)
    assert (result["epochs"], len(metrics(run))) == (30, 30)
    start_run(replace(options(table), epochs=1), run, overwrite=True)
    assert continue_run(run)["epochs"] == 1


def test_a_folder_that_vanishes_ends_the_training_and_one_that_moved_goes_on(table: Path, tmp_path: Path) -> None:
    whole, run, moved = tmp_path / "whole", tmp_path / "run", tmp_path / "moved"
    for act in (lambda: shutil.rmtree(run), lambda: run.rename(moved)):
        start_run(options(table), run)
        with pytest.raises(BrodmannError, match=f"{run} was deleted, moved or replaced while the training ran"):
            continue_run(run, callbacks=lambda *_, act=act: [Amidst(act)])
        assert not run.exists()
    continue_run(moved)
    continue_run(start_run(options(table), whole))
    assert_same_weights(whole, moved)
    assert metrics(whole) == metrics(moved)


@pytest.mark.usefixtures("every_epoch")
def test_what_a_killed_process_left_half_written_is_removed(table: Path, tmp_path: Path) -> None:
    run = start_run(options(table), tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        continue_run(run, callbacks=lambda *_: [Amidst(stop)])
    halves = [".best.safetensors.0123abcd", ".checkpoint-000000036.json.ffffffff", ".metrics.jsonl.00000000"]
    others = [".notes.txt", ".mine.json.older"]
    for name in halves + others:
        (run / name).write_text("")
    continue_run(run)
    assert not [name for name in halves if (run / name).exists()]
    assert all((run / name).exists() for name in others)


def stop() -> None:
    raise KeyboardInterrupt


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_stops_after_a_whole_step_and_resumes(table: Path, tmp_path: Path, number: int) -> None:
    arguments = [str(table), "--width", "12", "--epochs", "120", "--no-figures", "--threads", "1"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main(["train", *arguments, "--out", str(whole)])
    command = [sys.executable, "-m", "brodmann", "train", *arguments, "--out", str(broken)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not checkpoint_names(broken) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"brodmann train --resume {broken}" in errors
    assert "Traceback" not in errors
    main(["train", "--resume", str(broken), "--no-figures"])
    assert_same_weights(whole, broken)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("damage", ["truncate tensors", "alter tensors", "cut json", "alter json", "remove tensors"])
def test_a_damaged_checkpoint_is_refused_and_the_good_one_offered(
    table: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        main(["train", str(table), *SMALL, "--out", str(folder)])
    good, newest = checkpoint_names(run)
    tensors = run / f"{newest}.safetensors"
    content = tensors.read_bytes()
    if damage == "truncate tensors":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "alter tensors":
        tensors.write_bytes(content[:-5] + b"\x07" + content[-4:])
    elif damage == "cut json":
        (run / f"{newest}.json").write_text('{"sha256": "0"')
    elif damage == "alter json":
        record = json.loads((run / f"{newest}.json").read_text())
        record["progress"]["seconds"] = "x"
        (run / f"{newest}.json").write_text(json.dumps(record))
    else:
        tensors.unlink()
    (run / "result.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", str(run), "--no-figures"])
    message = capsys.readouterr().err
    assert f"'{newest}' is damaged" in message
    assert f"--checkpoint {good}" in message
    main(["train", "--resume", str(run), "--checkpoint", good, "--no-figures"])
    assert_same_weights(whole, run)


@pytest.mark.parametrize("rule", ["kolen-pollack", "random", "sign", "direct", "transpose", "backprop"])
@pytest.mark.parametrize("residual", [False, True])
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


def test_what_is_no_number_is_null_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, x = tmp_path / "outlier.npz", np.random.RandomState(0).randn(90, 3)
    y = np.r_[x[:, 0], 1e30]
    np.savez(table, x_train=x, y_train=x[:, 0], x_test=np.r_[x, x[:1]], y_test=y)
    main(["train", str(table), *SMALL, "--epochs", "1", "--no-figures", "--out", str(tmp_path / "run"), "--json"])
    result = capsys.readouterr().out.splitlines()[-1]
    assert '"test_loss": null' in result
    assert "Infinity" not in result


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


def test_inspect_draws_figures_and_counts_samples(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(["train", str(table), "--width", "12", "--areas", "4", "--epochs", "2", "--out", str(run), "--compare"])
    capsys.readouterr()
    main(["inspect", str(run), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(sum(row["counts"]) == 60 for row in found["usage"])
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found["figures"])
    assert len(found["figures"]) == 5


def test_numbers_of_some_samples_are_of_all_parts_of_a_file_that_is_sorted_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.arange(3600) // 1200
    x = np.random.default_rng(0).normal(size=(3600, 2)) + 4 * y[:, None]
    np.savez(tmp_path / "sorted.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    measured = []
    for place in (inspection, records):
        real = place.alignment
        monkeypatch.setattr(place, "alignment", lambda *given, real=real: measured.append(given[2]) or real(*given))
    start_run(RunOptions(str(tmp_path / "sorted.npz"), width=8, epochs=1), tmp_path / "run")
    result = continue_run(tmp_path / "run")
    inspect_run(tmp_path / "run")
    assert [(len(some), some.bincount().tolist()) for some in measured] == [(256, [86, 85, 85]), (512, [171, 170, 171])]
    run = Run.read(tmp_path / "run")
    (true,) = area_usage(run.learner(), run.split().x_train)
    assert result["effective_areas"] == [pytest.approx(true.effective, rel=0.05)]


def test_effective_areas_are_those_of_the_weights_that_are_kept(table: Path, tmp_path: Path) -> None:
    start_run(RunOptions(str(table), width=8, epochs=200, patience=2, lr=0.05), tmp_path / "run")
    result = continue_run(tmp_path / "run")
    assert result["epochs"] < 200  # so the last weights were not the best
    run = Run.read(tmp_path / "run")
    (kept,) = area_usage(run.learner(), run.split().x_train)
    assert result["effective_areas"] == [round(kept.effective, 3)]


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


def test_inspect_prints_its_tables_without_matplotlib(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    main(["train", str(table), "--width", "12", "--areas", "4", "--epochs", "1", "--out", run, "--no-figures"])
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    capsys.readouterr()
    main(["inspect", run])
    said = capsys.readouterr().out
    assert "Use of areas" in said
    assert "No figures: Figures need matplotlib: pip install 'brodmann[figures]'." in said
    main(["inspect", run, "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["figures"] == []


def test_a_reader_that_has_seen_enough_is_no_error(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(folder)])
    many = tmp_path / "many.npy"
    np.save(many, np.zeros((100_000, 6), np.float32))
    program = "from brodmann.cli import main; main()"
    command = f"{sys.executable} -c '{program}' predict {folder} {many} | head -n 1"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert len(run.stdout.splitlines()) == 1
    assert "Traceback" not in run.stderr


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


@pytest.mark.parametrize(
    ("extra", "wording"),
    [
        (["--epochs", "5"], "in which --epochs is 3: leave 5 out"),
        (["--lr-areas", "0.5"], "in which --lr-areas is None: leave 0.5 out"),
        (["--areas", "16"], "in which --areas is 4: leave 16 out"),  # 16 is the default elsewhere
        (["digits"], "in which the data set is .*blobs.npz: leave digits out"),
        (["--figures"], None),  # of the command, not of the run
        (["mnist"], "in which the data set is .*blobs.npz: leave mnist out"),
        (["--compare"], "leave out --out, --overwrite and --compare"),
        (["--out", "other"], "leave out --out, --overwrite and --compare"),
    ],
)
def test_resuming_takes_no_other_options(
    extra: list[str], wording: str | None, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    main(["train", str(table), *SMALL, "--out", run])
    main(["train", str(table), *SMALL, "--out", run, "--resume", run])  # the same ones may stand there
    capsys.readouterr()
    if wording is None:
        main(["train", "--resume", run, *extra])
        return
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", run, *extra])
    assert re.search(wording, capsys.readouterr().err)


@pytest.mark.parametrize("rule", ["kolen-pollack", "backprop"])
@pytest.mark.parametrize(
    ("given", "lr", "decay"),
    [
        ({}, 3e-3, 0.2),
        ({"optimiser": "sgd"}, 0.3, 0.0),
        ({"optimiser": "sgd", "momentum": 0.9}, 0.03, 0.0),
        ({"optimiser": "sgd", "lr": 1.0, "decay": 0.1}, 1.0, 0.1),
        ({"lr": 1e-2, "decay": 0.0}, 1e-2, 0.0),
    ],
)
def test_rates_that_are_not_given_suit_the_optimiser(rule: str, given: dict[str, Any], lr: float, decay: float) -> None:
    chosen = RunOptions(rule=rule, **given)
    assert chosen.training_schedule.lr == given.get("lr")  # else the learner's own
    assert chosen.update_rule.decay == decay
    data = load("digits")
    learner = build_learner(chosen, 64, data.outputs)
    assert learner.lr == pytest.approx(lr)
    if isinstance(learner, Network):
        assert learner.area_layers()[0][1].update_rule.decay == decay
    else:
        assert learner.optimiser.param_groups[0]["weight_decay"] == decay


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"brodmann {brodmann.__version__}\n"


def test_areas_that_grow_are_counted_by_epoch_and_drawn(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = ["train", str(table), *SMALL[:-1], "--figures", "--partition", "growing", "--tensorboard"]
    main([*whole, "--out", str(folder)])
    rows = metrics(folder)
    assert [len(row["area_counts"]) for row in rows] == [1, 1, 1]  # one route for all layers
    assert all(sum(row["area_counts"][0]) == 162 for row in rows)  # a tenth of 180 is held out
    assert all(len(row["tension"]) == 1 for row in rows)
    assert (folder / "figures" / "growth.png").is_file()
    assert list(folder.rglob("events.out.*"))


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


class Row:
    """As much of a row of one: a series."""

    ndim = 1

    def __init__(self, index: Sequence[Any], values: Sequence[float]) -> None:
        self.index, self.values = index, np.array(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.values


def test_an_unknown_rule_hints_at_imports_unless_it_is_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    for name, hint in (("lion", True), ("adm", False)):
        with pytest.raises(SystemExit, match="2"):
            main(["train", "digits", "--optimiser", name])
        assert ("in a file that `brodmann --import FILE` loads" in capsys.readouterr().err) is hint


def test_arguments_without_names_are_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help"])
    assert "brodmann predict [-h] RUN FILE" in capsys.readouterr().out


def test_answers_are_what_the_targets_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From Python whole numbers as such, names as names, and one real target without a list; printed as ever."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    for name, y, kind, shown in (
        ("whole", np.where(x[:, 0] > 0, 7, -3), int, str),
        ("named", np.where(x[:, 0] > 0, "7", "seven"), str, str),
        ("filled", np.where(x[:, 0] > 0, "007", "008"), str, str),
        ("real", x[:, 0], float, lambda value: [value]),
        ("two", x[:, :2], list, list),
    ):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        options = RunOptions(str(tmp_path / f"{name}.npz"), width=8, areas=2, epochs=2)
        run = Run.read(continue_run(start_run(options, tmp_path / name))["run"])
        found = run.predict(x)
        assert {type(value) for value in found} == {kind}
        main(["predict", str(run.folder), str(tmp_path / f"{name}.npz"), "--json"])
        assert json.loads(capsys.readouterr().out)["predictions"] == list(map(shown, found))


def test_a_frame_is_read_by_its_names(tmp_path: Path) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 60))
    lines = [f"{x},{y},{'more' if x > y else 'less'}" for x, y in zip(a, b, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]))
    continue_run(start_run(RunOptions(str(tmp_path / "t.csv"), width=8, areas=2, epochs=3), tmp_path / "run"))
    run = Run.read(tmp_path / "run")
    expected = run.predict(np.stack([a, b], 1))
    assert run.predict(Frame("bya", b, a, a)) == run.predict(tmp_path / "t.csv") == expected
    assert run.predict(Frame("01", a, b)) == expected  # nobody named these
    assert [run.predict(Row("ba", (y, x)))[0] for x, y in zip(a[:9], b[:9], strict=True)] == expected[:9]
    assert [run.predict(Row((0, 1), (x, y)))[0] for x, y in zip(a[:9], b[:9], strict=True)] == expected[:9]
    with pytest.raises(BrodmannError, match="The frame has no column 'b', which the training data has, only a, y"):
        run.predict(Frame("ay", a, b))
    with pytest.raises(BrodmannError, match="The frame has the column 'a' 2 times: keep only one"):
        run.predict(Frame("aba", a, b, b))
    with pytest.raises(BrodmannError, match="The row has no column 'b'"):
        run.predict(Row("ac", (1, 2)))
    with pytest.raises(BrodmannError, match="Expected samples to be dense"):
        run.predict(torch.ones(1, 2).to_sparse())


def test_a_run_that_writes_events_goes_on_writing_them(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--tensorboard", "--out", str(run)])
    main(["train", "--resume", str(run), "--no-figures", "--checkpoint", checkpoint_names(run)[-1]])
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_a_run_that_wrote_events_goes_on_without_tensorboard(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(run)])
    (run / "tensorboard").mkdir()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.warns(UserWarning, match="events of this run are not continued: TensorBoard is not installed"):
        main(["train", "--resume", str(run), "--no-figures", "--checkpoint", checkpoint_names(run)[-1]])
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", str(run), "--tensorboard"])


def test_what_is_refused_replaces_no_run(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", str(table), *SMALL, "--out", str(tmp_path / "run")])
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for refused in (["--patience", "2", "--validation", "0"], ["--tensorboard"]):
        for place, options in (("run", ["--overwrite"]), ("other", [])):
            with pytest.raises(SystemExit, match="2"):
                main(["train", str(table), *SMALL, *refused, "--out", str(tmp_path / place), *options])
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
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


def test_a_table_is_read_once_unless_it_or_its_copy_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, run, read = tmp_path / "table.csv", tmp_path / "run", []
    real = catalogue.load_csv
    monkeypatch.setattr(catalogue, "load_csv", lambda *given: read.append(given[0]) or real(*given))
    x = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    lines = [f"{a},{b},{'north' if a > b else 'south'}\n" for a, b in x]
    table.write_text("".join(lines))
    main(["train", str(table), "--width", "4", "--areas", "2", "--epochs", "1", "--out", str(run)])
    assert len(read) == 1
    data = Run.read(run).data()
    whole = data.x_train.clone()
    data.x_train.zero_()
    assert torch.equal(Run.read(run).data().x_train, whole)
    assert len(read) == 1
    table.write_text("".join(lines[1:]))
    with pytest.raises(BrodmannError, match="has changed since this run began"):
        Run.read(run).data()
    assert len(read) == 2


def test_a_file_of_another_folder_is_not_taken_for_one_that_is_missing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "other" / table.name), *SMALL, "--out", str(tmp_path / "run")])
    assert "no file is there" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_said(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(folder)])
    program = "from brodmann.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for end, status, said in (
        (">&-", 0, ""),
        ("> /dev/full", 2, "error: Cannot write the output: No space left on device."),
    ):
        command = f"{sys.executable} -c '{program}' predict {folder} {table} {end}"
        run = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr.strip()) == (status, said)


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


def test_a_run_is_never_replaced_where_its_data_lies_in_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(run)])
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


def test_a_share_that_leaves_one_sample_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--validation", "0.999", *SMALL])
    assert "A validation share of 0.999 leaves one sample to train on: lower it." in capsys.readouterr().err


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


def test_paths_with_brackets_are_shown_as_they_are(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", str(table), *SMALL, "--out", "lr[adam][/i]"])
    assert "Everything is in lr[adam][/i]" in capsys.readouterr().out


def test_what_a_finished_run_lost_is_made_again(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(run)])
    before = (run / "preprocessing.json").read_bytes()
    (run / "preprocessing.json").unlink()
    (run / "result.json").write_text('{"rule": 1}')
    main(["train", "--resume", str(run), "--no-figures"])
    assert (run / "preprocessing.json").read_bytes() == before
    assert json.loads((run / "result.json").read_text())["areas"] == 4


def test_a_damaged_environment_stops_nothing(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(run)])
    (run / "environment.json").write_text('{"brodmann": "0.')
    main(["evaluate", str(run)])
    assert "test_accuracy" in capsys.readouterr().out


def test_a_damaged_configuration_is_said(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(["train", str(table), "--out", str(run), *SMALL])
    config = json.loads((run / "config.json").read_text())
    for classes, message in ((config["classes"][:1], "expected the names of 3 classes."), (None, "targets.json")):
        (run / "config.json").write_text(json.dumps({**config, "classes": classes}))
        with pytest.raises(SystemExit, match="2"):
            main(["predict", str(run), str(table)])
        assert message in capsys.readouterr().err
    (run / "config.json").write_text(json.dumps({**config, "options": {**config["options"], "dataset": None}}))
    with pytest.raises(BrodmannError, match="is damaged: expected the name of a data set, got None"):
        Run.read(run)


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


@pytest.mark.parametrize("damage", ["truncated", "missing", "result"])
def test_a_finished_run_that_was_damaged_is_made_whole_by_resuming(damage: str, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--out", str(run)])
    model = run / "model.safetensors"
    before = {name: tensor.clone() for name, tensor in weights(run).items()}  # they lie in the file itself
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:300])
    elif damage == "missing":
        model.unlink()
    else:
        (run / "result.json").write_text("{}")
    main(["train", "--resume", str(run), "--no-figures"])
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(run).items())
    assert json.loads((run / "result.json").read_text())["epochs"] == 3


def test_inputs_that_do_not_vary_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.ones((20, 3)), np.arange(20) % 2
    np.savez(tmp_path / "flat.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "flat.npz"), "--out", str(tmp_path / "run")])
    assert "are equal: there is nothing to learn from" in capsys.readouterr().err


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
        start_run(options(table), folder)
    assert (folder / "config.json").read_text() == "{}"


def test_runs_without_a_name_get_folders_of_their_own_and_leave_none_behind_in_vain(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = free_folder(options(table)), free_folder(options(table))
    assert first != second
    with pytest.raises(SystemExit):
        main(["train", str(table), "--width", "0"])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [first.name, second.name]


def test_a_signal_before_the_training_leaves_no_folder(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execution, "load_data", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        main(["train", str(table), *SMALL])
    assert "stopped by SIGTERM before the training began." in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.usefixtures("every_epoch")
def test_a_run_that_goes_back_to_a_checkpoint_is_unfinished_until_it_ends(table: Path, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            raise Interrupted(signal.SIGINT)

    folder = tmp_path / "run"
    start_run(replace(options(table), epochs=3, patience=None), folder)
    whole = continue_run(folder)
    earlier = checkpoint_names(folder)[0]
    with pytest.raises(Interrupted):
        continue_run(folder, checkpoint=earlier, callbacks=lambda *_: [Stop()])
    assert not (folder / "result.json").exists()
    again = continue_run(folder)
    assert again["test_accuracy"] == whole["test_accuracy"]


def test_divergence_names_the_layer(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(table), *SMALL, "--optimiser", "sgd", "--lr", "1e30", "--out", str(tmp_path / "run")])
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"Step \d+: The loss is (nan|inf): NaN or infinite values first appear in layer 'body\.", message)


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


def test_the_twin_of_a_clipped_run_is_not_clipped(table: Path, tmp_path: Path) -> None:
    main(["train", str(table), *SMALL, "--clip", "1", "--compare", "--out", str(tmp_path / "run")])
    config = json.loads((tmp_path / "run" / "backpropagation" / "config.json").read_text())
    assert config["options"]["clip"] is None


def test_lines_are_whole_and_every_terminal_can_show_them(table: Path, tmp_path: Path) -> None:
    place = tmp_path / ("long name " * 12) / "unä"

    def said(*arguments: str) -> tuple[list[str], str]:
        command = [sys.executable, "-m", "brodmann", *arguments]
        done = subprocess.run(
            command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
        )
        return done.stdout.decode("ascii").splitlines(), done.stderr.decode("ascii")

    whole = str(place).encode("ascii", "backslashreplace").decode()
    assert f"Everything is in {whole}" in said("train", str(table), *SMALL, "--out", str(place))[0]
    (line,), _ = said("evaluate", str(place))
    assert line.startswith(f"{table}, kolen-pollack: test_loss")
    assert f"resume it with --resume '{whole}'," in said("train", str(table), "--out", str(place))[1]


def test_settings_may_be_numbers_of_numpy(table: Path, tmp_path: Path) -> None:
    """They lost an old run: it was emptied before the new one turned out not to be writable."""
    folder = tmp_path / "run"
    for width in (np.int64(8), [np.int8(8), np.int8(100)]):
        options = RunOptions(dataset=str(table), epochs=1, width=width, areas=2)  # type: ignore[arg-type]
        first = continue_run(start_run(options, folder, compare=True, overwrite=True))
        again = continue_run(start_run(options, folder, compare=True, overwrite=True))
        assert again["test_loss"] == first["test_loss"]


def test_what_callbacks_put_into_a_row_is_written(table: Path, tmp_path: Path) -> None:
    class Mine(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["mine"] = row["epoch"] * 10

    folder = start_run(RunOptions(dataset=str(table), epochs=2, width=8, areas=2), tmp_path / "run")
    continue_run(folder, callbacks=lambda *_: [Mine()])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["mine"] for row in rows] == [10, 20]


def test_a_run_tells_what_it_holds_and_predicts_from_python(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    torch.manual_seed(3)
    before = torch.get_rng_state()
    start_run(RunOptions(str(table), width=12, areas=4, epochs=3), str(folder))
    run = Run.read(str(folder))
    assert run.result() is None
    with pytest.raises(BrodmannError, match="is not finished: resume it with `brodmann train --resume"):
        run.predict(np.zeros((1, 6)))
    assert continue_run(str(folder)) == run.result()
    assert torch.equal(torch.get_rng_state(), before)
    data = np.load(table)
    assert run.options == RunOptions(str(table), width=12, areas=4, epochs=3)
    np.save(tmp_path / "x.npy", data["x_test"])
    named = run.predict(tmp_path / "x.npy")
    assert named == run.predict(data["x_test"]) == run.predict(torch.from_numpy(data["x_test"]))
    right = np.mean(named == data["y_test"])  # whole numbers, as the labels are
    assert right == pytest.approx(run.result()["test_accuracy"])
    assert torch.equal(run.split().x_test, run.preprocessing()(torch.from_numpy(data["x_test"])))
    halves = torch.from_numpy(data["x_test"]).bfloat16().requires_grad_()
    assert len(run.predict(halves)) == len(named)
    assert run.predict(data["x_test"].astype(object)) == named  # as frames of mixed columns give them
    for samples, message in (
        (np.zeros((2, 5)), r"x must hold inputs of shape \(n, 6\)"),
        ([["a"] * 6], "numeric"),
        (np.array([["1"] * 6], dtype=object), "numeric"),
        (np.array([[{}] * 6], dtype=object), "Expected samples that hold only numbers"),
        (np.array([[None] * 6], dtype=object), "row 0, counted from 0"),
        ([[1.0], [1.0, 2.0]], "Expected samples of equal length"),
    ):
        with pytest.raises(BrodmannError, match=message):
            run.predict(samples)


def test_memory_that_ran_out_ends_a_command_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("brodmann.cli.doctor.Doctor.run", lambda _: torch.empty(10**15))
    with pytest.raises(SystemExit, match="2"):
        main(["doctor"])
    assert capsys.readouterr().err.startswith("error: There is not enough memory: use fewer areas")


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
        ([str(table), "--width", "8", "6", "--residual"], r"width to be a whole number of at least 1, got \[8, 6\]"),
        ([str(table), "--width", "8", "6", "--channels", "4"], "--width cannot be combined with --channels"),
        ([str(table), "--width"], "Expected width to be a list, one number for each hidden layer"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["train", *wrong])
        assert re.search(message, capsys.readouterr().err)


def test_the_twin_is_a_run_like_any_other(table: Path, tmp_path: Path) -> None:
    chosen = RunOptions(str(table), width=12, areas=4, epochs=1, gated=True, storage="bfloat16", clip=1.0)
    continue_run(start_run(chosen, tmp_path / "run", compare=True))
    twin = Run.read(tmp_path / "run" / "backpropagation")
    assert twin.options.rule == "backprop"
    continue_run(start_run(twin.options, tmp_path / "again"))
    with pytest.raises(BrodmannError, match="'backprop' has none: leave it out"):
        start_run(twin.options, tmp_path / "third", compare=True)


def test_a_loss_of_ones_own_is_tried_on_as_many_samples_as_a_batch_has(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hardest(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output, y, reduction="none").topk(16).values.mean()

    monkeypatch.setitem(LOSSES, "hardest", lambda: hardest)
    start_run(replace(options(table), loss="hardest", batch_size=24), tmp_path / "run")
    assert "test_accuracy" in continue_run(tmp_path / "run")


def test_a_table_that_was_changed_and_looks_as_old_is_read_again(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,y\n" + "".join(f"{n}.5,{n % 7},{n % 2}\n" for n in range(80)))
    before = table.stat()
    start_run(RunOptions(dataset=str(table), epochs=1, width=4, areas=1), tmp_path / "run")
    table.write_text(table.read_text().replace("1.5", "9.5"))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BrodmannError, match="has changed since this run began"):
        continue_run(tmp_path / "run")
