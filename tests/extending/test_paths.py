"""Feedback paths of one's own: what they send down, what they are told, and what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    Adam,
    AreaLinear,
    BrodmannError,
    Context,
    Convolution,
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
    convnet,
    from_torch,
    mlp,
)
from brodmann.builders import FEEDBACKS
from brodmann.feedback import Shape, Signal
from brodmann.layer import Layer
from brodmann.layers import Elman

from .parts import X, Y, each_of, message_of


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


class Divided(Layer):
    """A layer of one's own whose error is not a number."""

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        return x, None

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        return error / 0.0


def not_a_number(shape: Shape) -> Feedback:
    return Flawed(shape, lambda signal: signal.x * torch.nan)


class FlawedMatrix(FixedRandom):
    """A path whose only matrix is not a number."""

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


CASES: list[tuple[Callable[[], object], str]] = [
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
        lambda: AreaLinear(6, 3, feedback=Direct),
        "Direct cannot be built from the layer's shape alone (missing a required argument: 'outputs'): give the "
        "other arguments with functools.partial, as in partial(Direct, outputs=10).",
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
        lambda: AreaLinear(6, 3, feedback=lambda shape: 3),  # type: ignore[arg-type,return-value]
        "Expected feedback to build a Feedback, got int.",
    ),
    (
        lambda: mlp(6, 3, feedback=Product),  # type: ignore[arg-type]
        "Expected feedback to build a Feedback, got Product.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    found = message_of(act).replace("keyword-only argument", "argument")  # as newer Pythons say
    assert found == message


class Targets(Direct):
    """Direct random target projection (Frenkel et al. 2021): the targets themselves go down."""

    def error(self, signal: Signal) -> Tensor:
        assert isinstance(signal.target, Tensor)
        return -self.matrix[signal.target].reshape(signal.x.shape) / len(signal.target)


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


def test_a_path_may_carry_targets_down() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=32, areas=1, feedback=Targets, update=Adam()))
    (_, hidden), (_, readout) = network.area_layers()
    received: dict[AreaLinear, Tensor] = {}
    network.learn(X, Y, lr=0.0, observe=lambda layer, error: received.update({layer: error}))
    expected = -readout.feedback.matrix[Y] / len(X) * (hidden(X) > 0)  # type: ignore[index,operator,union-attr]
    torch.testing.assert_close(received[hidden], expected)


def test_targets_reach_the_patches_of_images_as_the_error_of_an_output_does() -> None:
    targets, images = torch.tensor([2, 0, 1, 1]), torch.randn(4, 1, 4, 4)
    error = -functional.one_hot(targets, 3).float() / len(images)
    received: list[list[Tensor]] = [[], []]
    for feedback, seen in zip((Targets, Direct), received, strict=True):
        torch.manual_seed(0)
        network = Network(convnet((1, 4, 4), 3, channels=(2, 5), areas=2, feedback=feedback))
        network.trace(images, targets, lr=0.0, observe=lambda _, arrived, seen=seen: seen.append(arrived)).learn(error)
    assert len(received[0]) == 3
    torch.testing.assert_close(*received)


def test_a_registered_path_may_ask_for_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Direct):
        pass

    monkeypatch.setitem(FEEDBACKS, "own", Own)
    for feedback in ("own", Own, partial(Direct)):
        network = Network(mlp(6, 3, width=5, feedback=feedback))
        network.learn(X, Y)
        assert network.area_layers()[1][1].feedback.matrix.shape == (3, 5)


class Wrong(FixedRandom):
    """Multiplies the wrong way round."""

    def error(self, signal: Signal) -> Tensor:
        return self.matrix @ signal.delta


def test_a_path_that_multiplies_wrongly_is_named() -> None:
    layers = AreaLinear(6, 5, areas=1, feedback=None), AreaLinear(5, 3, areas=1, feedback=Wrong)
    with pytest.raises(BrodmannError, match=r"Wrong.error failed for rows \(20, 5\) and a delta \(20, 3\)"):
        Network(Sequential(*layers)).learn(X, Y)


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
