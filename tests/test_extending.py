"""What users add of their own: routers, feedback paths, rules, losses, layers; and what they may get wrong."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    CheckpointError,
    Constant,
    Context,
    Convolution,
    CrossEntropy,
    Direct,
    DivergenceError,
    Feedback,
    FixedRandom,
    Graph,
    LeastChange,
    Local,
    Network,
    Patches,
    Product,
    Recomputed,
    Recurrent,
    Residual,
    Routed,
    Router,
    Sequential,
    Transpose,
    UpdateRule,
    from_torch,
    mlp,
)
from brodmann.areas import Slab
from brodmann.baselines import Backpropagation
from brodmann.builders import ACTIVATIONS, BUILDERS, FEEDBACKS, build, design
from brodmann.feedback import Shape, Signal
from brodmann.kernels import Groups
from brodmann.kernels.library import switched_off
from brodmann.layer import Layer
from brodmann.layers import Elman
from brodmann.losses import LOSSES as REGISTERED
from brodmann.network import routers
from brodmann.rates import Rates
from brodmann.routing import Recruiting, Route
from brodmann.runs import RunOptions, start_run
from brodmann.runs.assembly import loss_of
from brodmann.telemetry import area_choices
from brodmann.training import Callback, Schedule, Trainer
from brodmann.updates import UPDATES, Factors, RuleOptimizer

X, Y = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


def picking(pick: Callable[[Tensor], Any], kind: type[Router] = Router) -> type[Router]:
    """A router whose choice is `pick`'s."""

    class Picking(kind):  # type: ignore[misc, valid-type]
        def choose(self, x: Tensor) -> Any:
            return pick(x)

    return Picking


def by_sign(x: Tensor) -> Tensor:
    return (x[:, 0] > 0).long()


def routed(router: type[Router], areas: int = 4, **settings: Any) -> Network:
    torch.manual_seed(0)
    body = Sequential(
        AreaLinear(6, 5, areas=areas, router=None, feedback=None, update=Adam()),
        Local(nn.ReLU()),
        AreaLinear(5, 3, areas=areas, router=None, update=Adam()),
    )
    return Network(Routed(router(6, areas, **settings), body))


@pytest.mark.parametrize("learned", [True, False])
def test_a_choice_of_ones_own_serves_inference_and_learning(learned: bool) -> None:
    network = routed(picking(by_sign), learned=learned)
    before = network(X)
    positive = X[:, 0] > 0
    network.learn(X[positive], Y[positive], lr=0.01)
    (area,) = area_choices(network, X).values()
    assert torch.equal(area, by_sign(X))
    assert not torch.equal(network(X)[positive], before[positive])
    existing = {int(slot) for slot in network.body.body.layers[0].areas.slot.nonzero()[:, 0]}
    assert existing == {1}  # nobody chose area 0
    own = AreaLinear(6, 3, areas=4, router=picking(by_sign))
    assert own(X).shape == (20, 3)


@pytest.mark.parametrize("routing", ["network", "layer"])
@pytest.mark.parametrize("make", [mlp, lambda *sizes, **options: from_torch(nn.Linear(*sizes), **options)])
def test_builders_take_a_router_of_ones_own(make: Any, routing: str, tmp_path: Path) -> None:
    build = partial(make, 6, 3, areas=2, routing=routing, router=partial(picking(by_sign), learned=False))
    network = Network(build())
    network.learn(X, Y)
    assert all(torch.equal(area, by_sign(X)) for area in list(area_choices(network, X).values())[:1])
    assert not any(router.learned for _, router in routers(network))
    network.save(tmp_path / "own.safetensors")  # like any body that is no data
    with pytest.raises(CheckpointError, match="pass a body built by the same code"):
        Network.load(tmp_path / "own.safetensors")
    assert torch.equal(Network.load(tmp_path / "own.safetensors", build())(X), network(X))
    with pytest.raises(BrodmannError, match="Expected router to build a Router, got Linear"):
        make(6, 3, areas=2, routing=routing, router=lambda size, areas, update: nn.Linear(size, areas))
    with pytest.raises(BrodmannError, match="Expected router to be a dictionary of settings, got Router"):
        make(6, 3, areas=2, routing=routing, router=Router(6, 2))


def test_the_nearest_prototype_as_a_choice_of_ones_own_changes_nothing() -> None:
    class Nearest(Router):
        def choose(self, x: Tensor) -> Tensor:
            return (x @ self.projection.value[0].t() @ self.prototypes.t()).argmax(1)

    plain, own = routed(Router), routed(Nearest)
    for _ in range(5):
        assert torch.equal(plain.learn(X, Y, lr=0.01), own.learn(X, Y, lr=0.01))
    assert torch.equal(plain(X), own(X))


@pytest.mark.parametrize(
    ("kind", "settings"), [(Router, {}), (Recruiting, {"novelty": 0.5}), (Router, {"balance_rate": 0.01})]
)
def test_a_choice_of_ones_own_has_one_gate(kind: type[Router], settings: dict[str, Any]) -> None:
    layer = AreaLinear(6, 3, areas=4, gated=True, router=partial(picking(by_sign, kind), **settings))
    with torch.no_grad():
        layer.areas.allocate(torch.arange(4))
        layer.areas.weight.value.normal_()
    out, _ = layer.trace(X, Context())
    assert torch.allclose(out, layer(X), atol=1e-6)


def test_a_choice_of_ones_own_compiles() -> None:
    network = routed(picking(by_sign))
    assert torch.allclose(torch.compile(network, backend="eager", fullgraph=True)(X), network(X), atol=1e-6)


class Careless(Router):
    """Overrides the route itself, which nothing checks before the rows are grouped."""

    area: Tensor

    def route(self, x: Tensor) -> Route:
        return replace(super().route(x), area=self.area)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("area", "message"),
    [
        (torch.arange(20) % 5, "Expected areas from 0 to 3, got 0 to 4."),
        (torch.arange(20) % 3 - 1, "Expected areas from 0 to 3, got -1 to 1."),
        (torch.zeros(20), "the area of each row, (rows,) torch.int64, got (20,) torch.float32: convert it with"),
        (torch.zeros(20).bool(), "the area of each row, (rows,) torch.int64, got (20,) torch.bool: convert it with"),
        (torch.zeros(20, 1).long(), "the area of each row, (rows,) torch.int64, got (20, 1) torch.int64"),
    ],
)
def test_areas_that_do_not_exist(area: Tensor, message: str, compiled: bool) -> None:
    network = routed(Careless)
    network.body.router.area = area
    weights = [tensor.clone() for tensor in network.state_dict().values()]
    with pytest.raises(BrodmannError) as caught, nullcontext() if compiled else switched_off():
        network.learn(X, Y)
    assert message in str(caught.value)
    assert all(map(torch.equal, weights, network.state_dict().values()))


def test_groups_of_nothing() -> None:
    assert Groups.of(torch.zeros(0, dtype=torch.int64), 3).segments == ()


class Flawed(Feedback):
    """A path whose error is what the test says."""

    def __init__(self, shape: Any, make: Callable[[Signal], Any]) -> None:
        super().__init__()
        self.make = make

    def error(self, signal: Signal) -> Any:
        return self.make(signal)


