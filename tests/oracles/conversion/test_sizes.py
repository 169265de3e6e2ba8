"""What a model decides by sizes: a body does the same for other sizes, or refuses them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import BrodmannError, Network, from_torch
from brodmann.layer import Layer

OTHER = "converted for samples of shape .* got"
NUMBER = "decides by the number of samples"


class Deciding(nn.Module):
    """Does something by the size of what comes, and then maps."""

    def __init__(self, decide: Callable[[Tensor], Tensor], features: int = 6) -> None:
        super().__init__()
        self.decide, self.map = decide, nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(self.decide(x))


class WhileTraining(nn.Module):
    """Drops in training mode where there are twenty steps or samples."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension, self.below, self.above = dimension, nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        if self.training and h.shape[self.dimension] == 20:
            h = functional.dropout(h, 0.9)
        return self.above(h.mean(1))


class Stepping(nn.Module):
    """Walks through the last or the third dimension."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.cell, self.map = nn.LSTMCell(features, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 5), x.new_zeros(x.shape[0], 5)
        for step in range(x.shape[2]):
            state = self.cell(x[:, :, step].flatten(1), state)
        return self.map(state[0])


def last_steps(x: Tensor) -> Tensor:
    if x.shape[1] > 16:
        x = x[:, -16:]
    return x.mean(1)


def even(x: Tensor) -> Tensor:
    if x.shape[1] % 2:
        x = functional.pad(x, (0, 0, 0, 1))
    return x.unflatten(1, (-1, 2)).amax(2).mean(1)


def one_of(x: Tensor) -> Tensor:
    return x.mean(1) * (2.0 if x.shape[1] in (7, 8) else 1.0)


def in_a_set(x: Tensor) -> Tensor:
    return x.mean(1) * (2.0 if x.shape[1] in {7, 8} else 1.0)


def looked_up(x: Tensor) -> Tensor:
    return x.mean(1) * {7: 2.0}.get(x.shape[1], 1.0)


def scaled(x: Tensor) -> Tensor:
    steps = x.shape[1]
    return x.mean(1) * (1.0 if steps <= 16 else 16 / steps)


def rounded(x: Tensor) -> Tensor:
    return x[:, : round(x.shape[1] / 3)].mean(1) * round(x.shape[1] / 7, 1)


def of_twenty(x: Tensor) -> Tensor:
    return x if x.shape[0] == 20 else -x


def by_remainder(x: Tensor) -> Tensor:
    return x if x.shape[0] % 16 == 4 else -x


def expected_or_refused(model: nn.Module, body: Layer, x: Tensor, error: str) -> bool:
    """Whether a body takes samples, and then returns what the model does."""
    try:
        found = body(x)
    except BrodmannError as refused:
        with pytest.raises(BrodmannError, match=error):
            raise refused
        return False
    torch.testing.assert_close(found, model(x).detach())
    return True


@pytest.mark.parametrize("decide", [last_steps, even, one_of, in_a_set, looked_up, scaled, rounded])
def test_lengths_for_which_a_model_decides_otherwise_are_refused(decide: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Deciding(decide)
    body = from_torch(model, (8, 6), areas=1)
    taken = [expected_or_refused(model, body, torch.randn(5, steps, 6), OTHER) for steps in (1, 7, 8, 9, 10, 20, 8)]
    assert taken[2]
    assert not all(taken)


def test_lengths_for_which_a_model_decides_alike_are_taken() -> None:
    torch.manual_seed(0)
    model = Deciding(last_steps)
    body = from_torch(model, (8, 6), areas=1)
    for copy in (body, deepcopy(body), pickle.loads(pickle.dumps(body))):
        for steps, takes in ((1, True), (16, True), (17, False), (5, True)):
            assert expected_or_refused(model, copy, torch.randn(3, steps, 6), OTHER) == takes


def test_lengths_for_which_a_model_decides_otherwise_and_does_the_same_are_taken() -> None:
    class Windowed(nn.Module):
        """Every step sees the four before it; where there are no more, nothing is masked but what is to come."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.map = nn.Embedding(9, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h, steps = self.table(x), torch.arange(x.shape[1])
            seen = steps[:, None] >= steps if x.shape[1] > 1 else None
            if seen is not None and x.shape[1] > 4:
                seen = seen & (steps[:, None] - steps < 4)
            return self.map(functional.scaled_dot_product_attention(h, h, h, attn_mask=seen))

    torch.manual_seed(0)
    model = Windowed()
    body = from_torch(model, torch.randint(0, 9, (4, 8)), areas=1, routing="layer")
    for steps in (1, 2, 3, 4, 5, 8, 20):
        x = torch.randint(0, 9, (3, steps))
        assert expected_or_refused(model, body, x, OTHER)
        Network(body).learn_with_output(x, torch.randint(0, 3, (3, steps)), lr=0.0)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 3)])
