"""A captured step computes what an ordinary one does, bit for bit, and notices whatever it could not have recorded."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    RLS,
    Adam,
    AreaLinear,
    BinaryCrossEntropy,
    BrodmannError,
    Captured,
    Context,
    CrossEntropy,
    DivergenceError,
    Graph,
    Layer,
    Local,
    MeanSquaredError,
    Muon,
    Network,
    Rates,
    Recurrent,
    Router,
    Sequential,
    convnet,
    from_torch,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.kernels import library
from brodmann.kernels.fusion import fuse
from brodmann.layers.cells import Elman
from brodmann.network import routers
from brodmann.recording import Recorder
from brodmann.routing import Recruiting, conflict
from brodmann.streams import NetworkLearner, Task, learn_stream
from brodmann.training import AreaRecord, Schedule, Trainer, evaluate
from brodmann.updates import UpdateRule

from ..settings import using_threads
from .cases import BODIES, LAYERS, PATHS, RULES, Rewarded

pytestmark = pytest.mark.skipif(not library.active(), reason="without compiled kernels no step is captured")


GROWING = {"partition": "growing", "conflict": {"evidence": 32, "opposition": 1e-6, "certainty": 1e-6}}
"""A router whose areas split every few steps."""


class Pair:
    """A network, and a copy of it that is trained by captured steps on the same batches."""

    def __init__(self, network: Network, *, real: bool = False, **options: Any) -> None:
        self.ordinary, self.network = network, deepcopy(network)
        self.step = Captured(self.network, **options)
        self.real = real or network.recursive
        self.generator, self.count = torch.Generator().manual_seed(1), 0

    def learn(self, steps: int = 5, rows: int = 8, features: int = 5, lr: float = 0.03) -> Pair:
        for _ in range(steps):
            self.count += 1
            x = torch.randn(rows, features, generator=self.generator, dtype=self.network.dtype)
            y = torch.randint(3, (rows,), generator=self.generator)
            if self.real:
                y = nn.functional.one_hot(y, 3).to(x)
            rate = lr / self.count
            state = torch.get_rng_state()
            loss, output = self.ordinary.learn_with_output(x, y, lr=rate)
            after = torch.get_rng_state()
            torch.set_rng_state(state)
            again, same = self.step.learn_with_output(x, y, lr=rate)
            assert torch.equal(loss, again)
            assert torch.equal(output, same)
            assert torch.equal(torch.get_rng_state(), after)
            self.check()
        return self

    def check(self) -> None:
        theirs = self.network.state_dict()
        for name, value in self.ordinary.state_dict().items():
            assert torch.equal(value, theirs[name]), name

    def change(self, change: Callable[[Network], object]) -> None:
        change(self.ordinary)
        change(self.network)

    @property
    def captured(self) -> bool:
        return self.step.is_captured


def network_of(body: str = "mlp", **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(BODIES[body](**{"areas": 4, "update": Adam(decay=0.1), **options}))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("body", BODIES)
def test_every_layer_and_body(body: str, layer: str) -> None:
    pair = Pair(network_of(body, **LAYERS[layer]), own_parts=True).learn()  # functions of these tests
    assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule: str, dtype: torch.dtype) -> None:
    pair = Pair(network_of(update=RULES[rule]).to(dtype)).learn()
    assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("rule", [Muon(), RLS()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("body", "options"),
    [("mlp", {"storage": "bfloat16", "shared": "off"}), ("mlp", {"router": GROWING}), ("branching", {"areas": 1})],
    ids=str,
)
def test_rules_without_a_kernel_move_whatever_there_is(rule: UpdateRule, body: str, options: dict[str, Any]) -> None:
    pair = Pair(network_of(body, update=rule, **options), own_parts=True).learn()
    assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("rule", [Adam(), Muon()], ids=lambda rule: type(rule).__name__)
def test_protected_areas_stay_as_they_are_where_a_recording_is_given_up(rule: UpdateRule) -> None:
    pair = Pair(network_of(update=rule)).learn()
    pair.change(lambda network: setattr(network, "protected_areas", [0, 1]))
    pair.learn(12)
    assert not pair.captured


def test_a_captured_step_that_recursive_least_squares_cannot_make_is_refused_as_ever() -> None:
    network = network_of(areas=1, update=RLS())
    pair = Pair(network).learn()
    assert pair.captured
    x, y = torch.full((8, 5), 1e15), torch.ones(8, 3)
    for learner in (pair.ordinary, pair.step):
        with pytest.raises(DivergenceError, match="inputs are too large"):
            learner.learn(x, y)
    pair.check()


@pytest.mark.parametrize("areas", [1, 4])
@pytest.mark.parametrize("path", PATHS)
def test_every_path(path: str, areas: int) -> None:
    pair = Pair(network_of(areas=areas, feedback=path)).learn()
    if path == "sign" and areas > 1:  # which goes through one area after the other
        assert not pair.captured
    else:
        assert pair.captured, pair.step.refusal


def test_weights_that_are_rounded_at_random_draw_the_same_numbers() -> None:
    assert Pair(network_of(storage="bfloat16")).learn().captured


def test_dropout_draws_the_same_masks() -> None:
    assert Pair(network_of(dropout=0.4)).learn().captured


def test_dropout_whose_masks_are_drawn_again_is_not_captured() -> None:
    pair = Pair(network_of("residual_mlp", dropout=0.4, recompute=True)).learn()
    assert "random numbers are drawn from another place" in pair.step.refusal
    assert Pair(network_of("residual_mlp", recompute=True)).learn().captured


def test_losses_that_autograd_differentiates() -> None:
    network = network_of()
    network.loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert Pair(network).learn().captured


@pytest.mark.parametrize(
    "loss",
    [MeanSquaredError(), BinaryCrossEntropy(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.SoftMarginLoss(), nn.L1Loss()],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.filterwarnings("error:An output with one or more elements was resized")
def test_real_targets(loss: Any) -> None:
    network = network_of()
    network.loss = loss
    pair = Pair(network, real=True).learn()
    assert pair.captured, pair.step.refusal


def test_a_network_of_pytorch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ELU(), nn.Dropout(0.2), nn.Linear(6, 3))
    assert Pair(Network(from_torch(model, (5,), update=Adam()))).learn().captured


def test_batches_of_several_sizes_each_have_their_program() -> None:
    pair = Pair(network_of())
    for rows in (8, 5, 8, 5, 8, 8, 5, 5, 1, 8):
        pair.learn(1, rows=rows)
    assert pair.captured


@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_strided_batch_is_a_batch(from_the_start: bool) -> None:
    pair = Pair(network_of(activation="gelu"))
    if not from_the_start:
        assert pair.learn().captured
    for _ in range(4):
        x, y = torch.randn(5, 8).t(), torch.randint(3, (16,))[::2]
        assert torch.equal(pair.ordinary.learn(x, y, lr=0.01), pair.step.learn(x, y, lr=0.01))
        assert torch.equal(pair.ordinary(x), pair.step(x))
        pair.check()


def test_images_whose_channels_come_last_are_computed_as_such() -> None:
    network = Network(convnet((3, 8, 8), 3))
    captured = Captured(network)
    for _ in range(4):
        images = torch.randn(4, 8, 8, 3).permute(0, 3, 1, 2)
        assert torch.equal(captured(images), network(images))


@pytest.mark.parametrize("rule", [Adam(), RLS()], ids=lambda rule: type(rule).__name__)
def test_an_area_that_is_first_chosen_later_gets_memory(rule: UpdateRule) -> None:
    torch.manual_seed(0)
    pair = Pair(Network(mlp(5, 3, depth=2, width=6, areas=40, update=rule)))
    pair.learn(4, rows=2)
    assert pair.captured
    before = pair.network.total_parameters()
    pair.learn(40, rows=2)
    assert pair.network.total_parameters() > before
    assert pair.step.recordings == 1


def test_an_area_that_was_given_up_gets_memory_again() -> None:
    network = network_of(depth=2, routing="layer", router={"partition": "manual", "cells": 8})
    pair = Pair(network)
    pair.change(lambda network: network.allocate())
    name = pair.network.area_layers()[0][0]

    def change(by: Callable[[AreaLinear], object]) -> None:
        pair.change(lambda network: by(network.body.get_submodule(name)))
        pair.learn(12)
        assert pair.captured

    change(lambda layer: layer.split(0))
    change(lambda layer: layer.merge(0, 1))
    change(lambda layer: layer.router.partition[4:].fill_(1))  # by hand: area 1 has no memory now


def test_fewer_areas_from_a_file_get_memory_again() -> None:
    network = network_of(areas=40)
    few = {name: value.clone() for name, value in network.state_dict().items()}  # before any area has memory
    pair = Pair(network)
    pair.change(lambda network: network.allocate())
    pair.learn()
    pair.change(lambda network: network.load_state_dict(few))
    pair.learn(12)
    assert pair.captured


@pytest.mark.parametrize(
    "options",
    [
        {"routing": "layer"},
        {"routing": "network"},
        {"routing": "layer", "feedback": "kolen-pollack-per-area"},
        {"routing": "network", "shared": "off", "gated": True},
    ],
    ids=str,
)
def test_areas_split_at_the_same_steps_and_stay_captured(options: dict[str, Any]) -> None:
    pair = Pair(network_of(depth=2, areas=6, router=GROWING, **options)).learn(4)
    assert pair.captured, pair.step.refusal
    before = [int(router.partition.max()) for _, router in routers(pair.network)]
    pair.learn(40)
    after = [int(router.partition.max()) for _, router in routers(pair.network)]
    assert all(map(int.__lt__, before, after))
    assert pair.captured
    assert pair.step.recordings == 1


def test_a_step_that_draws_signs_of_sketches_is_not_captured() -> None:
    network = network_of(router=GROWING)
    ordinary, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    for step in range(12):
        if step == 1:
            conflict._drawn.cache_clear()
        loss = captured.learn(x, y)
        assert captured.is_captured == (step >= 9)
        assert torch.equal(loss, ordinary.learn(x, y))


def test_areas_are_recruited_by_the_same_samples_and_steps_stay_captured() -> None:
    torch.manual_seed(0)
    pair = Pair(Network(stream_mlp(5, 3, width=6, areas=6, novelty=0.95, dimension=8)))
    vacant = {name: value.clone() for name, value in pair.network.state_dict().items()}
    ((_, router),) = routers(pair.network)
    pair.learn(3, rows=1)
    assert router.recruits
    assert pair.captured, pair.step.refusal
    pair.learn(15, rows=1)
    assert not router.recruits
    assert pair.captured
    assert pair.step.recordings == 2  # one while areas are recruited, one afterwards
    pair.change(lambda network: network.load_state_dict(vacant))
    pair.learn(10, rows=1)
    assert not router.recruits


def test_layers_that_recruit_for_themselves_are_captured_once_they_have_done_so() -> None:
    router = partial(Recruiting, novelty=0.9, dimension=3)
    layers = [AreaLinear(5, 4, areas=2, feedback=None, router=router), AreaLinear(4, 3, areas=2, router=router)]
    torch.manual_seed(0)
    pair = Pair(Network(Sequential(layers[0], Local(nn.ReLU()), layers[1]))).learn(2, rows=1)
    assert "depends on what has moved before" in pair.step.refusal
    assert pair.learn(12, rows=1).captured


@pytest.mark.parametrize("flaw", ["a target", "a number"])
def test_a_captured_step_that_is_refused_recruits_nothing(flaw: str) -> None:
    torch.manual_seed(0)
    pair = Pair(Network(stream_mlp(5, 3, width=6, areas=40, update=Adam()), CrossEntropy()))
    pair.learn(3, rows=2)
    assert pair.captured
    x, y = torch.randn(2, 5), torch.tensor([0, 1])
    if flaw == "a target":
        y[0] = 3
    else:
        x[0] = torch.nan
    for learner in (pair.ordinary, pair.step):
        with pytest.raises((BrodmannError, DivergenceError)):
            learner.learn(x, y)
    pair.check()
    assert pair.learn(3, rows=2).captured


CHANGES: dict[str, Callable[[Network], object]] = {
    "rates": lambda network: setattr(network, "rates", Rates(areas=0.0, feedback=0.5)),
    "clip": lambda network: setattr(network, "clip", 0.01),
    "frozen": lambda network: setattr(network.area_layers()[0][1], "frozen", True),
    "protected": lambda network: setattr(network.area_layers()[0][1].router, "protected", [0, 1]),
    "loss": lambda network: setattr(network, "loss", CrossEntropy(label_smoothing=0.2)),
    "a setting of the loss": lambda network: setattr(network.loss, "label_smoothing", 0.2),
    "a setting of a loss of PyTorch": lambda network: setattr(network.loss.loss, "label_smoothing", 0.3),
    "the weights of a loss of PyTorch": lambda network: setattr(network.loss.loss, "weight", torch.tensor([1.0, 2, 3])),
    "an order of numbers": lambda network: network.area_layers()[1][1].shared.value.data.transpose_(1, 2),
    "a setting of an operation": lambda network: setattr(
        next(part for part in network.modules() if isinstance(part, nn.Dropout)), "p", 0.1
    ),
    "float64": lambda network: network.double(),
    "numbers": lambda network: network.load_state_dict({k: v.clone() for k, v in network.state_dict().items()}),
    "tensors": lambda network: network.load_state_dict(
        {k: v.clone() for k, v in network.state_dict().items()}, assign=True
    ),
    "a split": lambda network: network.area_layers()[0][1].split(0),
    "a part": lambda network: network.body.layers.__setitem__(1, Local(nn.Tanh())),
    "allocate": lambda network: network.allocate(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_two_steps_is_noticed(change: str) -> None:
    manual = {"partition": "manual", "cells": 8}
    network = network_of(depth=2, dropout=0.3, routing="layer", router=manual if change == "a split" else {})
    if "PyTorch" in change:
        network.loss = nn.CrossEntropyLoss(weight=torch.ones(3))
    pair = Pair(network).learn()
    assert pair.captured
    pair.change(CHANGES[change])
    pair.learn(12)
    assert pair.captured == (change != "protected")


def test_a_network_that_changes_now_and_then_stays_captured() -> None:
    pair = Pair(network_of())
    for epoch in range(6):
        pair.change(lambda network: setattr(network, "clip", 10.0 - epoch))  # noqa: B023  # it is called at once
        pair.learn(70)
        assert pair.captured
    assert pair.step.recordings == 6


def test_a_network_that_changes_all_the_time_is_recorded_ever_more_rarely() -> None:
    pair = Pair(network_of())
    for turn in range(40):
        pair.change(lambda network: setattr(network, "clip", 100.0 - turn))  # noqa: B023  # it is called at once
        pair.learn(5)
    assert pair.step.recordings < 5


def test_a_hook_sees_every_call() -> None:
    seen: list[Tensor] = []
    pair = Pair(network_of(activation="gelu", areas=1)).learn()
    gelu = next(part for part in pair.network.modules() if isinstance(part, nn.GELU))
    handle = gelu.register_forward_hook(lambda module, given, output: seen.append(output))
    pair.learn(3)
    assert len(seen) == 3
    handle.remove()
    pair.learn(12)
    assert pair.captured


def test_another_number_of_threads() -> None:
    pair = Pair(network_of()).learn()
    with using_threads(torch.get_num_threads() + 1):
        pair.learn(3)
    pair.learn(12)
    assert pair.captured


def test_results_are_the_callers() -> None:
    pair = Pair(network_of()).learn()
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    loss, output = pair.step.learn_with_output(x, y)
    kept = loss.clone(), output.clone()
    pair.step.learn(torch.randn(8, 5), y)
    assert torch.equal(loss, kept[0])
    assert torch.equal(output, kept[1])


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (torch.full((8, 5), torch.nan), torch.zeros(8, dtype=torch.int64), DivergenceError, "samples hold NaN"),
        (torch.zeros(8, 5), torch.full((8,), 3), BrodmannError, "from 0 to 2, got 3"),
        (torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64), BrodmannError, "4"),
    ],
)
def test_a_batch_that_cannot_be_learned_moves_nothing(x: Tensor, y: Tensor, error: Any, match: str) -> None:
    pair = Pair(network_of()).learn()
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(error, match=match):
            learn(x, y, lr=0.01)
    pair.check()
    pair.learn(2)
    assert pair.captured


@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none(lr: float) -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="Expected lr to be a number of at least 0"):
        pair.step.learn(torch.zeros(8, 5), torch.zeros(8, dtype=torch.int64), lr=lr)


def test_samples_that_require_a_gradient_are_refused_as_ever() -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="requires a gradient"):
        pair.step.learn(torch.zeros(8, 5, requires_grad=True), torch.zeros(8, dtype=torch.int64))


def test_weights_of_samples() -> None:
    pair = Pair(network_of())
    for _ in range(5):
        x, y, weight = torch.randn(8, 5), torch.randint(3, (8,)), torch.rand(8)
        assert torch.equal(pair.ordinary.learn(x, y, weight, lr=0.01), pair.step.learn(x, y, weight, lr=0.01))
        pair.check()
    assert pair.captured, pair.step.refusal
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(BrodmannError, match="Expected sample weights that are finite and at least 0"):
            learn(x, y, -weight)
    pair.check()


def test_a_target_that_is_no_class_of_many_outputs() -> None:
    torch.manual_seed(0)
    pair = Pair(Network(mlp(5, 3000, depth=2, width=6, areas=2))).learn()  # too many for the kernel of the loss
    assert pair.captured
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(BrodmannError, match="from 0 to 2999, got 0 to 3000"):
            learn(torch.zeros(8, 5), torch.tensor([3000, *[0] * 7]))
    pair.learn(2)


def test_observers_and_a_rate_of_0_make_ordinary_steps() -> None:
    pair = Pair(network_of()).learn()
    x, y, seen = torch.randn(8, 5), torch.randint(3, (8,)), []
    assert torch.equal(pair.ordinary.learn(x, y, lr=0.0), pair.step.learn(x, y, lr=0.0))
    pair.ordinary.learn(x, y)
    pair.step.learn(x, y, observe=lambda layer, error: seen.append(layer))
    assert seen
    pair.learn(2)


SAMPLES, CLASSES = torch.randn(8, 5), torch.randint(3, (8,))
ORDINARY: dict[str, Callable[[Captured], object]] = {
    "observer": lambda step: step.learn(SAMPLES, CLASSES, observe=lambda layer, error: None),
    "learning rate, 0.0,": lambda step: step.learn(SAMPLES, CLASSES, lr=0.0),
    "not contiguous": lambda step: step.learn(torch.randn(5, 8).t(), CLASSES),
    "part of a batch is not contiguous": lambda step: step(torch.randn(5, 8).t()),
    "a Parameter, not one plain tensor": lambda step: step(nn.Parameter(SAMPLES, requires_grad=False)),
    "inference_mode": torch.inference_mode()(lambda step: step.learn(SAMPLES, CLASSES)),
    "autocast": torch.autocast("cpu")(lambda step: step(SAMPLES)),
    "no compiled kernels": library.switched_off()(lambda step: step(SAMPLES)),
    "requires a gradient": lambda step: step(SAMPLES.clone().requires_grad_()),
    "8 sizes": lambda step: [step.learn(SAMPLES[:rows], CLASSES[:rows]) for rows in range(1, 9)],
}


@pytest.mark.parametrize("why", ORDINARY)
def test_a_call_that_is_not_captured_says_why(why: str) -> None:
    step = Captured(network_of())
    for _ in range(3):
        step.learn(torch.randn(9, 5), torch.randint(3, (9,)))
        step(torch.randn(9, 5))
    assert step.is_captured
    assert step.refusal is None
    ORDINARY[why](step)
    assert not step.is_captured
    assert why in step.refusal
    step(torch.randn(9, 5))
    assert step.is_captured
    assert step.refusal is None


def test_the_step_that_a_trainer_watches_tells_nothing_of_the_others() -> None:
    captured = Captured(network_of())
    Trainer(captured, (torch.randn(32, 5), torch.randint(3, (32,))), None, Schedule(epochs=2, batch_size=8)).run()
    assert captured.is_captured, captured.refusal


def test_the_default_rate_is_the_networks() -> None:
    pair = Pair(network_of()).learn()
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    pair.change(lambda network: setattr(network, "lr", 0.02))
    for _ in range(12):
        assert torch.equal(pair.ordinary.learn(x, y), pair.step.learn(x, y))
    pair.check()


def test_inference_mode_and_autocast_make_ordinary_steps() -> None:
    pair = Pair(network_of()).learn()
    with torch.autocast("cpu"):
        pair.learn(2)
    with torch.enable_grad():
        pair.learn(2)


class Counting(Layer):
    """A layer of one's own that counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [0]

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        self.steps[0] += 1
        return 2 * x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return 2 * error


