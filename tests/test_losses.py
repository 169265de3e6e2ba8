"""Losses: ours, those of PyTorch and those of one's own; their derivatives, weights, shapes and kinds of target."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from brodmann import (
    AreaLinear,
    BinaryCrossEntropy,
    BrodmannError,
    CrossEntropy,
    DivergenceError,
    Graph,
    Local,
    MeanSquaredError,
    Network,
    Sequential,
    SumOfSquares,
    mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.telemetry import alignment
from brodmann.training import evaluate

from .training.parts import AS_IT_IS


def test_any_loader_and_any_loss_work() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(32, 5), torch.randn(32, 3)
    network = Network(mlp(5, 3, width=8, areas=4), MeanSquaredError(), lr=0.01)
    losses = [float(network.learn(*batch)) for _ in range(20) for batch in DataLoader(TensorDataset(x, y), 8)]
    assert sum(losses[-4:]) < sum(losses[:4])
    huber = Network(mlp(5, 3, areas=4), lambda out, t, w: torch.nn.functional.huber_loss(out, t))
    error, loss = huber.output_error(torch.full((2, 3), 5.0), torch.zeros(2, 3))
    torch.testing.assert_close(error, torch.full((2, 3), 1 / 6))
    torch.testing.assert_close(loss, torch.tensor(4.5))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("pos_weight", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_binary_cross_entropy_is_pytorchs_and_weights_samples(pos_weight: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    theirs, ours = nn.BCEWithLogitsLoss(pos_weight=pos_weight), BinaryCrossEntropy(pos_weight)
    x, w = torch.randn(7, 5), torch.rand(7)
    for y in (torch.randint(0, 2, (7, 3)), torch.rand(7, 3), torch.rand(7, 3) > 0.5):
        out = 30 * torch.randn(7, 3)
        torch.testing.assert_close(ours(out, y), theirs(out, y.double()), rtol=1e-14, atol=0)
        each = functional.binary_cross_entropy_with_logits(out, y.double(), pos_weight=pos_weight, reduction="none")
        torch.testing.assert_close(ours(out, y, w), (each.mean(1) * w).sum() / w.sum())
        loss = BinaryCrossEntropy(pos_weight, normalised=False)
        torch.testing.assert_close(loss(out, y, w), (each.mean(1) * w).sum() / 7)
        networks = [Network(mlp(5, 3, width=6), given).double() for given in (theirs, ours)]
        networks[0].load_state_dict(networks[1].state_dict())
        for _ in range(3):
            torch.testing.assert_close(*[network.learn(x, y) for network in networks])
        torch.testing.assert_close(networks[0](x), networks[1](x))


def test_cross_entropy_weights_classes_and_samples() -> None:
    torch.manual_seed(0)
    out, y, w = torch.randn(7, 3), torch.randint(0, 3, (7,)), torch.rand(7)
    classes = torch.tensor([1.0, 2.0, 3.0])
    expected = torch.nn.functional.cross_entropy(out, y, weight=classes, label_smoothing=0.0)
    torch.testing.assert_close(CrossEntropy(class_weights=classes)(out, y), expected)
    smoothed = torch.nn.functional.cross_entropy(out, y, weight=classes, label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropy(0.1, classes)(out, y), smoothed)
    each = torch.nn.functional.cross_entropy(out, y, weight=classes, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropy(0.1, classes)(out, y, w), (each * w).sum() / (classes[y] * w).sum())
    torch.testing.assert_close(CrossEntropy(0.1, classes, normalised=False)(out, y, w), (each * w).sum() / len(y))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        CrossEntropy(0.1),
        CrossEntropy(0.2, torch.tensor([1.0, 0.5, 3.0])),
        CrossEntropy(0.2, torch.tensor([1.0, 0.5, 3.0]), normalised=False),
        MeanSquaredError(),
        MeanSquaredError(normalised=False),
        BinaryCrossEntropy(),
        BinaryCrossEntropy(torch.tensor([1.0, 0.5, 3.0])),
        BinaryCrossEntropy(torch.tensor([1.0, 0.5, 3.0]), normalised=False),
    ],
)
def test_losses_know_their_own_derivative(
    loss: CrossEntropy | MeanSquaredError | BinaryCrossEntropy, weighted: bool
) -> None:
    torch.manual_seed(0)
    output = torch.randn(4, 2, 3, requires_grad=True)
    target = torch.randint(0, 3, (4, 2)) if isinstance(loss, CrossEntropy) else torch.rand(4, 2, 3)
    weight = torch.rand(4, 2) if weighted else None
    value, error = loss.value_and_error(output.detach(), target, weight)
    expected = loss(output, target, weight)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(error, torch.autograd.grad(expected, output)[0])
    nothing = loss(output, target, torch.zeros(4, 2))
    assert float(nothing.detach()) == 0.0
    if weight is not None:  # twice the weights: the same, or twice as much
        torch.testing.assert_close(loss(output, target, 2 * weight), expected * (1 if loss.normalised else 2))


def test_a_loss_of_ones_own_is_handed_the_sample_weights() -> None:
    torch.manual_seed(0)
    x, y, weight = torch.randn(8, 5), torch.randint(0, 3, (8,)), torch.rand(8)

    def loss(output, target, weight):
        values = torch.nn.functional.cross_entropy(output, target, reduction="none")
        return (values if weight is None else values * weight / weight.sum()).sum()

    own, ready = (Network(mlp(5, 3, width=6), chosen) for chosen in (loss, None))
    ready.load_state_dict(own.state_dict())
    for given in (weight, torch.ones(8)):
        torch.testing.assert_close(own.learn(x, y, given), ready.learn(x, y, given))
    torch.testing.assert_close(own(x), ready(x))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (nn.CrossEntropyLoss(), CrossEntropy()),
        (nn.CrossEntropyLoss(label_smoothing=0.1), CrossEntropy(0.1)),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])), CrossEntropy(0.0, torch.tensor([1.0, 2.0, 0.5]))),
    ],
)
def test_losses_of_pytorch_work_as_they_are(theirs: nn.Module, ours: CrossEntropy) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))
    networks = [Network(mlp(5, 3, width=6), loss) for loss in (theirs, ours)]
    networks[0].load_state_dict(networks[1].state_dict())  # a loss adds nothing to it
    for _ in range(3):
        losses = [network.learn(x, y) for network in networks]
        torch.testing.assert_close(*losses)
    torch.testing.assert_close(networks[0](x), networks[1](x))


@pytest.mark.parametrize("loss", [nn.MultiLabelMarginLoss(), nn.MultiLabelSoftMarginLoss(), nn.MultiMarginLoss()])
def test_losses_of_many_labels_take_steps_as_rows_and_their_outputs_for_logits(loss: nn.Module) -> None:
    torch.manual_seed(0)
    network, x = Network(mlp(5, 3, width=6), loss), torch.randn(4, 6, 5)
    y = torch.randint(0, 3, (4, 6)) if isinstance(loss, nn.MultiMarginLoss) else torch.randint(0, 2, (4, 6, 3))
    rows = y.flatten() if y.ndim == 2 else y.flatten(0, 1)
    expected = loss(network(x).flatten(0, 1), rows)
    torch.testing.assert_close(network.learn(x, y), expected)
    assert "r2" not in evaluate(network, x[:, 0], y[:, 0])


def test_losses_of_pytorch_take_shapes_and_numbers_as_ours_do() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 2.0, 0.5])
    x, y = torch.randn(4, 3, 5).double(), torch.randint(0, 3, (4, 3))  # as many classes as steps of a sequence
    real = torch.randn(8)
    for theirs, ours, samples, target, outputs in (
        (nn.CrossEntropyLoss(weight=weights), CrossEntropy(0.0, weights), x, y, 3),
        (functional.cross_entropy, CrossEntropy(), x, y, 3),
        (nn.MSELoss(), lambda *given: 2 * MeanSquaredError()(*given), torch.randn(8, 5).double(), real, 1),
    ):
        networks = [Network(mlp(5, outputs, width=6), loss).double() for loss in (theirs, ours)]
        networks[0].load_state_dict(networks[1].state_dict())
        for inside in (False, True, False):
            with torch.inference_mode(inside):
                torch.testing.assert_close(*[network.learn(samples, target) for network in networks])
        torch.testing.assert_close(networks[0](samples), networks[1](samples))


def test_a_loss_of_ones_own_learns_in_inference_mode_as_outside() -> None:
    def squares(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return ((output - target) ** 2 * (1 if weight is None else weight[:, None])).sum()

    outcomes = []
    for inside in (False, True):
        torch.manual_seed(0)
        network = Network(mlp(5, 3, width=8, areas=2), squares, lr=0.01)
        with torch.inference_mode(inside):
            x, y, weight = torch.randn(6, 5), torch.randn(6, 3), torch.rand(6)
            for _ in range(3):
                network.learn(x, y, weight)
        outcomes.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_real_targets_may_be_float64_as_numpys_are() -> None:
    outcomes = []
    for number in (torch.float32, torch.float64):
        torch.manual_seed(0)
        network = Network(mlp(5, 3, width=8, areas=2), MeanSquaredError(), lr=0.01)
        network.learn(torch.ones(4, 5), torch.ones(4, 3, dtype=number))
        outcomes.append(network(torch.ones(2, 5)))
    assert torch.equal(*outcomes)


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy(), MeanSquaredError(), SumOfSquares()])
def test_fewer_targets_than_rows_are_refused(
    loss: CrossEntropy | BinaryCrossEntropy | MeanSquaredError | SumOfSquares,
) -> None:
    output = torch.randn(8, 5, 3)
    for target in (torch.zeros(8, dtype=torch.int64), torch.zeros(8, 6, dtype=torch.int64)):
        with pytest.raises(BrodmannError, match=r"Expected targets of shape \(8, 5"):
            loss.value_and_error(output, target)
        with pytest.raises(BrodmannError, match=r"Expected targets of shape \(8, 5"):
            loss(output, target)


@pytest.mark.parametrize("loss", [CrossEntropy(), MeanSquaredError(), SumOfSquares()])
def test_classes_out_of_range_are_refused(loss: CrossEntropy | MeanSquaredError | SumOfSquares) -> None:
    for target in (torch.tensor([0, 3]), torch.tensor([-1, 2])):
        for classes in (target, target.int()):
            with pytest.raises(BrodmannError, match=r"of shape \(2,\), torch.int64, from 0 to 2, got (0 to 3|-1 to 2)"):
                loss(torch.randn(2, 3), classes)


@pytest.mark.parametrize("loss", [nn.PoissonNLLLoss(), nn.MSELoss(), nn.HuberLoss(), functional.l1_loss])
def test_losses_of_pytorch_take_whole_targets_as_real_ones(loss: Callable[..., torch.Tensor]) -> None:
    """PyTorch itself would stretch (n,) over outputs (n, 1): every sample against every target."""
    torch.manual_seed(0)
    network = Network(mlp(4, 1, width=5), loss)
    x, counts = torch.randn(6, 4), torch.arange(6)
    errors = [network.output_error(network(x), target) for target in (counts, counts.float(), counts.float()[:, None])]
    for error, value in errors[1:]:
        torch.testing.assert_close(error, errors[0][0])
        torch.testing.assert_close(value, errors[0][1])


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), nn.HuberLoss(), nn.PoissonNLLLoss(), nn.SoftMarginLoss(), partial(functional.mse_loss)]
)
@pytest.mark.parametrize("samples", [1, 4, 6])
def test_losses_of_pytorch_that_take_no_classes_refuse_them(loss: Callable[..., torch.Tensor], samples: int) -> None:
    """PyTorch itself would stretch classes (n,) over outputs (n, 4) where n is 1 or 4."""
    network, x, classes = Network(mlp(3, 4, width=5), loss), torch.randn(samples, 3), torch.arange(samples) % 4
    for target in (classes, classes[:, None]):
        with pytest.raises(BrodmannError, match=rf"a number for each of the outputs \({samples}, 4\), got classes"):
            network.learn(x, target)
    network.learn(x, functional.one_hot(classes, 4))
    network.loss = nn.CrossEntropyLoss()
    with pytest.raises(BrodmannError, match=rf"does not take an output of shape \({samples}, 4\) with"):
        network.learn(x, torch.zeros(samples, 5, dtype=torch.int64))


class Own(nn.modules.loss._Loss):
    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -output.log_softmax(1)[torch.arange(len(target)), target].mean()


def test_a_loss_of_ones_own_in_pytorchs_manner_takes_classes() -> None:
    network, x, y = Network(mlp(3, 4, width=5), Own()), torch.randn(4, 3), torch.arange(4)
    torch.testing.assert_close(network.learn(x, y), functional.cross_entropy(network(x), y), atol=0.1, rtol=0)


def weights_of(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in network.state_dict().values()]


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: (output - target).square().mean(),
        lambda output, target: (target.float() - output.sigmoid()).abs().mean(),
        lambda output, target: functional.mse_loss(output, target),
        lambda output, target: functional.huber_loss(output, target),
        lambda output, target: torch.where(target > 0, output, -output).mean(),
        lambda output, target, weight=None: ((output - target[:, None]) ** 2 * target).mean(),
    ],
)
def test_a_loss_of_ones_own_that_pairs_every_output_with_every_target_is_refused(loss: Any) -> None:
    network, x, y = Network(mlp(4, 1), loss), torch.randn(6, 4), torch.randn(6)
    before = weights_of(network)
    with pytest.raises(BrodmannError, match=r"outputs \(6, 1\) and .* \(6,\) together as \(6, 6\).*output\[..., 0\]"):
        network.learn(x, y)
    assert all(map(torch.equal, before, weights_of(network)))
    network.learn(x, y[:, None])


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: ((output[:, :1] - target) ** 2 * output[:, 1:].exp()).mean(),
        lambda output, target: functional.gaussian_nll_loss(output[:, :1], target, output[:, 1:].exp()),
        lambda output, target: functional.mse_loss(output[:, :1], target),
        lambda output, target: (output.sum(1, keepdim=True) - target).square().mean(),
        lambda output, target: -(output.log_softmax(1).gather(1, (target[:, None] > 0).long()) * target).mean(),
    ],
)
def test_one_number_made_of_each_output_is_not_paired_with_every_target(loss: Any) -> None:
    network = Network(mlp(4, 2), loss)
    with pytest.raises(BrodmannError, match=r"outputs \(6, 1\) and .* \(6,\) together as \(6, 6\)"):
        network.learn(torch.randn(6, 4), torch.randn(6))


def test_the_outputs_of_several_are_not_paired_with_targets_either() -> None:
    body = Graph({"a": (AreaLinear(4, 1), "input"), "b": (AreaLinear(4, 1), "input")}, outputs=("a", "b"))
    loss = functional.mse_loss
    network = Network(body, lambda output, target: loss(output[0][:, 0], target[0]) + loss(output[1], target[1]))
    with pytest.raises(BrodmannError, match=r"outputs \(6, 1\) and targets"):
        network.learn(torch.randn(6, 4), (torch.randn(6), torch.randn(6)))


def test_a_network_whose_loss_cannot_be_copied_can_be_merged_and_looked_into() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            with self.lock:
                return functional.cross_entropy(output, target)

    network, x, y = Network(mlp(4, 3, areas=2), Locked()), torch.randn(6, 4), torch.arange(6) % 3
    network.learn(x, y)
    torch.testing.assert_close(network.merged()(x), network(x))
    before = weights_of(network)
    assert len(alignment(network, x, y)) == 2
    assert all(map(torch.equal, before, weights_of(network)))


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: (output[:, 0] - target).square().mean(),
        lambda output, target: functional.mse_loss(output, target.view_as(output)),
        lambda output, target: functional.mse_loss(output.squeeze(1), target.to(output)),
        lambda output, target: (output - target[None]).abs().amin(1).mean(),  # each with the nearest
        lambda output, target: torch.outer(output[:, 0], target).mean(),
        lambda output, target: ((output - output.T) * (target[:, None] - target)).mean(),
        lambda output, target: ((output - output.T) * (target.expand(6, 6) < target[:, None])).mean(),
        lambda output, target: ((output.expand(6, 6) - output.T) * (target[:, None] - target)).mean(),
        lambda output, target: (output - torch.linspace(0, 1, 6)).sigmoid().mean(),  # six thresholds for six samples
        torch.compile(lambda output, target: (output[:, 0] - target).square().mean(), backend="eager"),
    ],
)
def test_a_loss_of_ones_own_decides_by_itself_what_shapes_it_takes(loss: Any) -> None:
    network, x, y = Network(mlp(4, 1), loss), torch.randn(6, 4), torch.randn(6)
    for _ in range(3):
        torch.testing.assert_close(network.learn(x, y, lr=0.0), loss(network(x), y))


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (lambda y, t: torch.where(t.isnan(), torch.zeros(()), (y - t) ** 2).mean(), torch.full((4, 3), math.nan)),
        (lambda y, t: ((y - y.detach()) ** 2).mean().sqrt(), torch.zeros(4, 3)),
    ],
)
def test_a_finite_loss_whose_derivative_is_none_moves_nothing(loss: Any, target: torch.Tensor) -> None:
    for network in (Network(mlp(5, 3, width=6, areas=2), loss), Backpropagation(5, 3, width=6, loss=loss)):
        before = weights_of(network)
        with pytest.raises(DivergenceError, match="its derivative with respect to the output is not finite"):
            network.learn_with_output(torch.randn(4, 5), target)
        assert all(map(torch.equal, weights_of(network), before))


def test_class_weights_of_a_loss_are_no_weights_of_samples() -> None:
    def focal(output: torch.Tensor, target: torch.Tensor, class_weights: Any = None) -> torch.Tensor:
        return nn.functional.cross_entropy(output, target, weight=class_weights)

    learner = Network(mlp(8, 4, width=8, areas=1), focal)
    with pytest.raises(BrodmannError, match="focal takes no sample weights"):
        learner.output_error(torch.zeros(4, 4), torch.tensor([3, 2, 1, 0]), torch.tensor([1.0, 0.0, 0.0, 0.0]))


class Weighed(nn.Module):
    """A loss that asks for weights, and holds what learning does not move."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("classes", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        losses = functional.cross_entropy(output, target, self.classes, reduction="none")
        return losses.mean() if weight is None else (weight * losses).mean()


