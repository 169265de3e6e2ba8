"""PyTorch networks of every form that is converted, each small enough for an oracle in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Network

CLASSES = 3


def dense() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 8), nn.GELU(), nn.Sequential(nn.Linear(8, 5, bias=False), nn.Tanh()), nn.Linear(5, CLASSES)
    )


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 9, 9)),
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.InstanceNorm2d(4),
        nn.MaxPool2d(2),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


class Block(nn.Module):
    """A residual block in torchvision's manner: norms between, sums in place, a shortcut where sizes change."""

    def __init__(self, inputs: int, size: int, norm: Callable[[int], nn.Module], stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, size, 3, stride, 1)
        self.second = nn.Conv2d(size, size, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([norm(size), norm(size)])
        self.shortcut = (
            None if stride == 1 else nn.Sequential(nn.Conv2d(inputs, size, 1, stride, bias=False), norm(size))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
        y += x if self.shortcut is None else self.shortcut(x)
        return functional.relu(y, inplace=True)


class Residual(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, (3, 1), padding=(2, 0), dilation=(2, 1))
        self.blocks = nn.Sequential(Block(4, 4, norm), Block(4, 6, norm, stride=2))
        self.readout = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).relu_())
        return self.readout(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class Concatenating(nn.Module):
    """Layers that read all before them, and factors for channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.excite, self.readout = nn.Linear(7, 7), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.first(x).relu()], 1)
        x = torch.cat([x, functional.gelu(self.second(x))], 1)
        x = x * torch.sigmoid(self.excite(x.mean((2, 3))))[:, :, None, None]
        return self.readout(x.amax(dim=(-1, -2)).view(x.size(0), -1))


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


class ChannelsBehind(nn.Module):
    """Maps and norms on images whose channels come last, as PyTorch counts, and norms over other dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.map, self.readout = nn.Conv2d(2, 4, 3), nn.Linear(4, 6), nn.Linear(6, CLASSES)
        self.whole, self.norm = nn.LayerNorm((4, 3, 3)), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.map(self.whole(self.conv(x)).permute(0, 2, 3, 1))
        return self.readout(self.norm(x).relu().mean((1, 2)))


class Buffers(nn.Module):
    """Buffers that are cut to the length of a sequence and read twice, a parameter read twice, and kinds of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.readout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.shift = nn.Parameter(torch.randn(4))
        self.register_buffer("waves", torch.randn(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x * self.waves[: x.size(1)] + self.shift).to(self.readout.weight.dtype)
        x = self.second(x * self.waves[: x.size(1)].cos() - self.shift).tanh()
        return self.readout(x.mean(1)) + torch.arange(CLASSES, device=self.readout.weight.device)


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


def grouped() -> nn.Sequential:
    """Convolutions of channels by themselves and of groups, and paddings that are no zeros or not the same around."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 6, 1),
        nn.GELU(),
        nn.Conv2d(6, 4, (3, 1), padding=(1, 0), padding_mode="reflect"),
        nn.Conv2d(4, 3, 2, padding="same", padding_mode="circular"),
        nn.SiLU(),
        nn.Conv2d(3, 3, 2, padding="same"),
        nn.Flatten(2),
        nn.Conv1d(3, 3, 3, groups=3),
        nn.Flatten(),
        nn.Linear(21, CLASSES),
    )


class Folding(nn.Module):
    """Squeezes images and makes them anew by transposed convolutions, and looks at them as a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, stride=2)
        self.up = nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1, groups=1)
        self.halves = nn.ConvTranspose2d(4, 2, 3, padding=1, groups=2, bias=False)
        self.along = nn.ConvTranspose1d(2, 2, 2, stride=2)
        self.through, self.back = nn.Conv3d(1, 2, 2), nn.ConvTranspose3d(2, 1, 2)
        self.readout = nn.Linear(2 * 7 * 7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.halves(self.up(self.down(x).tanh()).tanh())
        x = x[:, :, :7, :7] + self.along(x.flatten(2)[:, :, :25])[:, :, :49].unflatten(2, (7, 7))
        x = self.back(self.through(x.unsqueeze(1)).tanh()).squeeze(1)
        return self.readout(x.flatten(1))


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


class Switched(nn.Module):
    """Dropout that is switched off for good."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.readout, self.drops = nn.Linear(4, 6), nn.Linear(6, CLASSES), False

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(self.first(x).relu(), 0.5, training=self.training and self.drops)
        return self.readout(functional.dropout(x, 0.9, False) + functional.alpha_dropout(x, 0.9))


