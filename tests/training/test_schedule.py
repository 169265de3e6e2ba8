"""Schedules: the shape of rates, the order of samples, what suits a number of samples, and rates that are set."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brodmann import BrodmannError, Network, mlp, stream_mlp
from brodmann.runs import RunOptions
from brodmann.training import Callback, Trainer, evaluate
from brodmann.training.schedule import SCHEDULES, Schedule, learning_rate, rows_of_batches

from .parts import blobs, network


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    rates = [learning_rate(0.4, step, 12, "cosine", 2) for step in range(12)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[7] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[2:]))
    assert [learning_rate(0.4, step, 5, "constant") for step in range(5)] == [0.4] * 5
    assert [learning_rate(0.4, step, 5, "linear", 1) for step in range(5)] == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.1])


def test_a_shape_of_ones_own_is_registered_and_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "halves", lambda done: 0.5 ** int(2 * done))
    learner, seen = network(), list[float]()
    step = learner.learn_with_output

    def spy(*arguments: Any, lr: float, **options: Any) -> Any:
        seen.append(lr)
        return step(*arguments, lr=lr, **options)

    monkeypatch.setattr(learner, "learn_with_output", spy)
    Trainer(learner, blobs(), None, Schedule(epochs=4, batch_size=90, lr=0.2, shape="halves")).run()
    assert seen == [0.2, 0.2, 0.1, 0.1]
    with pytest.raises(BrodmannError, match=r"Unknown schedule 'quarters'.*SCHEDULES"):
        Schedule(shape="quarters")


@given(rows=st.integers(1, 60), size=st.integers(1, 70), epoch=st.integers(0, 5))
def test_every_epoch_visits_every_sample_once(rows: int, size: int, epoch: int) -> None:
    order = rows_of_batches(rows, size, seed=3, epoch=epoch)
    assert sorted(torch.cat(order).tolist()) == list(range(rows))
    assert len(order) == math.ceil(rows / size)
    assert all(torch.equal(a, b) for a, b in zip(order, rows_of_batches(rows, size, 3, epoch), strict=True))


def test_the_rate_is_the_networks_own_unless_the_schedule_names_one() -> None:
    learners = [network(lr=0.05), network(lr=1e-5), network(lr=1e-5)]
    for learner, lr in zip(learners, (None, None, 0.05), strict=True):
        Trainer(learner, blobs(), None, Schedule(epochs=1, lr=lr)).run()
    state, slow, named = (learner.learning_state() for learner in learners)
    name = "body.body.layers.0.shared.value"
    assert torch.equal(state[name], named[name])
    assert not torch.equal(state[name], slow[name])


@pytest.mark.parametrize(
    ("samples", "epochs", "batch"),
    [(1, 60, 8), (150, 60, 9), (1300, 60, 64), (16_000, 25, 64), (54_000, 10, 64), (10**7, 10, 64)],
)
def test_a_schedule_suits_the_number_of_samples(samples: int, epochs: int, batch: int) -> None:
    assert Schedule().pace(samples) == (epochs, batch, "cosine")
    assert Schedule().pace(samples, recursive=True) == (1, batch, "constant")
    assert Schedule(3, 5, shape="linear").pace(samples, recursive=True) == (3, 5, "linear")
    assert RunOptions().pace(samples) == (epochs, batch, "cosine")


def test_recursive_least_squares_keeps_its_rate() -> None:
    torch.manual_seed(0)
    trainer = Trainer(Network(stream_mlp(5, 3, width=40, areas=1)), blobs(), None, Schedule(epochs=1))
    assert (trainer.lr, trainer.pace.shape) == (1.0, "constant")
    assert Trainer(network(), blobs(), None, Schedule(lr=0.1)).pace.shape == "cosine"
    trainer.run()
    assert evaluate(trainer.network, *blobs())["accuracy"] > 0.9


def test_a_rate_that_is_set_while_training_holds_from_the_next_step_on_and_when_resumed(tmp_path: Path) -> None:
    class Slower(Callback):
        def __init__(self, kill: bool = False) -> None:
            self.rates: list[float | None] = []
            self.kill = kill

        def on_step(self, trainer: Trainer, loss: float) -> None:
            self.rates.append(trainer.rate)
            if trainer.progress.step == 4:
                trainer.lr = 0.02
            if self.kill and trainer.progress.step == 5:
                raise KeyboardInterrupt

    schedule = Schedule(epochs=2, batch_size=23, lr=0.08, shape="linear")
    whole, killed, rest = Slower(), Slower(kill=True), Slower()
    straight = network()
    Trainer(straight, blobs(), None, schedule, callbacks=whole).run()
    assert whole.rates == pytest.approx([0.08, 0.07, 0.06, 0.05, 0.01, 0.0075, 0.005, 0.0025])
    with pytest.raises(KeyboardInterrupt):
        Trainer(network(), blobs(), None, schedule, callbacks=killed, folder=tmp_path).run()
    again = network()
    trainer = Trainer(again, blobs(), None, schedule, callbacks=rest, folder=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.resume()
    trainer.run()
    assert killed.rates + rest.rates == whole.rates
    assert all(map(torch.equal, again.state_dict().values(), straight.state_dict().values()))
    with pytest.raises(BrodmannError, match="Expected lr"):
        trainer.lr = 0.0
    with pytest.raises(AttributeError):
        trainer.rate = 0.1  # type: ignore[misc]


def test_a_seed_may_be_a_number_of_numpy() -> None:
    losses = [
        Trainer(network(), blobs(), schedule=Schedule(epochs=1, seed=seed)).run().history[0]["train_loss"]
        for seed in (3, np.int64(3))  # type: ignore[arg-type]
    ]
    assert losses[0] == losses[1]


def test_a_warm_up_longer_than_the_training_is_told_once(tmp_path: Path) -> None:
    def trainer(warmup: int) -> Trainer:
        schedule = Schedule(epochs=2, batch_size=30, lr=0.02, warmup=warmup)
        return Trainer(network(), blobs(), None, schedule, folder=tmp_path)

    begun = trainer(60)
    with pytest.warns(UserWarning, match="rises for 60 steps, but the training has 6: it never reaches") as found:
        begun.run()
    assert len(found) == 1
    assert found[0].filename == __file__
    assert begun.rate == pytest.approx(0.002)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = trainer(60)
        resumed.resume()
        resumed.run()
        Trainer(network(), blobs(), None, Schedule(epochs=2, batch_size=30, warmup=6)).run()


def test_a_schedule_that_falls_below_0_at_its_end_is_told_before_the_training() -> None:
    network = Network(mlp(5, 3, width=6, areas=1))
    data = torch.randn(8, 5), torch.arange(8) % 3
    with pytest.raises(BrodmannError, match="the share that a schedule returns"):
        Trainer(network, data, schedule=Schedule(epochs=2, shape=lambda done: 1 - done / 0.99))
