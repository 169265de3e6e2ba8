"""Convolutions: networks of areas beside PyTorch's own convolutions under autograd, accuracy and time of a step.

Run: python benchmarks/convolutions.py [--set mnist] [--channels 16 32] [--methods NAME ...] [--epochs 3] [--seeds 2]
     [--rates 3e-4 1e-3]
Rates are chosen, and steps timed, as `grid.compare` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from grid import GRID, compare, images

from brodmann import Adam, AreaLinear, Network, Rates, convnet, mlp
from brodmann.baselines import Backpropagation
from brodmann.data import Dataset

DECAY = 0.2
RULE = Adam(decay=DECAY)
Build = Callable[[Dataset, Sequence[int]], Any]


def areas(path: str, count: int, routing: str = "network", *, rates: Rates | None = None, **settings: Any) -> Build:
    """Returns what builds a convolutional network of areas for a data set."""
    settings |= {"feedback": path, "areas": count, "routing": routing, "update": RULE}
    return lambda data, channels: Network(convnet(data.shape, data.outputs, channels=channels, **settings), rates=rates)


def gated(count: int, **router: str) -> Build:
    """Returns what builds a network whose patches choose gated areas, which move as far as the shared part."""
    return areas("kolen-pollack-per-area", count, "layer", rates=Rates(areas=1.0), gated=True, router=router)


def with_plain_readout(build: Build) -> Build:
    """Returns what builds such a network with one area in its readout, which then needs no router."""

    def built(data: Dataset, channels: Sequence[int]) -> Network:
        network = build(data, channels)
        body = network.body
        readout = body.layers[-1]
        body.layers[-1] = AreaLinear(readout.in_features, readout.out_features, areas=1, update=RULE, start_scale=0.1)
        return Network(body, rates=network.rates)

    return built


def under_autograd(data: Dataset, channels: Sequence[int]) -> Backpropagation:
    """Returns the same convolutions as PyTorch's own."""
    features = data.shape[0] * data.shape[1] * data.shape[2]
    return Backpropagation(features, data.outputs, shape=data.shape, channels=channels, decay=DECAY)


def flat(data: Dataset, channels: Sequence[int]) -> Network:
    """Returns a network without convolutions."""
    return Network(mlp(data.shape[0] * data.shape[1] * data.shape[2], data.outputs, update=RULE))


METHODS: dict[str, Build] = {
    "PyTorch's convolutions, autograd": under_autograd,
    "transpose, 1 area": areas("transpose", 1),
    "Kolen-Pollack, 1 area": areas("kolen-pollack", 1),
    "Kolen-Pollack, 16 areas, one for an image": areas("kolen-pollack", 16),
    "Kolen-Pollack, 16 areas, one for a patch": areas("kolen-pollack", 16, "layer"),
    "Kolen-Pollack, 64 areas, one for a patch": areas("kolen-pollack", 64, "layer"),
    "Kolen-Pollack, 16 areas for a patch, readout of 1": with_plain_readout(areas("kolen-pollack", 16, "layer")),
    "Kolen-Pollack, 64 areas for a patch, readout of 1": with_plain_readout(areas("kolen-pollack", 64, "layer")),
    "Kolen-Pollack, 16 gated areas for a patch, readout of 1": with_plain_readout(gated(16)),
    "the same, error of gates": with_plain_readout(gated(16, feedback="kolen-pollack")),
    "fixed random feedback, 1 area": areas("random", 1),
    "direct feedback, 1 area": areas("direct", 1),
    "sign-symmetric, 1 area": areas("sign", 1),
    "no convolution: mlp of 256 units, 16 areas": flat,
}


def main() -> None:
    """Prints a row per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="digits")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", default=list(METHODS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=GRID)
    options = parser.parse_args()
    data = images(parser, options.set)
    methods = {name: partial(METHODS[name], data, options.channels) for name in options.methods}
    compare(methods, [data.split(0.1, seed) for seed in range(options.seeds)], options.epochs, options.rates)


if __name__ == "__main__":
    main()