def test_steps_in_any_dimension_are_walked_or_refused(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    channels, steps, *image = shape
    model = Stepping(channels * 9 if image else channels)
    body = from_torch(model, shape, areas=1)
    taken = [expected_or_refused(model, body, torch.randn(5, channels, n, *image), OTHER) for n in (steps, 3, 6)]
    assert taken == [True, False, False]


@pytest.mark.parametrize("decide", [of_twenty, by_remainder])
def test_numbers_of_samples_for_which_a_model_decides_otherwise_are_refused(
    decide: Callable[[Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    model = Deciding(decide)
    body = from_torch(model, (6,), areas=1)
    taken = [expected_or_refused(model, body, torch.randn(n, 6), NUMBER) for n in (1, 2, 11, 20, 21)]
    assert taken == [True, True, True, False, True]


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped product")
def test_questions_about_what_grouped_products_return_are_answered_for_other_sizes() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.weights = nn.Linear(8, 3), nn.Parameter(torch.randn(4, 8, 8) / 3)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.flatten(0, 1)
            expert = (rows[:, 0] > 0).long() + 2 * (rows[:, 1] > 0)
            order = expert.argsort(stable=True)
            ends = torch.histc(expert.float(), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
            y = torch._grouped_mm(rows[order], self.weights.transpose(-2, -1), offs=ends)[order.argsort()]
            y = y.unflatten(0, x.shape[:2])
            return self.map(y if y.shape[1] > 3 else -y)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Experts()
    body = from_torch(model, (8, 8), areas=1)
    taken = [expected_or_refused(model, body, torch.randn(n, steps, 8), OTHER) for n, steps in ((3, 8), (5, 4), (4, 2))]
    assert taken == [True, True, False]


@pytest.mark.parametrize(
    ("dimension", "error"), [(1, "learns differently for other"), (0, "learns differently for 20")]
)
@pytest.mark.filterwarnings("error")
def test_what_a_model_decides_by_sizes_while_training_alone_is_asked_while_learning(dimension: int, error: str) -> None:
    torch.manual_seed(0)
    model = WhileTraining(dimension)
    body = from_torch(model, (8, 6), areas=1)
    for copy in (body, pickle.loads(pickle.dumps(body))):
        network = Network(copy)
        for size, learns in ((9, True), (20, False), (8, True)):
            x = torch.randn(size, 8, 6) if dimension == 0 else torch.randn(4, size, 6)
            assert expected_or_refused(model.eval(), copy, x, OTHER)
            if learns:
                network.learn(x, torch.zeros(len(x), dtype=torch.int64), lr=0.0)
            else:
                with pytest.raises(BrodmannError, match=error):
                    network.learn(x, torch.zeros(len(x), dtype=torch.int64))


def test_sizes_of_several_inputs_are_compared() -> None:
    class Comparing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(6, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            longer, other = (x, y) if x.shape[1] > y.shape[1] else (y, x)
            return self.map(longer.mean(1) + 2 * other.mean(1))

    torch.manual_seed(0)
    model = Comparing()
    body = from_torch(model, ((8, 6), (5, 6)), areas=1)
    for first, second, takes in ((8, 5, True), (4, 3, True), (3, 4, False), (5, 8, False)):
        x = torch.randn(4, first, 6), torch.randn(4, second, 6)
        if takes:
            torch.testing.assert_close(body(x), model(*x).detach())
        else:
            with pytest.raises(BrodmannError, match=OTHER):
                body(x)


def test_a_body_that_checks_sizes_is_exported_and_learns_in_any_number() -> None:
    torch.manual_seed(0)
    body = from_torch(Deciding(last_steps), (8, 6), areas=1)
    x = torch.randn(4, 8, 6)
    batch = {"x": {0: torch.export.Dim("batch", min=2)}, "choice": None}
    exported = torch.export.export(body, (x, None), dynamic_shapes=batch).module()
    torch.testing.assert_close(exported(x[:3], None), body(x[:3]))
