"""Samples in memory and data sets of items: learned from and evaluated alike, and what is refused of both."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from brodmann import BrodmannError, MeanSquaredError
from brodmann.training import Trainer, evaluate
from brodmann.training.schedule import Schedule

from .parts import Items, Shifted, blobs, network


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), "Expected samples with one target each"),
        (torch.zeros(3, 5), torch.zeros(2, dtype=torch.long), "Expected samples with one target each"),
        (torch.full((3, 5), math.nan), torch.zeros(3, dtype=torch.long), "hold NaN or infinite values"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_at_once(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), (x, y))
    with pytest.raises(BrodmannError, match="Early stopping needs a validation part"):
        Trainer(network(), blobs(), None, Schedule(patience=2))


@pytest.mark.parametrize("part", ["training", "validation"])
def test_targets_that_are_no_numbers_are_refused(part: str) -> None:
    x, y = torch.randn(6, 5), torch.randn(6, 3)
    broken = y.clone()
    broken[2, 1] = math.nan
    parts = [(x, broken if part == name else y) for name in ("training", "validation")]
    with pytest.raises(BrodmannError, match=f"The {part} targets hold NaN"):
        Trainer(network(MeanSquaredError()), *parts)


def test_a_data_set_is_learned_from_as_its_tensors_are() -> None:
    x, y = blobs()
    weight = torch.linspace(0.5, 1.5, len(x))
    schedule = Schedule(epochs=2, batch_size=16)
    for parts in ((x, y), (x, y, weight)):
        first, second = network(), network()
        histories = [
            Trainer(learner, samples, validation, schedule).run().history
            for learner, samples, validation in (
                (first, parts, (x, y)),
                (second, torch.utils.data.TensorDataset(*parts), torch.utils.data.TensorDataset(x, y)),
            )
        ]
        for row, other in zip(*histories, strict=True):
            assert row | {"seconds": 0} == other | {"seconds": 0}
        assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_samples_in_memory_take_no_workers() -> None:
    with pytest.raises(BrodmannError, match="Samples in memory need no workers: leave workers out, or give a data set"):
        Trainer(network(), blobs(), workers=2)
    with pytest.raises(BrodmannError, match="Expected workers to be a whole number of at least 0, got -1"):
        Trainer(network(), Shifted(*blobs()), workers=-1)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "Expected a data set with samples, got an empty one."),
        (torch.ones(3, 5), "in memory, or a data set with a length and numbered items, got Tensor"),
        ({0: 1}, "in memory, or a data set with a length and numbered items, got dict"),
        ([1, 2], "Expected items of the data set to be (sample, target) or (sample, target, weight), got int."),
        (
            [{"image": torch.ones(2), "label": 0}] * 2,
            "got dict with 'image', 'label': wrap the data set in one that returns two of these.",
        ),
        ([(torch.ones(2), 0), (torch.ones(3), 1)], "Items of the data set cannot be put together into tensors"),
        (
            [("a", 0), ("b", 1)],
            "into tensors: they hold something other than tensors. Let it return tensors of one shape, for example "
            "by torchvision's Resize and ToTensor.",
        ),
        ({0: 1}.items(), "Expected samples and targets as tensors in memory, or a data set with a length"),
    ],
)
def test_what_is_no_data_set_is_named(dataset: Any, message: str, workers: int) -> None:
    items = Items(dataset) if isinstance(dataset, list) else dataset
    with pytest.raises(BrodmannError) as error:
        Trainer(network(), items, None, Schedule(epochs=1, batch_size=2), workers=workers).run()
    assert message in str(error.value)
    assert "Traceback" not in str(error.value)


def test_validation_data_sets_are_checked_as_tensors_are() -> None:
    x, y = blobs()
    broken = torch.utils.data.TensorDataset(torch.full_like(x, math.nan), y)
    with pytest.raises(BrodmannError, match="The validation samples hold NaN or infinite values"):
        Trainer(network(), (x, y), broken)


def test_a_data_set_is_evaluated_as_its_tensors_are() -> None:
    x, y = blobs()
    learner, weight = network(), torch.linspace(0.0, 1.5, len(x))
    for part in ((x, y), (x, y, weight)):
        expected = evaluate(learner, *part)
        assert evaluate(learner, torch.utils.data.TensorDataset(*part)) == expected
        assert evaluate(learner, part) == expected
    assert evaluate(learner, torch.utils.data.TensorDataset(x, y), weight=weight) == expected
    for wrong, message in (
        (x, r"got Tensor: give tensors as a pair, \(x, y\)"),
        (torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y)), r"give its data set, loader.dataset"),
        (torch.utils.data.TensorDataset(x * torch.nan, y), "The evaluated samples hold NaN or infinite values"),
    ):
        with pytest.raises(BrodmannError, match=message):
            evaluate(learner, wrong)
    for twice in ((x, y, weight), torch.utils.data.TensorDataset(x, y, weight)):
        with pytest.raises(BrodmannError, match="Expected weights once"):
            evaluate(learner, twice, weight=weight)
