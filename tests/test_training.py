"""The training loop: schedules, order of samples, early stopping, resume in memory, errors that stop it."""

from __future__ import annotations

import functools
import itertools
import json
import math
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.progress
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from brodmann import (
    SGD,
    Adam,
    BinaryCrossEntropy,
    BrodmannError,
    CheckpointError,
    CrossEntropy,
    DivergenceError,
    Local,
    MeanSquaredError,
    Network,
    Rates,
    Sequential,
    SumOfSquares,
    mlp,
    stream_mlp,
)
from brodmann.areas import Slab
from brodmann.baselines import Backpropagation, in_proportion, matching_width
from brodmann.estimator import SALClassifier
from brodmann.generators import Draws, generator_states
from brodmann.network.divergence import Watch
from brodmann.runs import RunOptions
from brodmann.training import (
    Callback,
    Interrupted,
    MetricsFile,
    ProgressBar,
    Trainer,
    checkpoints,
    evaluate,
    read_metrics,
    score,
)
from brodmann.training.checkpoints import Checkpoint, checkpoint_names, read_checkpoint, write_checkpoint
from brodmann.training.schedule import SCHEDULES, Schedule, learning_rate, rows_of_batches
from brodmann.training.transform import Transform


def blobs(rows: int = 90, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % 3
    return torch.randn(rows, 5, generator=generator) + 2 * torch.eye(3, 5)[target], target


def network(loss: Any = None, lr: float | None = None, **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(mlp(5, 3, width=8, areas=4, **options), loss, lr=lr)


SUMMED = functools.partial(torch.nn.functional.cross_entropy, reduction="sum")


class Remember(Callback):
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.steps = self.ends = 0

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.steps += 1

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def on_end(self, trainer: Trainer) -> None:
        self.ends += 1


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


def test_a_default_device_of_the_users_is_not_drawn_on() -> None:
    torch.manual_seed(0)
    whole = Network(mlp(64, 40, width=64, areas=1, update=SGD()), lr=0.1)
    growing = Network(mlp(5, 3, areas=4, router={"partition": "growing"}))
    x, y, few = torch.randn(5000, 64), torch.randint(0, 40, (5000,)), (torch.randn(30, 5), torch.arange(30) % 3)
    torch.set_default_device("meta")
    try:
        whole.learn(x, y)  # so many rows that the gradient is one product
        Trainer(growing, few, None, Schedule(epochs=1)).run()
    finally:
        torch.set_default_device(None)
    assert math.isfinite(whole.learn(x, y))


@given(rows=st.integers(1, 60), size=st.integers(1, 70), epoch=st.integers(0, 5))
def test_every_epoch_visits_every_sample_once(rows: int, size: int, epoch: int) -> None:
    order = rows_of_batches(rows, size, seed=3, epoch=epoch)
    assert sorted(torch.cat(order).tolist()) == list(range(rows))
    assert len(order) == math.ceil(rows / size)
    assert all(torch.equal(a, b) for a, b in zip(order, rows_of_batches(rows, size, 3, epoch), strict=True))


def test_scores_are_accuracy_and_r2() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    assert score(outputs, torch.tensor([0, 1, 1, 1])) == {"accuracy": 0.75}
    target = torch.tensor([1.0, 2.0, 3.0])
    assert score(target[:, None], target) == {"r2": 1.0}
    assert score(torch.full((3, 1), 2.0), target) == {"r2": pytest.approx(0.0)}
    assert score(torch.randn(0, 3), torch.arange(0)) == score(torch.randn(0, 1), torch.randn(0)) == {}


def test_evaluation_in_parts_is_evaluation_of_the_whole() -> None:
    x, y = blobs()
    learner = network()
    whole, parts = evaluate(learner, x, y), evaluate(learner, x, y, rows=7)
    assert whole["accuracy"] == parts["accuracy"]
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-6)


AS_IT_IS = Local(torch.nn.Identity())


def padded() -> tuple[Tensor, Tensor]:
    """Eight sequences of six steps, whose last three are padding; all that counts is right but one step of each."""
    target = torch.randint(0, 4, (8, 6), generator=torch.Generator().manual_seed(0))
    output = torch.nn.functional.one_hot(target, 4).float()
    output[:, 0] = output[:, 0].roll(1, -1)
    output[:, 3:] = output[:, 3:].roll(1, -1)
    return output, target


def test_what_a_loss_leaves_out_counts_in_no_score() -> None:
    x, target = padded()
    hidden = target.clone()
    hidden[:, 3:] = -100
    reader = Network(AS_IT_IS, torch.nn.CrossEntropyLoss(), lr=0.1)
    assert evaluate(reader, x, hidden)["accuracy"] == pytest.approx(2 / 3)
    row = Trainer(reader, (x, hidden), (x, hidden), Schedule(epochs=1)).run().history[0]
    assert row["train_accuracy"] == row["validation_accuracy"] == pytest.approx(2 / 3)
    assert "accuracy" not in evaluate(reader, x, torch.full_like(target, -100))
    option = functools.partial(torch.nn.functional.cross_entropy, ignore_index=0)
    zero = target.where(torch.arange(6) < 3, 0)
    counted = zero != 0
    expected = float((x.argmax(-1) == zero)[counted].float().mean())
    assert evaluate(Network(AS_IT_IS, option), x, zero)["accuracy"] == pytest.approx(expected)


def test_samples_and_targets_of_weight_0_count_in_no_score() -> None:
    x, target = padded()
    reader, weight = Network(AS_IT_IS, lr=0.1), torch.ones(8, 6)
    weight[:, 3:] = 0
    alone = evaluate(reader, x[:, :3], target[:, :3])
    assert evaluate(reader, x, target, weight) == pytest.approx(alone)
    trainer = Trainer(reader, (x, target, weight), (x, target, weight), Schedule(epochs=1))
    row = trainer.run().history[0]
    assert row["train_accuracy"] == row["validation_accuracy"] == pytest.approx(alone["accuracy"])
    assert row["validation_loss"] == pytest.approx(alone["loss"])
    for bad, message in (
        (weight.t(), "Expected a weight for each sample, got 6 for 8 samples"),
        (torch.tensor(1.0), "Expected a weight for each sample, got a single number for 8 samples"),
        (-weight, "Expected sample weights that are finite and at least 0"),
        (weight * torch.nan, "Expected sample weights that are finite and at least 0"),
    ):
        with pytest.raises(BrodmannError, match=message):
            evaluate(reader, x, target, bad)
        with pytest.raises(BrodmannError, match=message):
            Trainer(reader, (x, target), (x, target, bad))
    of_samples = torch.tensor([1.0] * 4 + [0.0] * 4)
    real = Network(AS_IT_IS, MeanSquaredError())
    found = evaluate(real, x, x.flip(0), of_samples.repeat_interleave(6).reshape(8, 6))
    assert found["r2"] == pytest.approx(evaluate(real, x[:4], x.flip(0)[:4])["r2"])


def test_real_targets_of_images_are_not_read_in_another_order() -> None:
    images = torch.rand(5, 8, 8, 3)
    same = Network(AS_IT_IS, MeanSquaredError(), lr=0.1)
    assert float(same.learn(images, images)) == 0.0
    for loss in (MeanSquaredError(), torch.nn.MSELoss(), SumOfSquares()):
        learner = Network(AS_IT_IS, loss, lr=0.1)
        with pytest.raises(BrodmannError, match=r"got \(5, 3, 8, 8\): channels come last, give target.movedim"):
            learner.learn(images, images.movedim(-1, 1))
        with pytest.raises(
            BrodmannError, match=r"Expected targets of shape \(5, 8, 8, 3\), like the output, got \(5, 192"
        ):
            learner.learn(images, images.flatten(1))
    flat = Network(Sequential(Local(torch.nn.Flatten())), MeanSquaredError(), lr=0.1)
    assert float(flat.learn(images, images)) == 0.0


@pytest.mark.parametrize("loss", [None, torch.nn.CrossEntropyLoss()])
def test_classes_in_the_second_dimension_are_told_where_to_go(loss: Any) -> None:
    learner = Network(AS_IT_IS, loss, lr=0.1)
    with pytest.raises(BrodmannError, match=r"classes come last in an output, so end the network with x.movedim"):
        learner.learn(torch.randn(7, 4, 9), torch.randint(0, 4, (7, 9)))


@pytest.mark.parametrize("folder", [False, True])
def test_early_stopping_brings_the_best_weights_back(folder: bool, tmp_path: Path) -> None:
    x, y = blobs()
    noise = torch.Generator().manual_seed(9)
    held_out = (torch.randn(40, 5, generator=noise), torch.randint(0, 3, (40,), generator=noise))
    learner, seen = network(), Remember()
    schedule = Schedule(epochs=40, batch_size=8, lr=0.05, patience=3)
    place = tmp_path if folder else None
    progress = Trainer(learner, (x, y), held_out, schedule, folder=place, callbacks=[seen]).run()
    scores = [row["validation_accuracy"] for row in seen.rows]
    assert progress.epoch == len(scores) < 40
    assert progress.best == max(scores)
    assert progress.epoch - 1 - scores.index(max(scores)) == 3
    assert evaluate(learner, *held_out)["accuracy"] == max(scores)
    assert seen.ends == 1
    assert seen.steps == progress.step == 12 * progress.epoch


def make(kind: str) -> Network | Backpropagation:
    torch.manual_seed(0)
    if kind == "network":
        return network(dropout=0.3)
    return Backpropagation(5, 3, width=8, dropout=0.3, optimiser=kind, momentum=0.9 if kind == "sgd" else 0.0)


def test_a_checkpoint_of_the_same_step_once_more_is_whole_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of an epoch whose last step had written one already."""
    for number in (1, 2):
        write_checkpoint(tmp_path, number, Checkpoint({"a": torch.zeros(number)}, {}, {}))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 2, Checkpoint({"a": torch.ones(2)}, {}, {}))
    assert len(read_checkpoint(tmp_path).tensors["a"]) == 1


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("kind", ["network", "adam", "muon", "sgd"])
def test_going_back_to_a_checkpoint_gives_the_same_end_and_drops_what_came_after(kind: str, tmp_path: Path) -> None:
    data, schedule = blobs(), Schedule(epochs=4, batch_size=16, lr=0.02)
    straight = make(kind)
    Trainer(straight, data, None, schedule, folder=tmp_path).run()
    names = checkpoint_names(tmp_path)
    assert len(names) == 2
    resumed = make(kind)
    trainer = Trainer(resumed, data, None, schedule, folder=tmp_path)
    trainer.resume(names[0])
    assert checkpoint_names(tmp_path) == names[:1]
    assert trainer.progress.epoch == 3
    trainer.run()
    assert checkpoint_names(tmp_path) == names
    ours, theirs = straight.learning_state(), resumed.learning_state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


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
    with pytest.raises(DivergenceError, match="all outputs are finite: look at targets and weights"):
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
    monkeypatch.setattr(Watch, "check", lambda *_: found.append(trainer.progress.epoch))
    schedule = Schedule(epochs=epochs, batch_size=batch_size)
    trainer = Trainer(network(), blobs(64), None, schedule)
    trainer.run()
    assert found == watched


def test_errors_that_vanish_between_calls_of_partial_fit_are_found() -> None:
    x, y = (part.numpy() for part in blobs(16))
    model = SALClassifier(random_state=0, layers=3, batch_size=16)
    for _ in range(2):
        model.partial_fit(x, y, classes=[0, 1, 2])
    model.network_.area_layers()[1][1].feedback.shared.value.mul_(1e-30)
    model.network_.rates = Rates(feedback=0.0)
    with pytest.raises(DivergenceError, match="has vanished to"):
        list(map(model.partial_fit, [x] * 8, [y] * 8))


def test_a_small_last_batch_is_no_sign_of_divergence() -> None:
    x, y = blobs(65)  # its last batch is one sample, for which all of four units are off in most of these networks
    for seed in range(12):
        torch.manual_seed(seed)
        Trainer(Network(mlp(5, 3, width=4, areas=1)), (x, y), None, Schedule(epochs=3, batch_size=16)).run()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_small_batches_may_leave_all_units_silent(batch_size: int) -> None:
    x, y = blobs(64)
    for seed in range(12):
        torch.manual_seed(seed)
        Trainer(Network(mlp(5, 3, width=2, areas=1)), (x, y), None, Schedule(epochs=2, batch_size=batch_size)).run()


def test_a_new_training_refuses_a_folder_that_holds_checkpoints(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1), folder=tmp_path).run()
    names = checkpoint_names(tmp_path)
    other = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path)
    with pytest.raises(BrodmannError, match=r"holds checkpoints of an earlier run: continue it with resume\(\)"):
        other.run()
    assert checkpoint_names(tmp_path) == names
    other.resume()
    other.run()


def test_a_signal_after_the_last_step_still_stops(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] == 2:
                signal.raise_signal(signal.SIGINT)

    trainer = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path, callbacks=[Stop()])
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        trainer.run()
    again = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path)
    again.resume()
    assert again.run().epoch == 2


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


@pytest.mark.parametrize(("residual", "width"), [(False, 6), (True, 6), (False, (6, 4))])
def test_the_baseline_is_autograd_with_torch_optim(residual: bool, width: Any, tmp_path: Path) -> None:
    x, y = blobs()
    torch.manual_seed(0)
    twin = Backpropagation(5, 3, depth=3, width=width, residual=residual, decay=0.1)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in twin.named_parameters()}
    optimiser = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0} for p in parameters.values()]
    )
    for step in range(3):
        lr = 0.05 / (step + 1)
        for group in optimiser.param_groups:
            group["lr"] = lr
        loss = torch.nn.functional.cross_entropy(torch.func.functional_call(twin, parameters, x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found, _ = twin.learn_with_output(x, y, lr=lr)
        torch.testing.assert_close(found, loss.detach())
    for name, p in twin.named_parameters():
        torch.testing.assert_close(p.detach(), parameters[name].detach())
    twin.save(tmp_path / "twin.safetensors")
    assert torch.equal(Backpropagation.load(tmp_path / "twin.safetensors")(x), twin(x))
    twin.double()
    twin.save(tmp_path / "twin.safetensors")
    assert torch.equal(Backpropagation.load(tmp_path / "twin.safetensors")(x.double()), twin(x.double()))


@given(
    active=st.integers(50, 40_000),
    depth=st.integers(2, 6),
    widths=st.just(1) | st.lists(st.integers(1, 500), min_size=1, max_size=5),
)
def test_the_twin_is_as_near_to_the_wanted_size_as_can_be(active: int, depth: int, widths: int | list[int]) -> None:
    depth = len(widths) + 1 if isinstance(widths, list) else depth

    def size(width: int) -> int:
        return Backpropagation(7, 3, depth=depth, width=in_proportion(widths, width)).active_parameters()

    width = matching_width(active, 7, 3, depth, widths)
    assert width >= 1
    best = abs(size(width) - active)
    assert best <= abs(size(width + 1) - active)
    assert width == 1 or best <= abs(size(width - 1) - active)


def test_a_twin_keeps_the_proportions_of_widths() -> None:
    assert in_proportion((512, 16, 128), 64) == (64, 2, 16)
    assert in_proportion([100, 1], 50) == (50, 1)  # no layer without units
    assert in_proportion(512, 64) == 64


def test_the_progress_bars_last_line_tells_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    bar = ProgressBar("blobs")
    remember = Remember()
    update = rich.progress.Progress.update
    monkeypatch.setattr(
        rich.progress.Progress,
        "update",
        lambda self, task, **fields: (shown.append(fields["facts"]), update(self, task, **fields))[1],
    )
    Trainer(network(), blobs(), blobs(30, 1), Schedule(epochs=3, batch_size=8), callbacks=[remember, bar]).run()
    last = remember.rows[-1]
    assert f"loss {last['train_loss']:.4f} accuracy {last['validation_accuracy']:.4f}" in shown[-1]
    assert "samples/s" in shown[-1]


def test_checkpoints_of_another_network_are_refused(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1), folder=str(tmp_path)).run()
    torch.manual_seed(0)
    other = Trainer(Network(mlp(5, 3, width=9, areas=4)), blobs(), None, Schedule(epochs=1), folder=tmp_path)
    with pytest.raises(BrodmannError, match="holds checkpoints of another network: build it as before"):
        other.resume()


def test_checkpoints_of_a_network_whose_rule_was_replaced_say_so_and_are_resumed_under_it(tmp_path: Path) -> None:
    class Replace(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            network = trainer.network
            assert isinstance(network, Network)
            network.update_rule = SGD(momentum=0.5)

    first = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path, callbacks=[Replace()])
    first.run()
    other = network()
    again = Trainer(other, blobs(), None, Schedule(epochs=2), folder=tmp_path)
    with pytest.raises(BrodmannError, match=r"rules SGD\(.*momentum=0.5\), not Adam\(.*: build it with those"):
        again.resume()
    other.update_rule = SGD(momentum=0.5)
    again.resume()
    torch.testing.assert_close(other.state_dict(), first.network.learning_state(), rtol=0, atol=0)


def test_classes_in_a_column_of_their_own_are_scored_as_they_are() -> None:
    x, y = blobs()
    rows = [Trainer(network(), (x, of), (x, of), Schedule(epochs=2)).run().history[-1] for of in (y, y[:, None])]
    for name in ("train_accuracy", "validation_accuracy", "train_loss"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-6)


def test_early_stopping_follows_the_loss_of_real_targets() -> None:
    x, y = blobs()
    torch.manual_seed(0)
    learner = Network(mlp(5, 1, width=8, areas=1), torch.nn.BCEWithLogitsLoss())
    part = (x, (y == 0).float()[:, None])
    progress = Trainer(learner, part, part, Schedule(epochs=12, lr=1e-2, patience=2, shape="constant")).run()
    losses = [row["validation_loss"] for row in progress.history]
    assert losses == sorted(losses, reverse=True)  # it falls all the way
    assert progress.epoch == 12
    assert progress.best == pytest.approx(-losses[-1])


def contrast(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A loss of embeddings, whose largest number is not a class."""
    alike = (target[:, None] == target).float()
    return ((output @ output.t() - alike) ** 2).mean()


class Spread(Callback):
    """Adds a metric that falls epoch by epoch, and sees how the training begins and ends."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def on_start(self, trainer: Trainer) -> None:
        self.log.append((trainer.progress.step, trainer.rate))

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["spread"] = -float(row["epoch"])

    def on_end(self, trainer: Trainer) -> None:
        self.log.append((trainer.progress.step, type(trainer.failure)))


def test_early_stopping_follows_the_loss_of_ones_own_or_a_metric_that_is_named() -> None:
    x, y = blobs()
    part, schedule = (x, y), Schedule(epochs=12, batch_size=90, lr=1e-3, patience=2, shape="constant")
    for loss in (contrast, lambda output, target, weight: contrast(output, target)):
        progress = Trainer(network(loss), part, part, schedule).run()
        assert progress.epoch == 12
        assert progress.best == -min(row["validation_loss"] for row in progress.history)
    for metric, epochs in (("validation_loss", 12), ("spread", 3)):
        named = Trainer(network(), part, part, replace(schedule, metric=metric), callbacks=Spread())
        assert named.run().epoch == epochs
    assert Trainer(network(), part, None, replace(schedule, metric="spread"), callbacks=Spread()).run().epoch == 3
    with pytest.raises(
        BrodmannError, match=r"Expected a number 'f1' for early stopping to follow.* The row has: epoch, train_loss"
    ):
        Trainer(network(), part, part, replace(schedule, metric="f1")).run()


def test_trainings_in_threads_draw_what_their_seeds_say() -> None:
    alone, *others = (network(dropout=0.5) for _ in range(3))
    Trainer(alone, blobs(), None, Schedule(epochs=4)).run()
    state = torch.get_rng_state()
    threads = [threading.Thread(target=Trainer(other, blobs(), None, Schedule(epochs=4)).run) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    for other in others:
        assert all(map(torch.equal, other.state_dict().values(), alone.state_dict().values()))


def test_an_interruption_goes_from_process_to_process() -> None:
    again = pickle.loads(pickle.dumps(Interrupted(signal.SIGINT)))
    assert (again.number, str(again)) == (signal.SIGINT, "stopped by SIGINT")


def test_a_network_whose_units_are_all_silent_is_warned_of() -> None:
    dead = network()
    dead.area_layers()[0][1].shared.bias.value.fill_(-1e3)  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="No error has reached the layers below the top one for two epochs"):
        Trainer(dead, blobs(), None, Schedule(epochs=3)).run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(dead, blobs(), None, Schedule(epochs=1)).run()
        Trainer(network(), blobs(), None, Schedule(epochs=3)).run()


def test_callbacks_see_beginning_and_end() -> None:
    spread, schedule = Spread(), Schedule(epochs=1, batch_size=30, lr=0.02, shape="constant")
    trainer = Trainer(network(), blobs(), None, schedule, callbacks=spread)
    trainer.run()
    assert spread.log == [(0, None), (3, type(None))]
    assert trainer.rate == 0.02
    failing = Trainer(network(), blobs(), None, schedule, callbacks=spread, transform=lambda samples: samples[:1])
    with pytest.raises(BrodmannError):
        failing.run()
    assert spread.log[-1] == (0, BrodmannError)


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


def test_checkpoints_of_another_network_stay(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=3), folder=tmp_path).run()
    names = checkpoint_names(tmp_path)
    other = Network(mlp(5, 3, width=9, areas=4))
    state = torch.get_rng_state()
    with pytest.raises(BrodmannError, match="holds checkpoints of another network: build it as before"):
        Trainer(other, blobs(), None, Schedule(epochs=3), folder=tmp_path).resume(names[0])
    assert checkpoint_names(tmp_path) == names
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_goes_on_after_a_signal() -> None:
    class Once(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(network(), blobs(), None, Schedule(epochs=3, batch_size=30), callbacks=[Once()])
    with pytest.raises(Interrupted):
        trainer.run()
    assert trainer.run().step == 9


def test_a_run_leaves_the_generator_as_it_was() -> None:
    def trained(dropout: float) -> torch.Tensor:
        learner = Network(mlp(5, 3, width=8, areas=4, dropout=dropout))
        state = torch.get_rng_state()
        Trainer(learner, blobs(), None, Schedule(epochs=2)).run()
        assert torch.equal(torch.get_rng_state(), state)
        return learner(blobs()[0])

    torch.manual_seed(1)
    first, second = trained(0.3), trained(0.3)
    assert not torch.equal(first, second)  # an ensemble is not one network several times
    torch.manual_seed(1)
    assert torch.equal(trained(0.3), first)


def test_a_run_that_was_stopped_draws_on_where_it_stood() -> None:
    class Once(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] == 2:
                trainer.stop()

    outputs = []
    for callbacks in ([], [Once()]):
        torch.manual_seed(0)
        learner = Network(mlp(5, 3, width=8, areas=4, dropout=0.5))
        trainer = Trainer(learner, blobs(), None, Schedule(epochs=4, batch_size=30), callbacks=callbacks)
        trainer.run()
        torch.rand(3)  # what others draw in between is nothing to it
        outputs.append((trainer.run().step, learner(blobs()[0])))
    assert outputs[0][0] == outputs[1][0] == 12
    assert torch.equal(outputs[0][1], outputs[1][1])


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


@pytest.mark.parametrize("loss", [SumOfSquares(), torch.nn.CrossEntropyLoss(reduction="sum"), SUMMED])
def test_losses_that_sum_are_reported_per_sample(loss: Any) -> None:
    x, target = blobs()
    learner = network(loss, lr=0.0)
    whole = evaluate(learner, x, target)["loss"]
    assert whole == pytest.approx(float(learner.loss(learner(x), target, None)) / 90)
    assert whole == pytest.approx(evaluate(learner, x[:30].repeat(3, 1), target[:30].repeat(3))["loss"], rel=0.5)
    row = Trainer(learner, (x, target), (x, target), Schedule(1, 7)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)


def test_a_loss_that_sums_is_reported_as_a_mean_by_the_weights_of_samples() -> None:
    x, target = blobs()
    learner, weight = network(SumOfSquares(), lr=0.0), torch.where(torch.arange(90) % 3 == 0, 4.0, 0.0)
    weighed = evaluate(learner, x, target, weight)["loss"]
    assert weighed == pytest.approx(evaluate(learner, x[::3], target[::3])["loss"], rel=1e-5)
    row = Trainer(learner, (x, target, weight), (x, target, weight), Schedule(1, 7)).run().history[-1]
    assert row["train_loss"] == pytest.approx(weighed, rel=1e-5)
    assert row["validation_loss"] == pytest.approx(weighed, rel=1e-5)
    assert evaluate(learner, x, target, torch.zeros(90))["loss"] == 0.0
    outputs, steps, wanted = Network(AS_IT_IS, SumOfSquares()), torch.randn(6, 5, 2), torch.randn(6, 5, 2)
    whole = evaluate(outputs, steps, wanted)  # of sequences, all of whose targets count alike
    assert evaluate(outputs, steps, wanted, torch.ones(6, 5)) == pytest.approx(whole)


def weighed(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (torch.nn.functional.cross_entropy(output, target, reduction="none") * weight).sum() / weight.sum()


OF_CLASSES = torch.tensor([1.0, 20.0, 0.1])


class Summed:
    """A loss of a user's own that sums, counts a class for its weight, and may know its derivative."""

    sums = True

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        assert weight is None
        return torch.nn.functional.cross_entropy(output, target, OF_CLASSES, reduction="sum")

    def counts_for(self, target: Tensor, weight: Tensor | None, samples: int) -> float:
        return float(OF_CLASSES[target].sum())


class SummedExactly(Summed):
    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        shares = output.softmax(1) - torch.nn.functional.one_hot(target, 3)
        return self(output, target), OF_CLASSES[target, None] * shares


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (CrossEntropy(), "weights"),
        (CrossEntropy(normalised=False), "weights"),
        (CrossEntropy(0.1, OF_CLASSES), "weights"),
        (CrossEntropy(0.1, OF_CLASSES), None),
        (MeanSquaredError(), "weights"),
        (SumOfSquares(), "weights"),
        (BinaryCrossEntropy(), "weights"),
        (BinaryCrossEntropy(normalised=False), "weights"),
        (weighed, "weights"),
        (Summed(), None),
        (SummedExactly(), None),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES), None),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES, label_smoothing=0.1), "left out"),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES, reduction="sum"), "left out"),
        (functools.partial(torch.nn.functional.cross_entropy, weight=OF_CLASSES, ignore_index=2), None),
        (torch.nn.MultiMarginLoss(weight=OF_CLASSES), None),
    ],
)
def test_the_training_loss_is_that_of_all_samples_at_once(loss: Any, kind: str | None) -> None:
    x, y = blobs(50)
    learner = network(loss, lr=0.05)
    if isinstance(loss, BinaryCrossEntropy):
        y = torch.nn.functional.one_hot(y, 3)
    if kind == "left out":
        y = y.where(torch.arange(50) % 7 < 3, -100)
    weight = torch.where(torch.arange(50) % 3 == 0, 100.0, torch.rand(50)) * (torch.arange(50) % 5 > 0)
    part = (x, y, weight) if kind == "weights" else (x, y)
    Trainer(learner, part, None, Schedule(epochs=2, batch_size=8)).run()
    learner.frozen_layers = ["*"]
    row = Trainer(learner, part, part, Schedule(epochs=1, batch_size=4)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)
    assert row["validation_loss"] == pytest.approx(evaluate(learner, *part)["loss"])


