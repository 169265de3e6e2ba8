"""What a converted model asks of sizes, kinds and numbers, and of whether it is followed, is answered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from brodmann import SGD, BrodmannError, Network, from_torch

from ..models import learn_beside
from ..models.asserting import Asserting, Choosing
from .converting import Positions, Returning


def test_questions_of_size_are_answered_and_what_needs_no_answer_holds_for_every_length() -> None:
    torch.manual_seed(0)
    model = Positions()
    network = Network(from_torch(model, (5, 4), areas=1))
    for steps in (5, 9):
        x = torch.randn(7, steps, 4)
        torch.testing.assert_close(network(x), model.eval()(x).detach())
        network.learn(x, torch.zeros(7, steps, dtype=torch.int64), lr=0.0)
    assert bool((model.mean == 0).all())  # asking moves no statistics


def test_what_is_spread_over_samples_may_be_spread_where_there_are_several_alone() -> None:
    def spread(x: Tensor) -> Tensor:
        mask = x.new_ones(1, 4)
        if x.shape[0] != mask.shape[0]:
            mask = mask.expand(x.shape[0], -1)
        return x * mask

    model = nn.Sequential(nn.Linear(4, 4), Returning(spread))
    body = from_torch(model, (4,), areas=1)
    for count in (1, 2, 40):
        x = torch.randn(count, 4)
        torch.testing.assert_close(body(x), model(x).detach())


class CachingBy(nn.Module):
    """Keeps what it makes of a size by what a function makes of the size."""

    def __init__(self, key: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.map, self.key, self.cache = nn.Linear(4, 3), key, dict[Any, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        if key not in self.cache:
            self.cache[key] = torch.linspace(0, 1, x.shape[1])[:, None]
        return self.map(x) * self.cache[key]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "key", [lambda x: x.shape[1], lambda x: (x.shape[1], "steps"), lambda x: tuple(x.shape[1:]), lambda x: x.shape[1:]]
)
def test_a_network_may_keep_what_it_makes_by_any_form_of_a_size(key: Any) -> None:
    torch.manual_seed(0)
    model, x = CachingBy(key), torch.randn(6, 5, 4)
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(x), model(x).detach())


class Remembering(nn.Module):
    """Keeps what it makes for the length that came last."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.steps.shape[0] != x.shape[1]:
            self.steps = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[:, None]
        return self.map(x + self.steps)


class Caching(Remembering):
    """Keeps it by length."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Tensor] = {}
        self.lengths: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        length = int(x.shape[1])
        if length not in self.cache:
            self.cache[length] = torch.arange(length, device=x.device).to(x.dtype)[:, None]
            self.lengths.append(x.sum())
        return self.map((x + self.cache[length]).relu_())


def test_a_network_that_remembers_sizes_is_followed_and_left_as_it_was() -> None:
    model, x = Remembering(), torch.randn(6, 5, 4)
    body = from_torch(model, (5, 4), areas=2)
    caching = Caching()
    torch.testing.assert_close(from_torch(caching, (5, 4), areas=2)(x), caching(x).detach())
    assert type(caching.cache[5]) is Tensor
    assert model.steps.shape == (1, 1)
    torch.testing.assert_close(body(x), model(x).detach())


def test_a_layer_that_is_asked_of_what_kind_it_is_stays_one() -> None:
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.readout = nn.Conv2d(1, 3, 2, stride=2), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x.to(self.patches.weight.dtype)).flatten(1)
            return self.readout(x.type_as(self.readout.weight))

    body = from_torch(Asked(), (1, 4, 4), areas=2, routing="layer")
    names = [name for name, _ in Network(body).area_layers()]
    assert [name.endswith(".map") for name in names] == [True, False]


@pytest.mark.usefixtures("double")
def test_a_body_that_changes_its_numbers_takes_buffers_that_a_model_asks_for_theirs_with_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.map(x.type_as(self.scale))  # type: ignore[no-any-return]

    body, x = from_torch(Scaled(), areas=1, shape=(4,)).float(), torch.randn(5, 4)
    assert body(x).dtype == torch.float32


@torch.jit.script
def scaled(x: Tensor, factor: float) -> Tensor:
    return x * factor / x.size(-1)


class AskingPython(nn.Module):
    """Asks what came, as Python, NumPy and compiled functions do."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        h = self.map(x) / numpy.sqrt(x.shape[-1])
        if isinstance(h, (list, Tensor)) and not isinstance(x.shape[1], Tensor) and not isinstance(mask, Tensor):
            h = scaled(h, 2.0)
        for step in range(x.shape[1]):
            h = h + step
        return self.readout(h.relu())  # type: ignore[no-any-return]


def test_what_a_model_asks_python_and_numpy_is_answered_and_compiled_functions_are_followed() -> None:
    torch.manual_seed(0)
    model, x = AskingPython(), torch.randn(5, 4)
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    torch.testing.assert_close(network(x), model(x).detach())
    y = torch.randn(5, 3)
    for loss in [network.learn(x, y) for _ in range(3)][:1]:
        torch.testing.assert_close(loss, nn.functional.mse_loss(model(x), y).detach())
    assert isinstance(x, Tensor)  # Python's own again
    torch.testing.assert_close(scaled(x, 2.0), x / 2)


