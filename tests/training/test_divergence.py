"""Trainings that break down: which layer, which step, and what is no sign of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch

from brodmann import BrodmannError, DivergenceError, MeanSquaredError, Network, Rates, mlp
from brodmann.areas import Slab
from brodmann.estimator import SALClassifier
from brodmann.training import Trainer
from brodmann.training.error_norms import ErrorNorms
from brodmann.training.schedule import Schedule

from .parts import blobs, network


def test_an_exploding_rate_stops_with_the_layer() -> None:
    x, y = blobs()
    with pytest.raises(
        DivergenceError,
        match=r"Step 2: The loss is nan: NaN or infinite values first appear in layer 'body\.body\.layers\.2'\.",
    ):
        Trainer(network(), (x * 1e18, y), None, Schedule(epochs=3, batch_size=8, lr=1e15)).run()


@pytest.mark.parametrize(
    ("slab", "layer"),
    [
        (lambda learner: learner.area_layers()[0][1].shared, r"body\.body\.layers\.0"),
        (lambda learner: learner.area_layers()[1][1].shared.bias, r"body\.body\.layers\.2"),
    ],
)
def test_the_layer_named_is_the_first_whose_output_is_not_finite(slab: Callable[[Network], Slab], layer: str) -> None:
    learner, (x, y) = network(), blobs()
    slab(learner).value.fill_(math.nan)
    message = (
        rf"The loss is nan: NaN or infinite values first appear in layer '{layer}', whose weights have held them since "
        "an earlier step: look at the error"
    )
    with pytest.raises(DivergenceError, match=message):
        learner.learn(x, y)


def test_a_router_that_is_lost_stops_the_training() -> None:
    learner = network()
    learner.body.router.projection.value.fill_(math.nan)
    with pytest.raises(DivergenceError, match=r"The projection of 'body\.router' is not finite\."):
        Trainer(learner, blobs(), None, Schedule(epochs=1)).run()


def test_a_step_that_cannot_be_made_moves_nothing() -> None:
    learner, (x, y) = network(), blobs()
    learner.learn(x, y)
    before = {name: tensor.clone() for name, tensor in learner.learning_state().items()}
    with pytest.raises(DivergenceError, match=r"The loss is nan: samples hold NaN or infinite values, remove"):
        learner.learn(x.masked_fill(torch.arange(len(x))[:, None] == 3, math.nan), y)
    with pytest.raises(BrodmannError, match="Expected sample weights that are finite and at least 0"):
        learner.learn(x, y, torch.full((len(x),), math.nan))
    with pytest.raises(BrodmannError, match="from 0 to"):
        learner.learn(x, y + 100)
    real = network(loss=MeanSquaredError())
    with pytest.raises(DivergenceError, match="all outputs are finite: look at the targets, the weights"):
        real.learn(x, torch.full((len(x), 3), math.nan))
    after = learner.learning_state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_vanished_error_stops_with_the_layer() -> None:
    learner = network()
    learner.area_layers()[1][1].feedback.shared.value.mul_(1e-30)
    learner.rates = type(learner.rates)(feedback=0.0)
    with pytest.raises(
        DivergenceError, match=r"The error at layer 'body\.body\.layers\.0' has vanished to [1-9]\.[0-9]e-3[0-9]"
    ):
        Trainer(learner, blobs(), None, Schedule(epochs=1)).run()


@pytest.mark.parametrize(
    ("batch_size", "epochs", "watched"), [(64, 17, [0, 8, 16]), (16, 5, [0, 2, 4]), (4, 3, [0, 1, 2])]
)
def test_errors_are_watched_in_one_step_of_eight_where_epochs_are_shorter(
    batch_size: int, epochs: int, watched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr(ErrorNorms, "check", lambda *_: found.append(trainer.progress.epoch))
    schedule = Schedule(epochs=epochs, batch_size=batch_size)
    trainer = Trainer(network(), blobs(64), None, schedule)
    trainer.run()
    assert found == watched


def test_of_several_outputs_the_largest_error_is_the_measure_of_all() -> None:
    learner = network()
    (_, low), (_, high) = learner.area_layers()
    norms, outputs = ErrorNorms(), (torch.zeros(1), torch.zeros(1))
    norms.observe(high, torch.full((2, 2), 1e-15))  # that of an output which is nearly right
    norms.observe(low, torch.ones(2, 2))  # another output's comes in here
    norms.check(learner, outputs)
    with pytest.raises(DivergenceError, match=r"The error at layer 'body\.body\.layers\.0' has exploded to"):
        norms.check(learner, outputs[0])
    norms.observe(low, torch.full((2, 2), 1e-25))
    with pytest.raises(DivergenceError, match=r"layers\.0' has vanished to .* \(output error 2\.0e\+00\)"):
        norms.check(learner, outputs)


def test_errors_that_vanish_between_calls_of_partial_fit_are_found() -> None:
    x, y = (part.numpy() for part in blobs(16))
    model = SALClassifier(random_state=0, layers=3, batch_size=16)
    for _ in range(2):
        model.partial_fit(x, y, classes=[0, 1, 2])
    model.network_.area_layers()[1][1].feedback.shared.value.mul_(1e-30)
    model.network_.rates = Rates(feedback=0.0)
    with pytest.raises(DivergenceError, match="has vanished to"):
        list(map(model.partial_fit, [x] * 8, [y] * 8))


def test_one_in_eight_calls_of_partial_fit_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (part.numpy() for part in blobs(16))
    model, watched, counts = SALClassifier(random_state=0, batch_size=16), list[int](), list[int]()
    monkeypatch.setattr(ErrorNorms, "check", lambda *_: watched.append(1))
    for _ in range(17):
        model.partial_fit(x, y, classes=[0, 1, 2])
        counts.append(sum(watched))
    assert counts == 8 * [1] + 8 * [2] + [3]


@pytest.mark.filterwarnings("error")
def test_a_small_last_batch_is_no_sign_of_divergence() -> None:
    x, y = blobs(65)  # its last batch is one sample, for which both units are off in some of these networks
    for seed in range(12):
        torch.manual_seed(seed)
        Trainer(Network(mlp(5, 3, width=2, areas=1)), (x, y), None, Schedule(epochs=6, batch_size=16)).run()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("batch_size", [1, 4])
def test_small_batches_may_leave_all_units_silent(batch_size: int) -> None:
    x, y = blobs(64)
    for seed in range(12):
        torch.manual_seed(seed)
        Trainer(Network(mlp(5, 3, width=2, areas=1)), (x, y), None, Schedule(epochs=2, batch_size=batch_size)).run()


def test_a_network_whose_units_are_all_silent_is_warned_of() -> None:
    dead = network()
    dead.area_layers()[0][1].shared.bias.value.fill_(-1e3)  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="No error has reached the layers below the top one for two epochs"):
        Trainer(dead, blobs(), None, Schedule(epochs=3)).run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(dead, blobs(), None, Schedule(epochs=1)).run()
        Trainer(network(), blobs(), None, Schedule(epochs=3)).run()