class Written(nn.Module):
    """Maps that are written out, with weights and biases of the network's own, one of them behind a mask."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"first": (6, 4), "masked": (5, 6), "kernel": (2, 1, 2), "halves": (4, 8), "last": (2, 4, CLASSES)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) / 2))
        self.shift, self.shifts = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(2))
        self.register_buffer("mask", torch.ones(5, 6).tril())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(functional.linear(x, self.first, bias=self.shift))
        x = torch.exp(-functional.linear(x, self.masked * self.mask))
        x = functional.conv1d(x.unsqueeze(1), self.kernel, self.shifts, 1, 0)
        x = x @ self.halves.chunk(2, 1)[0]
        return torch.einsum("bci,cio->bo", x.sin(), self.last) + (x.mean(1) @ torch.ones(4, CLASSES))


class Frames(nn.Module):
    """Convolutions of the frames of a film, as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.readout = nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.second(self.norm(self.first(x.flatten(0, 1))).relu()).amax((2, 3))
        return self.readout(frames.unflatten(0, x.shape[:2])).mean(1)  # type: ignore[no-any-return]


class Restoring(nn.Module):
    """Half of an image, and back to its size by a convolution that is told of it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
        self.readout = nn.Linear(2 * 8 * 7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.up(self.down(x).relu(), output_size=x.shape[2:]).tanh().flatten(1))  # type: ignore[no-any-return]


def sequences() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2),
        nn.GroupNorm(2, 4),
        nn.SiLU(),
        nn.Conv1d(4, 3, 2, padding="valid"),
        nn.Flatten(),
        nn.RMSNorm(9),
        nn.Linear(9, CLASSES),
    )


class Batched(nn.Module):
    """Batch norms above a map, above something else, and above a map that others read too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.map, self.readout = nn.Conv2d(2, 4, 3), nn.Linear(4, 6), nn.Linear(6, CLASSES)
        self.above, self.elsewhere, self.beside = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm1d(6)
        self.plain = nn.BatchNorm1d(6, affine=False)
        self.direct, self.directly = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.elsewhere(self.above(self.conv(x)).relu()).mean((2, 3))
        x = self.map(x)
        return self.readout(self.directly(self.direct(self.plain(x + self.beside(x)))))


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


def batched() -> Batched:
    model = Batched()
    for _ in range(3):  # so that there are statistics
        model(2.0 * torch.randn(20, 2, 5, 5) + 1.0)
    return model


class Mixture(nn.Module):
    """A mixture of experts: each row goes through two of four maps, as a map of its own says and weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.choose, self.readout = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(6, CLASSES)
        self.experts = nn.Parameter(torch.randn(4, 6, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.below(x))
        weights, chosen = self.choose(hidden).softmax(-1).topk(2)
        through = functional.one_hot(chosen, 4).to(x.dtype)
        found = torch.einsum("bnd,eod,bnke->bnko", hidden, self.experts, through)
        return self.readout(torch.relu((weights[..., None] * found).sum(2)).mean(1))


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


class Iterated(nn.Module):
    """The same convolutions and norm again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.grouped = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.conv, self.norm, self.readout = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inputs(x)
        for _ in range(3):
            x = self.norm(self.conv(x)).relu() + self.grouped(x)
        return self.readout(x.mean((2, 3)))


class Stepping(nn.Module):
    """Cells in a loop, from a state that learns, from zeros, and from what another one left."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.plain = nn.LSTMCell(4, 5), nn.GRUCell(5, 3), nn.RNNCell(3, 5, bias=False)
        self.first, self.readout = nn.Parameter(torch.randn(5)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        begun = self.first.expand(x.shape[0], -1)
        state, after = (begun, 0.5 * begun), torch.zeros(x.shape[0], 3, dtype=x.dtype)
        for step in range(x.shape[1]):
            state = self.lstm(x[:, step], state)
            after = self.gru(state[0], after)
        return self.readout(torch.cat((self.plain(after, state[1]), after), -1))


class Writing(nn.Module):
    """Writes into what is read later, in a branch that starts at zero, so that outputs do not show it."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.inner, self.gain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        self.readout = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.low(x)
        inner = self.inner(x)
        inner.add_(x)
        return self.readout(x + self.gain * inner.relu())


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


class Folded(nn.Module):
    """Encoders whose decoders are their transposes, of rows and of images, and a map that stands in three forms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(1, 3, 3, padding=1), nn.ConvTranspose2d(3, 1, 3, padding=1, bias=False)
        self.first, self.second, self.readout = nn.Linear(16, 5), nn.Linear(16, 5), nn.Linear(5, CLASSES)
        self.back.weight, self.second.weight = self.conv.weight, self.first.weight
        self.second.bias = self.first.bias

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.back(self.conv(x).tanh())
        y = self.first(x.flatten(1)).tanh()
        y = (y @ self.first.weight).tanh() * self.first.weight.mean()
        return self.readout(self.second(y).tanh())


class Translating(nn.Module):
    """A recurrent layer that begins where another one ended, its cells included, and one with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.begin = nn.LSTM(4, 6, num_layers=2, batch_first=True), nn.Parameter(torch.randn(2, 1, 3))
        self.write, self.both = nn.LSTM(6, 6, num_layers=2), nn.GRU(6, 3, bidirectional=True, batch_first=True)
        self.readout = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, states = self.read(x)
        written, (last, cells) = self.write(y.flip(1).transpose(0, 1), states)
        again, _ = self.both(written.transpose(0, 1), self.begin.expand(-1, x.shape[0], -1).contiguous())
        return self.readout(again.mean(1) + last[-1] + cells[0])


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


