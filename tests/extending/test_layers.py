"""Layers of one's own: how they learn, count and are told of the output; and networks of parts that do not fit."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BatchNorm,
    BrodmannError,
    Constant,
    Context,
    DivergenceError,
    FixedRandom,
    Graph,
    Local,
    Network,
    Product,
    Recomputed,
    Recurrent,
    Residual,
    RMSNorm,
    Routed,
    Router,
    Sequential,
    UpdateRule,
    mlp,
)
from brodmann.areas import Slab
from brodmann.feedback import Feedback, Shape, Signal
from brodmann.layer import Layer
from brodmann.layers import Elman
from brodmann.rates import Rates
from brodmann.several import parts_in

from .parts import X, Y, body, each_of, message_of


def learn_from(error: Tensor) -> None:
    layer = AreaLinear(6, 3, areas=1)
    _, trace = layer.trace(X, Context())
    layer.learn(trace, error, Context(lr=0.1))


class Silent(Layer):
    """A layer that forgets to return the error."""

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        return x, None

    def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
        pass


def merged_once() -> Network:
    network = Network(mlp(6, 3, width=4, areas=2))
    network.learn(X, Y)
    return network.merged()


CASES: list[tuple[Callable[[], object], str]] = [
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
        lambda: Network(Sequential(body(), Silent())).learn(X, Y),
        "Layer 1 (Silent) sends no error down, but layers below it learn: give an AreaLinear a feedback path, give "
        "a builder lowest=False, and let a layer of your own return the error from `learn`, as torch.zeros_like(x) "
        "if it computes none. A layer of your own whose parameters never change should set moves = False.",
    ),
    (
        lambda: merged_once().learn(X, Y),
        "This layer was merged for inference: learn with the network that it was made from.",
    ),
    (
        lambda: Network(body()).bfloat16(),
        "A network computes in float32 or float64, not in torch.bfloat16: leave the conversion out. "
        "storage='bfloat16', given as it is built, stores its weights in bfloat16.",
    ),
    (
        lambda: Network(body()).half(),
        "A network computes in float32 or float64, not in torch.float16: leave the conversion out. "
        "storage='bfloat16', given as it is built, stores its weights in bfloat16.",
    ),
    (lambda: Network(body(), lr=-1.0), "Expected lr to be a number of at least 0, got -1.0."),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


def test_parts_of_a_merged_network_make_a_network() -> None:
    merged = merged_once()
    again = Routed(merged.body.router, Sequential(*merged.body.body.layers))
    assert torch.equal(again(X), merged(X))


def test_a_refused_step_moves_nothing() -> None:
    merged = merged_once()
    before = merged(X)
    with pytest.raises(BrodmannError):
        merged.learn(X, Y, lr=0.1)
    assert torch.equal(merged(X), before)


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


class Summed(Scale):
    """Returns one error for all samples, which operations would broadcast, and in another dtype."""

    def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
        return error.sum(0, keepdim=True).to(self.factor.dtype)


@pytest.mark.parametrize("operation", [nn.ReLU(), RMSNorm(), nn.Identity()])
@pytest.mark.parametrize("above", [lambda layer: layer, lambda layer: Residual(Sequential(layer))])
def test_an_error_of_another_shape_than_the_input_is_told(operation: nn.Module, above: Any) -> None:
    layers = AreaLinear(6, 6, feedback=None), Local(operation), above(Summed(6)), AreaLinear(6, 3)
    with pytest.raises(BrodmannError, match=r"Summed.learn should return the error of what came to the layer, \(20, 6"):
        Network(Sequential(*layers)).learn(X, Y)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Local(nn.ReLU()), X),
        (Local(nn.Tanh()), X),
        (Local(RMSNorm()), X),
        (BatchNorm(6), X),
        (Recurrent(AreaLinear(6, 4), AreaLinear(4, 4), Elman()), X.reshape(4, 5, 6)),
    ],
)
def test_a_layer_called_alone_takes_only_errors_of_its_output(layer: Layer, x: Tensor) -> None:
    context = Network(body()).context(Y, lr=0.0)
    for wrong in (lambda y: y[:2], lambda y: y[:1], lambda y: y.double(), lambda y: y[..., :1], lambda y: y.sum()):
        y, trace = layer.trace(x, context)
        with pytest.raises(BrodmannError, match="Expected an error of shape .*, like the output, got "):
            layer.learn(trace, wrong(y), context)


@pytest.mark.parametrize(
    "layer",
    [
        Local(nn.ReLU()),
        Local(nn.Flatten()),
        BatchNorm(6),
        Product(lambda x, weight: x @ weight.t(), torch.ones(3, 6)),
        AreaLinear(6, 3),
        Sequential(Local(RMSNorm()), AreaLinear(6, 3)),
        Recurrent(AreaLinear(6, 4), AreaLinear(4, 4), Elman()),
        mlp(6, 3, width=4),
    ],
)
def test_a_layer_called_alone_takes_only_tensors(layer: Layer) -> None:
    for wrong in (X.tolist(), None, X.numpy() if isinstance(layer, AreaLinear) else 1.0):
        with pytest.raises(BrodmannError, match="Expected x to be a tensor, got .*: convert it with torch.as_tensor"):
            layer(wrong)


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


def test_a_layer_that_returns_its_output_alone_is_told() -> None:
    class Half(Layer):
        def forward(self, x: Any, choice: Any = None) -> Any:
            return x

        def trace(self, x: Any, context: Any) -> Any:
            return x

        def learn(self, trace: Any, error: Any, context: Any) -> Any:
            return error

    for whole in (Half(), Sequential(Half()), Residual(Half())):
        with pytest.raises(BrodmannError, match=r"Half.trace should return the output and what `learn` must remember"):
            Network(whole).learn(torch.randn(2, 3), torch.tensor([0, 1]))


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


class Passing(Layer):
    """Passes on what comes, but for what a subclass does to it."""

    moves = False

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Any, context: Context) -> tuple[Any, Any]:
        return x, x

    def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
        return error


class Centring(Passing):
    """Subtracts a mean where it should work on a copy: other layers remember the same tensor."""

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        x -= x.mean(0)
        return x, None


class Masking(Passing):
    """Multiplies the error in place, as if nobody else read it."""

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        error *= trace > 0
        return error


class Silencing(Passing):
    """Changes the error of the output, which direct feedback below reads."""

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        assert context.output_error is not None
        context.output_error.zero_()
        return 1.0 * error


@pytest.mark.parametrize(
    ("layer", "method"), [(Centring, "trace"), (Masking, "learn"), (Silencing, "learn")], ids=lambda value: str(value)
)
def test_a_layer_of_ones_own_must_not_change_what_others_read(layer: Callable[[], Layer], method: str) -> None:
    """The other branch of a sum gets the very same error; a ReLU below remembers the very tensor that it returned."""
    branches = {
        "map": (AreaLinear(6, 3, areas=1, feedback=None), "input"),
        "active": (Local(nn.ReLU()), "map"),
        "own": (layer(), "active"),
        "sum": (torch.add, "active", "own"),
    }
    network = Network(Graph(branches))
    with pytest.raises(BrodmannError, match=rf"^\w+.{method} changed in place what it was given, which others read"):
        network.learn(X, Y)


class Pair(NamedTuple):
    """Targets by name, in a tuple."""

    classes: Tensor


class Relabelling(Passing):
    """Changes the targets."""

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        parts_in(context.target)[0].zero_()
        return 1.0 * error


@pytest.mark.parametrize("several", [lambda y: UserDict(classes=y), Pair], ids=["mapping", "named tuple"])
def test_targets_are_watched_in_whatever_they_come(several: Callable[[Tensor], Any]) -> None:
    body = Sequential(AreaLinear(6, 3, areas=1, feedback=None), Relabelling())
    network = Network(body, lambda output, target: functional.cross_entropy(output, parts_in(target)[0]))
    with pytest.raises(BrodmannError, match=r"^Relabelling.learn changed in place what it was given"):
        network.learn(X, several(Y.clone()))


def test_an_error_is_shaped_as_what_came_to_a_layer_of_ones_own() -> None:
    """An activation below would broadcast it, and learning would go on by wrong errors."""

    class Sent(Passing):
        def __init__(self, below: Any) -> None:
            super().__init__()
            self.answer = lambda: below

        def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
            return self.answer()

    def step(below: Any) -> Tensor:
        layers = AreaLinear(6, 5, areas=1, feedback=None), Local(nn.ReLU()), Sent(below), AreaLinear(5, 3, areas=1)
        return Network(Sequential(*layers)).learn(X, Y)

    step(torch.zeros(20, 5))
    wrong: list[tuple[Any, str]] = [
        (torch.zeros(20, 1), r"\(20, 1\) torch.float32"),
        (torch.zeros(20, 5).double(), r"\(20, 5\) torch.float64"),
        ((torch.zeros(20, 5),), "tuple"),
        (0.0, "float"),
    ]
    for below, came in wrong:
        due = r"^Sent.learn should return the error of what came to the layer, \(20, 5\) torch.float32, or None, got "
        with pytest.raises(BrodmannError, match=f"{due}{came}.$"):
            step(below)


def test_an_operation_of_ones_own_sends_down_an_error_for_each_value_that_it_reads() -> None:
    class Adding(Local):
        def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
            first, second = super().learn(trace, error, context)
            return (first, second)[: self.sent]

        sent = 2

    def step(adding: Local) -> Tensor:
        low = AreaLinear(6, 3, areas=1, feedback=None)
        return Network(Graph({"low": (low, "input"), "sum": (adding, "low", "low")})).learn(X, Y)

    adding = Adding(torch.add)
    step(adding)
    adding.sent = 1
    with pytest.raises(BrodmannError, match=r"came to the layer, (\(20, 3\) torch.float32, ){2}or None, got \(20, 3\)"):
        step(adding)


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


class Unregistered(Feedback):
    """A fixed path whose matrix no file holds."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.matrix = shape.draw()
        self.register_buffer("counted", torch.zeros(()), persistent=False)

    def error(self, signal: Signal) -> Tensor:
        return signal.delta @ self.matrix


def test_a_tensor_that_no_file_would_hold_is_told_when_the_network_is_made() -> None:
    layers = mlp(6, 3, width=4, areas=1, feedback=Unregistered)
    with pytest.warns(UserWarning, match=r"^Unregistered \('.*feedback'\) keeps the tensor 'matrix'") as told:
        Network(layers)
    assert len(told) == 1
    layer = Scale(4)
    layer.factors = torch.ones(4)
    with pytest.warns(UserWarning, match=r"^Scale \(.*\) keeps the tensor 'factors'.*self.register_buffer\('factors'"):
        Network(Sequential(layer, AreaLinear(4, 3, areas=1)))
