"""Runs from Python: options, callbacks and parts of one's own, what a run holds, and what it predicts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import brodmann
from brodmann import SGD, BrodmannError, Network
from brodmann.builders import BUILDERS, mlp
from brodmann.cli import main
from brodmann.data import Dataset, catalogue, load
from brodmann.losses import LOSSES
from brodmann.runs import Run, RunOptions, continue_run, start_run
from brodmann.runs.assembly import build_learner
from brodmann.runs.loading import load_data
from brodmann.training import Callback, Trainer

from ..data.sources import Frame
from .parts import options_for


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


def test_a_loss_of_ones_own_is_tried_on_as_many_samples_as_a_batch_has(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hardest(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output, y, reduction="none").topk(16).values.mean()

    monkeypatch.setitem(LOSSES, "hardest", lambda: hardest)
    start_run(replace(options_for(table), loss="hardest", batch_size=24), tmp_path / "run")
    assert "test_accuracy" in continue_run(tmp_path / "run")


def test_the_twin_is_a_run_like_any_other(table: Path, tmp_path: Path) -> None:
    chosen = RunOptions(str(table), width=12, areas=4, epochs=1, gated=True, storage="bfloat16", clip=1.0)
    continue_run(start_run(chosen, tmp_path / "run", compare=True))
    twin = Run.read(tmp_path / "run" / "backpropagation")
    assert twin.options.rule == "backprop"
    continue_run(start_run(twin.options, tmp_path / "again"))
    with pytest.raises(BrodmannError, match="'backprop' has none: leave it out"):
        start_run(twin.options, tmp_path / "third", compare=True)


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
        (np.array([[{}] * 6], dtype=object), "Expected samples to hold only numbers, got other objects"),
        (np.array([[None] * 6], dtype=object), "row 0, counted from 0"),
        ([[1.0], [1.0, 2.0]], "Expected samples of equal length"),
    ):
        with pytest.raises(BrodmannError, match=message):
            run.predict(samples)


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


class Row:
    """As much of a row of one: a series."""

    ndim = 1

    def __init__(self, index: Sequence[Any], values: Sequence[float]) -> None:
        self.index, self.values = index, np.array(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.values


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


@pytest.mark.parametrize(("name", "separator"), [("table.csv", ","), ("table.tsv", "\t")])
def test_a_table_is_read_once_unless_it_or_its_copy_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, separator: str
) -> None:
    table, run, read = tmp_path / name, tmp_path / "run", []
    real = catalogue.load_csv
    monkeypatch.setattr(catalogue, "load_csv", lambda *given: read.append(given[0]) or real(*given))
    x = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    lines = [separator.join([str(a), str(b), "north" if a > b else "south"]) + "\n" for a, b in x]
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


def test_a_table_that_was_changed_and_looks_as_old_is_read_again(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,y\n" + "".join(f"{n}.5,{n % 7},{n % 2}\n" for n in range(80)))
    before = table.stat()
    start_run(RunOptions(dataset=str(table), epochs=1, width=4, areas=1), tmp_path / "run")
    table.write_text(table.read_text().replace("1.5", "9.5"))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BrodmannError, match="has changed since this run began"):
        continue_run(tmp_path / "run")


def test_a_table_that_another_thread_reads_meanwhile_is_not_taken_for_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread reads its table while this one looks whether the last one is still intact."""
    own, other = (RunOptions(dataset=str(tmp_path / name)) for name in ("own.csv", "other.csv"))
    (tmp_path / "own.csv").write_text("x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(40)))
    (tmp_path / "other.csv").write_text("x,y\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    first = load_data(own, None)

    def slow(data: Dataset) -> bool:
        monkeypatch.undo()
        thread = threading.Thread(target=load_data, args=(other, None))
        thread.start()
        thread.join()
        return data.is_intact()

    monkeypatch.setattr(Dataset, "is_intact", slow)
    assert load_data(own, None).digest == first.digest
    assert len(load_data(other, None).x_train) > len(first.x_train)
