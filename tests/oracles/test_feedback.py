"""Oracles of the feedback paths: what aligns, what is equal, and who may read the forward weights."""

from __future__ import annotations

import functools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Context,
    KolenPollack,
    LeastChange,
    Local,
    Network,
    Rates,
    Router,
    Sequential,
    SignSymmetric,
    Transpose,
    UpdateRule,
    from_torch,
    mlp,
)
from brodmann.feedback import Direct, Feedback, Shape, Signal
from brodmann.kernels import Groups

from .cases import PATHS, RULES
from .models import MODELS, samples


def learn_some(network: Network, steps: int = 5, seed: int = 1) -> None:
    torch.manual_seed(seed)
    for _ in range(steps):
        network.learn(torch.randn(16, 5), torch.randint(0, 3, (16,)), lr=0.05)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kolen_pollack_differences_shrink_by_their_own_steps(momentum: float) -> None:
    torch.manual_seed(0)
    rule = SGD(decay=0.4, momentum=momentum)
    network = Network(
        mlp(
            5,
            3,
            depth=3,
            width=6,
            areas=4,
            routing="layer",
            feedback="kolen-pollack-per-area",
            update=rule,
            pooling=0.3,
        )
    )
    layer = network.area_layers()[1][1]
    feedback = layer.feedback
    before = layer.shared.value[0] - feedback.shared.value[0]
    shrink, own = 1.0, {}
    torch.manual_seed(1)
    for step in range(6):
        lr = 0.05 / (1 + step)
        slots = layer.areas.slot.clone()
        x = torch.randn(4, 5)
        hidden, _ = Sequential(*network.body.layers[:2]).trace(x, Context())
        chosen = set(layer.router.route(hidden).area.tolist())
        network.learn(x, torch.randint(0, 3, (4,)), lr=lr)
        shrink *= 1 - lr * 0.4
        for area in chosen:
            # Both start at zero: every step of a pair keeps them equal, whatever the decay.
            own[area] = own.get(area, 1.0) * (1 - lr * 0.7)
        assert all(int(layer.areas.slot[a]) > 0 for a in chosen), slots
    torch.testing.assert_close(
        layer.shared.value[0] - feedback.shared.value[0], shrink * before, rtol=1e-12, atol=1e-14
    )
    assert 0 < math.prod(own.values()) < 1
    for area in own:
        ours = layer.areas.weight.value[int(layer.areas.slot[area])]
        theirs = feedback.areas.weight.value[int(feedback.areas.slot[area])]
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("double")
def test_an_areas_own_difference_shrinks_where_the_shared_part_is_off() -> None:
    torch.manual_seed(0)
    path = functools.partial(KolenPollack, per_area=True)
    layer = AreaLinear(5, 3, areas=3, shared="off", feedback=path, update=SGD(decay=0.5), pooling=0.5)
    start = layer.areas.weight.value[0] - layer.feedback.areas.weight.value[0]
    times = dict.fromkeys(range(3), 0)
    for _ in range(5):
        y, trace = layer.trace(torch.randn(3, 5), Context(lr=0.1))
        for area, _, _ in trace.groups.segments:
            times[area] += 1
        layer.learn(trace, torch.randn_like(y), Context(lr=0.1))
    assert sum(count > 0 for count in times.values()) > 1
    for area, count in times.items():
        if count:
            ours = layer.areas.weight.value[int(layer.areas.slot[area])]
            theirs = layer.feedback.areas.weight.value[int(layer.feedback.areas.slot[area])]
            torch.testing.assert_close(ours - theirs, start * (1 - 0.1 * 1.0) ** count, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("depth", [2, 5])
def test_equal_starts_are_backpropagation_bit_for_bit(rule: str, depth: int) -> None:
    def network(path: object) -> Network:
        torch.manual_seed(0)
        sizes = [5, *[7] * (depth - 1), 3]
        layers = []
        for index in range(depth):
            layers.append(
                AreaLinear(
                    sizes[index],
                    sizes[index + 1],
                    areas=1,
                    feedback=path if index else None,
                    update=RULES[rule],
                    start_scale=0.0 if index == depth - 1 else 1.0,
                )
            )
            layers += [Local(torch.nn.ReLU())] if index < depth - 1 else []
        body = Sequential(*layers)
        for layer in body.layers:  # the same weights for both, whatever the paths have drawn
            if isinstance(layer, AreaLinear) and layer.in_features != 5 and layer.out_features != 3:
                layer.shared.value.copy_(torch.eye(7)[None] * 0.9)
                if isinstance(layer.feedback, KolenPollack):
                    layer.feedback.shared.value.copy_(layer.shared.value)
        return Network(body)

    aligned = network(functools.partial(KolenPollack, start="equal"))
    truth = network(Transpose)
    truth.body.layers[0].load_state_dict(aligned.body.layers[0].state_dict())
    learn_some(aligned)
    learn_some(truth)
    for (_, ours), (_, theirs) in zip(aligned.area_layers(), truth.area_layers(), strict=True):
        assert torch.equal(ours.shared.value, theirs.shared.value)
        assert torch.equal(ours.shared.bias.value, theirs.shared.bias.value)


def test_independent_starts_are_independent() -> None:
    torch.manual_seed(0)
    for _, layer in Network(mlp(64, 64, depth=4, width=64, routing="layer")).area_layers()[1:]:
        ours, theirs = layer.shared.value.flatten(), layer.feedback.shared.value.flatten()
        assert abs(float(ours @ theirs / (ours.norm() * theirs.norm()))) < 0.1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shared", ["learned", "off"])
def test_only_transpose_reads_the_weights_and_sign_symmetric_their_signs(path: str, shared: str) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, depth=3, width=6, areas=3, routing="layer", feedback=path, shared=shared))
    learn_some(network)
    _, layer = network.area_layers()[1]
    layer.areas.weight.value.mul_(50.0)  # beside a shared part that no longer decides the signs alone
    x = torch.randn(8, 6)
    _, trace = layer.trace(x, Context())
    delta, output_error = torch.randn(8, 6), torch.randn(8, 3)

    def error() -> torch.Tensor:
        assert isinstance(layer.feedback, Feedback)
        return layer.feedback.error(
            Signal(trace.x, delta, delta, trace.groups, output_error, layer.shared, layer.areas)
        )

    before = error()
    for slab in (layer.shared, layer.areas.weight):
        if slab is not None:
            slab.value.mul_(3.0)
    assert torch.equal(error(), before) == (path != "transpose")
    for slab in (layer.shared, layer.areas.weight):
        if slab is not None:
            slab.value.neg_()
    if path == "sign":
        own = 0 if layer.shared is None else layer.shared.value[0]
        for area, start, stop in trace.groups.segments:
            signs = (own + layer.areas.weight.value[int(layer.areas.slot[area])]).sign()
            rows = trace.groups.order[start:stop]
            expected = delta[rows] @ signs * math.sqrt(2 / (math.pi * layer.in_features))
            torch.testing.assert_close(error()[rows], expected)
        assert isinstance(layer.feedback, SignSymmetric)
        torch.testing.assert_close(error(), -before)
    elif path != "transpose":
        assert torch.equal(error(), before)