@pytest.mark.parametrize("loss", [Summed(), SummedExactly()])
def test_a_sum_of_ones_own_is_reported_as_a_mean(loss: Any) -> None:
    x, y = blobs(50)
    learner = network(loss)
    of_classes = torch.nn.functional.cross_entropy(learner(x), y, OF_CLASSES)
    assert evaluate(learner, x, y)["loss"] == pytest.approx(float(of_classes), rel=1e-5)


def test_a_function_whose_mean_is_over_nothing_is_told_what_it_lacks() -> None:
    learner = network(lambda output, target: torch.nn.functional.cross_entropy(output, target))
    with pytest.raises(DivergenceError, match="a mean over targets none of which counts is NaN"):
        learner.learn(blobs(12)[0], torch.full((12,), -100))


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss(), torch.nn.NLLLoss(), torch.nn.functional.cross_entropy])
def test_a_batch_whose_targets_are_all_left_out_teaches_nothing(loss: Any) -> None:
    x, y = blobs(12)
    learner, none = network(loss, update=SGD()), torch.full_like(y, -100)
    before = learner(x)
    assert learner.learn(x, none, lr=1.0) == 0
    assert torch.equal(learner(x), before)
    few = y.where(torch.arange(12) < 2, none)
    row = Trainer(learner, (x, few), (x, few), Schedule(epochs=1, batch_size=2, lr=1e-9)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)
    with pytest.raises(BrodmannError, match=r"No target of epoch 1 counted: .* such as -100. Leave such samples out"):
        Trainer(learner, (x, none), None, Schedule(epochs=1)).run()
    with pytest.raises(BrodmannError, match="No target of the validation part counted: all have weight 0, or are what"):
        Trainer(learner, (x, y), (x, none), Schedule(epochs=1)).run()


