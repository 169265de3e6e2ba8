"""Networks of PyTorch's, converted: residual convolutional, an encoder, a recurrent one, beside autograd.

Run: python benchmarks/conversions.py [--models encoder] [--methods autograd ...] [--set mnist] [--epochs 3] [--seeds 2]
     [--rates 1e-3 3e-3]
The models are not trained before; see `grid.compare`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from grid import GRID, compare, images
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, Network, from_torch

DECAY = 0.2
METHODS: dict[str, dict[str, Any] | None] = {
    "autograd": None,
    "transpose, 1 area": {"feedback": "transpose", "areas": 1},
    "Kolen-Pollack, equal start, 1 area": {"feedback": "kolen-pollack-equal", "areas": 1},
    "Kolen-Pollack, mirrored start, 1 area": {"feedback": "kolen-pollack-mirrored", "areas": 1},
    "Kolen-Pollack, 1 area": {"feedback": "kolen-pollack", "areas": 1},
    "mirrored start, 16 areas, one for a sample": {"feedback": "kolen-pollack-mirrored", "areas": 16},
    "mirrored start, 16 areas, one for a row": {
        "feedback": "kolen-pollack-mirrored",
        "areas": 16,
        "routing": "layer",
    },
    "fixed random feedback, 1 area": {"feedback": "random", "areas": 1},
    "sign-symmetric, 1 area": {"feedback": "sign", "areas": 1},
}
"""Name -> arguments of `from_torch`; None for the model itself under autograd and AdamW."""


class Block(nn.Module):
    """A residual block of two convolutions, which halves the image."""

    def __init__(self, inputs: int, size: int, norm: Callable[[int], nn.Module]) -> None:
        """Draws the weights."""
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, size, 3, 2, 1), nn.Conv2d(size, size, 3, 1, 1)
        self.norms = nn.ModuleList([norm(size), norm(size)])
        self.shortcut = nn.Conv2d(inputs, size, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images; returns smaller ones."""
        y = functional.relu(self.norms[0](self.first(x)))
        return functional.relu(self.norms[1](self.second(y)) + self.shortcut(x))


class Residual(nn.Module):
    """A stem, two blocks, the mean over the image, a readout."""

    def __init__(self, norm: Callable[[int], nn.Module], shape: tuple[int, ...], outputs: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.shape = shape
        self.stem = nn.Conv2d(shape[0], 16, 3, padding=1)
        self.blocks = nn.Sequential(Block(16, 32, norm), Block(32, 64, norm))
        self.readout = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images, which may come flat; returns logits."""
        x = functional.relu(self.stem(x.reshape(-1, *self.shape)))
        return self.readout(self.blocks(x).mean((2, 3)))  # type: ignore[no-any-return]


class Depthwise(nn.Module):
    """A stem and three residual blocks of a convolution of each channel alone, one of all at a pixel, and a norm."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.shape = shape
        self.stem = nn.Conv2d(shape[0], 32, 3, padding=1)
        self.alone = nn.ModuleList([nn.Conv2d(32, 32, 3, padding=1, groups=32) for _ in range(3)])
        self.mixing = nn.ModuleList([nn.Conv2d(32, 32, 1) for _ in range(3)])
        self.norms = nn.ModuleList([nn.GroupNorm(8, 32) for _ in range(3)])
        self.readout = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images, which may come flat; returns logits."""
        x = functional.relu(self.stem(x.reshape(-1, *self.shape)))
        for alone, mixing, norm in zip(self.alone, self.mixing, self.norms, strict=True):
            x = x + functional.relu(norm(mixing(alone(x))))
        return self.readout(x.mean((2, 3)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Reads the rows of an image as a sequence, one after the other."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.steps, self.size = shape[1], shape[0] * shape[2]
        self.layer, self.readout = nn.LSTM(self.size, 64, batch_first=True), nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images, which may come flat; returns logits."""
        return self.readout(self.layer(x.reshape(-1, self.steps, self.size))[0][:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Reads the rows of an image as a sequence, by attention."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.steps, self.size = shape[1], shape[0] * shape[2]
        self.embed, self.positions = nn.Linear(self.size, 64), nn.Parameter(0.02 * torch.randn(self.steps, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(64), enable_nested_tensor=False)
        self.readout = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images, which may come flat; returns logits."""
        x = self.embed(x.reshape(-1, self.steps, self.size)) + self.positions
        return self.readout(self.encoder(x).mean(1))  # type: ignore[no-any-return]


MODELS: dict[str, Callable[..., nn.Module]] = {
    "residual": partial(Residual, partial(nn.GroupNorm, 4)),
    "residual-batch-norm": partial(Residual, nn.BatchNorm2d),
    "encoder": Encoder,
    "recurrent": Recurrent,
    "depthwise": Depthwise,
}


class Autograd(nn.Module):
    """A network of PyTorch's under autograd and AdamW: biases, norms and single tensors do not decay, as here.

    Channels come last where that is faster: with convolutions of all channels, not of each alone.
    """

    def __init__(self, body: nn.Module) -> None:
        """Takes the network."""
        super().__init__()
        convolutions = [part for part in body.modules() if isinstance(part, nn.Conv2d)]
        if convolutions and all(part.groups == 1 for part in convolutions):
            body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.body, self.loss, self.lr = body, functional.cross_entropy, 1e-3
        maps = {id(part.weight) for part in body.modules() if isinstance(part, nn.Linear | nn.Conv2d)}
        joint = ("in_proj_weight", "weight_ih_l0", "weight_hh_l0")
        maps |= {id(value) for name, value in body.named_parameters() if name.endswith(joint)}
        groups = [
            {"params": [p for p in body.parameters() if (id(p) in maps) == decays], "weight_decay": decays * DECAY}
            for decays in (True, False)
        ]
        self.optimiser = torch.optim.AdamW(groups, fused=True)
        self.dtype, self.recursive = torch.float32, False

    def forward(self, x: Tensor) -> Tensor:
        """Inference: norms by their running statistics."""
        self.body.eval()
        output = self.body(x)
        self.body.train()
        return output  # type: ignore[no-any-return]

    def learn_with_output(self, x: Tensor, target: Tensor, *_: Any, lr: float, **__: Any) -> tuple[Tensor, Tensor]:
        """One step; the same signature as that of a `Network`."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        output = self.body(x)
        loss = self.loss(output, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach(), output.detach()

    def learning_state(self) -> dict[str, Tensor]:
        """Returns the weights alone: nothing is resumed here."""
        return self.state_dict()

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Takes the weights back."""
        self.load_state_dict(state)


def main() -> None:
    """Prints a row for each model and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="digits")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[:4])
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", default=list(METHODS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=GRID)
    options = parser.parse_args()
    data = images(parser, options.set)
    shape = data.shape
    splits = [data.split(0.1, seed) for seed in range(options.seeds)]

    def learner(method: str, model: Callable[[], nn.Module]) -> Any:
        chosen = METHODS[method]
        if chosen is None:
            return Autograd(model())
        return Network(from_torch(model(), (math.prod(shape),), update=Adam(decay=DECAY), **chosen))

    for name in options.models:
        model = partial(MODELS[name], shape, data.outputs)
        print(name)
        learners = {f"  {method}": partial(learner, method, model) for method in options.methods}
        compare(learners, splits, options.epochs, options.rates)


if __name__ == "__main__":
    main()
