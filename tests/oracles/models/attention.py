"""Models that attend: heads of one's own, PyTorch's encoders, and language models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sizes import CLASSES


class Attending(nn.Module):
    """Heads of one's own, a mask, positions and a first step that are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.joint, self.out, self.readout = (
            nn.Linear(*s) for s in ((4, 8), (8, 24), (8, 8), (8, CLASSES))
        )
        self.first, self.positions = nn.Parameter(0.1 * torch.randn(1, 1, 8)), nn.Parameter(0.1 * torch.randn(6, 8))
        self.norm = nn.LayerNorm(8)
        self.register_buffer("mask", torch.ones(6, 6).triu().bool())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), self.embed(x)], 1) + self.positions
        samples, steps, _ = x.shape
        q, k, v = self.joint(self.norm(x)).view(samples, steps, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return self.readout((x + self.out(y.transpose(1, 2).reshape(samples, steps, 8)))[:, 0])


class Scaled(nn.Module):
    """Attention by parts of a tuple, with a factor and a summand that learn before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.joint, self.readout = nn.Linear(4, 12), nn.Linear(20, CLASSES)
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.joint(x).chunk(3, -1)
        q, k = q * self.scale, k + self.shift
        return self.readout(((q @ k.transpose(1, 2)).softmax(-1) @ v).flatten(1))


class Asking(nn.Module):
    """Queries of its own, which read nothing that comes to the network."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.query = nn.Parameter(torch.randn(1, 4, 8)), nn.Linear(8, 8)
        self.key, self.readout = nn.Linear(4, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.key(x)
        queries = self.query(self.queries.expand(x.size(0), -1, -1))
        return self.readout(functional.scaled_dot_product_attention(queries, keys, keys).mean(1))


class CrossAttending(nn.Module):
    """PyTorch's own attention, of two things and with a mask of either kind."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, kdim=4, vdim=4, batch_first=True)
        self.query, self.readout = nn.Linear(4, 8), nn.Linear(8, CLASSES)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        attended, _ = self.attention(self.query(x), x, x, need_weights=False, attn_mask=self.mask)
        return self.readout(attended[:, -1])


class Shifted(nn.Module):
    """Attention inside shifted windows, with biases that maps make of relative positions, as in Swin V2."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.maps = nn.Conv2d(2, 4, 1), nn.LayerNorm(4), nn.Linear(4, 12)
        self.bias = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1))
        self.mixed, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)
        places = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0))
        self.register_buffer("relative", places[:, None] - places[None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).permute(0, 2, 3, 1)
        samples, height, width, size = x.shape
        assert height % 2 == 0, f"of height {height}"
        shifted = torch.roll(x, (-1, -1), (1, 2)).view(samples, height // 2, 2, width // 2, 2, size)
        windows = shifted.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, size)
        query, key, value = self.maps(self.norm(windows)).chunk(3, -1)
        bias = self.bias(self.relative).squeeze(-1)
        y = self.mixed(functional.scaled_dot_product_attention(query, key, value, attn_mask=bias))
        y = y.view(samples, height // 2, width // 2, 2, 2, size).permute(0, 1, 3, 2, 4, 5)
        x = x + torch.roll(y.reshape(samples, height, width, size), (1, 1), (1, 2))
        return self.readout(x.mean((1, 2)))


class Encoding(nn.Module):
    """PyTorch's own encoder."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.readout = nn.Linear(8, CLASSES)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.encoder(x, self.mask).mean(1))


class StepsFirst(nn.Module):
    """A transformer as PyTorch lays it by default: steps first, samples second."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.places, self.norm = nn.Linear(4, 8), nn.Parameter(torch.randn(5, 1, 8)), nn.LayerNorm(8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention, self.readout = nn.MultiheadAttention(8, 2), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(self.norm(torch.relu(self.map(x.transpose(0, 1))) + self.places))
        return self.readout(self.attention(h[-1:], h, h)[0][0])


class Repeated(nn.Module):
    """One encoder layer several times, as in ALBERT, on halves of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.readout = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.layer(x)
        return self.readout(x.mean(1) + self.layer(x[:, :2]).mean(1))


class Interleaved(nn.Module):
    """Layers of an encoder that are one and the same, one of them called beside it, and its attention too."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.encoder.layers[2] = self.beside = self.encoder.layers[0]
        self.attention, self.readout = self.beside.self_attn, nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.beside(self.encoder(x))
        return self.readout(self.attention(x, x, x)[0].mean(1))


class Language(nn.Module):
    """Tokens, positions and a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 8, padding_idx=0), nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True)
        self.readout = nn.Linear(8, CLASSES)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.positions(torch.arange(x.size(1)))
        return self.readout(self.layer(x, src_mask=self.mask)[:, -1])


class Decoding(nn.Module):
    """A decoder of tokens whose readout is its table, written as those of language models are.

    Its maps take all steps of all samples as rows, its mask is made of kinds of numbers and written into, and what
    is the same for every sample is spread where more than one comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions, self.norm = nn.Embedding(9, 8), nn.Embedding(5, 8), nn.LayerNorm(8)
        self.joint, self.shift = nn.Parameter(torch.randn(8, 24) / 3), nn.Parameter(torch.randn(24))
        self.out, self.scores = nn.Linear(8, 8), nn.Linear(8, 9)
        self.scores.weight, self.mixed = self.tokens.weight, nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        samples, steps = x.shape
        positions = torch.arange(steps)[None]
        if samples != positions.shape[0]:
            positions = positions.expand(samples, -1)
        x = (self.tokens(x) + self.positions(positions)) @ self.mixed
        rows = torch.addmm(self.shift, self.norm(x).view(-1, 8), self.joint)
        q, k, v = (
            part.view(samples, steps, 2, 4).transpose(1, 2) for part in rows.view(samples, steps, 24).chunk(3, -1)
        )
        mask = torch.full((steps, steps), torch.finfo(x.dtype).min).triu(1)[None, None]
        mask[:, :, :, :1] = mask[:, :, :, :1] * 0.5
        mask.masked_fill_(torch.eye(steps, dtype=torch.bool), 0.1)
        y = (q @ k.transpose(-1, -2) + mask).softmax(-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(samples, steps, 8))
        return self.scores(self.norm(x))[:, -1, :CLASSES]