@pytest.mark.parametrize(
    "loss",
    [
        torch.nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 2.0])),
        torch.nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 2.0]), label_smoothing=0.1),
        torch.nn.NLLLoss(weight=torch.tensor([0.0, 1.0, 2.0])),
        functools.partial(torch.nn.functional.cross_entropy, weight=torch.tensor([0.0, 1.0, 2.0]), ignore_index=2),
        CrossEntropy(class_weights=torch.tensor([0.0, 1.0, 2.0])),
    ],
)
def test_a_batch_of_nothing_but_classes_of_weight_0_teaches_nothing(loss: Any) -> None:
    x, y = blobs(60)
    learner, first = network(loss, update=SGD()), y == 0
    before = learner(x)
    assert learner.learn(x[first], y[first], lr=1.0) == evaluate(learner, x[first], y[first])["loss"] == 0
    assert torch.equal(learner(x), before)
    if isinstance(loss, torch.nn.Module):  # PyTorch takes bytes, too
        assert learner.learn(x[first], y[first].byte(), lr=1.0) == 0
    torch.testing.assert_close(learner.learn(x, y, lr=1.0), loss(before, y))
    row = Trainer(learner, (x, y), None, Schedule(epochs=1, batch_size=1, lr=1e-9)).run().history[-1]
    assert math.isfinite(row["train_loss"])