def with_own() -> Network:
    torch.manual_seed(0)
    return Network(Sequential(AreaLinear(5, 4, areas=2, feedback=None), Counting(), AreaLinear(4, 3, areas=2)))


def test_parts_of_ones_own_are_asked_in_every_step() -> None:
    pair = Pair(with_own()).learn()
    assert "'body.layers.1' is a part of your own: own_parts=True" in pair.step.refusal
    assert pair.network.body.layers[1].steps == [5]


def test_parts_of_ones_own_are_captured_where_that_is_allowed() -> None:
    pair = Pair(with_own(), own_parts=True).learn()
    assert pair.captured
    assert pair.network.body.layers[1].steps == [3]  # an ordinary step, and recordings at two rates


def test_paths_of_ones_own_see_the_output_of_every_step() -> None:
    pair = Pair(network_of(areas=3, feedback=Rewarded), own_parts=True).learn()
    assert pair.captured, pair.step.refusal


class Gain(Layer):
    """A factor for each feature, which moves in one of several ways."""

    def __init__(self, size: int, move: Callable[[Tensor, Tensor, float], object]) -> None:
        super().__init__()
        self.gain, self.move = nn.Parameter(torch.ones(size), requires_grad=False), move

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.gain

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return self(x), x

    def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
        below = error * self.gain
        self.move(self.gain, (error * trace).sum(0), context.lr_of(self))
        return below