class Kinds(nn.Module):
    """Asks its parts what they are, and how large."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.added = nn.Embedding(9, 4), nn.Parameter(torch.zeros(5, 4))
        self.read, self.attend = nn.LSTM(4, 4, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
        self.readout = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.table(x) * math.sqrt(self.table.embedding_dim) + (
            self.added if isinstance(self.table, nn.Embedding) else 0.0
        )
        z = z * self.attend.num_heads + self.attend(z, z, z)[0]
        state = torch.ones(1, x.shape[0], 4, dtype=z.dtype)
        y, (h, c) = self.read(z, (state, state) if isinstance(self.read, nn.LSTM) else state)
        return self.readout(y[:, -1] + (h * c)[0] + torch.cat([h, c])[1] + torch.sigmoid(c)[0])  # type: ignore[no-any-return]


@pytest.mark.usefixtures("double")
def test_parts_that_are_written_out_are_still_what_they_were_to_the_model() -> None:
    torch.manual_seed(0)
    model, x, y = Kinds(), torch.randint(0, 9, (8, 5)), torch.randint(0, 3, (8,))
    network = Network(from_torch(model, x, areas=1, feedback="transpose", update=SGD()), lr=0.1)
    learn_beside(network, model, torch.optim.SGD(model.parameters(), lr=0.1), [(x, y)] * 3)


class Adapting(nn.Module):
    """An adapter that begins with zeros, where a question about what came is answered by yes."""

    def __init__(self, ask: Callable[[Any, nn.Module], bool]) -> None:
        super().__init__()
        self.ask, self.inner, self.table = ask, nn.Linear(4, 3), nn.Embedding(3, 3)
        self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.up(self.down(x)) if self.ask(x, self.table) else y


@pytest.mark.parametrize(
    "ask",
    [
        lambda x, table: isinstance(x, Tensor | list),
        lambda x, table: isinstance(x, (int, (list, Tensor))),
        lambda x, table: isinstance(table, nn.Linear | nn.Embedding),
        lambda x, table: torch.is_tensor(x),
    ],
)
def test_questions_of_what_came_are_answered_whatever_their_form(ask: Any) -> None:
    network = Network(from_torch(Adapting(ask), (4,), areas=2))
    assert len(network.area_layers()) == 3


@pytest.mark.parametrize("ask", [lambda x, table: type(x) is Tensor, lambda x, table: type(table) is nn.Embedding])
def test_what_autograd_would_move_and_nobody_follows_is_refused(ask: Any) -> None:
    with pytest.raises(BrodmannError, match="Adapting cannot be converted: it computes with 'down.weight', but"):
        from_torch(Adapting(ask), (4,))


class Noticing(nn.Module):
    """Does something else where torch.fx follows it."""

    def __init__(self, followed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.map, self.followed = nn.Linear(4, 3), followed

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return self.followed(self.map(x))
        if self.followed is torch.relu and x.max() > 100:
            raise ValueError
        return self.map(x).relu()


@pytest.mark.parametrize("followed", [torch.tanh, torch.relu])
def test_a_network_that_asks_whether_it_is_followed_does_as_it_does_alone(followed: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = Noticing(followed), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, (4,), areas=1)(x), model(x).detach())


class Padded(nn.Module):
    """Leaves a mask out where it hides nothing, but not while it is followed; cuts its places to the length."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.readout = nn.Embedding(9, 4), nn.Embedding(12, 4), nn.Linear(4, 3)
        self.register_buffer("position_ids", torch.arange(12)[None])

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.table(tokens) + self.places(self.position_ids[:, : tokens.shape[1]])
        hidden = None if not isinstance(mask, fx.Proxy) and mask.all() else mask[:, None, None].bool()
        attended = functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=hidden)
        return self.readout(attended[:, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("ends", [(7, 7, 7), (4, 7, 5)])
def test_a_mask_whose_numbers_are_asked_only_where_nobody_follows_may_hide_all_or_some(ends: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, tokens = Padded(), torch.randint(0, 9, (3, 7))
    there = (torch.arange(7) < torch.tensor(ends)[:, None]).long()
    body = from_torch(model, (tokens, there), areas=1)
    for mask in (there, torch.ones_like(there), there.flip(0)):
        torch.testing.assert_close(body((tokens, mask)), model(tokens, mask).detach())


def test_what_a_network_is_refused_for_is_what_it_does_once_it_is_told_that_it_is_followed() -> None:
    class Told(Padded):
        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            y = super().forward(tokens, mask)
            return y if y.detach().max() > 9 else -y

    there = torch.ones(3, 7, dtype=torch.int64)
    with pytest.raises(BrodmannError, match=r"decides what to do by the values .* `return y if y.detach\(\)"):
        from_torch(Told(), (there, there), areas=1)


def test_what_is_asserted_of_numbers_decides_nothing_but_to_go_on() -> None:
    model, x = Asserting(20.0), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, (4,), areas=1)(x), model(x).detach())
    with pytest.raises(BrodmannError, match="AssertionError: too large"):
        from_torch(Asserting(0.1), (4,), areas=1)
    with pytest.raises(
        BrodmannError, match="Choosing cannot be converted: it decides what to do by the values of the samples"
    ):
        from_torch(Choosing(20.0), (4,), areas=1)
