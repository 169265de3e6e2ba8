"""Derivatives that a model writes itself, blocks without gradients and what it draws while learning, as in autograd."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from brodmann import SGD, BrodmannError, Network, from_torch
from brodmann.training import Schedule, Trainer


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


class Between(nn.Module):
    """Two maps with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.below, self.above = nn.Linear(6, 16), nn.Linear(16, 3)
        self.scale, self.relu = nn.Parameter(torch.randn(16, 16)), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.function(self.below(x)))


class Held(Between):
    """The same, of a function that also takes the network's own parts."""

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.function(self, self.below(x)))  # type: ignore[call-arg]


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


def check_learns_alike(model: nn.Module, network: Network, x: Tensor, y: Tensor) -> None:
    """Four steps of gradient descent on both, whose losses must be the same."""
    optimiser = torch.optim.SGD(model.parameters(), lr=network.lr)
    for _ in range(4):
        loss = functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        torch.testing.assert_close(network.learn(x, y), loss.detach(), rtol=1e-10, atol=1e-10)


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


def test_functions_with_a_derivative_of_their_own_go_through_pickle() -> None:
    torch.manual_seed(0)
    network = Network(from_torch(Between(rounded_and_reversed), (6,), areas=3))
    copy = pickle.loads(pickle.dumps(network))
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    for _ in range(2):
        assert torch.equal(network.learn(x, y, lr=0.1), copy.learn(x, y, lr=0.1))


def rounded_and_reversed(h: Tensor) -> Tensor:
    return rounded_straight_through(Reversed.apply(h, 2.0))


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


def clamped_in_place(h: Tensor) -> Tensor:
    with torch.no_grad():
        h = h.clamp_(-1, 1)
    return h


def doubled_in_place(h: Tensor) -> Tensor:
    with torch.no_grad():
        h *= 2
    return h


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


class DropPath(nn.Module):
    """Stochastic depth: while training, leaves branches of samples out."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.5).div_(0.5)


class Block(nn.Module):
    """A residual block on images whose branch may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.path, self.readout = nn.Conv2d(2, 2, 3, padding=1), DropPath(), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout((x + self.path(torch.tanh(self.map(x)))).flatten(1))


def test_what_a_module_without_parameters_draws_while_learning_is_drawn(recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    model = Block()
    network = Network(from_torch(model, (2, 4, 4), areas=1))
    assert not recwarn.list
    x, y = torch.randn(40, 2, 4, 4), torch.randint(0, 3, (40,))
    torch.testing.assert_close(network(x), model.eval()(x).detach())
    assert len({float(network.learn(x, y, lr=0.0)) for _ in range(3)}) == 3
    x = torch.ones(400, 2, 4, 4)
    _, output = network.learn_with_output(x, torch.zeros(400, dtype=torch.int64), lr=0.0)
    left_out = model.readout(x.flatten(1)).detach()
    share = (output - left_out).abs().amax(1).lt(1e-5).float().mean()
    assert 0.4 < float(share) < 0.6
    history = Trainer(network, (x, torch.zeros(400, dtype=torch.int64)), schedule=Schedule(epochs=1)).run().history
    assert len(history) == 1


class MaskedSum(nn.Module):
    """Stochastic depth with the sum inside: it takes two values."""

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        if self.training:
            branch = branch * torch.rand(branch.shape[0], 1).lt(0.5)
        return x + branch


class Summing(Between):
    """A residual path by such a sum."""

    def __init__(self) -> None:
        super().__init__(torch.tanh)
        self.sum = MaskedSum()

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        return self.above(self.sum(h, torch.tanh(h)))


class Auxiliary(Between):
    """A head that only training sees."""

    def forward(self, x: Tensor) -> Any:
        h = self.below(x)
        return (self.above(h), self.above(torch.tanh(h))) if self.training else self.above(h)


class Decaying(Between):
    """A buffer that training changes."""

    def __init__(self) -> None:
        super().__init__(torch.tanh)
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.factor.mul_(0.5)
        return self.above(self.below(x) / self.factor)


class Reparametrised(nn.Module):
    """Draws around a mean, or lies one spread above it, while training."""

    def __init__(self, *, draws: bool) -> None:
        super().__init__()
        self.draws = draws

    def forward(self, mean: Tensor, spread: Tensor) -> Tensor:
        noise = torch.randn_like(mean) if self.draws else torch.ones_like(mean)
        return mean + noise * spread.exp() if self.training else mean


class Variational(nn.Module):
    """An autoencoder with such a draw in the middle."""

    def __init__(self, call: Callable[..., Tensor], *, draws: bool) -> None:
        super().__init__()
        self.below, self.mean = nn.Linear(6, 8), nn.Linear(8, 3)
        self.spread, self.above = nn.Linear(8, 3), nn.Linear(3, 3)
        self.call, self.draw = call, Reparametrised(draws=draws)
        self.held = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.below(x))
        return self.above(self.call(self, self.mean(h), self.spread(h)))