@pytest.mark.parametrize(
    "move",
    [
        lambda weight, gradient, lr: weight.sub_(lr * gradient),
        lambda weight, gradient, lr: weight.sub_(gradient * lr),
        lambda weight, gradient, lr: weight.add_(gradient, alpha=-lr),
    ],
)
def test_layers_of_ones_own_move_at_rates_that_change(move: Any) -> None:
    torch.manual_seed(0)
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Gain(4, move), AreaLinear(4, 3, areas=2))
    pair = Pair(Network(body, rates=Rates(layers={"layers.1": 0.3})), own_parts=True).learn(8)
    assert pair.captured, pair.step.refusal
    assert pair.step.recordings == 2  # the second, at another rate, holds the same numbers


def _scripted(weight: Tensor, gradient: Tensor, lr: float) -> None:
    weight.sub_(lr * gradient)


@pytest.mark.parametrize(
    "move",
    [
        lambda weight, gradient, lr: weight.mul_(math.exp(-lr)).sub_(gradient, alpha=lr),
        lambda weight, gradient, lr: weight.sub_(gradient.sign(), alpha=math.sqrt(lr)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=min(lr, 0.01)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=lr if lr < 0.01 else 0.01),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=round(lr, 2)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=+lr),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=int(lr * 100) / 100),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=lr.real),
        lambda weight, gradient, lr: weight.sub_(gradient * torch.arange(0.0, 1.0, lr).sum()),
        torch.jit.script(_scripted),
    ],
)
def test_numbers_that_layers_of_ones_own_compute_from_the_rate_follow_it(move: Any) -> None:
    torch.manual_seed(0)
    held = [move]  # a scripted function cannot be copied
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Gain(4, lambda *given: held[0](*given)))
    pair = Pair(Network(Sequential(body, AreaLinear(4, 3, areas=2))), own_parts=True).learn(8)
    assert not pair.captured
    assert pair.step.refusal