def learn_with(make: Callable[[Signal], Any]) -> None:
    layer = AreaLinear(6, 3, areas=1, feedback=lambda shape: Flawed(shape, make))
    _, trace = layer.trace(X, Context())
    layer.learn(trace, torch.zeros(20, 3), Context())


def learn_from(error: Tensor) -> None:
    layer = AreaLinear(6, 3, areas=1)
    _, trace = layer.trace(X, Context())
    layer.learn(trace, error, Context(lr=0.1))


class Divided(Layer):
    """A layer of one's own whose error is no number."""

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        return x, None

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        return error / 0.0


def not_a_number(shape: Shape) -> Feedback:
    return Flawed(shape, lambda signal: signal.x * torch.nan)


class FlawedMatrix(FixedRandom):
    """A path whose only matrix is no number."""

    def one_matrix(self, weight: Tensor | None) -> Tensor:
        return super().one_matrix(weight) * torch.nan


def upper(feedback: Any) -> Layer:
    return AreaLinear(4, 4, areas=1, feedback=feedback)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (lambda: upper(not_a_number), "Flawed.error"),
        (lambda: upper(partial(LeastChange, path=not_a_number)), "Flawed.error"),
        (Divided, "Divided.learn"),
        (lambda: Residual(Divided()), "Divided.learn"),
        (lambda: Residual(Local(nn.Tanh()), shortcut=Divided()), "Divided.learn"),
        (lambda: Graph({"node": (Divided(), "input")}), "Divided.learn"),
        (lambda: Recomputed(Divided()), "Divided.learn"),
        (lambda: Routed(Router(4, 2), Sequential(Divided(), AreaLinear(4, 4, areas=2, router=None))), "Divided.learn"),
    ],
)
def test_what_a_part_of_ones_own_sends_down_is_looked_at_before_anything_moves_by_it(part: Any, name: str) -> None:
    lower = AreaLinear(6, 4, areas=1, feedback=None)
    network = Network(Sequential(lower, part(), AreaLinear(4, 3, areas=1)))
    before = [weight.clone() for weight in lower.parameters()]
    with pytest.raises(DivergenceError, match=f"{name} returned NaN or infinite values, of shape .* Nothing below has"):
        network.learn(X, Y)
    assert all(map(torch.equal, lower.parameters(), before))


def test_a_matrix_of_ones_own_is_looked_at() -> None:
    images = Convolution(Patches(2), AreaLinear(4, 3, areas=1, feedback=FlawedMatrix))
    network = Network(
        Sequential(Local(nn.Unflatten(1, (2, 3, 1))), images, Local(nn.Flatten()), AreaLinear(6, 3, areas=1))
    )
    with pytest.raises(DivergenceError, match="FlawedMatrix.one_matrix returned NaN"):
        network.learn(X, Y)


class Shaped(FixedRandom):
    """A path whose only matrix is what a test makes of it."""

    def __init__(self, shape: Shape, make: Callable[[Tensor], Any]) -> None:
        super().__init__(shape)
        self.make = make

    def one_matrix(self, weight: Tensor | None) -> Any:
        return self.make(super().one_matrix(weight))


def convolved(make: Callable[[Tensor], Any], areas: int = 1) -> Network:
    images = Convolution(Patches(2), AreaLinear(4, 3, areas=areas, feedback=partial(Shaped, make=make)))
    spread = Local(nn.Unflatten(1, (2, 3, 1)))
    return Network(Sequential(spread, images, Local(nn.Flatten()), AreaLinear(6, 3, areas=1)))


@pytest.mark.parametrize("areas", [1, 2])
@pytest.mark.parametrize(
    ("make", "came"),
    [
        (Tensor.t, "(4, 3) torch.float32"),
        (lambda matrix: matrix[:, :3], "(3, 3) torch.float32"),
        (Tensor.long, "(3, 4) torch.int64"),
        (Tensor.flatten, "(12,) torch.float32"),
        (Tensor.tolist, "list"),
    ],
)
def test_a_matrix_of_another_shape_is_refused(make: Callable[[Tensor], Any], came: str, areas: int) -> None:
    with pytest.raises(BrodmannError) as caught:
        convolved(make, areas).learn(X, Y)
    assert str(caught.value) == (
        "Shaped.one_matrix should return the matrix by which errors go down, (out, in) = (3, 4) torch.float32, or "
        f"None, got {came}."
    )


def test_a_matrix_has_the_dtype_of_its_layer_or_of_its_storage() -> None:
    with pytest.raises(
        BrodmannError, match=r"\(out, in\) = \(3, 4\) torch.float32, or None, got \(3, 4\) torch.float64"
    ):
        convolved(Tensor.double).learn(X, Y)
    convolved(Tensor.contiguous).double().learn(X.double(), Y)
    for kind in (torch.float32, torch.bfloat16):
        path = partial(Shaped, make=partial(Tensor.to, dtype=kind))
        Product(functional.linear, torch.randn(3, 6), feedback=path, storage=torch.bfloat16)
    Product(functional.linear, torch.randn(3, 6).double(), feedback=partial(Shaped, make=Tensor.contiguous))


@dataclass(frozen=True)
class Elsewhere(UpdateRule):
    """A rule that returns the moved weight instead of moving it."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> Any:
        return weight - lr * factors.dense()


class Listing(Elsewhere):
    """A rule that names its buffers in a list."""

    def state_shapes(self, shape: tuple[int, ...]) -> Any:
        return ["mean"]


class Forgetful(FixedRandom):
    """A path that forgets some of what it is told."""

    def learn(self, signal: Signal, lr: float) -> None:  # type: ignore[override]
        pass


class Demanding(FixedRandom):
    """A path that wants to be told more."""

    def error(self, signal: Signal, context: Context) -> Tensor:  # type: ignore[override]
        return signal.x


class Ignorant(FixedRandom):
    """A path whose matrix does not want to know the weight."""

    def one_matrix(self) -> Tensor:  # type: ignore[override]
        return torch.zeros(3, 6)


class Silent(Layer):
    """A layer that forgets to return the error."""

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        return x, None

    def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
        pass


class Remembering(nn.Tanh):
    """An operation with a state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}


def body() -> Sequential:
    return Sequential(AreaLinear(6, 3, areas=1, feedback=None))


def merged_once() -> Network:
    network = Network(mlp(6, 3, width=4, areas=2))
    network.learn(X, Y)
    return network.merged()


class Floating:
    """A loss that knows its derivative, and returns a number that is no tensor."""

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return output.sum()

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
        return 3.0, torch.ones_like(output)