def test_modules_of_several_tensors_draw_while_learning(recwarn: pytest.WarningsRecorder) -> None:
    for model in (Summing(), Variational(lambda self, mean, spread: self.draw(mean, spread), draws=True)):
        network, x = Network(from_torch(model, (6,))), torch.randn(40, 6)
        torch.testing.assert_close(network(x), model.eval()(x).detach())
        y = torch.randint(0, 3, (40,))
        assert len({float(network.learn(x, y, lr=0.0)) for _ in range(3)}) == 3
    assert not recwarn.list


@pytest.mark.usefixtures("double")
def test_errors_go_down_through_what_a_module_of_several_tensors_does_while_learning() -> None:
    torch.manual_seed(0)
    model = Variational(lambda self, mean, spread: self.draw(mean, spread), draws=False)
    body = from_torch(model, (6,), areas=1, feedback="transpose", update=SGD())
    check_learns_alike(model.train(), Network(body, lr=0.1), torch.randn(32, 6), torch.randint(0, 3, (32,)))


@pytest.mark.parametrize(
    "call",
    [
        lambda self, mean, spread: self.draw(mean, mean),
        lambda self, mean, spread: self.draw(mean, spread=spread),
        lambda self, mean, spread: self.draw(mean, self.held),
        lambda self, mean, spread: self.draw(mean, spread.flatten()[:1]),
        lambda self, mean, spread: self.draw(mean, self.held.expand(mean.shape[0], 3) * 1.0),
    ],
)
def test_what_a_module_of_several_tensors_does_otherwise_is_told_of(call: Callable[..., Tensor]) -> None:
    model, x = Variational(call, draws=True), torch.randn(5, 6)
    with pytest.warns(UserWarning, match="^What Reparametrised does only in training mode is left out"):
        body = from_torch(model, (6,))
    torch.testing.assert_close(body(x), model.eval()(x).detach())


@pytest.mark.usefixtures("double")
def test_modules_without_parameters_take_several_values_but_no_weights() -> None:
    class Similar(nn.Module):
        def __init__(self, *, held: bool) -> None:
            super().__init__()
            self.one, self.other, self.similarity = nn.Linear(6, 8), nn.Linear(6, 8), nn.CosineSimilarity()
            self.held = nn.Parameter(torch.randn(1, 8)) if held else None

        def forward(self, x: Tensor) -> Tensor:
            near = self.similarity(self.one(x), self.other(x) if self.held is None else self.held)
            return torch.stack([near, -near, 2 * near], 1)

    torch.manual_seed(0)
    model = Similar(held=False)
    body = from_torch(model, (6,), areas=1, feedback="transpose", update=SGD())
    check_learns_alike(model, Network(body, lr=0.1), torch.randn(32, 6), torch.randint(0, 3, (32,)))
    with pytest.raises(BrodmannError, match=r"^CosineSimilarity\(\) cannot be converted: expected it to take one"):
        from_torch(Similar(held=True), (6,))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("average", [True, False])
def test_weights_of_attention_are_values_like_others(average: bool) -> None:
    class Weighing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.readout = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            y, weights = self.attention(x, x, x, attn_mask=mask, average_attn_weights=average)
            return self.readout((y * (weights if average else weights[:, 0]).amax(1)[..., None]).mean(1))

    torch.manual_seed(0)
    model = Weighing()
    body = from_torch(model, (5, 4), areas=1, feedback="transpose", update=SGD())
    check_learns_alike(model, Network(body, lr=0.1), torch.randn(32, 5, 4), torch.randint(0, 3, (32,)))


def test_what_cannot_be_kept_of_training_is_told_of_and_inference_is_the_same() -> None:
    model = Auxiliary(torch.tanh)
    with pytest.warns(UserWarning, match="does only in training mode is left out"):
        body = from_torch(model, (6,))
    x = torch.randn(5, 6)
    torch.testing.assert_close(body(x), model.eval()(x).detach())