class BySign(Router):
    """Cell 0 or 1, by the sign of the first number; a cell that does not exist where it is large."""

    def choose(self, x: Tensor) -> Tensor:
        return (x[:, 0] > 0).long() + 2 * (x[:, 0] > 50)


@pytest.mark.parametrize("learned", [False, True])
def test_routers_of_ones_own(learned: bool) -> None:
    pair = Pair(network_of(areas=2, router=partial(BySign, learned=learned)), own_parts=True).learn()
    assert pair.captured, pair.step.refusal
    for step in (pair.ordinary, pair.step):
        with pytest.raises(BrodmannError, match="BySign.choose should return cells from 0 to 1, got 3 to 3"):
            step.learn(torch.full((8, 5), 60.0), torch.zeros(8, dtype=torch.long))
    pair.learn()
    assert pair.step.recordings == 2


def test_functions_and_losses_of_ones_own_are_parts_too() -> None:
    own = Network(Sequential(AreaLinear(5, 3, feedback=None), Local(lambda x: x.tanh())))
    assert "your own" in Pair(own).learn().step.refusal
    own = network_of()
    own.loss = lambda output, target: output.square().mean()
    assert "your own" in Pair(own).learn().step.refusal


class Focal(nn.Module):
    """A loss, and an operation, of one's own."""

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        if target is None:
            return output.sin()
        return nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())

    def method(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        return self.forward(output, target)


@pytest.mark.parametrize("own", [Focal(), Focal().method, partial(Focal())], ids=["module", "method", "partial"])
@pytest.mark.parametrize("place", ["loss", "operation", "cell"])
def test_what_objects_of_this_package_hold_may_be_ones_own(own: Any, place: str) -> None:
    torch.manual_seed(0)
    between: Layer = Local(nn.Tanh())
    if place == "operation":
        between = Local(own)
    elif place == "cell":
        between = Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman(own))
    network = Network(Sequential(AreaLinear(5, 4, feedback=None), between, AreaLinear(4, 3)))
    if place == "loss":
        network.loss = own
    captured = Captured(network)
    for _ in range(3):
        captured.learn(torch.randn(2, 6, 5), torch.randint(3, (2, 6)))
    assert not captured.is_captured
    assert "your own" in captured.refusal