def test_recursive_least_squares_keeps_its_rate() -> None:
    torch.manual_seed(0)
    trainer = Trainer(Network(stream_mlp(5, 3, width=40, areas=1)), blobs(), None, Schedule(epochs=1))
    assert (trainer.lr, trainer.pace.shape) == (1.0, "constant")
    assert Trainer(network(), blobs(), None, Schedule(lr=0.1)).pace.shape == "cosine"
    trainer.run()
    assert evaluate(trainer.network, *blobs())["accuracy"] > 0.9


def test_whole_numbers_that_are_no_classes_are_real_targets() -> None:
    x, y = blobs()
    targets = torch.stack([y, 2 * y], 1)
    for of in (y[:, None], targets):
        learner = Network(mlp(5, of.shape[1], width=8, areas=1), MeanSquaredError())
        row = Trainer(learner, (x, of), (x, of), Schedule(epochs=2)).run().history[-1]
        assert "train_accuracy" not in row
        assert row["validation_r2"] < 1
    own = Network(mlp(5, 1, width=8, areas=1), lambda output, target: ((output[:, 0] - target) ** 2).mean())
    row = Trainer(own, (x, y), (x, y), Schedule(epochs=1)).run().history[-1]
    assert {name for name in row if "accuracy" in name or "r2" in name} == set()


