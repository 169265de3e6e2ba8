"""Trainings that go on otherwise than they began: what is told, what is refused, what is kept."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from brodmann import Adam, CheckpointError, MeanSquaredError, Network, Rates
from brodmann.baselines import Backpropagation
from brodmann.training import Callback, Trainer
from brodmann.training.checkpoints import checkpoint_names
from brodmann.training.schedule import Schedule

from .parts import blobs, network


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": 2}, "the digest of the data was"),
        ({"y": 1}, "the digest of the data was"),
        ({"weight": 2.0}, "the digest of the data was"),
        ({"held_out": 2}, "the digest of the validation data was"),
        ({"rows": 60}, "samples was 90, is now 60"),
        ({"schedule": {"lr": 0.1}}, "lr was 0.02, is now 0.1"),
        ({"schedule": {"epochs": 4, "seed": 7}}, "epochs was 3, is now 4, seed was 0, is now 7"),
        ({}, None),
    ],
)
def test_what_goes_on_otherwise_than_it_began_is_told(tmp_path: Path, change: dict[str, Any], told: str | None) -> None:
    def trainer(
        x: float = 1,
        y: int = 0,
        weight: float = 1.0,
        held_out: float = 1,
        rows: int = 90,
        schedule: dict[str, Any] | None = None,
    ) -> Trainer:
        samples, target = blobs()
        data = samples[:rows] * x, (target[:rows] + y) % 3, torch.full((rows,), weight)
        validation = samples[60:] * held_out, target[60:]
        return Trainer(
            network(), data, validation, Schedule(**{"epochs": 3, "lr": 0.02, **(schedule or {})}), folder=tmp_path
        )

    trainer().run()
    again = trainer(**change)
    if told is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again.resume(checkpoint_names(tmp_path)[0])
    else:
        with pytest.warns(
            UserWarning, match=f"This training continues with other settings than it began with: .*{told}"
        ):
            again.resume(checkpoint_names(tmp_path)[0])


def test_another_network_of_the_same_tensors_or_no_validation_part_is_told(tmp_path: Path) -> None:
    twins = [functools.partial(Backpropagation, 5, 3, width=8), network]
    for index, make in enumerate(twins):
        folder, schedule = tmp_path / str(index), Schedule(epochs=1, lr=0.02)
        Trainer(make(activation="relu"), blobs(), blobs(30, 1), schedule, folder=folder).run()
        with pytest.warns(
            UserWarning, match="validation samples was 30, is now 0, .*, the network's activation was 'relu', "
        ):
            Trainer(make(activation="tanh"), blobs(), None, schedule, folder=folder).resume()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Trainer(make(), blobs(), blobs(30, 1), schedule, folder=folder).resume()  # a default, left out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"update": Adam(decay=0.7)}, "rules was"),
        ({"update": Adam(beta1=0.5)}, "rules was"),
        ({"loss": MeanSquaredError()}, "loss was .*CrossEntropy.*, is .*MeanSquaredError"),
    ],
)
def test_other_rules_and_losses_are_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.02), folder=tmp_path).run()
    again = Trainer(network(**options), blobs(), None, Schedule(epochs=1, lr=0.02), folder=tmp_path)
    with pytest.warns(UserWarning, match=f"continues with other settings than it began with: .*{told}"):
        again.resume()


def test_rates_that_were_replaced_between_steps_go_on_after_a_resume(tmp_path: Path) -> None:
    class Thaws(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            assert isinstance(trainer.network, Network)
            if trainer.progress.epoch == 1:
                trainer.network.rates, trainer.network.clip = Rates(layers={"layers.0": 0.5}), 0.1
                if trainer.folder is not None:
                    trainer.stop()

    def trainer(folder: Path | None = None) -> Trainer:
        learner = network(routing="layer")
        learner.rates = Rates(layers={"layers.0": 0.0})
        return Trainer(learner, blobs(), None, Schedule(epochs=4, lr=0.02), folder=folder, callbacks=Thaws())

    whole, first, second = trainer(), trainer(tmp_path), trainer(tmp_path)
    whole.run()
    first.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.resume()
    assert isinstance(second.network, Network)
    assert (second.network.rates, second.network.clip) == (Rates(layers={"layers.0": 0.5}), 0.1)
    second.run()
    for name, value in whole.network.learning_state().items():
        assert torch.equal(value, second.network.learning_state()[name]), name


def test_a_schedule_that_was_replaced_is_the_one_that_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.02), folder=tmp_path)
    trainer.run()
    trainer.schedule = Schedule(epochs=2, lr=0.02)
    trainer.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(network(), blobs(), None, Schedule(epochs=2, lr=0.02), folder=tmp_path).resume()


def test_the_baseline_tells_of_another_decay_and_refuses_what_another_optimiser_kept(tmp_path: Path) -> None:
    def trainer(**options: Any) -> Trainer:
        learner = Backpropagation(5, 3, width=8, **options)
        return Trainer(learner, blobs(), None, Schedule(epochs=2), folder=tmp_path)

    trainer().run()
    before = trainer(optimiser="muon")
    state = {name: value.clone() for name, value in before.network.learning_state().items()}
    with pytest.raises(CheckpointError, match=r"update rules Adam\(.*, not Muon\(.*: build it with those"):
        before.resume()
    assert all(torch.equal(value, state[name]) for name, value in before.network.learning_state().items())
    with pytest.warns(UserWarning, match="rules was"):
        trainer(decay=0.1).resume()