class Trained(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.scale * functional.cross_entropy(output, target)


class Incomplete(nn.Module):
    """A learner that forgets most of it."""

    def learn_with_output(self) -> None: ...


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: routed(picking(lambda x: x[:, 0] > 0)).learn(X, Y),
        "Picking.choose should return cells, (20,) torch.int64, got (20,) torch.bool.",
    ),
    (
        lambda: routed(picking(lambda x: x))(X),
        "Picking.choose should return cells, (20,) torch.int64, got (20, 6) torch.float32.",
    ),
    (
        lambda: routed(picking(lambda x: 3)).learn(X, Y),
        "Picking.choose should return cells, (20,) torch.int64, got int.",
    ),
    (
        lambda: routed(picking(lambda x: torch.arange(20) % 5)).learn(X, Y),
        "Picking.choose should return cells from 0 to 3, got 0 to 4.",
    ),
    (
        lambda: routed(picking(lambda x: -by_sign(x)))(X),
        "Picking.choose should return cells from 0 to 3, got -1 to 0.",
    ),
    (
        lambda: learn_with(lambda signal: torch.zeros(6, 20)),
        "Flawed.error should return the error below, (20, 6) torch.float32, got (6, 20) torch.float32.",
    ),
    (
        lambda: learn_with(lambda signal: torch.zeros(20, 6).double()),
        "Flawed.error should return the error below, (20, 6) torch.float32, got (20, 6) torch.float64.",
    ),
    (
        lambda: learn_with(lambda signal: None),
        "Flawed.error should return the error below, (20, 6) torch.float32, got NoneType.",
    ),
    (
        lambda: learn_from(torch.zeros(20, 4)),
        "Expected an error of shape (20, 3) and torch.float32, like the output, got (20, 4) torch.float32.",
    ),
    (
        lambda: learn_from(torch.zeros(19, 3)),
        "Expected an error of shape (20, 3) and torch.float32, like the output, got (19, 3) torch.float32.",
    ),
    (
        lambda: learn_from(torch.zeros(20, 3).double()),
        "Expected an error of shape (20, 3) and torch.float32, like the output, got (20, 3) torch.float64.",
    ),
    (
        lambda: AreaLinear(6, 3, feedback=Direct),
        "Direct cannot be built from the layer's shape alone (missing a required argument: 'outputs'): give the "
        "other arguments with functools.partial, as in partial(Direct, outputs=10).",
    ),
    (
        lambda: Network(mlp(6, 3, areas=1, update=Elsewhere())).learn(X, Y),
        "Elsewhere.apply should change the weight in place and return nothing.",
    ),
    (
        lambda: design("mlp", Elsewhere(), in_features=6, outputs=3),
        "A design refers to its rule by name: register yours first, with brodmann.updates.UPDATES['elsewhere'] = "
        "Elsewhere.",
    ),
    (
        lambda: design("mlp", Adam(), in_features=6, outputs=3, feedback=FixedRandom),
        "A design holds only numbers, strings, lists and dictionaries, got feedback=<class "
        "'brodmann.feedback.fixed.FixedRandom'>. Register a feedback path or an activation of your own in "
        "brodmann.builders.FEEDBACKS or ACTIVATIONS, and give its name; or register a builder that uses what you give "
        "here, in BUILDERS.",
    ),
    (
        lambda: Network(Sequential(body(), Silent())).learn(X, Y),
        "Layer 1 (Silent) sends no error down, but layers below it learn: give an AreaLinear a feedback path, give "
        "a builder lowest=False, and let a layer of your own return the error from `learn`. A layer of your own whose "
        "parameters never change should set moves = False.",
    ),
    (
        lambda: merged_once().learn(X, Y),
        "This layer was merged for inference: learn with the network that it was made from.",
    ),
    (
        lambda: Network(body()).bfloat16(),
        "A network computes in float32 or float64, not in torch.bfloat16: leave that out, or build it with "
        "storage='bfloat16', which stores its weights in bfloat16.",
    ),
    (
        lambda: Network(body()).half(),
        "A network computes in float32 or float64, not in torch.float16: leave that out, or build it with "
        "storage='bfloat16', which stores its weights in bfloat16.",
    ),
    (
        lambda: Network(body(), Trained()),
        "Trained holds parameters, which nothing would train: make them buffers, or freeze them with "
        "requires_grad_(False).",
    ),
    (
        lambda: Network(body(), lambda output, target: functional.cross_entropy(output, target).detach()).learn(X, Y),
        "Expected a loss that PyTorch can differentiate with respect to the output: leave out .item(), .detach() and "
        "NumPy.",
    ),
    (
        lambda: Network(body(), functional.cross_entropy).learn(X, Y, torch.ones(20)),
        "cross_entropy takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight).",
    ),
    (lambda: Network(body()).learn(X[0], Y[0]), "Expected as many targets as samples, got a single number for 6."),
    (
        lambda: Local(nn.ReLU),
        "Expected an operation of one tensor, such as nn.GELU(), got <class 'torch.nn.modules.activation.ReLU'>.",
    ),
    (
        lambda: Network(body()).learn(X, Y, torch.full((20,), -1.0)),
        "Expected sample weights that are finite and at least 0: leave out samples with other weights.",
    ),
    (
        lambda: Network(body(), Floating()).learn(X, Y),
        "Expected a loss that returns a tensor with one number, got 3.0.",
    ),
    (
        lambda: Trainer(Network(body()), torch.utils.data.DataLoader([0])),  # type: ignore[arg-type]
        "Expected samples and targets as tensors in memory, or a data set with a length and numbered items, got "
        "DataLoader: give its data set, loader.dataset.",
    ),
    (
        lambda: Trainer(Network(body()), iter([0])),  # type: ignore[arg-type]
        "Expected samples and targets as tensors in memory, or a data set with a length and numbered items, got "
        "list_iterator: give batches to network.learn(*batch).",
    ),
    (
        lambda: Trainer(Network(body()), (X, Y), (X, Y, Y, Y)),  # type: ignore[arg-type]
        "Expected samples and targets, and optionally weights, got 4 tensors.",
    ),
    (
        lambda: AreaLinear(6, 3, update=Listing()),
        "Listing.state_shapes should return a dictionary of buffers' names and shapes, such as {'velocity': shape}, "
        "got list.",
    ),
    (
        lambda: AreaLinear(6, 3, feedback=Forgetful),
        "Forgetful.learn must take (self, signal, lr, decay, area_lr, area_decay), as that of Feedback: too many "
        "positional arguments.",
    ),
    (
        lambda: AreaLinear(6, 3, feedback=Demanding),
        "Demanding.error must take (self, signal), as that of Feedback: missing a required argument: 'context'.",
    ),
    (
        lambda: AreaLinear(6, 3, feedback=Ignorant),
        "Ignorant.one_matrix must take (self, weight), as that of Feedback: too many positional arguments.",
    ),
    (
        lambda: Trainer(Network(body()), (X, Y), (X[:0], Y[:0])),
        "Expected a validation part with samples, got an empty one: give None for none.",
    ),
    (
        lambda: Trainer(Network(body()), list(zip(X, Y, strict=True))),  # type: ignore[arg-type]
        "Expected samples and targets as two tensors, (x, y), got a list of 20 pairs: stack the samples, and the "
        "targets, with torch.stack, or give a torch.utils.data.Dataset of the pairs.",
    ),
    (
        lambda: AreaLinear(6, 3, feedback=lambda shape: 3),  # type: ignore[arg-type,return-value]
        "Expected feedback to build a Feedback, got int.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=lambda size, areas, update: Router(size, 4, update=update)),
        "Expected router to build a Router of 2 areas, as its layer has, got 4.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=lambda size, areas, update: nn.Linear(size, areas)),  # type: ignore[arg-type,return-value]
        "Expected router to build a Router, got Linear.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=None)(X, Router(6, 4000).route(X)),
        "These weights serve 2 areas, but the rows choose among 4000: use a router with as many areas as the weights.",
    ),
    (
        lambda: Network(Sequential(AreaLinear(6, 3, feedback=None), Local(Remembering()))),
        "Remembering ('layers.1.operation') has extra state, by get_extra_state, which files cannot hold: keep it in a "
        "buffer, with register_buffer.",
    ),
    (lambda: Network(body(), lr=-1.0), "Expected lr to be a number of at least 0, got -1.0."),
    (
        lambda: Trainer(Incomplete(), (X, Y)),  # type: ignore[arg-type]
        "Expected a learner with everything that brodmann.training.Learner names, but Incomplete lacks learning_state, "
        "load_learning_state, lr, loss, recursive.",
    ),
]


