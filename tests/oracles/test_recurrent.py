"""Recurrent layers: PyTorch's own, backpropagation through time, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Direct,
    KolenPollack,
    Network,
    Recurrent,
    Sequential,
    Transpose,
    from_torch,
)
from brodmann.layer import Context
from brodmann.layers import GRU, LSTM, Cell, Elman
from brodmann.routing import Recruiting
from brodmann.telemetry import alignment

from ..pairs import diagonal, pairwise

STEPS = 7


class Reader(nn.Module):
    """Reads a sequence, and answers by its last step, by the state after it, by all steps, or at every step."""

    def __init__(self, kind: Callable[..., Any], answer: str, **options: Any) -> None:
        super().__init__()
        self.layer, self.answer = kind(5, 6, **options), answer
        self.readout = nn.Linear(6 * (1 + self.layer.bidirectional), 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.layer.batch_first:
            y, state = self.layer(x)
        else:
            y, state = self.layer(x.transpose(0, 1))
            y = y.transpose(0, 1)
        if self.answer == "state":
            last = state[0] if isinstance(state, tuple) else state
            ways = last[-2:].transpose(0, 1).flatten(1) if self.layer.bidirectional else last[-1]
            return self.readout(ways)
        return self.readout({"last": y[:, -1], "mean": y.mean(1), "steps": y}[self.answer])


KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN, "RNN, relu": partial(nn.RNN, nonlinearity="relu")}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"batch_first": True},
    "steps first": {},
    "levels, without biases": {"batch_first": True, "num_layers": 2, "bias": False},
    "both directions": {"batch_first": True, "num_layers": 2, "bidirectional": True},
}


@pytest.mark.usefixtures("double")
@pairwise(kind=KINDS, answer=["last", "state", "mean", "steps"], options=OPTIONS)
def test_converted_it_learns_by_backpropagation_through_time(kind: str, answer: str, options: str) -> None:
    torch.manual_seed(0)
    model = Reader(KINDS[kind], answer, **OPTIONS[options])
    network = Network(from_torch(model, (STEPS, 5), areas=1, feedback="transpose", update=SGD()), lr=0.2)
    theirs = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(4):
        x, y = torch.randn(8, STEPS, 5), torch.randint(0, 3, (8, STEPS) if answer == "steps" else (8,))
        torch.testing.assert_close(network(x), model(x).detach())
        loss = functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)
    for steps in (1, 11):  # a body holds for sequences of any length
        x = torch.randn(8, steps, 5)
        torch.testing.assert_close(network(x), model(x).detach())


@diagonal(
    feedback=["kolen-pollack", "kolen-pollack-per-area", "kolen-pollack-mirrored", "sign"],
    routing=["layer", "network"],
)
def test_it_learns_with_areas_without_backpropagation(feedback: str, routing: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Reader(nn.LSTM, "last", batch_first=True, num_layers=2, dropout=0.2)
    convert = partial(from_torch, model, (STEPS, 5), areas=4, feedback=feedback, routing=routing)
    network = Network(convert())
    x = torch.randn(64, STEPS, 5)
    y = (x.sum((1, 2)) > 0).long()
    losses = [float(network.learn(x, y)) for _ in range(150)]
    assert losses[-1] < 0.4  # chance is 0.69
    network.save(tmp_path / "network.safetensors")
    again = Network.load(tmp_path / "network.safetensors", body=convert())
    torch.manual_seed(1)
    loss = network.learn(x, y)
    torch.manual_seed(1)
    assert torch.equal(again.learn(x, y), loss)
    torch.testing.assert_close(network.merged()(x), network(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), network(x), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        copy.deepcopy(network).learn(x, y)


def recurrent(feedback: Any, cell: Cell, update: Any = None) -> Recurrent:
    options = {"areas": 1, "update": update}
    inputs = AreaLinear(5, cell.gates * 4, feedback=feedback, **options)
    return Recurrent(inputs, AreaLinear(4, cell.gates * 4, feedback=feedback, **options), cell)


def test_alignment_is_known_of_all_steps() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, STEPS, 5), torch.randint(0, 4, (6, STEPS))
    found = alignment(Network(recurrent(Transpose, GRU())), x, y)
    assert [row.layer for row in found] == ["inputs", "states"]
    assert [row.cosine for row in found] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert [row.norm_ratio for row in found] == pytest.approx([1.0, 1.0], abs=1e-5)


def test_a_limit_holds_for_each_step_and_for_all() -> None:
    torch.manual_seed(0)
    network = Network(recurrent(Transpose, LSTM(), SGD()), clip=1e-9, lr=1.0)
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(6, STEPS, 5)
    network.learn(x, torch.randint(0, 4, (6, STEPS)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("gated", [False, True])
def test_each_row_moves_the_area_that_computed_it_whatever_later_steps_recruit(gated: bool) -> None:
    torch.manual_seed(0)
    router = partial(Recruiting, novelty=0.6, dimension=5)
    inputs = AreaLinear(4, 5, areas=1, feedback=None, update=SGD())
    states = AreaLinear(5, 5, areas=6, gated=gated, feedback=Transpose, update=SGD(), router=router)
    states.areas.allocate(torch.arange(6))
    for slab in states.areas.weight.slabs():
        torch.nn.init.normal_(slab.value, std=0.4)
    layer, context = Recurrent(inputs, states, Elman()), Context(lr=0.1)
    x, error = 3 * torch.randn(4, STEPS, 4), torch.randn(4, STEPS, 5)
    _, trace = layer.trace(x, context)  # which recruits, step by step
    own = states.areas.weight.value.clone().requires_grad_()
    h, loss = torch.zeros(4, 5), 0.0
    for step, remembered in enumerate(trace.states):
        route = remembered.route
        part = states.areas.weight.bias.value[states.areas.slot[route.area]]
        part = part + torch.einsum("roi,ri->ro", own[states.areas.slot[route.area]], h)
        h = torch.tanh(inputs(x[:, step]) + states.shared(h) + (route.gate[:, None] * part if gated else part))
        loss = loss + (h * error[:, step]).sum()
    (gradient,) = torch.autograd.grad(loss, own)
    assert len({int(area) for step in trace.states for area in step.route.area}) > 2
    layer.learn(trace, error, context)
    torch.testing.assert_close(states.areas.weight.value, (own - 0.1 * gradient).detach())


class Leaky(Cell):
    """A cell of one's own: a leaky integrator."""

    def __call__(self, below: Tensor, before: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (0.9 * state[0] + 0.1 * torch.tanh(below + before),)


def test_cells_of_ones_own_learn_and_are_shown() -> None:
    torch.manual_seed(0)
    network = Network(recurrent(Transpose, Leaky(), Adam()), lr=1e-2)
    x, y = torch.randn(16, STEPS, 5), torch.randint(0, 4, (16, STEPS))
    losses = [float(network.learn(x, y)) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.02
    assert "Leaky()" in str(network)


class Derived(Leaky):
    """A cell of one's own with its derivative written out, without a state of its own."""

    def __call__(self, below: Tensor, before: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.tanh(below + before),)

    def __init__(self, none: Callable[[Tensor], Tensor | None]) -> None:
        self.none = none

    def with_pull_back(self, below: Tensor, before: Tensor, state: tuple[Tensor, ...]) -> Any:
        (h,) = self(below, before, state)

        def pull_back(errors: tuple[Tensor, ...]) -> Any:
            of_sum = errors[0] * (1 - h * h)
            return of_sum, of_sum, (self.none(h),)

        return (h,), pull_back


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("none", [torch.zeros_like, lambda h: None], ids=["zeros", "None"])
def test_a_derivative_written_out_says_by_zeros_or_none_that_no_error_goes_back(none: Any) -> None:
    torch.manual_seed(0)
    one = Network(recurrent(Transpose, Elman(), SGD()), lr=0.1)
    other = copy.deepcopy(one)
    for part in other.modules():
        if isinstance(part, Recurrent):
            part.cell = Derived(none)
    for _ in range(3):
        x, y = torch.randn(8, STEPS, 5), torch.randint(0, 4, (8, STEPS))
        torch.testing.assert_close(one.learn(x, y), other.learn(x, y), rtol=0, atol=1e-12)
    torch.testing.assert_close(one(x), other(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "gates", "states"), [(LSTM, 4, 2), (GRU, 3, 1), (Derived, 1, 1)])
def test_a_formula_of_ones_own_is_not_learned_by_the_derivative_of_another(cell: Any, gates: int, states: int) -> None:
    told = f"would learn by the derivative of {cell.__name__}: derive it from Cell, with gates = {gates} and states = "
    with pytest.raises(BrodmannError, match=f"Own overrides __call__, but {told}{states}, or override with_pull_back"):

        class Own(cell):
            def __call__(self, below: Tensor, before: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                return tuple(2 * part for part in super().__call__(below, before, state))


class Begun(Reader):
    """Begins with a state of its own."""

    def __init__(self, begin: Callable[..., Tensor]) -> None:
        super().__init__(nn.LSTM, "steps", batch_first=True)
        self.begin = begin

    def forward(self, x: Tensor) -> Tensor:
        states = [self.begin(self.layer.num_layers, x.size(0), 6).to(x.device) for _ in range(2)]
        self.layer.flatten_parameters()
        return self.readout(self.layer(x, hx=tuple(states))[0])


@pytest.mark.parametrize("begin", [torch.zeros, torch.ones])
def test_a_state_to_begin_with_is_that_of_the_model(begin: Callable[..., Tensor]) -> None:
    model, x = Begun(begin), torch.randn(4, STEPS, 5)
    body = from_torch(model, (STEPS, 5), areas=1)
    torch.testing.assert_close(body(x), model(x).detach())
    whole = any(isinstance(part, Recurrent) for part in body.modules())
    assert whole == (begin is torch.zeros)  # which is what it takes anyway; any other is followed step by step
    if not whole:
        with pytest.raises(BrodmannError, match=rf"for samples of shape \({STEPS}, 5\), .* got \(4, 5\)"):
            body(x[:, :4])


class Loop(Reader):
    """Calls a layer for one step after the other, each from where the last one ended."""

    def forward(self, x: Tensor) -> Tensor:
        found, state = [], None
        for step in range(x.shape[1]):
            y, state = self.layer(x[:, step : step + 1], state)
            found.append(y)
        return self.readout(torch.cat(found, 1))


def test_a_layer_that_is_called_step_by_step_is_the_same_as_at_once() -> None:
    torch.manual_seed(0)
    model, x = Loop(nn.LSTM, "steps", batch_first=True), torch.randn(4, STEPS, 5)
    stepping = Network(from_torch(model, (STEPS, 5), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    whole = Reader(nn.LSTM, "steps", batch_first=True)
    whole.load_state_dict(model.state_dict())
    at_once = Network(from_torch(whole, (STEPS, 5), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    for _ in range(3):
        y = torch.randint(0, 3, (4, STEPS))
        torch.testing.assert_close(stepping.learn(x, y), at_once.learn(x, y))
    torch.testing.assert_close(stepping(x), at_once(x))


class Single(Cell):
    """Returns a tensor instead of a tuple."""

    def __call__(self, below: Tensor, before: Tensor, state: tuple[Tensor, ...]) -> Any:
        return torch.tanh(below + before)


class Holding(Leaky, nn.Module):
    """Holds a parameter."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.rate = nn.Parameter(torch.ones(()))


def levels_of_one() -> nn.Module:
    model = Reader(nn.RNN, "last", batch_first=True, num_layers=2)
    model.layer.weight_hh_l1 = model.layer.weight_hh_l0
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: recurrent(Transpose, Single())(torch.randn(3, STEPS, 5)),
            "Single() should return a tuple of as many tensors as it has states, 1 of shape (3, 4), got Tensor.",
        ),
        (
            lambda: recurrent(Transpose, Holding()),
            "Expected a cell without parameters or buffers, which would not learn",
        ),
        (lambda: from_torch(levels_of_one(), (STEPS, 5)), "got weights that are in the model twice."),
        (lambda: recurrent(None, LSTM()), "errors go back in time, got none: give it another one"),
        (
            lambda: recurrent(partial(Direct, outputs=3), LSTM()),
            "errors go back in time, got direct feedback from the output: give it",
        ),
        (
            lambda: Recurrent(AreaLinear(5, 4, areas=1), AreaLinear(4, 8, areas=1), GRU()),
            "Expected maps with 12 outputs, 3 for each of 4 units of GRU(), got 4 and 8.",
        ),
        (
            lambda: Recurrent(nn.Linear(5, 4), AreaLinear(4, 4), torch.tanh),
            "Expected two AreaLinear layers and a cell such as LSTM(), got Linear, AreaLinear, builtin_function_or_me",
        ),
        (
            lambda: recurrent(Transpose, Elman())(torch.randn(3, 5)),
            "Expected sequences (batch, steps, in), got (3, 5).",
        ),
        (
            lambda: from_torch(Reader(partial(nn.LSTM, proj_size=2), "last", batch_first=True), (STEPS, 5)),
            "cannot be converted: leave proj_size out",
        ),
        (
            lambda: from_torch(nn.Sequential(nn.Linear(5, 5), nn.GRU(5, 6)), (5,)),
            "a recurrent layer takes a sequence for each sample",
        ),
        (
            lambda: from_torch(nn.Sequential(nn.Linear(5, 5), nn.GRU(5, 6, batch_first=True)), (STEPS, 5)),
            "Expected a network that returns (samples, ..., outputs), got (1, 11, 6) for 11 samples.",
        ),
        (
            lambda: from_torch(Reader(nn.GRU, "last", batch_first=True), (STEPS, 5), feedback="direct"),
            "errors go back in time, got direct feedback from the output: give it",
        ),
    ],
)
def test_what_does_not_fit_is_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        make()
    assert message in str(error.value)


def test_weights_of_steps_reach_both_maps_under_recursive_least_squares() -> None:
    torch.manual_seed(0)
    rule = RLS()
    reader = recurrent(KolenPollack, Elman(), update=rule)
    network = Network(Sequential(reader, AreaLinear(4, 2, areas=1, update=rule)))
    x, y = torch.randn(3, STEPS, 5), torch.randn(3, STEPS, 2)
    twin = copy.deepcopy(network)
    network.learn(x, y, torch.ones(3, STEPS))
    twin.learn(x, y)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)
    weight = torch.ones(3, STEPS)
    weight[1] = 0.0
    before = copy.deepcopy(network)
    network.learn(x, y, weight)
    before.learn(x[[0, 2]], y[[0, 2]])
    for name, value in before.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-4, atol=1e-5)
