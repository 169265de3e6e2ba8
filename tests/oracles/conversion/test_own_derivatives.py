"""Derivatives that a model writes itself, and hooks on gradients: as in autograd, or refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from brodmann import SGD, BrodmannError, Network, from_torch

from .converting import Between, Held, check_learns_alike


class Spike(torch.autograd.Function):
    """A step whose derivative is that of a soft one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return error / (1 + x.abs()) ** 2


class Reversed(torch.autograd.Function):
    """Identity, with errors turned round, as in domain-adversarial training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * error, None


class Crossed(torch.autograd.Function):
    """A product of two values whose derivatives are not theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor]:
        return error, -2.0 * error


class Multiplied(torch.autograd.Function):
    """A matrix product of values and weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return error @ weight.t(), x.t() @ error


class Clipped(torch.autograd.Function):
    """Two copies, whose errors are clipped together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.clone(), x.clone()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return (first + second).clamp(-2e-3, 2e-3)


def rounded_straight_through(h: Tensor) -> Tensor:
    with torch.no_grad():
        step = h.round() - h
    return h + step


def normalised(h: Tensor) -> Tensor:
    with torch.set_grad_enabled(False):
        scale = h.abs().mean(-1, keepdim=True)
    return h / scale


@torch.no_grad()
def largest(h: Tensor) -> Tensor:
    return torch.relu(h.amax(-1, keepdim=True)) + functional.relu(h)


def relu_without_error(held: Held, h: Tensor) -> Tensor:
    with torch.no_grad():
        open_units = held.relu(h)
    return h * open_units


def first_of_two(h: Tensor) -> Tensor:
    return Clipped.apply(h)[0]


def unchanged_without_error(h: Tensor) -> Tensor:
    with torch.no_grad():
        h = h.contiguous().to(h.dtype).flatten(1)
    return h.tanh()


def written_where_no_error_goes(h: Tensor) -> Tensor:
    with torch.no_grad():
        factor = h.clone().mul_(2.0)
        factor += 1.0
    return h * factor


def sine_without_error(h: Tensor) -> Tensor:
    with torch.no_grad():
        beside = checkpoint(torch.sin, h, use_reentrant=True)
    return h + beside


def asked_for(h: Tensor) -> Tensor:
    return h.requires_grad_().tanh()


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "surrogate": Spike.apply,
    "reversed": lambda h: Reversed.apply(torch.tanh(h), 0.5) + 1,
    "crossed": lambda h: Crossed.apply(h.tanh(), h),
    "straight through": rounded_straight_through,
    "scale without error": normalised,
    "helper without error": lambda h: h / (1 + largest(h)),
    "module without error": relu_without_error,
    "computed twice": lambda h: checkpoint(torch.tanh, h, use_reentrant=True),
    "computed twice, straight through": lambda h: checkpoint(rounded_straight_through, h, use_reentrant=True),
    "computed twice without error": sine_without_error,
    "the same under no_grad": unchanged_without_error,
    "written without error": written_where_no_error_goes,
    "one output of two": first_of_two,
    "a gradient that is asked for": asked_for,
}