@pytest.mark.parametrize(("act", "message"), CASES, ids=[message[:50] for _, message in CASES])
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as caught:
        act()
    assert str(caught.value) == message


def test_a_loss_that_takes_two_arguments_nothing() -> None:
    with pytest.raises(BrodmannError, match="Expected a loss that takes \\(output, target\\) or"):
        Network(body(), lambda output: output.sum())


def focal(output: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """A loss whose third argument is an option, not a weight."""
    value = functional.cross_entropy(output, target, reduction="none")
    return ((1 - (-value).exp()) ** gamma * value).mean()


class Focal(nn.Module):
    """The same as a module."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return focal(output, target)


def keyword(output: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """A loss whose weight cannot be given by its place."""
    assert weight is None
    return focal(output, target)


LOSSES: list[Any] = [focal, Focal(), lambda output, target: focal(output, target), keyword, partial(focal, gamma=2.0)]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_ones_own_without_weights(loss: Any, double: None) -> None:
    torch.manual_seed(0)
    network = Network(body(), loss)
    x = X.double()
    found = network.learn(x, Y, lr=0.0)
    leaf = network(x).requires_grad_(True)
    expected = focal(leaf, Y)
    error, _ = network.output_error(network(x), Y)
    assert torch.equal(found, expected.detach())
    assert torch.equal(error, torch.autograd.grad(expected, leaf)[0])
    with pytest.raises(BrodmannError, match="takes no sample weights"):
        network.learn(x, Y, torch.ones(20))


WEIGHTED: list[Any] = [
    lambda o, t, weight=None: CrossEntropy()(o, t, weight),
    lambda o, t, sample_weight=None: CrossEntropy()(o, t, sample_weight),
    lambda o, t, w=None: CrossEntropy()(o, t, w),
    lambda o, t, third: CrossEntropy()(o, t, third),
    lambda *given: CrossEntropy()(*given),
]


@pytest.mark.parametrize("loss", WEIGHTED)
def test_losses_of_ones_own_with_weights(loss: Any) -> None:
    weight = torch.rand(20)
    torch.manual_seed(0)
    own = Network(body(), loss)
    torch.manual_seed(0)
    plain = Network(body())
    assert torch.allclose(own.learn(X, Y, weight), plain.learn(X, Y, weight))
    assert torch.allclose(own.learn(X, Y), plain.learn(X, Y))


def test_a_loss_of_pytorch_with_options() -> None:
    loss = partial(functional.cross_entropy, label_smoothing=0.1)
    assert torch.allclose(Network(body(), loss).loss(X[:, :3], Y), CrossEntropy(0.1)(X[:, :3], Y))
    with pytest.raises(BrodmannError, match="takes no sample weights"):
        Network(body(), loss).learn(X, Y, torch.ones(20))


class Balanced(nn.Module):
    """A loss with a buffer."""

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target, self.share)


def test_a_loss_with_buffers_follows_the_network() -> None:
    network = Network(body(), Balanced()).double()
    assert torch.isfinite(network.learn(X.double(), Y))


def test_a_frozen_network_in_a_loss() -> None:
    loss = Trained().requires_grad_(False)
    assert torch.isfinite(Network(body(), loss).learn(X, Y))


class Exact(CrossEntropy):
    """Knows its derivative, and looks as if it took no weight."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        return super().__call__(output, target)


def test_a_loss_that_knows_its_derivative_is_left_alone() -> None:
    loss = Exact()
    assert Network(body(), loss).loss is loss


def test_any_operation_as_an_activation() -> None:
    torch.manual_seed(0)
    named = Network(mlp(6, 3, width=4, activation="gelu"))
    torch.manual_seed(0)
    given = Network(mlp(6, 3, width=4, activation=nn.GELU()))
    assert torch.equal(named(X), given(X))
    with pytest.raises(BrodmannError, match="A design holds only numbers"):
        design("mlp", Adam(), in_features=6, outputs=3, activation=nn.GELU())
    json.dumps(design("mlp", Adam(), in_features=6, outputs=3, activation="gelu"))


@dataclass(frozen=True)
class Downhill(UpdateRule):
    """Gradient descent under another name: it remembers nothing, and says nothing of it."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        factors.add_to(weight, keep=1.0 - lr * decay, scale=-lr)


@dataclass(frozen=True)
class Seeing(Downhill):
    recursive: ClassVar[bool] = True


def test_a_registered_rule_in_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BrodmannError, match="Unknown update rule 'downhill'"):
        RunOptions(optimiser="downhill").check()
    monkeypatch.setitem(UPDATES, "downhill", Downhill)
    options = RunOptions(optimiser="downhill", decay=0.5)
    options.check()
    assert options.update() == Downhill(decay=0.5)
    twin = Backpropagation(3, 2, optimiser="downhill", decay=0.5)
    before = twin.body[0].weight.clone()
    twin.learn_with_output(torch.zeros(2, 3), torch.tensor([0, 1]), lr=0.1)  # no gradient: the decay alone
    torch.testing.assert_close(twin.body[0].weight, 0.95 * before)
    monkeypatch.setitem(UPDATES, "seeing", Seeing)
    with pytest.raises(BrodmannError, match="The rule 'seeing' learns streams in one pass"):
        start_run(replace(options, optimiser="seeing"), tmp_path / "run", compare=True)  # before anything is trained
    assert not (tmp_path / "run").exists()
    with pytest.raises(BrodmannError, match="The rule 'rls' learns streams in one pass"):
        RunOptions(optimiser="rls").check()


def test_a_callback_stops_the_training() -> None:
    class Enough(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 7:
                trainer.stop()

    progress = Trainer(Network(body()), (X, Y), schedule=Schedule(10, 5), callbacks=[Enough()]).run()
    assert progress.epoch == 2  # the running epoch of four steps came to its end
    assert len(progress.history) == 2


def test_a_stopped_trainer_goes_on() -> None:
    class Once(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            trainer.stop()

    trainer = Trainer(Network(body()), (X, Y), schedule=Schedule(3, 5), callbacks=[Once()])
    assert [trainer.run().epoch for _ in range(3)] == [1, 2, 3]


@dataclass(frozen=True)
class Returning(Downhill):
    """Moves the weight, and returns it as PyTorch's own operations do."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> Any:
        factors.add_to(weight, keep=1.0 - lr * decay, scale=-lr)
        return weight


def test_a_rule_may_return_the_weight_that_it_moved() -> None:
    torch.manual_seed(0)
    plain = Network(mlp(6, 3, areas=1, update=Downhill()))
    torch.manual_seed(0)
    returning = Network(mlp(6, 3, areas=1, update=Returning()))
    assert torch.equal(plain.learn(X, Y), returning.learn(X, Y))
    assert torch.equal(plain(X), returning(X))


def test_parts_of_a_merged_network_make_a_network() -> None:
    merged = merged_once()
    again = Routed(merged.body.router, Sequential(*merged.body.body.layers))
    assert torch.equal(again(X), merged(X))


def test_a_design_is_told_in_data_and_keeps_to_itself(tmp_path: Path) -> None:
    given: dict[str, Any] = {"builder": "mlp", "in_features": 6, "outputs": 3, "update": Adam(decay=0.1), "router": {}}
    network = Network(build(given))
    network.save(tmp_path / "network")
    assert Network.load(tmp_path / "network").design == network.design
    given["router"]["cells"] = 7
    assert network.design is not None
    assert network.design["router"] == {}
    assert Network(build({**given, "router": None, "feedback": FixedRandom})).design is None


def test_numbers_of_numpy_in_a_design() -> None:
    description = design("mlp", Adam(decay=np.float32(0.5)), in_features=np.int64(6), outputs=3)
    assert description == design("mlp", Adam(decay=0.5), in_features=6, outputs=3)


def test_a_refused_step_moves_nothing() -> None:
    merged = merged_once()
    before = merged(X)
    with pytest.raises(BrodmannError):
        merged.learn(X, Y, lr=0.1)
    assert torch.equal(merged(X), before)


@pytest.mark.parametrize("view", [lambda cell: torch.stack([cell, cell], 1)[:, 0], lambda cell: cell[:1].expand(20)])
def test_a_choice_may_be_a_view(view: Callable[[Tensor], Tensor]) -> None:
    networks = [routed(picking(pick)) for pick in (lambda x: view(by_sign(x)), lambda x: view(by_sign(x)).clone())]
    for _ in range(3):
        losses = [network.learn(X, Y, lr=0.1) for network in networks]
        assert losses[0] == losses[1]
    assert torch.equal(networks[0].body.router.projection.value, networks[1].body.router.projection.value)


def test_a_body_that_drops_rows_of_its_route_is_refused_by_inference_too() -> None:
    layers = Sequential(
        AreaLinear(6, 5, areas=4, router=None, feedback=None),
        Local(lambda h: h.reshape(-1, 2, 5)[:, 0]),
        AreaLinear(5, 3, areas=4, router=None),
    )
    network = Network(Routed(Router(6, 4), layers))
    for act in (lambda: network(X), lambda: network.learn(X, Y[::2].repeat(2))):
        with pytest.raises(
            BrodmannError, match="The shared route has 20 rows, but this layer got 10: keep the number of rows"
        ):
            act()
    with torch.enable_grad(), pytest.raises(BrodmannError, match="The shared route has 20 rows"):
        network(X.clone().requires_grad_())


class Scale(Layer):
    """A learning layer of one's own: a factor for each feature."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(size), requires_grad=False)

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.factor

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        return self(x), x

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        below = error * self.factor
        self.factor.sub_((error * trace).sum(0), alpha=context.lr_of(self))
        return below


def test_what_only_learning_reads_is_stored_but_not_active() -> None:
    class Headed(Scale):
        learning_only: Any = ("head", "table")

        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.head, self.table = AreaLinear(size, 3, areas=1, feedback=None), nn.Parameter(torch.ones(9))

    network = Network(Sequential(Headed(6), AreaLinear(6, 3, areas=1)))
    assert network.active_parameters() == 6 + 7 * 3
    assert network.total_parameters() == 6 + 7 * 3 + 6 * 3 + 7 * 3 + 9
    for wrong in ("head", ("heads",)):
        Headed.learning_only = wrong
        with pytest.raises(BrodmannError, match=r"Expected learning_only of Headed to be a tuple of names"):
            network.active_parameters()


def test_a_learning_layer_of_ones_own_counts() -> None:
    with pytest.raises(BrodmannError, match=r"Layer 1 \(AreaLinear\) sends no error down, but layers below it learn"):
        Sequential(Scale(6), AreaLinear(6, 3, feedback=None))
    below = Scale(6)
    network = Network(Sequential(below, AreaLinear(6, 3, areas=1)))
    assert network.active_parameters() == 6 + 7 * 3
    assert network.total_parameters() == 6 + 7 * 3 + 6 * 3
    network.learn(X, Y, lr=0.1)
    assert not torch.equal(below.factor, torch.ones(6))
    assert not network(X).requires_grad
    before = below.factor.clone()
    network.rates = Rates(layers={"layers.0": 0.0})
    network.learn(X, Y, lr=0.1)
    torch.testing.assert_close(below.factor, before, rtol=0, atol=0)
    with pytest.raises(BrodmannError, match=r"Unknown layer 'layers.2'. Did you mean 'layers.\d'"):
        network.rates = Rates(layers={"layers.2": 0.0})
    Sequential(Local(torch.tanh), AreaLinear(6, 3, feedback=None))  # nothing below it learns

    class Frozen(Scale):
        moves = False

    Sequential(Frozen(6), AreaLinear(6, 3, feedback=None))


def test_layers_inside_a_further_routed_follow_that_one() -> None:
    inner = Routed(Router(6, 2), AreaLinear(6, 6, areas=2, router=None))
    body = Sequential(
        AreaLinear(6, 6, areas=4, router=None, feedback=None), inner, AreaLinear(6, 3, areas=4, router=None)
    )
    network = Network(Routed(Router(6, 4, partition="manual"), body))
    for _ in range(3):
        network.learn(X, Y, lr=0.1)
    followed = inner.body.areas
    before = followed.weight.value.clone(), followed.slot.clone()
    x = network(X)
    network.body.split(0)
    torch.testing.assert_close(network(X), x)
    assert torch.equal(followed.weight.value, before[0])
    assert torch.equal(followed.slot, before[1])
    outer = Routed(Router(6, 4, partition="manual"), inner)  # directly, too
    outer.split(0)
    assert torch.equal(followed.weight.value, before[0])
    names = list(area_choices(network, X))
    assert names == ["router", "body.layers.1"]


class Targets(Feedback):
    """Direct random target projection (Frenkel et al. 2021): the targets themselves go down."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(3, shape.in_features))

    def error(self, signal: Signal) -> Tensor:
        assert signal.target is not None
        return -functional.one_hot(signal.target, 3).float() @ self.matrix / len(signal.x)  # type: ignore[operator]


class Reading(Feedback):
    """A path that reads the forward weights, area by area."""

    def error(self, signal: Signal) -> Tensor:
        below = torch.empty_like(signal.x)
        for area, start, stop in signal.groups.segments:
            rows = slice(None) if signal.groups.order is None else signal.groups.order[start:stop]
            below[rows] = signal.delta[rows] @ signal.weight_of(area)
        return below


@pytest.mark.parametrize("storage", [None, "bfloat16"])
@pytest.mark.parametrize("shared", ["learned", "off"])
@pytest.mark.parametrize("areas", [1, 3])
def test_a_path_reads_weights_in_the_numbers_of_its_layer(areas: int, shared: str, storage: str | None) -> None:
    arrived = []
    for path in (Reading, Transpose):
        torch.manual_seed(0)
        network = Network(mlp(6, 3, width=8, areas=areas, shared=shared, feedback=path, storage=storage))
        network.learn(X, Y, lr=0.1)
        received: list[Tensor] = []
        network.learn(X, Y, lr=0.0, observe=lambda _, error, received=received: received.append(error))
        arrived.append(received)
    torch.testing.assert_close(*arrived, rtol=0.0, atol=1e-6 if storage is None else 3e-4)


def test_a_layer_of_ones_own_that_returns_no_error_of_the_input_is_told() -> None:
    class Composed(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.map = AreaLinear(6, 4, areas=1, feedback=None)

        def forward(self, x: Tensor, choice: Any = None) -> Tensor:
            return self.map(x)

        def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
            return self.map.trace(x, context)

        def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
            return self.map.learn(trace, error, context)

    network = Network(Sequential(Composed(), AreaLinear(4, 3, areas=1)))
    network.learn(X, Y)
    with pytest.raises(BrodmannError, match="lowest layer of this body returned no error from `learn`, although it"):
        network.learn_with_error(X, Y)


def test_a_path_may_carry_targets_down() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=32, areas=1, feedback=Targets, update=Adam()))
    (_, hidden), (_, readout) = network.area_layers()
    received: dict[AreaLinear, Tensor] = {}
    network.learn(X, Y, lr=0.0, observe=lambda layer, error: received.update({layer: error}))
    expected = -readout.feedback.matrix[Y] / len(X) * (hidden(X) > 0)  # type: ignore[index,operator,union-attr]
    torch.testing.assert_close(received[hidden], expected)