def test_noise_multiplies_every_change_of_the_feedback_and_nothing_else() -> None:
    torch.manual_seed(0)
    shape = Shape(40, 30, 1, True, None, SGD(decay=0.1))
    noisy = KolenPollack(shape, noise=0.1)
    before = noisy.shared.value.clone()
    x, delta = torch.randn(8, 40), torch.randn(8, 30)
    assert noisy.follower is None
    noisy.learn(Signal(x, delta, delta, Groups.single(8), None, None, None), 0.1, 0.1, 0.1, 0.1)
    factor = (noisy.shared.value - before) / (-0.1 * (0.1 * before + delta.T @ x))
    assert float(factor.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(factor.std()) == pytest.approx(0.1, rel=0.15)
    with pytest.raises(BrodmannError, match="Expected noise to be 0 with a map per area"):
        KolenPollack(shape, noise=0.1, per_area=True)


def test_noise_that_is_nothing_leaves_the_feedback_of_the_shared_part_as_it_is_without() -> None:
    x, y = torch.randn(4, 16, 5), torch.randint(0, 3, (4, 16))  # drawn before: noise moves the generator on
    networks = []
    for noise in (0.0, 1e-30):
        torch.manual_seed(0)
        path = functools.partial(KolenPollack, noise=noise)
        rule = SGD(decay=0.4)
        layers = [
            AreaLinear(5, 6, areas=3, feedback=None, update=rule),
            AreaLinear(6, 3, areas=3, gated=True, pooling=0.3, feedback=path, update=rule),
        ]
        networks.append(Network(Sequential(*layers)))
        for batch in zip(x, y, strict=True):
            networks[-1].learn(*batch, lr=0.05)
    one, two = (network.area_layers()[1][1].feedback.shared.value for network in networks)
    torch.testing.assert_close(one, two)


class Recorded(Feedback):
    """A path whose error is small, and which remembers how it was told to learn."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.told: list[tuple[float, ...]] = []

    def error(self, signal: Signal) -> torch.Tensor:
        return 1e-3 * signal.x

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        self.told.append((lr, decay, area_lr, area_decay))


def test_the_least_change_has_the_size_of_the_delta_over_that_of_the_error_and_learns_as_its_path() -> None:
    path = LeastChange(Shape(4, 3, 1, True, None, SGD()), path=Recorded)
    x, delta = torch.randn(5, 4), 0.1 * torch.randn(5, 3)
    x[2] = 0.0
    signal = Signal(x, delta, delta, Groups.single(5), None, None, None)
    error = 1e-3 * x
    expected = error * delta.square().sum(1, keepdim=True) / error.square().sum(1, keepdim=True)
    torch.testing.assert_close(path.error(signal), expected.nan_to_num())
    path.learn(signal, 0.1, 0.2, 0.3, 0.4)
    assert path.path.told == [(0.1, 0.2, 0.3, 0.4)]


def test_a_mirrored_start_is_an_estimate_of_the_weights_and_no_copy() -> None:
    torch.manual_seed(0)
    weight = torch.randn(30, 40)
    found = KolenPollack(Shape(40, 30, 1, True, weight, SGD()), start="mirrored").shared.value[0]
    assert float((found - weight).norm() / weight.norm()) == pytest.approx((41 / 8192) ** 0.5, rel=0.1)


@pytest.mark.parametrize("update", [Adam(decay=0.1), SGD(momentum=0.9, decay=0.1)])
def test_areas_that_were_frozen_go_on_with_their_pairs(update: UpdateRule) -> None:
    torch.manual_seed(0)
    path, router = functools.partial(KolenPollack, per_area=True), functools.partial(Router, learned=False)
    layer = AreaLinear(4, 4, areas=2, feedback=path, update=update, router=router)
    network = Network(Sequential(AreaLinear(4, 4, areas=1, feedback=None), layer), lr=0.1, rates=Rates(areas=0.0))
    x, y = torch.randn(8, 4), torch.randint(0, 4, (8,))
    for rate in (0.0, 1.0):
        network.rates = Rates(areas=rate)
        for _ in range(3):
            network.learn(x, y)
        forward, back = layer.areas, layer.feedback.areas
        assert forward.existing == back.existing == (0 if rate == 0.0 else forward.existing)
        torch.testing.assert_close(forward.weight.value[forward.slot], back.weight.value[back.slot])


class Uneven(nn.Module):
    """Two rows of outputs of five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.beside, self.readout = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.beside(self.below(x))[:, :2])