@pytest.mark.parametrize("make", [lambda loss: Network(mlp(5, 3), loss), lambda loss: Backpropagation(5, 3, loss=loss)])
def test_a_loss_is_no_part_of_the_network_whenever_it_is_given(make: Any) -> None:
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))
    network = make(Weighed())
    assert not any("loss" in name for name in network.state_dict())
    one, other = (network.learn_with_output(x, y, weight, lr=0.0)[0] for weight in (None, torch.ones(8)))
    torch.testing.assert_close(one, other)
    network.loss = nn.CrossEntropyLoss()
    plain = network.learn_with_output(x, y, None, lr=0.0)[0]
    torch.testing.assert_close(plain, functional.cross_entropy(network(x), y).detach())
    with pytest.raises(BrodmannError, match="Expected a loss such as"):
        network.loss = 3


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


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (CrossEntropy(0.1), "CrossEntropy(label_smoothing=0.1, class_weights=None, normalised=True)"),
        (SumOfSquares(), "SumOfSquares()"),
        (nn.MSELoss(), "PyTorchLoss(MSELoss())"),
        (functional.cross_entropy, "PyTorchLoss(cross_entropy)"),
    ],
)
def test_a_loss_shows_its_options(loss: Any, text: str) -> None:
    assert repr(Network(mlp(4, 3), loss).loss) == text
