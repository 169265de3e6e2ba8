"""Transforms of samples and targets: what is learned from and scored is what they return."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brodmann import BrodmannError
from brodmann.generators import generator_states
from brodmann.training import Callback, Trainer
from brodmann.training.schedule import Schedule
from brodmann.training.transform import Transform

from .parts import blobs, network


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.randn(5), lambda: torch.from_numpy(np.random.normal(size=5)).float(), lambda: random.gauss(0, 1)],
    ids=["PyTorch", "NumPy", "Python"],
)
def test_a_transform_changes_what_is_learned_from_and_its_draws_resume(tmp_path: Path, draw: Any) -> None:
    x, y = blobs()

    def noisy(samples: torch.Tensor) -> torch.Tensor:
        return samples + 0.1 * draw()

    def train(folder: Path, *, stop: bool = False, change: Any = noisy) -> dict[str, torch.Tensor]:
        class Once(Callback):
            def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
                trainer.stop()

        for stopped in (True, False) if stop else (False,):
            learner = network(dropout=0.2)
            callbacks = Once() if stopped else ()
            trainer = Trainer(
                learner, (x, y), None, Schedule(epochs=3), folder=folder, callbacks=callbacks, transform=change
            )
            if stop and not stopped:
                trainer.resume()
            trainer.run()
        return learner.learning_state()

    before = generator_states()
    straight, resumed = train(tmp_path / "a"), train(tmp_path / "b", stop=True)
    assert generator_states()[1:] == before[1:]  # a network draws its weights from PyTorch's
    plain = train(tmp_path / "c", change=None)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert not all(torch.equal(straight[name], plain[name]) for name in straight)
    with pytest.raises(BrodmannError, match=r"transform to return the \d+ samples of the batch, got \(3, 5\)"):
        train(tmp_path / "d", change=lambda samples: samples[:3])


class Mirrored(nn.Module):
    """Negates samples and exchanges two classes."""

    def forward(self, samples: Tensor, targets: Tensor, classes: int = 3) -> tuple[Tensor, Tensor]:
        return -samples, classes - 1 - targets


@pytest.mark.parametrize(
    "change",
    [
        Mirrored(),
        Mirrored().forward,
        nn.DataParallel(Mirrored()),
        lambda samples, targets: list(Mirrored()(samples, targets)),
        functools.partial(lambda classes, samples, targets: Mirrored()(samples, targets, classes), 3),
    ],
)
def test_a_transform_of_samples_and_targets_changes_both(change: Any) -> None:
    (x, y), schedule = blobs(), Schedule(epochs=1, batch_size=30)
    changed, wanted = network(), network()
    Trainer(changed, (x, y), None, schedule, transform=change).run()
    Trainer(wanted, (-x, 2 - y), None, schedule).run()
    assert all(map(torch.equal, changed.state_dict().values(), wanted.state_dict().values()))


def test_a_compiled_transform_is_what_it_was_before() -> None:
    (x, y), compiled = blobs(), torch.compile(Mirrored(), backend="eager")
    changed = Transform(compiled)(x, y)
    assert all(map(torch.equal, changed, (-x, 2 - y)))
    assert torch.equal(Transform(torch.compile(nn.Tanh(), backend="eager"))(x, y)[0], x.tanh())


def test_what_a_transform_learns_from_is_what_is_scored() -> None:
    def smooth(samples: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return samples, nn.functional.one_hot(targets, 3) * 0.9 + 0.1 / 3

    learner = network(nn.CrossEntropyLoss())
    expected = float(learner.output_error(learner(blobs()[0]), smooth(*blobs())[1])[1])
    schedule = Schedule(epochs=1, batch_size=90)
    row = Trainer(learner, blobs(), None, schedule, transform=smooth).run().history[-1]
    assert row["train_loss"] == pytest.approx(expected)
    assert "train_accuracy" not in row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda samples, targets: samples, "takes samples and targets, to return both, got"),
        (lambda samples, targets: (samples, targets[:3]), r"to return the \d+ targets of the batch, got \(3,\)"),
        (lambda samples, targets: (samples[:3], targets), r"to return the \d+ samples of the batch, got \(3, 5\)"),
        (lambda samples, targets, weights: (samples, targets), "a function of the samples of a batch, or of samples"),
        (lambda samples, scale=None: None, r"to return the \d+ samples of the batch, got NoneType"),
    ],
)
def test_a_transform_of_another_kind_says_what_is_expected(change: Any, message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), blobs(), None, Schedule(epochs=1), transform=change).run()