def test_labels_are_trained_scored_stopped_early_and_resumed(tmp_path: Path) -> None:
    x, y = blobs()
    labels = torch.stack([y == 0, y != 1, x[:, 0] > 1], 1)
    weight = (torch.arange(len(x)) % 4 > 0).float()
    parts = (x, labels.long(), weight), (x, labels)
    learner = network(BinaryCrossEntropy(torch.tensor([1.0, 2.0, 1.0])), lr=0.02)
    schedule = Schedule(epochs=30, batch_size=16, patience=3)
    history = Trainer(learner, *parts, schedule, folder=tmp_path).run().history
    assert {"train_label_accuracy", "validation_label_accuracy"} <= set(history[-1])
    assert not {"validation_accuracy", "validation_r2"} & set(history[-1])
    found = evaluate(learner, x, labels)
    assert found["loss"] == pytest.approx(min(row["validation_loss"] for row in history))
    right = ((learner(x) > 0) == labels).float()
    assert 0.9 < found["label_accuracy"] == pytest.approx(float(right.mean()))
    weighted = evaluate(learner, x, labels.float(), weight)
    assert weighted["label_accuracy"] == pytest.approx(float(right[weight > 0].mean()))
    again = Trainer(network(learner.loss, lr=0.02), *parts, schedule, folder=tmp_path)
    again.resume()
    assert again.run().history == history
    named = Schedule(epochs=4, patience=1, metric="validation_label_accuracy")
    assert Trainer(network(BinaryCrossEntropy()), *parts, named).run().best > 0.5
    steps = network(BinaryCrossEntropy())
    several = x.reshape(18, 5, 5), labels.reshape(18, 5, 3), weight.reshape(18, 5)
    right = ((steps(several[0]) > 0) == several[1]).float()[several[2] > 0]
    assert evaluate(steps, *several)["label_accuracy"] == pytest.approx(float(right.mean()))
    assert set(evaluate(steps, *several[:2], torch.zeros(18, 5))) == {"loss"}