HELD: dict[str, tuple[Callable[[], Layer], Callable[[Any], object]]] = {
    "the activation of a cell": (
        lambda: Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman()),
        lambda layer: setattr(layer.cell, "activation", torch.relu),
    ),
    "a module that is such an activation": (
        lambda: Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman(nn.LeakyReLU())),
        lambda layer: setattr(layer.cell.activation, "negative_slope", 0.9),
    ),
    "what a function is a method of": (
        lambda: Local(nn.LeakyReLU().forward),
        lambda layer: setattr(layer.operation.__self__, "negative_slope", 0.9),
    ),
    "an argument of a function": (
        lambda: Local(partial(nn.functional.leaky_relu, negative_slope=0.1)),
        lambda layer: layer.operation.keywords.update(negative_slope=0.9),
    ),
}


@pytest.mark.parametrize("held", HELD)
def test_changes_of_what_layers_hold_are_noticed(held: str) -> None:
    make, change = HELD[held]
    torch.manual_seed(0)
    network = Network(Sequential(AreaLinear(5, 4, feedback=None), make(), AreaLinear(4, 3)))
    captured, ordinary = Captured(network), deepcopy(network)
    for step in range(14):
        if step == 4:
            assert captured.is_captured, captured.refusal
            for one in (network, ordinary):
                change(one.body.layers[1])
        x, y = torch.randn(2, 6, 5), torch.randint(3, (2, 6))
        assert torch.equal(ordinary.learn(x, y, lr=0.01), captured.learn(x, y, lr=0.01))
    assert captured.is_captured