@pytest.mark.parametrize("name", ["images", "sequences", "attending", "encoding", "language", "residual"])
def test_direct_feedback_finds_its_way_through_converted_networks(name: str) -> None:
    """Every map below which something learns sends down the output error by a matrix of its own, and nothing else."""
    build, shape = MODELS[name]
    torch.manual_seed(0)
    described = samples(name, 2) if name == "language" else shape
    network = Network(from_torch(build(), described, areas=1, feedback="direct", update=SGD()))
    x = samples(name, 5)
    output = network(x)
    y = torch.randint(0, output.shape[-1], output.shape[:-1])
    rows = output[..., 0].numel()
    paths = [layer.feedback for layer in network.modules() if isinstance(layer, AreaLinear) and layer.feedback]
    assert len(paths) > 1
    assert all(isinstance(path, Direct) for path in paths)
    seen: dict[Any, Tensor] = {}
    network.learn(x, y, lr=0.0, observe=seen.__setitem__)
    for layer, error in seen.items():
        if isinstance(layer.feedback, Direct):
            assert layer.feedback.rows * rows == error[..., 0].numel()
    losses = [float(network.learn(x, y, lr=0.01)) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_direct_feedback_names_rows_that_do_not_come_out_even() -> None:
    for model, shape in ((Uneven(), (5, 8)), (MODELS["shifted windows"][0](), (2, 4, 4))):
        with pytest.raises(
            BrodmannError, match="cannot reach a layer whose number of rows is not a multiple of the output's, or"
        ):
            from_torch(model, shape, feedback="direct")
    layer = AreaLinear(4, 4, areas=1, feedback=partial(Direct, outputs=3, rows=5))
    z, trace = layer.trace(torch.randn(2, 5, 4), Context())
    error = torch.randn(2, 3)
    below = layer.learn(trace, torch.zeros_like(z), Context(output_error=error))
    assert below is not None
    torch.testing.assert_close(below, (error @ layer.feedback.matrix).reshape(2, 5, 4))  # type: ignore[operator, union-attr]
    z, trace = layer.trace(torch.randn(2, 4, 4), Context())
    with pytest.raises(BrodmannError, match="for a layer of 5 rows for each output, got 8 rows and 2 output errors"):
        layer.learn(trace, torch.zeros_like(z), Context(output_error=error))