@pytest.mark.parametrize("loss", [torch.nn.BCEWithLogitsLoss(), torch.nn.CrossEntropyLoss()])
def test_losses_of_logits_have_no_r2(loss: torch.nn.Module) -> None:
    x, y = blobs()
    target = torch.nn.functional.one_hot(y, 3).float()
    assert set(evaluate(network(loss=loss), x, target)) == {"loss"}
    assert set(evaluate(network(loss=torch.nn.HuberLoss()), x, target)) == {"loss", "r2"}
    assert set(evaluate(network(loss=torch.nn.functional.mse_loss), x, target)) == {"loss", "r2"}
    huber = functools.partial(torch.nn.functional.huber_loss, delta=0.5)
    own = lambda output, target: ((output - target) ** 2).mean()  # noqa: E731
    for regression in (huber, own):
        assert set(evaluate(network(loss=regression), x, target)) == {"loss", "r2"}
    binary = functools.partial(torch.nn.functional.binary_cross_entropy_with_logits, reduction="sum")
    assert set(evaluate(network(loss=binary), x, target)) == {"loss"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validation": (torch.full((4, 5), math.nan), torch.zeros(4).long())},
            "The validation samples hold NaN or inf",
        ),
        ({"callbacks": None}, "Expected callbacks to be a list of `Callback` objects, got None."),
        ({"callbacks": [Callback]}, "Expected callbacks to be a list of `Callback` objects, got <class"),
    ],
)
def test_what_a_trainer_cannot_take(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), blobs(), **{"validation": None, **change})


def test_a_row_takes_numbers_of_every_kind_and_nothing_else(tmp_path: Path) -> None:
    class Adds(Callback):
        def __init__(self, value: Any) -> None:
            self.value = value

        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["own"] = self.value

    for place, value in enumerate((torch.tensor(1.5), np.float32(1.5), 1.5)):
        trainer = Trainer(network(), blobs(), None, Schedule(1), folder=tmp_path / str(place), callbacks=Adds(value))
        assert trainer.run().history[-1]["own"] == 1.5
    message = r"After Adds.on_epoch, the row of epoch 1 cannot hold its 'own' \(.*got Tensor\): expected numbers"
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), blobs(), None, Schedule(1), callbacks=[Adds(torch.zeros(2))]).run()


def test_weights_of_samples_go_with_the_training_part(tmp_path: Path) -> None:
    x, y = blobs()
    kept = y != 2
    learners = [network(), network(), network()]
    parts = [(x, y, kept.float()), (x, y, torch.ones(len(x))), (x, y)]
    for learner, part in zip(learners, parts, strict=True):
        Trainer(learner, part, (x, y), Schedule(epochs=8, batch_size=15, lr=0.05)).run()
    without, ones, plain = (learner(x).argmax(1) for learner in learners)
    assert not (without == 2).any()
    assert torch.equal(ones, plain)
    assert (plain == 2).any()
    with pytest.raises(BrodmannError, match="Expected a weight for each sample, got 3 for 90 samples"):
        Trainer(network(), (x, y, torch.ones(3)))


def test_accuracy_of_sequences_is_a_share_of_their_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 7, 5, generator=generator), torch.zeros(20, 7, dtype=torch.int64)
    row = Trainer(network(), (x, y), (x, y), Schedule(epochs=4, batch_size=6, lr=0.05)).run().history[-1]
    assert 0.5 < row["train_accuracy"] <= 1
    assert row["validation_accuracy"] == 1


def test_checkpoints_of_another_version_are_refused(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1), folder=tmp_path).run()
    path = tmp_path / f"{checkpoint_names(tmp_path)[-1]}.json"
    record = json.loads(path.read_text())
    del record["progress"]["scored"], record["digest_of_these"]  # which earlier ones did not note
    path.write_text(json.dumps(record))
    with pytest.raises(BrodmannError, match="holds checkpoints of another version of this package: start again"):
        Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path).resume()


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


def test_a_checkpoint_that_names_no_rate_goes_on_with_the_schedules(tmp_path: Path) -> None:
    """As those of earlier versions do."""
    Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path).run()
    path = tmp_path / f"{checkpoint_names(tmp_path)[-1]}.json"
    record = json.loads(path.read_text())
    del record["progress"]["lr"], record["digest_of_these"]
    path.write_text(json.dumps(record))
    trainer = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path)
    trainer.resume()
    assert (trainer.progress.epoch, trainer.lr) == (1, 0.1)


@pytest.mark.parametrize("on_disk", [True, False])
def test_going_on_after_a_stop_is_training_without_one(on_disk: bool, tmp_path: Path) -> None:
    """With patience a stop leaves the best weights, and going on begins from the last."""

    class StopAt(Callback):
        def __init__(self, *epochs: int) -> None:
            self.epochs = epochs

        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] in self.epochs:
                trainer.stop()

    histories = []
    for name, callback in (("whole", Callback()), ("parts", StopAt(2, 4, 5))):
        trainer = Trainer(
            network(lr=0.05), blobs(), blobs(30, 1), Schedule(epochs=7, batch_size=16, patience=7),
            folder=tmp_path / name if on_disk else None, callbacks=callback,
        )  # fmt: skip
        while trainer.run().epoch < 7:
            pass
        histories.append([(row["train_loss"], row["validation_loss"]) for row in trainer.progress.history])
    assert histories[0] == histories[1]


@pytest.mark.parametrize("part", ["training", "validation"])
def test_targets_that_are_no_numbers_are_refused(part: str) -> None:
    x, y = torch.randn(6, 5), torch.randn(6, 3)
    broken = y.clone()
    broken[2, 1] = math.nan
    parts = [(x, broken if part == name else y) for name in ("training", "validation")]
    with pytest.raises(BrodmannError, match=f"The {part} targets hold NaN"):
        Trainer(network(MeanSquaredError()), *parts)


def test_what_a_killed_process_left_of_a_checkpoint_is_removed(tmp_path: Path) -> None:
    Trainer(network(), blobs(), schedule=Schedule(epochs=1), folder=tmp_path).run()
    left = [tmp_path / ".checkpoint-000000009.safetensors.ab12cd34", tmp_path / "checkpoint-000000009.safetensors"]
    for path in left:
        path.write_bytes(b"half")
    trainer = Trainer(network(), blobs(), schedule=Schedule(epochs=2), folder=tmp_path)
    trainer.resume()
    assert not any(path.exists() for path in left)
    assert trainer.run().epoch == 2


def test_a_seed_may_be_a_number_of_numpy() -> None:
    losses = [
        Trainer(network(), blobs(), schedule=Schedule(epochs=1, seed=seed)).run().history[0]["train_loss"]
        for seed in (3, np.int64(3))  # type: ignore[arg-type]
    ]
    assert losses[0] == losses[1]