def test_the_rate_of_the_network_may_change_in_every_step() -> None:
    pair = Pair(network_of())
    for step in range(6):
        pair.change(lambda network: setattr(network, "lr", 0.1 / (step + 1)))  # noqa: B023  # it is called at once
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        assert torch.equal(pair.ordinary.learn(x, y), pair.step.learn(x, y))
    assert pair.captured
    assert pair.step.recordings == 1


def test_a_rate_whose_multiples_round_to_0() -> None:
    pair = Pair(network_of()).learn()
    pair.learn(3, lr=5e-324 * 8)  # over the number of the step, with a tenth of it for areas
    pair.learn()
    assert pair.captured


class Rooted(UpdateRule):
    """A rule of one's own that computes with its learning rate in its own way."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        weight.sub_(factors.dense().sign(), alpha=math.sqrt(lr))


@pytest.mark.parametrize("own_parts", [False, True])
def test_rules_of_ones_own_are_asked_in_every_step(own_parts: bool) -> None:
    pair = Pair(network_of(areas=1, update=Rooted()), own_parts=own_parts).learn()
    assert pair.captured == own_parts


class Halving(Network):
    """A network of one's own that learns from something else than it is given."""

    def learn(self, x: Any, *others: Any, **options: Any) -> Tensor:
        return super().learn(x / 2, *others, **options)


def test_a_network_that_learns_in_its_own_way_goes_on_doing_so() -> None:
    networks = [Halving(network_of().body), Halving(network_of().body)]
    step = Captured(networks[1], own_parts=True)
    for _ in range(4):
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        assert torch.equal(networks[0].learn(x, y), step.learn(x, y))


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_on_the_way_down_are_called(register: str) -> None:
    called: list[Any] = []
    pair = Pair(network_of(activation="gelu", areas=1)).learn()
    gelu = next(part for part in pair.network.modules() if isinstance(part, nn.GELU))
    getattr(gelu, register)(lambda *given: called.append(given))
    pair.learn(1)
    assert called


def test_after_a_bad_target_random_numbers_go_on_as_ever() -> None:
    pair = Pair(network_of(dropout=0.5)).learn()
    after = []
    for one in (pair.ordinary, pair.step):
        torch.manual_seed(5)
        with pytest.raises(BrodmannError):
            one.learn(torch.randn(8, 5), torch.full((8,), 7))
        after.append(torch.rand(()))
    assert torch.equal(*after)


def test_threads_do_not_write_into_each_others_results() -> None:
    network = network_of(width=64)
    captured, batches = Captured(network), [torch.randn(64, 5) for _ in range(2)]
    expected = [network(x) for x in batches]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lambda k: torch.equal(captured(batches[k]), expected[k]), k) for k in [0, 1] * 300]
    assert all(job.result() for job in jobs)


