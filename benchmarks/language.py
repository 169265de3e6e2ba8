"""A language model of characters, converted: a small decoder, trained on Python's own sources, beside autograd.

Run: python benchmarks/language.py [--methods autograd ...] [--steps 1500] [--seeds 2] [--width 96] [--depth 2]
The text is what lies in the standard library's folder, so that it differs a little from version to version. Every
method takes the rate of the grid with the fewest bits per character on validation text; the test text is read once for
each row and seed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from conversions import DECAY, Autograd
from conversions import METHODS as OF_IMAGES
from grid import GRID, RATE, show_times
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, Captured, Network, from_torch

METHODS = {name: given for name, given in OF_IMAGES.items() if given is None or given["areas"] == 1} | {
    "Kolen-Pollack, mirrored start, 8 areas": {"feedback": "kolen-pollack-mirrored", "areas": 8},
}
"""Name -> arguments of `from_torch`; None for the model itself under autograd and AdamW."""
CONTEXT, BATCH, HEADS = 64, 32, 4


class Block(nn.Module):
    """Causal attention and two maps, each in a residual path behind a norm."""

    def __init__(self, width: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        parts = self.joint(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norms[1](x))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Guesses the next character at every step; the table of characters is its readout, too."""

    def __init__(self, characters: int, width: int, depth: int) -> None:
        """Draws the weights, those of the table as small as is usual where they are the readout."""
        super().__init__()
        self.table, self.places = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, characters, bias=False)
        self.readout.weight = self.table.weight
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Takes whole numbers (samples, steps); returns logits (samples, steps, characters)."""
        return self.readout(self.norm(self.blocks(self.table(x) + self.places)))  # type: ignore[no-any-return]


def text(most: int) -> tuple[Tensor, int]:
    """Returns so many characters of the sources as whole numbers, and how many different ones there are."""
    found = []
    for file in sorted(Path(statistics.__file__).parent.glob("*.py")):
        found.append(file.read_bytes().decode("ascii", "ignore"))
        if sum(map(len, found)) > most:
            break
    whole = "".join(found)[:most]
    known = {character: number for number, character in enumerate(sorted(set(whole)))}
    return torch.tensor([known[character] for character in whole]), len(known)


def bits(learner: nn.Module, part: Tensor) -> float:
    """Returns bits per character of a text, whose windows do not overlap."""
    whole = part[: len(part) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    total = 0.0
    with torch.no_grad():
        for rows in whole.split(128):
            logits = learner(rows[:, :-1]).flatten(0, 1)
            total += float(functional.cross_entropy(logits, rows[:, 1:].flatten(), reduction="sum"))
    return total / whole[:, 1:].numel() / math.log(2)


def windows(part: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns a batch of windows drawn anywhere, and what follows each character."""
    begin = torch.randint(len(part) - CONTEXT, (BATCH, 1), generator=draw)
    rows = part[begin + torch.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:]


def train(learner: Any, part: Tensor, steps: int, lr: float, seed: int) -> None:
    """Trains by windows, at a rate that rises for 50 steps and falls by a cosine."""
    draw = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rate = lr * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        learner.learn_with_output(*windows(part, draw), None, lr=rate)


def under_autograd(model: nn.Module) -> Autograd:
    """Returns a model under autograd, whose loss is the mean over all steps."""
    learner = Autograd(model)
    learner.loss = lambda output, target: functional.cross_entropy(output.flatten(0, 1), target.flatten())
    return learner


def main() -> None:
    """Prints a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", default=list(METHODS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--characters", type=int, default=2_000_000)
    options = parser.parse_args()
    whole, characters = text(options.characters)
    training, validation, test = whole.tensor_split([int(0.9 * len(whole)), int(0.95 * len(whole))])
    print(f"{len(whole):,} characters, {characters} different ones")

    def learner(method: str) -> Any:
        model = Decoder(characters, options.width, options.depth)
        if METHODS[method] is None:
            return under_autograd(model)
        build: Callable[..., Any] = from_torch
        return Network(
            build(
                model,
                training[: 2 * CONTEXT].view(2, CONTEXT),
                routing="layer",
                update=Adam(decay=DECAY),
                **METHODS[method],
            )
        )

    steps: dict[str, Callable[[], object]] = {}
    batch = windows(training, torch.Generator().manual_seed(0))
    for method in options.methods:
        found: dict[float, list[tuple[float, Any]]] = {}
        for lr in GRID:
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                network = learner(method)
                train(network, training, options.steps, lr, seed)
                found.setdefault(lr, []).append((bits(network, validation), network))
        best = min(GRID, key=lambda lr: statistics.mean(score for score, _ in found[lr]))
        tests = [bits(network, test) for _, network in found[best]]
        each = ", ".join(f"{one:.3f}" for one in tests)
        others = ", ".join(f"{lr:g}: {statistics.mean(score for score, _ in found[lr]):.3f}" for lr in GRID)
        print(
            f"{method:40} lr {best:g}  bits per character {statistics.mean(tests):.3f} ({each})  validation {others}",
            flush=True,
        )
        trained = found[best][0][1]
        step = Captured(trained, own_parts=True) if isinstance(trained, Network) else trained
        steps[method] = partial(step.learn_with_output, *batch, None, lr=RATE)
    show_times(steps)


if __name__ == "__main__":
    main()