def test_early_stopping_does_not_follow_what_is_no_number() -> None:
    class Undefined(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["f1"] = math.nan if row["epoch"] == 2 else 0.5

    schedule = Schedule(epochs=5, patience=9, metric="f1")
    with pytest.raises(BrodmannError, match="Early stopping follows 'f1', which is nan in epoch 2"):
        Trainer(network(), blobs(), schedule=schedule, callbacks=Undefined()).run()


def test_a_trainer_is_given_a_folder_and_a_function(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "inside"):
        with pytest.raises(BrodmannError, match="Checkpoints need a folder, but .*file.* is a file, or is inside one"):
            Trainer(network(), blobs(), folder=folder)
    with pytest.raises(BrodmannError, match="Expected transform to be a function of the samples of a batch, .* got 5"):
        Trainer(network(), blobs(), transform=5)  # type: ignore[arg-type]


def test_an_infinite_validation_loss_ends_no_training_that_nobody_wants_to_stop() -> None:
    x, y = blobs()

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = torch.nn.functional.cross_entropy(output, target)
        return value if output.shape[0] == 30 else value / 0.0  # of the validation part alone

    schedule = Schedule(epochs=2, batch_size=30)
    history = Trainer(network(loss), (x, y), (x[:50], y[:50]), schedule).run().history
    assert [row["validation_loss"] for row in history] == [math.inf, math.inf]
    with pytest.raises(BrodmannError, match="Early stopping follows 'validation_loss', which is inf in epoch 1"):
        Trainer(network(loss), (x, y), (x[:50], y[:50]), replace(schedule, patience=2)).run()


class Shifted(torch.utils.data.Dataset):
    """Samples that are made when they are asked for, by the generators of PyTorch, NumPy and Python."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        noise = torch.randn(5) + np.random.normal() + random.gauss(0.0, 1.0)
        return self.x[row] + 0.1 * noise, int(self.y[row])


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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_draws_goes_on_bit_for_bit_in_the_middle_of_an_epoch(tmp_path: Path, workers: int) -> None:
    x, y = blobs()
    schedule = Schedule(epochs=3, batch_size=16)

    class Stop(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 9:
                os.kill(os.getpid(), signal.SIGINT)

    whole, broken = network(), network()
    Trainer(whole, Shifted(x, y), None, schedule).run()
    with pytest.raises(Interrupted):
        Trainer(broken, Shifted(x, y), None, schedule, folder=tmp_path, callbacks=Stop(), workers=workers).run()
    assert not multiprocessing.active_children()
    again = network()
    trainer = Trainer(again, Shifted(x, y), None, schedule, folder=tmp_path, workers=workers)
    trainer.resume()
    trainer.run()
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


def test_what_items_draw_is_decided_by_the_seed_and_leaves_other_generators_alone() -> None:
    x, y = blobs()

    def learned(seed: int, workers: int) -> torch.Tensor:
        learner = network(dropout=0.5)
        Trainer(learner, Shifted(x, y), None, Schedule(epochs=2, batch_size=16, seed=seed), workers=workers).run()
        return learner(x)

    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = learned(0, 0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    np.random.random(3), random.random()
    assert torch.equal(first, learned(0, 0))
    assert torch.equal(first, learned(0, 1))
    assert torch.equal(first, learned(0, 2))
    assert not torch.equal(first, learned(1, 0))


INTERRUPTED = """
import multiprocessing, os, signal, sys
import torch
from brodmann import Network, mlp
from brodmann.training import Interrupted, Schedule, Trainer

class Stopping(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row == 5:
            os.killpg(0, getattr(signal, sys.argv[2]))  # training and workers get it
        return torch.randn(5), row % 3

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # by a fork workers would have the handlers of the training
    schedule = Schedule(epochs=9, batch_size=8)
    trainer = Trainer(Network(mlp(5, 3)), Stopping(), None, schedule, folder=sys.argv[1], workers=1)
    try:
        trainer.run()
    except Interrupted:
        print("interrupted after", trainer.progress.step)
"""


@pytest.mark.parametrize(("name", "steps"), [("SIGINT", 1), ("SIGTERM", 0)])  # the second ends the workers
def test_a_signal_to_all_processes_is_the_trainings(tmp_path: Path, name: str, steps: int) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run"), name],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == (f"interrupted after {steps}\n", "", 0)
    assert checkpoint_names(tmp_path / "run")


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
        ([(torch.ones(2), 0), (torch.ones(3), 1)], "Items of the data set cannot be put together into tensors"),
        (
            [("a", 0), ("b", 1)],
            "into tensors: they hold something other than tensors. Let it return tensors of one shape, for example "
            "with torchvision's ToTensor.",
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


class Items(torch.utils.data.Dataset):
    """A data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


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


class Failing(Callback):
    """Fails once, after a step or at the end of an epoch."""

    def __init__(self, place: str, step: int) -> None:
        self.place, self.step = place, step

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.fail("step", trainer)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.fail("epoch", trainer)

    def fail(self, place: str, trainer: Trainer) -> None:
        if (place, trainer.progress.step) == (self.place, self.step):
            raise OSError("no space left")


class Drawing(Callback):
    """Puts a random number into every row."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["drawn"] = float(torch.rand(()))


class Unreadable(Items):
    """A data set one of whose items cannot be read."""

    def __getitem__(self, row: int) -> Any:
        if row == 17:
            raise OSError("no space left")
        return super().__getitem__(row)


@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize(
    ("place", "step"),
    [("step", 1), ("step", 8), ("epoch", 6), ("epoch", 18), ("item", 0), ("transform", 8), ("shape", 8)],
)
def test_what_fails_between_two_steps_loses_none(place: str, step: int, patience: int | None, tmp_path: Path) -> None:
    items = list(zip(*blobs(), strict=True))

    def trainer(folder: Path | None = tmp_path, failing: str = "", data: Any = Items) -> Trainer:
        calls = iter(range(100))

        def noisy(samples: Tensor) -> Tensor:
            samples = samples + 0.1 * torch.randn_like(samples)
            if failing == "transform" and next(calls) == step:
                raise OSError("no space left")
            return samples

        def falling(done: float) -> float:
            if failing == "shape" and done == step / 18:
                raise OSError("no space left")
            return 1.0 - done

        schedule = Schedule(epochs=3, batch_size=15, patience=patience, shape=falling)
        callbacks = [Drawing(), Failing(failing, step)]
        learner, score = network(dropout=0.5), blobs(30, 1)
        return Trainer(learner, data(items), score, schedule, folder=folder, callbacks=callbacks, transform=noisy)

    failing = trainer(failing=place, data=Unreadable if place == "item" else Items)
    with pytest.raises(OSError, match="no space left"):
        failing.run()
    assert isinstance(failing.failure, OSError)
    resumed = trainer()
    resumed.resume()
    assert 0 < resumed.progress.step == failing.progress.step == (step or failing.progress.step)
    history = resumed.run().history
    straight = trainer(folder=None)
    assert [row | {"seconds": 0} for row in history] == [row | {"seconds": 0} for row in straight.run().history]
    states = resumed.network.learning_state(), straight.network.learning_state()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_checkpoint_that_cannot_be_written_hides_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("read-only file system")

    monkeypatch.setattr("brodmann.training.keeper.write_checkpoint", refuse)
    with pytest.raises(OSError, match="no space left"):
        Trainer(network(), blobs(), None, Schedule(), folder=tmp_path, callbacks=[Failing("step", 1)]).run()


def test_data_that_cannot_be_read_at_all_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
    for data in (Unreadable(list(zip(*blobs(), strict=True))), Items(["nothing"] * 90)):
        with pytest.raises((OSError, BrodmannError)):
            Trainer(network(), data, None, Schedule(batch_size=90), folder=tmp_path).run()
        assert not checkpoint_names(tmp_path)


class Rising(Callback):
    """A score that every epoch betters."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["score"] = float(row["epoch"])


@pytest.mark.usefixtures("every_epoch")
def test_the_best_weights_after_going_back_are_those_of_the_epoch_that_is_named(tmp_path: Path) -> None:
    def trainer(learner: Network, epochs: int) -> Trainer:
        schedule = Schedule(epochs=epochs, batch_size=30, patience=3, metric="score")
        return Trainer(learner, blobs(), None, schedule, folder=tmp_path, callbacks=[Rising()])

    class Noted(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            states.append({name: value.clone() for name, value in trainer.network.learning_state().items()})

    states: list[dict[str, torch.Tensor]] = []
    first = trainer(network(), 4)
    first.callbacks.append(Noted())
    first.run()
    assert len(list(tmp_path.glob("best-*.safetensors"))) == 2  # those that the two checkpoints name
    learner = network()
    second = trainer(learner, 3)
    second.resume(checkpoint_names(tmp_path)[0])
    assert second.run().best_epoch == 2
    for name, value in learner.learning_state().items():
        assert torch.equal(value, states[2][name]), name


def test_a_checkpoint_that_fails_after_something_else_is_told_of_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            raise KeyError("mine")

    def full() -> Any:
        raise BrodmannError("the disk is full")

    network = Network(mlp(4, 2, areas=1))
    trainer = Trainer(network, (torch.randn(8, 4), torch.arange(8) % 2), folder=tmp_path, callbacks=[Failing()])
    monkeypatch.setattr(network, "learning_state", full)
    with pytest.raises(KeyError, match="mine") as caught:
        trainer.run()
    assert caught.value.__notes__ == ["No checkpoint could be written either: the disk is full"]


def test_a_callback_that_fails_at_the_end_keeps_no_other_from_its_end() -> None:
    class Failing(Callback):
        def on_end(self, trainer: Trainer) -> None:
            raise OSError("no room")

    seen = Remember()
    with pytest.raises(OSError, match="no room"):
        Trainer(network(), blobs(), None, Schedule(epochs=1), callbacks=[Failing(), seen]).run()
    assert seen.ends == 1


def test_a_training_that_waits_for_another_can_be_interrupted() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Draws(0).going_on():
            held.set()
            done.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Trainer(network(), blobs(), None, Schedule(epochs=1)).run()
        assert other.is_alive()
    finally:
        done.set()
        other.join()


def test_a_baseline_that_failed_is_at_inference_as_before() -> None:
    learner, x = Backpropagation(8, 3, dropout=0.5), torch.randn(4, 8)
    with pytest.raises(RuntimeError):
        learner.learn_with_output(x[:, :7], torch.zeros(4, dtype=torch.int64), lr=0.1)
    assert torch.equal(learner(x), learner(x))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": 2}, "the digest of the data was"),
        ({"y": 1}, "the digest of the data was"),
        ({"held_out": 2}, "the digest of the validation data was"),
        ({"rows": 60}, "samples was 90, is now 60"),
        ({"schedule": {"lr": 0.1}}, "lr was 0.02, is now 0.1"),
        ({"schedule": {"epochs": 4, "seed": 7}}, "epochs was 3, is now 4, seed was 0, is now 7"),
        ({}, None),
    ],
)
def test_what_goes_on_otherwise_than_it_began_is_told(tmp_path: Path, change: dict[str, Any], told: str | None) -> None:
    def trainer(
        x: float = 1, y: int = 0, held_out: float = 1, rows: int = 90, schedule: dict[str, Any] | None = None
    ) -> Trainer:
        samples, target = blobs()
        data, validation = (samples[:rows] * x, (target[:rows] + y) % 3), (samples[60:] * held_out, target[60:])
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


def test_a_schedule_that_was_replaced_is_the_one_that_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.02), folder=tmp_path)
    trainer.run()
    trainer.schedule = Schedule(epochs=2, lr=0.02)
    trainer.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(network(), blobs(), None, Schedule(epochs=2, lr=0.02), folder=tmp_path).resume()