def test_a_registered_path_may_ask_for_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Direct):
        pass

    monkeypatch.setitem(FEEDBACKS, "own", Own)
    for feedback in ("own", Own, partial(Direct)):
        network = Network(mlp(6, 3, width=5, feedback=feedback))
        network.learn(X, Y)
        assert network.area_layers()[1][1].feedback.matrix.shape == (3, 5)


def test_an_activation_that_changes_one_of_ours_is_not_taken_for_it() -> None:
    class Leaky(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return functional.leaky_relu(x, 0.3)

    local = Local(Leaky())
    y, trace = local.trace(X, Context())
    assert torch.equal(y, local(X))
    assert torch.equal(local.learn(trace, torch.ones(20, 6), Context()), torch.where(X > 0, 1.0, 0.3))


def test_parts_that_return_several_things_do_not_hide_a_divergence() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0]

    network = Network(Sequential(AreaLinear(6, 5, areas=1, feedback=None), Local(First()), AreaLinear(5, 3, areas=1)))
    network.area_layers()[0][1].shared.value.fill_(torch.nan)
    with pytest.raises(DivergenceError, match="NaN or infinite values first appear in layer 'body.layers.0'"):
        network.learn(X, Y)


def test_parts_that_share_their_weights_cannot_be_saved(tmp_path: Path) -> None:
    first, second = AreaLinear(6, 6, areas=1, feedback=None), AreaLinear(6, 6, areas=1)
    second.shared = first.shared
    network = Network(Sequential(first, Local(nn.ReLU()), second))
    with pytest.raises(BrodmannError, match="parts that share their weights cannot be saved, so give each its own"):
        network.save(tmp_path / "n.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "container", [lambda part: Residual(part), Recomputed, lambda part: Routed(Router(6, 2), part)]
)
def test_containers_take_layers_alone(container: Callable[[Any], Layer]) -> None:
    with pytest.raises(BrodmannError, match=r"(The body|Layer 0) of \w+ is a Linear, which cannot learn: wrap"):
        container(nn.Linear(6, 6))


