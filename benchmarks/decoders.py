"""Small decoders of characters: with dense feed-forward parts, mixtures of experts, or areas of whole parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from conversions import DECAY
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, Layer, Residual, Sequential, from_torch, mlp
from brodmann.feedback import KolenPollack

CONTEXT, HEADS, EXPERTS = 64, 4, 16
ROUTER = {"balance_rate": 1e-3, "dimension": 16}
"""Settings of routers whose areas are to be used evenly."""
PER_AREA = partial(KolenPollack, start="mirrored", per_area=True)
"""Feedback from a mirrored start, with a map for each area."""


class Mixture(nn.Module):
    """Experts, of which the likeliest serves a row and is scaled by its likelihood (Fedus et al. 2022).

    Attributes:
        imbalance: ``n sum_e f_e p_e`` of the last rows: f the share of rows that went to an expert, p the mean of its
            likelihood. It is 1 if all serve equally many.
    """

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)) for _ in range(experts)
        )
        self.imbalance = torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        rows = x.flatten(0, 1)
        likelihood, count = self.gate(rows).softmax(1), len(self.experts)
        highest, chosen = likelihood.max(1)
        order, counts = chosen.argsort(), torch.bincount(chosen, minlength=count)
        parts = zip(self.experts, rows[order].split(counts.tolist()), strict=True)
        out = torch.cat([expert(own) for expert, own in parts])[order.argsort()]
        self.imbalance = count * (counts / len(rows) * likelihood.mean(0)).sum()
        return (highest[:, None] * out).view(x.shape)


class Block(nn.Module):
    """Causal attention and two maps, or a mixture of them, each in a residual path behind a norm."""

    def __init__(self, width: int, hidden: int, *, experts: int = 0) -> None:
        """Draws the weights."""
        super().__init__()
        self.mixture = Mixture(width, hidden, experts) if experts else None
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if not experts:
            self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        x = x + attended(self.norms[0](x), self.joint, self.out)
        y = self.norms[1](x)
        return x + (self.mlp(y) if self.mixture is None else self.mixture(y))


class Decoder(nn.Module):
    """Guesses the next character at every step; the table of characters is its readout, too, unless it has its own."""

    def __init__(
        self, characters: int, width: int, depth: int, hidden: int, *, experts: int = 0, own_readout: bool = False
    ) -> None:
        """Draws the weights, those of the table as small as is usual where they are the readout."""
        super().__init__()
        self.table, self.places = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, hidden, experts=experts) for _ in range(depth)))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, characters, bias=own_readout)
        if not own_readout:
            self.readout.weight = self.table.weight
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Takes whole numbers (samples, steps); returns logits (samples, steps, characters)."""
        return self.readout(self.norm(self.blocks(self.table(x) + self.places)))  # type: ignore[no-any-return]


class Embedding(nn.Module):
    """The table of characters, and their places."""

    def __init__(self, characters: int, width: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.table, self.places = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Takes whole numbers (samples, steps); returns (samples, steps, width)."""
        return self.table(x) + self.places  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Causal attention in a residual path behind a norm."""

    def __init__(self, width: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.norm, self.joint, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        return x + attended(self.norm(x), self.joint, self.out)


def attended(x: Tensor, joint: nn.Linear, out: nn.Linear) -> Tensor:
    """Returns what each step (samples, steps, width) draws from those before it, in the same shape."""
    parts = joint(x).chunk(3, -1)
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def stacked(
    sample: Tensor,
    characters: int,
    width: int,
    depth: int,
    hidden: int,
    *,
    areas: int,
    feedback: str,
    router: Any,
    gated: bool | str,
) -> Layer:
    """Returns the same decoder, stacked from parts; its readout is not the table.

    Areas are whole feed-forward parts, without a shared one: a character chooses one area for both of its maps.
    """
    settings: Any = {"feedback": feedback, "update": Adam(decay=DECAY)}
    own = {"feedback": PER_AREA, "shared": "off", "gated": gated, "router": router} if areas > 1 else {}
    layers: list[Layer] = [from_torch(Embedding(characters, width), sample, areas=1, **settings)]
    for _ in range(depth):
        norm = from_torch(nn.LayerNorm(width), (width,), areas=1, lowest=False, **settings)
        maps = {"width": hidden, "activation": "gelu", "readout_scale": 1.0, "areas": areas, "lowest": False}
        layers.append(from_torch(Attention(width), (CONTEXT, width), areas=1, lowest=False, **settings))
        layers.append(Residual(Sequential(norm, mlp(width, width, **maps, **(settings | own)))))
    readout = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))
    layers.append(from_torch(readout, (CONTEXT, width), areas=1, lowest=False, **settings))
    return Sequential(*layers)