@pytest.mark.usefixtures("double")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_go_down_as_the_model_says(name: str) -> None:
    torch.manual_seed(0)
    model = (Held if name == "module without error" else Between)(FUNCTIONS[name])
    network = Network(from_torch(model, (6,), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    x, y = torch.randn(32, 6), torch.randint(0, 3, (32,))
    check_learns_alike(model, network, x, y)
    torch.testing.assert_close(network(x), model(x).detach(), rtol=1e-9, atol=1e-9)


def rounded_and_reversed(h: Tensor) -> Tensor:
    return rounded_straight_through(Reversed.apply(h, 2.0))


def test_functions_with_a_derivative_of_their_own_go_through_pickle() -> None:
    torch.manual_seed(0)
    network = Network(from_torch(Between(rounded_and_reversed), (6,), areas=3))
    copy = pickle.loads(pickle.dumps(network))
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    for _ in range(2):
        assert torch.equal(network.learn(x, y, lr=0.1), copy.learn(x, y, lr=0.1))


def clamped_in_place(h: Tensor) -> Tensor:
    with torch.no_grad():
        h = h.clamp_(-1, 1)
    return h


def doubled_in_place(h: Tensor) -> Tensor:
    with torch.no_grad():
        h *= 2
    return h


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda held, h: Multiplied.apply(h, held.scale),
            "^Multiplied cannot be converted here, since it takes parameters",
        ),
        (lambda held, h: h @ held.scale.detach(), "^matmul .* multiplies by a parameter that gets no gradient"),
        (lambda held, h: functional.dropout(h), "changes when the sample comes alone. The network draws random"),
        (lambda held, h: h - h.mean(0), "mixes the samples of a batch"),
        (lambda held, h: sum(Clipped.apply(h)), "^Clipped .* returns several tensors, whose errors go down together"),
        (
            lambda held, h: clamped_in_place(h),
            "^clamp .* writes under torch.no_grad.. into a value that errors go down",
        ),
        (lambda held, h: doubled_in_place(h), "^mul .* writes under torch.no_grad.. into a value that errors go down"),
    ],
)
def test_what_would_learn_otherwise_is_refused(function: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        from_torch(Held(function), (6,), areas=1)


def test_functions_apply_as_before_after_a_conversion_and_one_that_failed() -> None:
    before = dict(vars(torch.autograd.Function.__base__))
    from_torch(Between(Spike.apply), (6,))
    with pytest.raises(BrodmannError):
        from_torch(Held(lambda held, h: Multiplied.apply(h, held.scale)), (6,))
    assert dict(vars(torch.autograd.Function.__base__)) == before


def test_a_map_that_no_grad_keeps_from_learning_is_refused() -> None:
    class Frozen(Between):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = self.below(x)
            return self.above(h)

    with pytest.raises(BrodmannError, match=r"^Linear cannot be converted: the network calls it under torch.no_grad"):
        from_torch(Frozen(torch.tanh), (6,))


class Backbone(nn.Module):
    """A frozen part between maps, through which no error goes down."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.below, self.above = nn.Linear(6, 16), nn.Linear(16, 3)
        self.map, self.norm = nn.Linear(16, 16).requires_grad_(False), nn.BatchNorm1d(16).requires_grad_(False)
        self.scale = nn.Parameter(torch.randn(16, 16) / 4, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        with torch.no_grad():
            found = self.function(self, h)
        return self.above(torch.tanh(found) + found.amax(-1, keepdim=True))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "function",
    [
        lambda held, h: held.map(h),
        lambda held, h: held.norm(held.map(h.relu())).relu(),
        lambda held, h: held.map(held.map(h).tanh()),
        lambda held, h: functional.linear(h, held.map.weight),
        lambda held, h: torch.einsum("bi,io->bo", h, held.scale),
        lambda held, h: h @ (2 * held.scale),
        lambda held, h: functional.dropout(h, 0.0, held.training) * held.scale[0],
    ],
)
def test_a_frozen_part_without_gradients_is_one_step_and_another_that_sends_no_error(function: Any) -> None:
    torch.manual_seed(0)
    model = Backbone(function)
    network = Network(from_torch(model, (6,), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    x, y = torch.randn(32, 6), torch.randint(0, 3, (32,))
    check_learns_alike(model.train(), network, x, y)
    torch.testing.assert_close(network(x), model.eval()(x).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_a_frozen_weight_may_be_detached_where_it_is_read() -> None:
    torch.manual_seed(0)
    model = Held(lambda held, h: h @ held.scale.detach())
    model.scale.requires_grad_(False)
    network = Network(from_torch(model, (6,), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    check_learns_alike(model, network, torch.randn(32, 6), torch.randint(0, 3, (32,)))


@pytest.mark.parametrize("place", ["container", "activation", "weight", "weight, afterwards"])
def test_hooks_on_gradients_are_refused(place: str) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 3))
    if place == "weight":
        model[1].weight.register_hook(lambda error: 2 * error)  # type: ignore[union-attr]
    elif place == "weight, afterwards":
        model[1].weight.register_post_accumulate_grad_hook(lambda weight: None)  # type: ignore[union-attr, arg-type]
    else:
        part = model[0] if place == "container" else model[0][1]  # type: ignore[index]
        part.register_full_backward_hook(lambda *_: None)
    with pytest.raises(BrodmannError, match="has hooks"):
        from_torch(model)


def test_the_slopes_of_a_prelu_learn_as_under_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.PReLU(4, 0.1), nn.Flatten(), nn.PReLU(), nn.Linear(16, 3)).double()
    body = from_torch(model, (2, 4, 4), areas=1, feedback="transpose", update=SGD()).double()
    network = Network(body, lr=0.1)
    x, y = torch.randn(20, 2, 4, 4, dtype=torch.float64), torch.randint(0, 3, (20,))
    check_learns_alike(model, network, x, y)
