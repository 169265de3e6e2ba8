"""Parameters that a model reads by itself: products of them become areas, and however each is read, it stays one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from brodmann import SGD, Network, from_torch
from brodmann.layers import AreaLinear, Product, TiedProduct

from ..models import CLASSES
from .converting import Multiplying, constants, opaque

fx.wrap("opaque")


def test_functions_that_hide_parameters_from_torch_fx_are_looked_into() -> None:
    torch.manual_seed(0)
    model, x = Multiplying(lambda x, w: opaque(x, w)), torch.randn(5, 4)
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    y = torch.randn_like(network(x))
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(network(x), model(x).detach())


def asking_of(x: Tensor, w: Tensor) -> Tensor:
    """Multiplies by what is made of a weight, and asks that for all but its numbers."""
    y = functional.linear(x.to(w.dtype), w) * w.shape[-1] / (w.size(0) + w.dim())
    return y.type_as(w) + torch.zeros(w.numel() // 4, dtype=w.dtype, device=w.device)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x, w: x @ w, AreaLinear),
        (lambda x, w: functional.linear(x, w), AreaLinear),
        (lambda x, w: torch.einsum("bi,oi->bo", x, w), AreaLinear),
        (lambda x, w: torch.addmm(w.new_ones(4), x, w), AreaLinear),
        (lambda x, w: (x.view(-1, 2) @ w.view(2, 8)).view(-1, 16), Product),  # not the matrix that it holds
        (lambda x, w: (w @ x.t()).t(), Product),  # samples lie elsewhere
        (lambda x, w: x @ w @ w, TiedProduct),
        (lambda x, w: x @ w.type_as(x), AreaLinear),
        (lambda x, w: x.to(w.dtype) @ w, AreaLinear),
        (lambda x, w: asking_of(x, w.t().contiguous()), AreaLinear),
        (lambda x, w: asking_of(x, w.unsqueeze(1).squeeze(1)), Product),
        (lambda x, w: asking_of(x, w.float()), Product),
        (lambda x, w: x @ (0.9995 * w), Product),
        (lambda x, w: x @ w.clamp(-5, 5), Product),
    ],
)
def test_products_of_rows_and_a_matrix_become_areas(function: Callable[[Tensor, Tensor], Tensor], kind: type) -> None:
    torch.manual_seed(0)
    model, x = Multiplying(function), torch.randn(5, 4)
    body = from_torch(model, areas=3)
    torch.testing.assert_close(body(x), model(x).detach())
    held = [type(part) for part in body.modules() if isinstance(part, AreaLinear | Product | TiedProduct)]
    assert held[0] is AreaLinear  # the map below
    assert set(held[1:]) == {kind}


def again(x: Tensor, w: Tensor) -> Tensor:
    """Reads a weight under names that a conversion of its kind gives it, and turned over."""
    same, turned = w.contiguous(), w.t()
    x = (x @ same).tanh() @ turned + (x @ turned) * same.mean(0)
    return x @ w.to(torch.float64) + torch.zeros(x.shape[0], 4, dtype=x.dtype) @ w


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "function",
    [
        again,
        lambda x, w: functional.linear(x.tanh(), 0.9995 * w),
        lambda x, w: functional.linear(functional.linear(x.float(), w.float()).tanh(), w.float()).double(),
        lambda x, w: functional.linear(x.float(), w.float()).double(),
        lambda x, w: x @ w.type_as(x) + w[0],
        lambda x, w: (torch.ones(4, 4, dtype=x.dtype) @ w)[:1] * x,
    ],
)
def test_however_a_parameter_is_read_it_stays_one(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Multiplying(function), nn.Tanh(), nn.Linear(4, 3))
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD(momentum=0.9)), lr=0.1)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        x, y = torch.randn(9, 4), torch.randint(0, 3, (9,))
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-7)  # of float32 in between


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped product")
def test_grouped_products_of_experts_learn_as_under_autograd() -> None:
    """As transformers write mixtures of experts: rows are sorted by their expert, whose ends a third tensor names."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choose = nn.Linear(8, 4)
            self.weights = nn.Parameter(torch.randn(4, 8, 8) / 3)

        def forward(self, x: Tensor) -> Tensor:
            weight, expert = self.choose(x).softmax(-1).max(-1)
            order = expert.argsort(stable=True)
            ends = torch.histc(expert.float(), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
            sorted_back = torch._grouped_mm(x[order], self.weights.transpose(-2, -1), offs=ends)[order.argsort()]
            return weight[:, None] * sorted_back

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Experts(), nn.ReLU(), nn.Linear(8, CLASSES))
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()), lr=0.3)
    assert sum(isinstance(part, Product) for part in network.modules()) == 1
    theirs = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(5):
        x, y = torch.randn(24, 6), torch.randint(0, CLASSES, (24,))
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-5)
    torch.testing.assert_close(network(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("double")
def test_what_asks_for_the_size_of_tokens_alone_is_no_parameter() -> None:
    """A mask of padding that the samples lack; a table that is read by indices; what only a size is asked of."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.place = nn.Parameter(torch.randn(9, 4)), nn.Parameter(torch.randn(5, 4))
            self.map, self.other, self.readout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.mixed = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.table[x] @ self.mixed
            mask = x.ne(0)[:, None, :].expand(-1, y.shape[1], -1)
            y = functional.scaled_dot_product_attention(self.map(y), y, y, attn_mask=mask)
            return self.readout(y.mean(1)) * (self.other(self.place) @ self.mixed).shape[0]

    torch.manual_seed(0)
    model = Padded()
    network = Network(from_torch(model, torch.ones(3, 5, dtype=torch.int64), areas=1, feedback="transpose"), lr=0.01)
    theirs = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(4):
        x, y = torch.randint(1, 9, (6, 5)), torch.randint(0, 3, (6,))
        x[2, 3:] = x[4, 1:] = 0
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)


def test_a_batch_norm_above_a_matrix_is_folded_into_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Multiplying(lambda x, w: x @ w), nn.BatchNorm1d(4), nn.Linear(4, 3))
    for _ in range(3):
        model(2.0 * torch.randn(20, 4) + 1.0)
    body, x = from_torch(model, (4,), areas=2, batch_norms="running"), torch.randn(5, 4)
    torch.testing.assert_close(body(x), model.eval()(x).detach())
    assert len(Network(body).area_layers()) == 3


class Biased(nn.Module):
    """Attention whose mask is a parameter, as the relative positions of vision transformers are."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.scale, self.maps, self.mask = scale, nn.Linear(4, 12), nn.Parameter(torch.randn(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.maps(x).chunk(3, -1)
        bias = self.mask.tanh()
        if self.scale is None:
            return functional.scaled_dot_product_attention(q, k, v, bias)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_mask_of_attention_may_be_made_of_parameters_and_learns(scale: float | None) -> None:
    torch.manual_seed(0)
    model, x = Biased(scale), torch.randn(6, 5, 4)
    network = Network(from_torch(model, (5, 4), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    y = torch.randn_like(network(x))
    torch.testing.assert_close(network(x), model(x).detach())
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    (mask,) = constants(network)
    torch.testing.assert_close(mask.value, (model.mask - 0.1 * model.mask.grad).detach())