@pytest.mark.parametrize("copy", [deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copied", "pickled"])
def test_a_copy_learns_by_itself(copy: Callable[[Captured], Captured]) -> None:
    pair = Pair(network_of()).learn()
    other = copy(pair.step)
    for _ in range(4):
        other.learn(torch.randn(8, 5), torch.randint(3, (8,)))
    assert other.is_captured
    assert not torch.equal(next(other.network.parameters()), next(pair.network.parameters()))
    pair.check()
    pair.learn()


def test_inference_has_no_rate_that_a_number_could_equal() -> None:
    captured = Captured(Network(Sequential(Local(partial(torch.mul, other=1.0)), AreaLinear(5, 3, feedback=None))))
    for _ in range(3):
        captured(torch.randn(4, 5))
    assert captured.is_captured, captured.refusal


def test_samples_that_are_sparse_are_refused_as_ever() -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="Expected x to be dense"):
        pair.step(torch.randn(8, 5).to_sparse())


class Remembering(Layer):
    """A layer of one's own that changes what it holds, in ways that are not all recorded."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.before, self.loose = kind, 0.0, [torch.zeros(())]

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        if self.kind == "an attribute":
            self.before += 1.0
        elif self.kind == "a loose tensor":
            self.loose[0].add_(1.0)
        elif self.kind == "numpy":
            return x * float(x.numpy().max()), None
        elif self.kind == "item":
            return x * x.max().item(), None
        elif self.kind == "mask":
            return x * x[x > 0].sum(), None
        elif self.kind == "nonzero":
            return x * x.nonzero().shape[0], None
        elif self.kind == "rate":
            return x.clamp(max=context.lr) + x.clamp(-context.lr, context.lr), None
        elif self.kind == "rate of another form":
            return x * (1.0 - context.lr), None
        return x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return error


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("an attribute", "more than numbers in tensors"),
        ("a loose tensor", "belongs to no layer"),
        ("numpy", "numpy"),
        ("item", "looks at numbers"),
        ("mask", "looks at numbers"),
        ("nonzero", "looks at numbers"),
        ("rate", "takes a learning rate"),
        ("rate of another form", "computed with"),
    ],
)
def test_what_cannot_be_recorded_is_noticed(kind: str, why: str) -> None:
    torch.manual_seed(0)
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Remembering(kind), AreaLinear(4, 3, areas=2))
    pair = Pair(Network(body), own_parts=True).learn()
    assert not pair.captured
    assert why in pair.step.refusal


@pytest.mark.parametrize("feedback", PATHS)
def test_a_relu_is_computed_by_the_kernels_of_the_maps_beside_it(feedback: str) -> None:
    network = network_of(depth=2, shared="off", router={"learned": False}, feedback=feedback)
    recorder = Recorder(network.state_dict().values())
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    network.learn(x, y)  # areas have memory from now on
    with torch.no_grad(), recorder.listening():
        loss = network.learn(x, y)
    fuse(recorder, loss)
    dropped = [call.function.__name__ for call in recorder.calls if call.dropped]
    assert dropped == ["relu.default"] + ["threshold_backward.default"] * (feedback in BY_KERNELS)


BY_KERNELS = {"kolen-pollack", "kolen-pollack-per-area", "kolen-pollack-mirrored", "kolen-pollack-equal"}
BY_KERNELS |= {"kolen-pollack-noisy", "transpose"}
"""Paths whose error a kernel adds up, the last one to write it."""


def test_what_somebody_else_reads_is_not_fused() -> None:
    torch.manual_seed(0)
    nodes = {"map": (AreaLinear(5, 3, areas=1, feedback=None), "input"), "relu": (nn.ReLU(), "map")}
    for output in ({"both": (torch.add, "relu", "map")}, {"late": (torch.sub, "map", "relu")}):
        assert Pair(Network(Graph({**nodes, **output}))).learn().captured


def test_only_networks_are_captured() -> None:
    with pytest.raises(BrodmannError, match="Expected a Network, got Routed: put the body into one"):
        Captured(mlp(5, 3))
    with pytest.raises(BrodmannError, match="Expected own_parts to be True or False, got 1"):
        Captured(network_of(), own_parts=1)


def test_deep_networks_use_memory_again() -> None:
    def room(depth: int) -> int:
        torch.manual_seed(0)
        step = Captured(Network(residual_mlp(32, 3, depth=depth, width=32, areas=1)))
        for _ in range(3):
            step.learn(torch.randn(64, 32), torch.randint(3, (64,)), lr=0.01)
        assert step.is_captured
        return step.memory

    assert room(34) - room(18) <= 2.5 * (room(18) - room(10))  # which grows by traces alone, not by all it computes
    assert room(34) < 34 * 4 * 64 * 32 * 4


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("body", BODIES)
def test_inference_of_every_layer_and_body(body: str, layer: str) -> None:
    network = network_of(body, **LAYERS[layer])
    network.learn(torch.randn(8, 5), torch.randint(3, (8,)), lr=0.1)
    captured = Captured(network, own_parts=True)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            for _ in range(3):
                x = torch.randn(6, 5)
                assert torch.equal(captured(x), network(x))
    assert captured.is_captured, captured.refusal
    assert captured.recordings == 1


def test_inference_between_steps_sees_what_was_learned() -> None:
    pair = Pair(network_of(areas=40))
    x = torch.randn(6, 5)
    for _ in range(12):
        pair.learn(1, rows=2)
        assert torch.equal(pair.step(x), pair.ordinary(x))
    assert pair.step.recordings == 2


def test_a_merged_network() -> None:
    network = network_of(routing="layer")
    network.learn(torch.randn(8, 5), torch.randint(3, (8,)), lr=0.1)
    merged = network.merged()
    captured, x = Captured(merged), torch.randn(6, 5)
    for _ in range(3):
        assert torch.equal(captured(x), merged(x))
    assert captured.is_captured


def test_where_autograd_follows_inference_is_an_ordinary_call() -> None:
    network = network_of()
    captured, x = Captured(network), torch.randn(6, 5)
    for _ in range(3):
        captured(x)
    assert captured(x.clone().requires_grad_()).requires_grad
    weight = network.area_layers()[0][1].shared.value.requires_grad_()
    assert captured(x).requires_grad
    captured(x).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not captured(x).requires_grad


def test_several_inputs_and_outputs_make_ordinary_calls() -> None:
    nodes = {"a": (AreaLinear(5, 4, feedback=None), "x"), "b": (torch.add, "a", "y")}
    network = Network(
        Graph(nodes, inputs=("x", "y"), outputs=("a", "b")), lambda output, target: output[1].square().mean()
    )
    captured = Captured(network)
    x, y = torch.randn(8, 5), torch.randn(8, 4)
    for _ in range(3):
        assert all(map(torch.equal, captured((x, y)), network((x, y))))
        captured.learn((x, y), y)
    assert not captured.is_captured
    assert "a tuple, not one plain tensor" in captured.refusal


def test_several_outputs_of_one_input_make_ordinary_calls() -> None:
    nodes = {"a": (AreaLinear(5, 4, feedback=None), "input"), "b": (AreaLinear(5, 3, feedback=None), "input")}
    network = Network(Graph(nodes, outputs=("a", "b")), lambda output, target: (output[0][:, 0] * target).mean())
    captured, ordinary = Captured(network, own_parts=True), deepcopy(network)
    for _ in range(4):
        x, y = torch.randn(8, 5), torch.randn(8)
        assert all(map(torch.equal, captured(x), ordinary(x)))
        (loss, output), (again, same) = captured.learn_with_output(x, y), ordinary.learn_with_output(x, y)
        assert all(map(torch.equal, (loss, *output), (again, *same)))
        assert "several outputs" in (captured.refusal or "several outputs")
    assert not captured.is_captured


def test_an_output_that_is_the_input_seen_in_another_way() -> None:
    network = Network(Sequential(Local(nn.Flatten())))
    captured = Captured(network)
    for _ in range(4):
        x = torch.randn(6, 2, 3)
        assert torch.equal(captured(x), x.flatten(1))
    assert captured.is_captured


def test_trainings_of_one_captured_network_share_its_recordings() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=3, update=Adam()))
    twin, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(48, 6), torch.randint(0, 3, (48,))
    for seed in range(3):
        schedule = Schedule(epochs=1, batch_size=16, seed=seed)
        Trainer(captured, (x, y), (x, y), schedule).run()
        Trainer(twin, (x, y), (x, y), schedule).run()
    assert captured.recordings == 1
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())
    assert evaluate(captured, x, y) == evaluate(twin, x, y)


def test_a_training_of_areas_that_grow_is_that_of_ordinary_steps() -> None:
    class Plain(Network):
        """A network of whose steps a `Trainer` captures none."""

    def trained(kind: type[Network]) -> tuple[Captured, list[dict[str, Any]]]:
        torch.manual_seed(0)
        captured = Captured(kind(mlp(6, 2, width=8, areas=8, router={**GROWING, "cells": 32}, update=Adam())))
        given = captured if kind is Network else captured.network
        history = Trainer(given, (x, y), (x, y), Schedule(3, 32), callbacks=AreaRecord(x)).run().history
        return captured, [{name: value for name, value in row.items() if name != "seconds"} for row in history]

    x = torch.randn(640, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()
    (captured, history), (plain, same) = trained(Network), trained(Plain)
    assert (captured.recordings, plain.recordings) == (1, 0)
    assert history == same
    assert sum(len(row["splits"]) for row in history) > 3
    other = plain.network.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in captured.network.state_dict().items())


def test_streams_are_learned_by_captured_steps() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=3, update=Adam()))
    twin, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(64, 6), torch.randint(0, 3, (64,))
    tasks = [Task(x, y, [(x, y)]), Task(-x, y, [(-x, y)])]

    class Ordinary(NetworkLearner):
        def learn(self, x: Tensor, y: Tensor) -> None:
            self.network.learn(x, y, lr=self.lr)

    assert learn_stream(captured, tasks) == learn_stream(Ordinary(twin), tasks)
    assert captured.is_captured
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())