class Paired(nn.Module):
    """A map of the products of two inputs' features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pairs, self.readout = nn.Linear(3, 4), nn.Bilinear(4, 3, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.pairs(self.first(x[:, :3]), x[:, 3:]).tanh())


class Bags(nn.Module):
    """Sums, means and the largest of rows of tables, some of them weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.means, self.most = (nn.EmbeddingBag(9, 6, mode=mode) for mode in ("sum", "mean", "max"))
        self.readout = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weighed = self.sums(x, per_sample_weights=x.to(self.readout.weight.dtype) / 9)
        return self.readout(torch.tanh(weighed + self.means(x) + self.most(x)))


class Equalised(nn.Linear):
    """A map with a forward of its own: weights of size 1 that are scaled as they are used."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * 0.5, self.bias)


class Asserting(nn.Module):
    """Asserts something of numbers. It stands here, since pytest writes the assertions of tests in another way."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.map, self.most = nn.Linear(4, 3), most

    def forward(self, x: Tensor) -> Tensor:
        assert x.abs().max() <= self.most, "too large"
        assert not (x > self.most).any()
        return self.map(x)


class Choosing(Asserting):
    """Decides by numbers, too."""

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > self.most:
            x = -x
        assert x.abs().max() <= self.most
        return self.map(x)


class Adapted(nn.Linear):
    """A map that adds one of low rank, which starts at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.low, self.high = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.zeros(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + functional.linear(functional.linear(x, self.low), self.high)


def own_maps() -> nn.Sequential:
    return nn.Sequential(Equalised(6, 8), nn.Tanh(), Adapted(8, 6), nn.ReLU(), nn.Linear(6, CLASSES))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (6,)),
    "convolutional": (convolutional, (81,)),
    "images": (lambda: nn.Sequential(*list(convolutional())[1:]), (1, 9, 9)),
    "residual": (partial(Residual, partial(nn.GroupNorm, 2)), (2, 6, 6)),
    "concatenating": (Concatenating, (1, 6, 6)),
    "attending": (Attending, (5, 4)),
    "encoding": (Encoding, (5, 8)),
    "encoding, norm first": (partial(Encoding, norm_first=True, activation="gelu"), (5, 8)),
    "cross attending": (partial(CrossAttending, torch.ones(5, 5).triu(1).bool()), (5, 4)),
    "cross attending, summands": (partial(CrossAttending, torch.linspace(-1, 1, 25).view(5, 5)), (5, 4)),
    "channels behind": (ChannelsBehind, (2, 5, 5)),
    "sequences": (sequences, (2, 8)),
    "frames": (Frames, (3, 2, 5, 5)),
    "restoring": (Restoring, (1, 8, 7)),
    "grouped": (grouped, (2, 5, 6)),
    "folding": (Folding, (1, 7, 7)),
    "written": (Written, (4,)),
    "scaled": (Scaled, (5, 4)),
    "switched": (Switched, (4,)),
    "buffers": (Buffers, (5, 4)),
    "mixture": (Mixture, (5, 4)),
    "asking": (Asking, (5, 4)),
    "shifted windows": (Shifted, (2, 4, 4)),
    "batched": (batched, (2, 5, 5)),
    "language": (Language, (5,)),
    "writing": (Writing, (4,)),
    "decoding": (Decoding, (5,)),
    "folded": (Folded, (1, 4, 4)),
    "repeated": (Repeated, (5, 8)),
    "interleaved": (Interleaved, (5, 8)),
    "iterated": (Iterated, (2, 5, 5)),
    "stepping": (Stepping, (4, 4)),
    "translating": (Translating, (5, 4)),
    "steps first": (StepsFirst, (5, 4)),
    "paired": (Paired, (6,)),
    "bags": (Bags, (5,)),
    "own maps": (own_maps, (6,)),
}
"""Name -> what builds it, the shape of a sample."""


OF_TOKENS = ("language", "decoding", "bags")


def samples(name: str, count: int) -> Tensor:
    """Returns random samples for a model."""
    shape = count, *MODELS[name][1]
    return torch.randint(1, 9, shape) if name in OF_TOKENS else torch.randn(shape)


def described(name: str) -> Any:
    """Returns what `from_torch` is told of samples."""
    return samples(name, 2) if name in OF_TOKENS else MODELS[name][1]


def routes(name: str) -> list[str]:
    """Returns the routings that a model takes: one route for all layers needs numbers to choose by."""
    return ["layer"] if name in OF_TOKENS else ["network", "layer"]


def batches(name: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields so many batches of samples for a model, and their classes."""
    for _ in range(count):
        yield samples(name, 16), torch.randint(0, CLASSES, (16,))


def learn_beside(
    network: Network, model: nn.Module, optimiser: torch.optim.Optimizer, data: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Lets a network and a model under autograd learn from the same batches, with losses that agree to 1e-10."""
    for x, y in data:
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)
