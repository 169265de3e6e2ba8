"""Sequences of other lengths than a model was followed with: the same as the model does, or refused."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import SGD, BrodmannError, Network, from_torch
from brodmann.layers import AreaLinear

from ..models import MODELS, described, samples

SEQUENCES = [name for name, (_, shape) in MODELS.items() if len(shape) < 3]
STEP_BY_STEP = ("stepping", "translating")
"""Models that are followed step by step, of which a body takes one length."""


def of_length(name: str, steps: int) -> Tensor:
    """Returns samples whose second dimension is another, repeated or cut."""
    x = samples(name, 6)
    return torch.cat([x] * 3, 1)[:, :steps]


@pytest.mark.parametrize("name", SEQUENCES)
def test_other_lengths_are_answered_as_the_model_does_or_refused(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name][0]().eval()
    bodies = [from_torch(model, described(name), areas=areas, routing="layer") for areas in (1, 4)]
    for steps in (1, 3, 7, 11):
        x = of_length(name, steps)
        try:
            expected = model(x).detach()
        except (RuntimeError, AssertionError, IndexError):
            expected = None
        for body in bodies:
            try:
                found = body(x)
            except BrodmannError:
                assert expected is None or name in STEP_BY_STEP
                continue
            except (RuntimeError, IndexError):
                assert expected is None
                continue
            assert expected is not None
            torch.testing.assert_close(found, expected)


class Folding(nn.Module):
    """Maps all steps of all samples as rows of one matrix, as GPT-2 does."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.map, self.readout = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        h = h + self.map(h.view(-1, 6)).view(h.shape).relu().cumsum(1)
        return self.readout(h)


def test_every_sample_has_a_route_of_its_own_at_every_length() -> None:
    torch.manual_seed(0)
    network = Network(from_torch(Folding(), torch.randint(0, 9, (4, 5)), areas=4, routing="layer", shared="off"))
    for part in network.modules():
        if isinstance(part, AreaLinear):
            part.areas.weight.value.normal_()  # maps that are told apart
    for steps in (1, 2, 5, 8):
        x = torch.randint(0, 9, (5, steps))  # 5 * 8 rows are also 8 times 5
        alone = torch.cat([network(row) for row in x.split(1)])
        torch.testing.assert_close(network(x), alone)
    assert network(torch.zeros(0, 4, dtype=torch.int64)).shape == (0, 4, 3)


@pytest.mark.usefixtures("double")
def test_batches_of_many_lengths_are_learned_as_under_autograd() -> None:
    torch.manual_seed(0)
    model = Folding()
    body = from_torch(model, torch.randint(0, 9, (4, 5)), areas=1, feedback="transpose", update=SGD())
    network, optimiser = Network(body, lr=0.1), torch.optim.SGD(model.parameters(), lr=0.1)
    for steps in (5, 1, 8, 3):
        x, y = torch.randint(0, 9, (6, steps)), torch.randint(0, 3, (6, steps))
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(x).transpose(1, 2), y)
        loss.backward()
        optimiser.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)


class Looping(nn.Module):
    """Repeats a step as often as a sequence is long."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.readout = nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state, h = torch.zeros(1, 6), self.table(x)
        for step in range(x.shape[1]):
            state = torch.tanh(state + h[:, step])
        return self.readout(state)


class Insisting(Looping):
    """Takes sequences of one length."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 5
        return self.readout(self.table(x).mean(1))


@pytest.mark.parametrize("model", [Looping(), Insisting()])
def test_what_is_followed_step_by_step_says_that_it_is_for_one_length(model: nn.Module) -> None:
    body = from_torch(model, torch.randint(0, 9, (4, 5)), areas=1)
    x = torch.randint(0, 9, (3, 5))
    torch.testing.assert_close(body(x), model(x).detach())
    for steps in (4, 6, 10):
        with pytest.raises(BrodmannError, match=rf"samples of shape \(5,\), .* got \({steps},\): convert the model"):
            body(torch.randint(0, 9, (3, steps)))


class Placed(nn.Module):
    """Adds a position to each of five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.readout = nn.Parameter(torch.randn(5, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout((x + self.positions.view(1, 5, 6)).mean(1))


def test_lengths_that_do_not_fit_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    body = from_torch(Placed(), (5, 6), areas=1)
    for copy in (body, deepcopy(body), pickle.loads(pickle.dumps(body))):
        with pytest.raises((RuntimeError, BrodmannError)):
            copy(torch.randn(2, 7, 6))
        with pytest.raises(BrodmannError, match="does not accept its input, of shape .*: The size of tensor"):
            Network(copy).learn(torch.randn(2, 7, 6), torch.tensor([0, 1]))
    assert capsys.readouterr() == ("", "")


def test_samples_of_several_inputs_grow_longer_together() -> None:
    torch.manual_seed(0)
    weights = nn.Linear(4, 3)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.readout = weights

        def forward(self, x: Tensor, there: Tensor, weight: Tensor) -> Tensor:
            counted = sum(x[:, step] * there[:, step, None] for step in range(x.shape[1]))
            return self.readout(counted * weight)

    body = from_torch(Masked(), ((5, 4), (5,), (4,)), areas=1)
    with pytest.raises(BrodmannError, match=r"samples of shape \(5, 4\), .* got \(7, 4\)"):
        body((torch.randn(3, 7, 4), torch.ones(3, 7), torch.randn(3, 4)))


def test_a_compiled_network_is_asked_about_lengths_that_it_has_not_met() -> None:
    torch.compiler.reset()

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.readout = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] > 9:
                x = x[:, :2]
            return self.readout(self.embed(x).relu().mean(1))

    network = Network(from_torch(Head(), (5, 6), areas=2, routing="layer"))
    compiled = torch.compile(network, backend="eager")
    for steps in (8, 3):
        x = torch.randn(4, steps, 6)
        torch.testing.assert_close(compiled(x), network(x))
    with pytest.raises(BrodmannError, match="convert the model for that shape"):
        compiled(torch.randn(4, 12, 6))
