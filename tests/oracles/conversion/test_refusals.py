"""What cannot be converted is refused by name, and so is a start that does not fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from brodmann import BrodmannError, Network, from_torch, mlp
from brodmann.layers import AreaLinear

from ..models import Language
from .converting import Multiplying, Returning, hooked, opaque
from .unconvertible import (
    Below,
    Complex,
    DropConnect,
    Halving,
    Hidden,
    KeyCache,
    Last,
    Later,
    Matrices,
    Offsets,
    OfOnesOwn,
    Passing,
    Scoring,
    Stateful,
    Unknown,
    copied,
    doubled,
    hooked_cell,
    parted,
    sharing_with_a_gru,
    spread_and_written,
    spread_in_place,
    tied_gru,
    with_one_norm,
    written,
    zeros,
)

fx.wrap("opaque")
BOTH = nn.BatchNorm1d(4)
IMAGES: dict[str, Any] = {"shape": (1, 8, 8)}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model", {}, "Expected an nn.Module, got str."),
        (
            nn.Sequential(AreaLinear(4, 4), nn.Linear(4, 2)),
            {},
            "AreaLinear is a layer of this package already: put it into",
        ),
        (Network(mlp(4, 2)), {}, "is a layer of this package already: put it into a Network as it is"),
        (nn.Sequential(nn.ReLU()), {}, "Expected a network with weights to learn, such as those of an nn.Linear"),
        (
            Returning(lambda x: x if x.sum() > 0 else -x),
            {},
            "Returning cannot be converted: it decides what to do by the values of the samples (",
        ),
        (
            Returning(lambda x: x if x.size(0) > 1 else -x),
            {},
            "Returning cannot be converted: it treats a sample that comes alone differently than several,",
        ),
        *(
            (
                nn.Sequential(Returning(function), zeros()),
                {},
                "it treats a sample that comes alone differently than several, as with `if len(x) > 1`.",
            )
            for function in (
                lambda x: 2.0 * x if x.shape[0] != 1 else x,
                lambda x: x if x.shape[0] != 1 else x.detach(),
                lambda x: x.masked_fill(x.abs() > 9, 0.0) if len(x.shape) == 2 and x.shape[0] > 1 else x,
                lambda x: x + 0.0 * x[1] if x.shape[0] != 1 else x,
                lambda x: doubled(x) if x.shape[0] != 1 else x,
                lambda x: x if x.squeeze().dim() == 2 else 2.0 * x,
                lambda x: copied(x),
            )
        ),
        *(
            (Returning(function), {}, "clone it first, or compose")
            for function in (
                lambda x: parted(x, lambda y: y.unbind(1)),
                lambda x: parted(x, lambda y: torch.broadcast_tensors(y, y[:, :1])),
                lambda x: spread_and_written(x),
            )
        ),
        (DropConnect(), {}, "through a dropout, which would be lost."),
        (Matrices(), {"shape": torch.ones(3, 5, dtype=torch.int64), "areas": 1}, "einsum cannot be converted here"),
        *(
            (Returning(function), {}, "overwrites a value that others read")
            for function in (
                lambda x: spread_in_place(x, lambda mask: mask.mul_(2.0)),
                lambda x: spread_in_place(x, lambda mask: mask.masked_fill_(x > 9.0, 0.0)),
            )
        ),
        (
            Returning(lambda x: written(x, lambda y: y[:2])),
            {},
            "z[0] = 0.5`). Instead, clone it first, or compose its layers with brodmann.Sequential, Residual and "
            "Graph.",
        ),
        (
            Returning(lambda x: (x, None)),
            {},
            "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary",
        ),
        (
            Returning(lambda x: x.argmax(1)),
            {},
            "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary",
        ),
        (Returning(lambda x: x.fill_(1.0)), {}, "fill_ cannot be converted: it overwrites its input."),
        (
            nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
            {},
            "got (11,) for 11 samples: keep the last dimension, of one output, as in x[:, None].",
        ),
        (
            Returning(lambda x: (x, x.square().mean())),
            {},
            "got () for 11 samples: return it for each sample, as in x.square().mean(1, keepdim=True), or",
        ),
        (Scoring(), {}, "matmul cannot be converted: it multiplies by a parameter of shape (4,). Expected one of two"),
        (
            Multiplying(lambda x, w: x @ w.t().softmax(0)),
            {},
            "matmul cannot be converted here, since it takes parameters",
        ),
        (
            Multiplying(lambda x, w: x.matmul(torch.relu(w))),
            {},
            "expected a product of one value and one parameter, linear in both.",
        ),
        (Multiplying(lambda x, w: x + w @ w), {}, "matmul cannot be converted here, since it takes parameters"),
        (
            Multiplying(lambda x, w: torch.addmm(w[0], x, w, alpha=2)),
            {},
            "addmm cannot be converted here, since it takes parameters",
        ),
        (
            Multiplying(lambda x, w: x @ torch.cat([w[:2], torch.ones(2, 4)])),
            {},
            "matmul cannot be converted here, since",
        ),
        *(
            (Multiplying(function), {}, "cannot be converted here, since it takes parameters")
            for function in (
                lambda x, w: x @ torch.linalg.qr(w)[0],
                lambda x, w: torch.linalg.matmul(x, w.relu()),
                lambda x, w: torch.linalg.lstsq(w, x.t())[0].t(),
                lambda x, w: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(w[0]), 4),
                lambda x, w: torch.fft.irfft(torch.fft.rfft(x)[:, :2] * torch.view_as_complex(w[:2, :2]), 4),
            )
        ),
        (Passing(nn.Tanh()), {"shape": (11,)}, "matmul cannot be converted here, since it takes parameters"),
        (Complex(), {}, "A network that holds complex numbers cannot be converted: hold their real and imaginary"),
        (
            nn.Sequential(nn.Embedding(4, 4, scale_grad_by_freq=True), nn.Linear(4, 4)),
            {"shape": torch.tensor([[1], [2]]), "routing": "layer"},
            "leave scale_grad_by_freq out.",
        ),
        (
            Returning(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)),
            {},
            "set dropout_p to 0, or write the attention out with an nn.Dropout, as models of Hugging Face do",
        ),
        (
            Returning(lambda x: {"logits": x, "past": KeyCache()}),
            {},
            "Returning cannot be converted: it returns a cache of what it has read. Let it return none, as",
        ),
        (Below(), {}, "in training mode it calls other functions for dropout and the like, which would be lost"),
        (
            Multiplying(lambda x, w: opaque(x, w.tanh())),
            {},
            "opaque cannot be converted here, since it takes parameters",
        ),
        (Multiplying(lambda x, w: torch.cdist(x, w)), {}, "cdist cannot be converted here, since it takes parameters"),
        (Hidden(), {}, "read it in `forward` by its name, as in self.scale."),
        (Language(), {"shape": (5,)}, "give a few samples of whole numbers instead of a shape."),
        (Language(), {"shape": torch.ones(2, 5, dtype=torch.int64)}, "choose routing='layer'"),
        (
            nn.Linear(4, 4),
            {"shape": torch.ones(4)},
            "Expected a few samples, (samples, ...), got a tensor of shape (4,).",
        ),
        (
            nn.Sequential(nn.MultiheadAttention(4, 2, add_bias_kv=True)),
            {"shape": (3, 4)},
            "nn.MultiheadAttention cannot be converted: expected one without add_bias_kv and add_zero_attn.",
        ),
        (
            nn.Sequential(nn.EmbeddingBag(4, 4, padding_idx=0)),
            {"shape": (3,)},
            "cannot be converted: leave padding_idx",
        ),
        (Offsets(), {"shape": torch.ones(3, 4, dtype=torch.int64), "areas": 1}, "pass bags as (samples, bag)."),
        (
            nn.Sequential(nn.Embedding(4, 4, max_norm=1.0), nn.Linear(4, 4)),
            {"shape": (3,)},
            "its max_norm changes its weights at every call.",
        ),
        (
            nn.Sequential(BOTH, nn.ReLU(), BOTH),
            {"shape": (4,)},
            "got weights that are in the model twice. One layer may be called",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            {},
            "it mixes the samples of a batch at inference too: let it track its running statistics",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
            IMAGES,
            "statistics other than those of the sample: leave track_running_stats out.",
        ),
        (
            Returning(lambda x: 2.0 * x if x.requires_grad else x),
            {},
            "Returning cannot be converted: it decides what to do by whether a value requires a gradient (",
        ),
        (nn.Sequential(nn.Linear(4, 4), Later()), {}, "it has parameters, and of such layers only linear maps,"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)),
            {},
            "does not accept its input, (4,) for each sample: check shape=(4,).",
        ),
        (
            nn.Conv2d(1, 2, 3),
            {},
            "name the shape of a sample, such as shape=(3, 32, 32), or give a few samples if",
        ),
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, groups=2), nn.Flatten()),
            {"shape": (2, 8, 8), "feedback": "kolen-pollack-noisy"},
            "At '1': KolenPollack cannot send errors down through a Product, such as a convolution of several groups",
        ),
        (with_one_norm(), {}, "got weights that are in the model twice."),
        (sharing_with_a_gru(), {"shape": (3, 4)}, "got weights that are in the model twice."),
        (nn.Sequential(tied_gru(), Last()), {"shape": (3, 4)}, "got weights that are in the model twice."),
        (hooked(0), {}, "Linear has hooks, which would be lost."),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(36, 2)),
            {"shape": (8, 8)},
            "check shape=(8, 8)",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)),
            {},
            "returns (samples, ..., outputs), got (44,) for 11 samples.",
        ),
        (hooked_cell(), {"shape": (4,)}, "GRUCell(4, 4) cannot be converted: GRUCell has hooks, which would be lost."),
        (Halving(), {"shape": (4, 3), "feedback": "direct"}, "equal shapes under direct feedback."),
        (Stateful(), {"shape": (4,)}, "Stateful cannot be converted: it answers the same samples differently the"),
        (OfOnesOwn(), {"shape": (3, 4)}, "lstm cannot be converted here, since it takes parameters"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True)), IMAGES, "one tensor of samples."),
        (
            nn.Sequential(nn.LazyLinear(4)),
            {"shape": (4,)},
            "The network has no weights yet: call it once",
        ),
        (
            nn.Sequential(nn.Linear(4, 4, device="meta")),
            {},
            "The network has no weights yet: call it once",
        ),
        (nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), {}, "Expected a network with weights to learn"),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), {}, "torch.nn.utils.parametrize.remove_parametrizations."),
        (nn.Sequential(nn.Linear(4, 4), Unknown()), {}, "it has parameters, and of such layers only linear maps,"),
        (nn.Linear(4, 4), {"shape": 4}, "Expected the shape of a sample, such as (784,) or (3, 32, 32), got 4."),
        (nn.Linear(4, 4), {"shape": (0,)}, "Expected shape to be a whole number of at least 1, got 0."),
        (nn.Linear(4, 4).double(), {"storage": "bfloat16"}, "storage='bfloat16' works only with weights in float32"),
        (nn.Linear(4, 4), {"routing": "none"}, "Unknown routing 'none'"),
        (nn.Linear(4, 4), {"batch_norms": "none"}, "Unknown batch_norms 'none'. Choose one of: batch, running."),
    ],
)
def test_what_cannot_be_converted_is_named(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        from_torch(model, **options)
    assert message in str(error.value)


class Scaled(nn.Linear):
    """A map with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_start_must_fit() -> None:
    halves = nn.Linear(4, 3)
    for start, options, message in (
        (nn.Linear(3, 4), {}, r"an nn.Linear with weights of shape \(3, 4\), got one with \(4, 3\)"),
        (nn.LazyLinear(3), {}, r"shape \(3, 4\), got one that is not initialised"),
        (torch.zeros(3, 4), {}, "an nn.Linear, got Tensor"),
        (Scaled(4, 3), {}, "an nn.Linear, got Scaled"),
        (nn.Linear(4, 3, device="meta"), {}, "not on the meta device, got torch.float32 on meta"),
        (
            copy.deepcopy(halves).double(),
            {"storage": torch.bfloat16},
            "storage='bfloat16' works only with weights in float32",
        ),
    ):
        with pytest.raises(BrodmannError, match=message):
            AreaLinear(4, 3, start=start, **options)