def test_settings_of_conflict_reach_it() -> None:
    network = Network(mlp(6, 3, router={"partition": "growing", "conflict": {"evidence": 64, "certainty": 9.0}}))
    conflict = network.body.router.conflict
    assert (conflict.evidence, conflict.certainty, conflict.opposition) == (64, 9.0, 0.03)
    with pytest.raises(BrodmannError, match="work only with partition='growing', got partition='fixed'"):
        Router(6, 4, conflict={"evidence": 64})
    with pytest.raises(BrodmannError, match="Expected evidence to be a whole number of at least 1, got 0"):
        Router(6, 4, partition="growing", conflict={"evidence": 0})


@pytest.mark.parametrize(
    "made", [nn.SiLU, nn.SiLU(), functional.silu, lambda: nn.SiLU(), lambda x: x * torch.sigmoid(x)]
)
def test_an_activation_is_registered_as_a_class_a_module_or_a_function(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIVATIONS, "mine", made)
    torch.manual_seed(0)
    registered = Network(mlp(6, 3, width=8, areas=2, activation="mine"))
    torch.manual_seed(0)
    given = Network(mlp(6, 3, width=8, areas=2, activation=nn.SiLU()))
    x, y = torch.randn(9, 6), torch.arange(9) % 3
    torch.testing.assert_close(registered.learn(x, y), given.learn(x, y))
    torch.testing.assert_close(registered(x), given(x))
    twin = Backpropagation(6, 3, width=8, activation="mine")
    assert torch.isfinite(twin(x)).all()


class Constructed(Downhill):
    """A rule with an ``__init__`` of its own."""

    def __init__(self, inertia: float = 0.9, **others: Any) -> None:
        super().__init__(**others)
        object.__setattr__(self, "inertia", inertia)


class Narrow(Downhill):
    """A rule that takes nothing but its own settings."""

    def __init__(self, inertia: float = 0.9) -> None:
        object.__setattr__(self, "decay", 0.1)


@pytest.mark.parametrize("rule", [Constructed(0.5), Narrow()])
def test_a_rule_whose_settings_are_no_fields_is_in_no_design(
    rule: UpdateRule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(UPDATES, type(rule).__name__.lower(), type(rule))
    with pytest.raises(
        BrodmannError, match=r"has settings that are no fields.*: write @dataclass\(frozen=True\) above"
    ):
        design("mlp", rule, in_features=6, outputs=3)
    network = Network(mlp(6, 3, areas=1, update=rule))
    network.save(tmp_path / "own")  # a body as its caller builds it, not another rule
    with pytest.raises(CheckpointError, match="pass a body built by the same code"):
        Network.load(tmp_path / "own")


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (None, "Expected a design such as {'builder': 'mlp', ...}, got None."),
        ("mlp", "Expected a design such as {'builder': 'mlp', ...}, got 'mlp'."),
        ({"builder": ["mlp"]}, "Unknown builder"),
        (
            {"builder": "mlp", "update": {"rule": "adam"}},
            "Expected an update such as {'name': 'adam', ...} in a design",
        ),
    ],
)
def test_what_is_no_design_is_named(design: Any, message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        Network.from_design(design)
    assert message in str(error.value)


class Wrong(FixedRandom):
    """Multiplies the wrong way round."""

    def error(self, signal: Signal) -> Tensor:
        return self.matrix @ signal.delta


def test_a_path_that_multiplies_wrongly_is_named() -> None:
    layers = AreaLinear(6, 5, areas=1, feedback=None), AreaLinear(5, 3, areas=1, feedback=Wrong)
    with pytest.raises(BrodmannError, match=r"Wrong.error failed for rows \(20, 5\) and a delta \(20, 3\)"):
        Network(Sequential(*layers)).learn(X, Y)


def test_a_schedule_may_be_a_function() -> None:
    network = Network(mlp(6, 3, width=4, areas=1))
    trainer = Trainer(network, (X, Y), None, Schedule(1, 10, lr=0.1, shape=lambda done: 0.5 - 0.5 * done))
    trainer.run()
    assert trainer.rate == pytest.approx(0.1 * 0.25)
    with pytest.raises(BrodmannError, match="Expected the share that a schedule returns to be a number of at least 0"):
        Trainer(network, (X, Y), None, Schedule(1, 10, shape=lambda done: "half")).run()


@pytest.mark.parametrize("function", [torch.sin, functional.gelu, torch.tanh])
def test_builtin_functions_may_be_activations(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "own", function)
    torch.manual_seed(0)
    named = Network(mlp(4, 2, areas=1, activation="own"))
    given = Network(mlp(4, 2, areas=1, activation=function))
    given.load_state_dict(named.state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(named(x), given(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"builder": "mpl"}, r"Unknown builder 'mpl'. Did you mean 'mlp'\? Choose one of: lone, mlp, residual_mlp."),
        ({"builder": "convnet"}, "The builder 'convnet' cannot be used with --builder: --channels 32 64 builds it."),
        (
            {"builder": "stream_mlp"},
            "The builder 'stream_mlp' cannot be used with --builder: it learns streams, in one pass",
        ),
        (
            {"builder": "lone"},
            "The builder 'lone' does not take areas, update, routing, shared, gated, pooling, router",
        ),
        ({"optimiser": "rls"}, "The rule 'rls' learns streams in one pass, not by epochs: use SALClassifier"),
    ],
)
def test_what_a_run_cannot_name_is_told(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "lone", lambda in_features, outputs, feedback: mlp(in_features, outputs))
    with pytest.raises(BrodmannError, match=message):
        RunOptions(**options).check()


