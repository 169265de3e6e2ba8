"""Models of convolutions, with norms and sums between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sizes import CLASSES


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


class ChannelsBehind(nn.Module):
    """Maps and norms on images whose channels come last, as PyTorch counts, and norms over other dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.map, self.readout = nn.Conv2d(2, 4, 3), nn.Linear(4, 6), nn.Linear(6, CLASSES)
        self.whole, self.norm = nn.LayerNorm((4, 3, 3)), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.map(self.whole(self.conv(x)).permute(0, 2, 3, 1))
        return self.readout(self.norm(x).relu().mean((1, 2)))


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


class Restoring(nn.Module):
    """Half of an image, and back to its size by a convolution that is told of it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
        self.readout = nn.Linear(2 * 8 * 7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.up(self.down(x).relu(), output_size=x.shape[2:]).tanh().flatten(1))  # type: ignore[no-any-return]


class Frames(nn.Module):
    """Convolutions of the frames of a film, as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.readout = nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.second(self.norm(self.first(x.flatten(0, 1))).relu()).amax((2, 3))
        return self.readout(frames.unflatten(0, x.shape[:2])).mean(1)  # type: ignore[no-any-return]


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


def batched() -> Batched:
    model = Batched()
    for _ in range(3):  # so that there are statistics
        model(2.0 * torch.randn(20, 2, 5, 5) + 1.0)
    return model


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
