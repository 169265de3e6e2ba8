"""What random samples would not show, so that a body would be wrong in silence, is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import BrodmannError, from_torch

from .converting import Returning, Windows


def clamped_view(h: Tensor) -> Tensor:
    r = h.view(-1).clamp_(-8, 8)
    return h + 0 * r.view(h.shape)


def shifted_part(h: Tensor) -> Tensor:
    part = h[:, 1:]
    part += 1
    return h


def copied_over(h: Tensor) -> Tensor:
    other = torch.empty_like(h)
    other.copy_(h * 2)
    return h + 0 * other.isnan()


def filled(h: Tensor) -> Tensor:
    mask = torch.zeros(4)
    mask[h.shape[1] - 1] = 1.0
    return h * mask


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda h: torch.cat([part * 2 for part in h.split(16)]), "by the number of samples"),
        (lambda h: h * 2 if h.shape[0] % 2 == 0 else h, "by the number of samples"),
        (lambda h: h * 2 if h.shape[0] > 20 else h, "by the number of samples"),
        (lambda h: h / 2 if (h.abs() > 8).nonzero().shape[0] > 0 else h, "by the values of the samples"),
        (lambda h: h / 2 if h[h.abs() > 8].numel() else h, "by the values of the samples"),
        (lambda h: h / 2 if len(h[h.abs() > 8]) > 0 else h, "by the values of the samples"),
        (clamped_view, "overwrites a value that others read"),
        (shifted_part, "overwrites a value that others read"),
        (lambda h: (h.t().mul_(2), h)[1], "overwrites a value that others read"),
        (copied_over, "overwrites a value that others read"),
        (filled, "overwrites a value that others read"),
    ],
)
def test_what_random_samples_would_not_show_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        from_torch(Returning(function))


class Counting(nn.Module):
    """Replaces a buffer, and asks for a size after it."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.5))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return self.map(x * 1 if x.dim() == 3 else x)


class Deciding(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return self.map(x * self.scale if self.scale > 0 else x)


class Twofold(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.readout = first, second, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x, x, x)[0]
        return self.readout(self.second(x, x, x)[0].mean(1))


def test_what_only_learning_or_other_samples_would_show_is_refused() -> None:
    model = Counting()
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(torch.ones(2, 5, 4)), model(torch.ones(2, 5, 4)))
    with pytest.raises(
        BrodmannError, match="Deciding cannot be converted: it decides what to do by the values of the samples"
    ):
        from_torch(Deciding(), (5, 4))
    own = nn.Linear(4, 3)
    own.forward = lambda x: functional.linear(x, own.weight, own.bias).clamp(-5, 5)  # type: ignore[method-assign]
    with pytest.raises(BrodmannError, match="cannot be converted"):
        from_torch(nn.Sequential(own))  # a copy of it would compute with its weights
    hooked = nn.Identity()
    hooked.register_forward_hook(lambda _, __, output: output.clamp(max=6))
    with pytest.raises(BrodmannError, match="Identity has hooks."):
        from_torch(nn.Sequential(nn.Linear(4, 3), hooked))
    first, second = (nn.MultiheadAttention(4, 2, batch_first=True) for _ in range(2))
    second.out_proj.weight = first.out_proj.weight
    with pytest.raises(BrodmannError, match="got weights that are in the model twice."):
        from_torch(Twofold(first, second), (5, 4))


class LastFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.map(x.flip(0)).relu().flip(0).mean(1))


def test_rows_that_do_not_lie_sample_by_sample_are_refused_whatever_the_weights() -> None:
    with pytest.raises(BrodmannError, match="or keeps them in a dimension other than the first"):
        from_torch(LastFirst(), (11, 4))  # as many steps as samples are tried
    model = Windows("windows")
    with torch.no_grad():
        model.map.weight.zero_()
    with pytest.raises(BrodmannError, match="does not hold one row for each sample, or equally many rows for each"):
        from_torch(model, (8, 3), areas=4)


class TimeMajor(nn.Module):
    """Maps rows that lie step by step, behind a map of zeros, which makes all of them alike."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros, self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        nn.init.zeros_(self.zeros.weight)
        nn.init.zeros_(self.zeros.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        z = torch.tanh(self.zeros(x)).transpose(0, 1).flatten(0, 1)
        return self.readout(self.map(z).tanh().unflatten(0, (t, n)).transpose(0, 1)).mean(1)  # type: ignore[no-any-return]


def apart(model: nn.Module) -> nn.Module:
    """Lets two maps share their memory, and not their parameter."""
    model[2].weight.data = model[0].weight.data  # type: ignore[index, union-attr]
    return model


def with_hook(kind: nn.Module) -> nn.Module:
    """Returns a network with a hook on one of its parts."""
    kind.register_forward_hook(lambda module, given, returned: 2.0 * returned)
    return nn.Sequential(nn.Linear(4, 4), kind)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            TimeMajor(),
            "does not hold one row for each sample, or equally many rows for each, one sample after the other.",
        ),
        (
            apart(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))),
            "share the same memory, and would be separated",
        ),
        (nn.Sequential(nn.PReLU(device="meta")), "The network has no weights yet: call it once"),
        (
            nn.Sequential(nn.Linear(4, 4).apply(lambda part: nn.init.constant_(part.weight, math.nan))),
            "hold NaN or infin",
        ),
        (with_hook(nn.ReLU()), "ReLU has hooks, which would be lost."),
        (with_hook(nn.PReLU()), "PReLU has hooks, which would be lost."),
    ],
)
def test_what_would_be_wrong_in_silence_is_refused(model: nn.Module, message: str) -> None:
    shape = (5, 4) if isinstance(model, TimeMajor) else (4,)
    with pytest.raises(BrodmannError) as raised:
        from_torch(model, shape, areas=4)
    assert message in str(raised.value)