def test_rules_keep_their_own_decay_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATES, "halving", partial(UPDATES["sgd"], decay=0.5))
    options = [RunOptions(optimiser=name) for name in ("adam", "sgd", "halving")]
    assert [one.weight_decay for one in options] == [0.2, 0.0, 0.5]
    assert options[-1].update().decay == 0.5
    assert RunOptions(optimiser="halving", decay=0.1).update().decay == 0.1


def test_rules_and_losses_are_registered_as_what_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATES, "ready", Adam())
    with pytest.raises(BrodmannError, match=r"UPDATES\['ready'\] to be what makes a rule: its class, .*, got Adam\("):
        RunOptions(optimiser="ready").check()
    for loss in (functional.cross_entropy, nn.CrossEntropyLoss(), CrossEntropy()):
        monkeypatch.setitem(REGISTERED, "ready", loss)
        with pytest.raises(BrodmannError, match=r"LOSSES\['ready'\] to be what makes a loss, called without"):
            loss_of(RunOptions(loss="ready"), True)
    for maker in (nn.CrossEntropyLoss, lambda: functional.cross_entropy):
        monkeypatch.setitem(REGISTERED, "ready", maker)
        assert loss_of(RunOptions(loss="ready"), True)(X[:, :3], Y, None) == CrossEntropy()(X[:, :3], Y)


def test_designs_name_rules_by_their_names_alone_too() -> None:
    network = Network.from_design({"builder": "mlp", "in_features": 6, "outputs": 3, "update": "adam"})
    assert network.area_layers()[0][1].update_rule == Adam()


def test_a_builder_that_fails_says_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "own", lambda outputs: len(outputs))
    with pytest.raises(TypeError, match="object of type 'int' has no len"):  # with its line: it is the user's own
        build({"builder": "own", "outputs": 2})
    with pytest.raises(BrodmannError, match="Expected the builder 'own' to return a layer, got int."):
        build({"builder": "own", "outputs": "two"})
    with pytest.raises(BrodmannError, match="The builder 'own' cannot use this design: missing a required argument"):
        build({"builder": "own"})
    monkeypatch.setitem(BUILDERS, "short", lambda i, o, **common: mlp(i, o, **common))
    with pytest.raises(BrodmannError, match="Call its arguments for the two sizes in_features and outputs."):
        build({"builder": "short", "in_features": 6, "outputs": 3})


@dataclass(frozen=True)
class Rebinding(UpdateRule):
    share: float = 0.9

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"mean": shape}

    def apply(self, weight: Any, state: dict[str, Any], factors: Factors, lr: float, decay: float) -> None:
        state["mean"] = state["mean"] * self.share + factors.dense()
        weight.sub_(lr * state["mean"])


def test_a_rule_that_replaces_its_state_is_told_and_its_own_options_come_first() -> None:
    assert Rebinding(0.5).share == 0.5
    with pytest.raises(
        BrodmannError, match=r"Rebinding.apply should change its state in place, as in state\['m'\].mul_"
    ):
        Network(mlp(6, 3, areas=1, update=Rebinding())).learn(X, Y)


@dataclass(frozen=True)
class Unmoving(Elsewhere):
    """A rule whose name for the weight comes to mean another tensor."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        weight = weight - lr * factors.dense()


def test_a_rule_that_moves_nothing_is_told() -> None:
    model = nn.Linear(6, 3)
    model(X).sum().backward()  # type: ignore[no-untyped-call]
    optimiser = RuleOptimizer(model.parameters(), Unmoving())
    network = Network(mlp(6, 3, areas=1, update=Unmoving()))
    for act in (optimiser.step, lambda: network.learn(X, Y)):
        with pytest.warns(UserWarning, match="Unmoving.apply changed neither the weight nor its state") as caught:
            act()
    assert {warning.filename for warning in caught} == {__file__}  # where the step is made, not inside the package
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.learn(X, Y, lr=0.0)
        Network(mlp(6, 3, areas=1, update=Adam())).learn(X, Y)
        stored = Network(mlp(6, 3, areas=1, update=Downhill(), storage="bfloat16"))
        stored.learn(X, Y)
        with torch.inference_mode():
            stored.learn(X, Y)


@dataclass(frozen=True)
class Normed(UpdateRule):
    """A rule that takes steps of one length."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        gradient = factors.dense()
        weight.sub_(lr * gradient / gradient.norm())


def test_a_rule_that_divides_by_a_gradient_of_0_is_told() -> None:
    told = r"Normed.apply made a weight of shape \(.*\) NaN or infinite by a finite gradient: look for divisions by a"
    with pytest.raises(DivergenceError, match=told):  # areas start at 0: no gradient comes to the router
        Network(mlp(6, 3, areas=4, update=Normed())).learn(X, Y)
    model = nn.Linear(6, 3)
    (0.0 * model(X)).sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(DivergenceError, match=told):
        RuleOptimizer(model.parameters(), Normed()).step()
    Network(mlp(6, 3, areas=1, update=Normed())).learn(X, Y)


class Greedy(FixedRandom):
    """A path that works on what it is given."""

    def __init__(self, shape: Shape, change: Callable[[Signal], object], *, learning: bool) -> None:
        super().__init__(shape)
        self.change, self.learning = change, learning

    def error(self, signal: Signal) -> Tensor:
        below = super().error(signal)
        if not self.learning:
            self.change(signal)
        return below

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        if self.learning:
            self.change(signal)


