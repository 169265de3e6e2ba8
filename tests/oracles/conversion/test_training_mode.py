"""What a model does or draws only while it learns is kept, told of or refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import SGD, BrodmannError, Network, from_torch
from brodmann.training import Schedule, Trainer

from .converting import Between, check_learns_alike


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