def test_following_what_training_does_leaves_buffers_as_they_were() -> None:
    model = Decaying()
    with pytest.raises(BrodmannError, match="it changes 'factor' from call to call in training mode, and answers by"):
        from_torch(model, (6,))
    assert float(model.factor) == 1.0


def test_modules_that_draw_below_an_if_are_refused_or_told_of() -> None:
    class Sometimes(Between):
        def __init__(self, part: nn.Module) -> None:
            super().__init__(torch.tanh)
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            h = self.below(x)
            return self.above(self.part(h) if self.training else h)

    with pytest.raises(BrodmannError, match="in training mode it calls other functions for dropout and the like"):
        from_torch(Sometimes(nn.Dropout(0.5)), (6,))
    with pytest.warns(UserWarning, match="What DropPath does only in training mode is left out"):
        from_torch(Sometimes(DropPath()), (6,))


@pytest.mark.parametrize("computed", ["share", "training"])
def test_dropout_whose_share_is_computed_is_refused(computed: str) -> None:
    class Dropping(Between):
        def forward(self, x: Tensor) -> Tensor:
            share, on = x.shape[1] / 60, x.shape[1] > 16
            share, on = (share, self.training) if computed == "share" else (0.1, self.training and on)
            return self.above(functional.dropout(self.below(x), share, on))

    with pytest.raises(BrodmannError, match="dropout cannot be converted: what share it drops"):
        from_torch(Dropping(torch.tanh), (6,))


def test_what_else_is_done_only_while_training_is_told_of() -> None:
    class Noisy(Between):
        def forward(self, x: Tensor) -> Tensor:
            h = self.below(x)
            return self.above(h + torch.randn_like(h) if self.training else h)

    with pytest.warns(UserWarning, match="^What Noisy does only in training mode is left out") as told:
        from_torch(Noisy(torch.tanh), (6,))
    assert told[0].filename == __file__


@pytest.mark.parametrize("draw", [random.random, lambda: torch.rand([]), lambda: numpy.random.uniform()])
def test_layers_left_out_by_a_draw_are_told_of_whatever_is_drawn(draw: Callable[[], Any]) -> None:
    class Skipping(Between):
        def forward(self, x: Tensor) -> Tensor:
            h = self.below(x)
            if not (self.training and draw() < 1e-6):
                h = self.relu(h)
            return self.above(h)

    with pytest.warns(UserWarning, match="^What Skipping does only in training mode is left out"):
        from_torch(Skipping(torch.tanh), (6,))


def test_a_module_that_draws_by_itself_is_kept_whatever_is_drawn(recwarn: pytest.WarningsRecorder) -> None:
    class LeftOut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.0 if self.training and random.random() < 0.5 else x

    network = Network(from_torch(nn.Sequential(nn.Linear(6, 4), LeftOut(), nn.Linear(4, 3)), areas=1))
    x, y = torch.randn(8, 6), torch.zeros(8, dtype=torch.int64)
    assert len({float(network.learn(x, y, lr=0.0)) for _ in range(20)}) == 2
    assert not recwarn.list


def test_layers_that_are_frozen_in_part_are_told_of(recwarn: pytest.WarningsRecorder) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    from_torch(model.requires_grad_(False))
    assert not recwarn.list  # none of them learns: a model at rest
    model[2].requires_grad_(True)
    from_torch(model)
    assert not recwarn.list  # what stays is a layer as a whole
    model[2].bias.requires_grad_(False)
    with pytest.warns(UserWarning, match="^Only some parameters of '2' require gradients") as told:
        from_torch(model)
    assert told[0].filename == __file__


def test_compiled_parts_are_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 8), torch.jit.script(nn.ReLU()), nn.Linear(8, 3))
    with pytest.raises(BrodmannError, match=r"A part compiled by torch.jit cannot be converted"):
        from_torch(model)


def test_the_slopes_of_a_prelu_learn_as_under_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.PReLU(4, 0.1), nn.Flatten(), nn.PReLU(), nn.Linear(16, 3)).double()
    body = from_torch(model, (2, 4, 4), areas=1, feedback="transpose", update=SGD()).double()
    network = Network(body, lr=0.1)
    x, y = torch.randn(20, 2, 4, 4, dtype=torch.float64), torch.randint(0, 3, (20,))
    check_learns_alike(model, network, x, y)