@pytest.mark.parametrize("around", [lambda path: path, lambda path: partial(LeastChange, path=path)])
@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda signal: signal.x.sub_(1.0),
        lambda signal: signal.delta.div_(2.0),
        lambda signal: signal.part_delta.neg_(),
        lambda signal: signal.output_error.zero_(),
        lambda signal: signal.output.zero_(),
        lambda signal: signal.target.fill_(0),
    ],
)
def test_a_path_that_changes_what_it_was_given_is_told(change: Any, learning: bool, around: Any) -> None:
    path = around(partial(Greedy, change=change, learning=learning))
    network = Network(Sequential(AreaLinear(6, 5, areas=1, feedback=None), AreaLinear(5, 3, areas=2, feedback=path)))
    told = f"Greedy.{'learn' if learning else 'error'} changed in place what it was given"
    with pytest.raises(BrodmannError, match=told):
        network.learn(X.clone(), Y.clone())


def test_a_path_that_changes_a_copy_goes_on_in_inference_mode_too() -> None:
    path = partial(Greedy, change=lambda signal: signal.x.clone().sub_(1.0), learning=True)
    network = Network(mlp(6, 3, areas=2, feedback=path))
    network.learn(X, Y)
    with torch.inference_mode():
        network.learn(X, Y)


@dataclass(frozen=True)
class Centring(Downhill):
    """A rule that works on the factors themselves."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        super().apply(weight, state, factors, lr, decay)
        (factors.delta if factors.x is None else factors.x).sub_(1.0)


def test_a_rule_that_changes_the_factors_is_told() -> None:
    x = X.clone()
    with pytest.raises(BrodmannError, match="Centring.apply changed in place what it was given"):
        Network(mlp(6, 3, areas=1, update=Centring())).learn(x, Y)


def test_a_count_that_is_none_is_refused() -> None:
    @dataclass(frozen=True)
    class Counting(UpdateRule):
        def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
            return {"steps": shape}

        def apply(self, weight: Any, state: dict[str, Any], factors: Factors, lr: float, decay: float) -> None:
            pass

    with pytest.raises(BrodmannError, match="'steps', but that name is reserved for a count of shape"):
        mlp(6, 3, areas=1, update=Counting())


def test_a_path_needs_no_constructor_and_says_what_its_own_must_do() -> None:
    class Bare(Feedback):
        def error(self, signal: Signal) -> torch.Tensor:
            return torch.zeros_like(signal.x)

    class Forgetful(Bare):
        def __init__(self, shape: Shape) -> None:
            pass

    Network(mlp(6, 3, areas=1, feedback=Bare)).learn(X, Y)
    with pytest.raises(BrodmannError, match=r"Forgetful.__init__ must begin with super\(\).__init__\(\)"):
        mlp(6, 3, areas=1, feedback=Forgetful)


def test_a_layer_that_returns_its_output_alone_is_told() -> None:
    class Half(Layer):
        def forward(self, x: Any, choice: Any = None) -> Any:
            return x

        def trace(self, x: Any, context: Any) -> Any:
            return x

        def learn(self, trace: Any, error: Any, context: Any) -> Any:
            return error

    for body in (Half(), Sequential(Half()), Residual(Half())):
        with pytest.raises(BrodmannError, match=r"Half.trace should return the output and what `learn` must remember"):
            Network(body).learn(torch.randn(2, 3), torch.tensor([0, 1]))


def test_a_route_that_no_layer_would_follow_is_refused() -> None:
    with pytest.raises(BrodmannError, match="No layer of the body would follow this router: 'layers.0'"):
        Routed(Router(6, 4), Sequential(AreaLinear(6, 3, areas=4)))
    Routed(Router(6, 4), Sequential(AreaLinear(6, 6, areas=4), AreaLinear(6, 3, areas=4, router=None)))


def test_a_rule_that_needs_an_argument_does_not_stand_in_the_way_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Needing(SGD):
        size: float = field(kw_only=True)

    monkeypatch.setitem(UPDATES, "needing", Needing)
    RunOptions(optimiser="adam").check()
    Backpropagation(4, 2)


def test_a_path_from_the_output_is_known_as_such_under_whatever_name() -> None:
    heads = Heads()
    for feedback in ("direct", Direct, partial(LeastChange, path=partial(Direct, outputs=3))):
        with pytest.raises(BrodmannError, match="Direct feedback needs one output, but the model has 2"):
            from_torch(heads, (4,), areas=1, feedback=feedback)
    states = AreaLinear(5, 5, areas=1, feedback=partial(LeastChange, path=partial(Direct, outputs=3)))
    with pytest.raises(BrodmannError, match="got direct feedback from the output"):
        Recurrent(AreaLinear(4, 5, areas=1), states, Elman())


class Heads(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.below(x).relu()
        return self.first(h), self.second(h)


def test_a_layer_of_ones_own_that_follows_a_rule_has_its_learning_rate() -> None:
    class Scale(Layer):
        def __init__(self, size: int, update: UpdateRule) -> None:
            super().__init__()
            self.slab, self.update_rule = Slab(torch.ones(1, size), update), update

        def forward(self, x: Tensor, choice: object = None) -> Tensor:
            return x * self.slab.value[0]

        def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
            return self(x), x

        def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
            below = error * self.slab.value[0]
            self.slab.move((error * trace).sum(0), context.lr_of(self), 0.0)
            return below

    network = Network(Sequential(Scale(3, SGD())))
    assert network.lr == SGD().default_lr != Adam().default_lr
    assert [name for name, _ in network.learning_layers()] == ["layers.0"]
    fixed = Network(
        Sequential(Scale(3, SGD()), Graph({"one": (Constant(torch.ones(3)),), "sum": (torch.add, "input", "one")}))
    )
    assert fixed.lr == SGD().default_lr  # what never moves follows no rule


class Hearing(Layer):
    """Passes on what comes, and keeps what it is told of the network's output."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        return x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        self.heard.append(context.output)
        return error


class HearingPath(FixedRandom):
    """Fixed random feedback that keeps what it is told of it."""

    def error(self, signal: Signal) -> Tensor:
        self.heard = signal.output
        return super().error(signal)


@pytest.mark.parametrize("around", [Sequential, Recomputed, lambda *layers: Residual(Sequential(*layers))])
def test_layers_and_paths_are_told_of_the_output_before_the_step(around: Any) -> None:
    torch.manual_seed(0)
    hearing, map_ = Hearing(), AreaLinear(6, 6, areas=2, feedback=HearingPath)
    network = Network(Sequential(around(hearing, map_), AreaLinear(6, 3)), lr=0.1)
    x, y = X.reshape(4, 5, 6), Y.reshape(4, 5)
    for _ in range(2):
        _, output = network.learn_with_output(x, y)
        step = network.trace(x, y)
        step.learn(network.output_error(step.output, y)[0])
        assert torch.equal(hearing.heard[-2], output)
        assert torch.equal(hearing.heard[-1], step.output)
        assert torch.equal(map_.feedback.heard, step.output.flatten(0, 1))  # type: ignore[union-attr]


def test_of_several_outputs_none_is_told() -> None:
    hearing = Hearing()
    nodes = {"heard": (hearing, "input"), "a": (AreaLinear(6, 3), "heard"), "b": (AreaLinear(6, 3), "heard")}
    network = Network(
        Graph(nodes, outputs=("a", "b")), lambda output, target: sum(part.square().mean() for part in output)
    )
    network.learn(X, Y)
    assert hearing.heard == [None]
