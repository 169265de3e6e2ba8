"""The baseline, trained by backpropagation: its checks, its files, and the rules that it takes."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from brodmann import (
    RLS,
    Adam,
    BrodmannError,
    CheckpointError,
    CrossEntropy,
    DivergenceError,
    MeanSquaredError,
    SumOfSquares,
)
from brodmann.baselines import Backpropagation, in_proportion, matching_width
from brodmann.estimator import SALClassifier
from brodmann.files import read_tensors, write_tensors
from brodmann.runs import RunOptions
from brodmann.updates import UPDATES

from .training.parts import blobs


def test_a_damaged_file_of_the_baseline_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Backpropagation(5, 3, width=4).save(path)
    tensors, options = read_tensors(path)
    for change in ({"width": 6}, {"bends": 2}):
        write_tensors(path, tensors, {"backpropagation": {**options["backpropagation"], **change}})
        with pytest.raises(CheckpointError, match="is damaged, or was written by another version"):
            Backpropagation.load(path)


def test_the_baseline_is_checked_as_a_network_is_and_keeps_its_rate(tmp_path: Path) -> None:
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    baseline = Backpropagation(5, 3, width=4, lr=0.25)
    baseline.save(tmp_path / "network.safetensors")
    assert Backpropagation.load(tmp_path / "network.safetensors").lr == 0.25
    before = baseline(x)
    for refused, message in (
        (lambda: Backpropagation(5, 3, lr=-1.0), "Expected lr to be a number of at least 0, got -1.0"),
        (lambda: Backpropagation(5, 3, decay=-1.0), "Expected decay to be a number of at least 0, got -1.0"),
        (lambda: Backpropagation(5, 3, dropout=1.5), r"Expected dropout to be a number in \[0, 1\), got 1.5"),
        (lambda: baseline.learn_with_output(x, y, lr=-1.0), "Expected lr to be a number of at least 0, got -1.0"),
        (lambda: baseline.learn_with_output(x, y, -torch.ones(6)), "Expected sample weights that are finite and at"),
        (lambda: baseline.learn_with_output(x, y, torch.ones(5)), "Expected a weight for each sample, got 5 for 6"),
        (lambda: baseline.learn_with_output(x, y[:5]), "Expected as many targets as samples, got 5 for 6"),
        (lambda: baseline.learn_with_output(x[:0], y[:0]), "Cannot learn from an empty batch"),
        (lambda: baseline.learn_with_output(x * math.nan, y), "The loss is nan: samples hold NaN or infinite values"),
        (lambda: baseline.learn(x[:, :4], y), r"Expected an input of shape \(..., 5\), got \(6, 4\)"),
        (
            lambda: baseline.learn(x.double(), y),
            "Expected an input of torch.float32, the dtype of the weights",
        ),
        (lambda: baseline((x, x)), "Expected x to be a tensor, got tuple: convert it"),  # type: ignore[arg-type]
        (lambda: baseline.learn((x,), y), "Expected x to be a tensor, got tuple: convert it"),  # type: ignore[arg-type]
        (lambda: baseline.learn(x.clone().requires_grad_(), y), "x requires a gradient, which this call would not"),
    ):
        with pytest.raises(BrodmannError, match=message):
            refused()
    assert torch.equal(baseline(x), before)
    nn.init.constant_(baseline.body[-1].bias, math.inf)
    with pytest.raises(DivergenceError, match=r"first appear in layer 'body.3', whose weights have held them since"):
        baseline.learn_with_output(x, y)


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "muon"])
def test_the_baseline_learns_where_gradients_are_off_and_after_a_change_of_dtype(optimiser: str) -> None:
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    baseline = Backpropagation(5, 3, width=4, optimiser=optimiser, momentum=0.9 if optimiser == "sgd" else 0.0)
    baseline.learn_with_output(x, y)
    twin = copy.deepcopy(baseline)
    expected = [twin.learn_with_output(x, y)[0] for _ in range(3)]
    with torch.no_grad():
        found = [baseline.learn_with_output(x, y)[0]]
    with torch.inference_mode():
        found.append(baseline.learn_with_output(x.clone(), y.clone())[0])
    baseline.double()
    found.append(baseline.learn_with_output(x.double(), y)[0])
    assert found[:2] == expected[:2]
    torch.testing.assert_close(found[2], expected[2].double(), atol=1e-5, rtol=1e-5)
    assert baseline.learn_with_output(x.double(), y)[0] < found[2]


def test_a_file_of_the_baseline_holds_its_loss(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Backpropagation(5, 3, width=4, loss=CrossEntropy(label_smoothing=0.3)).save(path)
    assert vars(Backpropagation.load(path).loss) == vars(CrossEntropy(label_smoothing=0.3))
    Backpropagation(5, 3, width=4, loss=nn.CrossEntropyLoss(label_smoothing=0.3)).save(path)
    with pytest.raises(CheckpointError, match="was trained with CrossEntropyLoss: pass that as loss"):
        Backpropagation.load(path)
    assert isinstance(Backpropagation.load(path, MeanSquaredError()).loss, MeanSquaredError)


def test_a_recursive_rule_is_one_under_whatever_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATES, "slow", partial(RLS, ridge=3.0))  # type: ignore[call-arg]
    monkeypatch.setitem(UPDATES, "fast", partial(Adam, beta1=0.8))  # type: ignore[call-arg]
    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    fitted = SALClassifier(optimiser="slow").fit(x, y)
    assert isinstance(fitted.network_.loss, SumOfSquares)
    assert {layer.update_rule for _, layer in fitted.network_.area_layers()} == {RLS(ridge=3.0)}
    with pytest.raises(BrodmannError, match="The rule 'slow' learns streams in one pass"):
        _ = RunOptions(optimiser="slow").update_rule
    with pytest.raises(BrodmannError, match="The optimiser 'slow' needs more than gradients"):
        Backpropagation(5, 3, optimiser="slow")
    with pytest.raises(BrodmannError, match="Momentum works only with the optimiser 'sgd', got 0.5 for 'muon'"):
        Backpropagation(5, 3, optimiser="muon", momentum=0.5)
    assert RunOptions(optimiser="fast").weight_decay == RunOptions(optimiser="adam").weight_decay


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


def test_a_baseline_that_failed_is_at_inference_as_before() -> None:
    learner, x = Backpropagation(8, 3, dropout=0.5), torch.randn(4, 8)
    with pytest.raises(BrodmannError):
        learner.learn_with_output(x[:, :7], torch.zeros(4, dtype=torch.int64), lr=0.1)
    assert torch.equal(learner(x), learner(x))


@pytest.mark.parametrize("loss", [CrossEntropy(), nn.CrossEntropyLoss()])
def test_the_baseline_returns_the_error_of_its_input_as_autograd_does(loss: Any) -> None:
    encoder, baseline, twin = nn.Linear(6, 5), Backpropagation(5, 3, width=4, loss=loss), nn.Linear(6, 5)
    twin.load_state_dict(encoder.state_dict())
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    nn.functional.cross_entropy(baseline(twin(x)), y).backward()
    before = baseline(encoder(x))
    hidden = encoder(x)
    _, error = baseline.learn_with_error(hidden, y, lr=0.0)  # as for a network, nothing moves
    hidden.backward(error)
    torch.testing.assert_close(encoder.weight.grad, twin.weight.grad)
    assert torch.equal(baseline(encoder(x)), before)
    assert not baseline.optimiser.state
    first = baseline.learn(x[:, :5], y)
    with torch.inference_mode():
        assert baseline.learn_with_error(x[:, :5], y)[0] < first


def test_a_loss_of_several_targets_trains_the_baseline_as_it_does_a_network() -> None:
    def loss(output: torch.Tensor, target: Any, weight: Any = None) -> torch.Tensor:
        return (output - target[0] - target[1]).square().mean()

    baseline = Backpropagation(5, 3, width=4, loss=loss)
    x, targets = torch.randn(8, 5), (torch.randn(8, 3), torch.randn(8, 3))
    losses = [float(baseline.learn(x, targets, lr=0.01)) for _ in range(20)]
    assert losses[-1] < losses[0]
    with pytest.raises(AttributeError):
        baseline.update_rule = Adam()  # type: ignore[misc]  # would change nothing
