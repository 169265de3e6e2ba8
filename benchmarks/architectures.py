"""Which networks of timm `from_torch` converts as they are: the smallest of each family, untrained.

Run: python benchmarks/architectures.py [--families swin_transformer ...] [--most 30e6] [--largest 300] [--steps 3]
Needs timm, which this package does not. Each is built for its own image size and ten classes, converted with one area,
and compared with itself on random images by the conversion. With steps, it also learns that many batches of four random
images by transpose feedback, in float64, beside itself under autograd, and two differences are told: the largest of
losses, and of parameters that `to_torch` brings back.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from copy import deepcopy
from typing import Any

import torch
from apart import apart, back
from torch import nn

from brodmann import SGD, BrodmannError, Network, from_torch


def smallest(timm: Any, family: str) -> tuple[str, int, tuple[int, ...]]:
    """Returns the network of a family with the fewest parameters: its name, how many those are, and its image."""
    found = []
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=10)
        found.append((sum(part.numel() for part in model.parameters()), name, model.default_cfg["input_size"]))
    size, name, shape = min(found)
    return name, size, shape


def differences(model: nn.Module, shape: tuple[int, ...], steps: int) -> str:
    """Returns how far losses and parameters under autograd and of what it is converted to are apart at most.

    Nothing is dropped out: what both drew would differ.
    """
    model = model.double().train()
    for part in model.modules():
        for name in ("p", "drop_rate", "drop_prob"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    before = deepcopy(model)
    network = Network(from_torch(model, shape, areas=1, feedback="transpose", update=SGD()))
    kind = torch.float64
    batches = ((torch.randn(4, *shape, dtype=kind), torch.randint(0, 10, (4,))) for _ in range(steps))
    return f"{apart(model, network, batches, lr=1e-3):.0e}, back {back(network, before, model, shape):.0e}"


def main() -> None:
    """Prints a line for every family, and how many were converted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", help="modules of timm (default: all)")
    parser.add_argument("--most", type=float, default=30e6, help="parameters, above which a network is left out")
    parser.add_argument("--largest", type=int, default=300, help="height of an image, likewise")
    parser.add_argument("--steps", type=int, default=0, help="batches to learn beside autograd")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    timm = importlib.import_module("timm")
    converted = tried = 0
    for family in arguments.families or timm.list_modules():
        try:
            name, size, shape = smallest(timm, family)
        except (RuntimeError, NotImplementedError, ValueError) as error:  # timm's own, on a device without numbers
            print(f"{family:26s} not built: {str(error).splitlines()[0][:80]}", flush=True)
            continue
        if size > arguments.most or shape[-1] > arguments.largest:
            print(f"{family:26s} {name:40s} {size:11,}  left out", flush=True)
            continue
        tried += 1
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10).eval()
        try:
            from_torch(model, shape, areas=1)
        except BrodmannError as error:
            print(f"{family:26s} {name:40s} {size:11,}  refused: {error}", flush=True)
        else:
            converted += 1
            told = f", apart {differences(model, shape, arguments.steps)}" if arguments.steps else ""
            print(f"{family:26s} {name:40s} {size:11,}  converted{told}", flush=True)
    print(f"{converted} of {tried} converted (timm {timm.__version__}, PyTorch {torch.__version__})")


if __name__ == "__main__":
    main()