def test_what_writes_rows_is_called_last_wherever_it_stands(tmp_path: Path) -> None:
    class Adds(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["added"] = 1.0

    writer = MetricsFile(tmp_path / "metrics.jsonl")
    Trainer(network(), blobs(), None, Schedule(epochs=2), callbacks=[writer, Adds()]).run()
    assert [row["added"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1.0, 1.0]


def test_arguments_in_another_order_and_shapes_of_other_functions_are_told() -> None:
    x, y = blobs()
    with pytest.raises(BrodmannError, match=r"give tensors as a pair, \(x, y\)"):
        Trainer(network(), x, y)  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="validation part or None, and a Schedule, in this order, got Schedule and"):
        Trainer(network(), (x, y), Schedule())  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="to be a function of one number, the share of steps done"):
        Schedule(shape=lambda epoch, done: done)  # type: ignore[arg-type, misc]
    with pytest.raises(BrodmannError, match="from 0 to 2, got -100 to 2; nn.CrossEntropyLoss"):
        network().learn(x, torch.where(y == 0, -100, y))


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


def test_a_file_of_metrics_may_be_named_by_text(tmp_path: Path) -> None:
    name = str(tmp_path / "metrics.jsonl")
    Trainer(network(), blobs(), None, Schedule(epochs=1), callbacks=[MetricsFile(name)]).run()
    assert [row["epoch"] for row in read_metrics(name)] == [1]


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_weights_of_any_kind_divide_a_sum(kind: torch.dtype) -> None:
    network = Network(mlp(5, 3, width=6, areas=2), SumOfSquares())
    x, y, weight = torch.randn(64, 5), torch.randn(64, 3), (torch.arange(64) % 3 > 0).to(kind)
    expected = evaluate(network, x[weight > 0], y[weight > 0])["loss"]
    assert evaluate(network, x, y, weight)["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_schedule_that_falls_below_0_at_its_end_is_told_before_the_training() -> None:
    network = Network(mlp(5, 3, width=6, areas=1))
    data = torch.randn(8, 5), torch.arange(8) % 3
    with pytest.raises(BrodmannError, match="the share that a schedule returns"):
        Trainer(network, data, schedule=Schedule(epochs=2, shape=lambda done: 1 - done / 0.99))
