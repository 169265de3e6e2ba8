"""A language model of characters, converted: a small decoder, trained on Python's own sources, beside autograd.

Run: python benchmarks/language.py [--methods autograd ...] [--steps 1500] [--seeds 2] [--width 96] [--depth 2]
     [--rates 1e-3 3e-3] [--searched 1] [--whole]
The text is what lies in the standard library's folder, so that it differs a little from version to version; with
``--whole`` also what lies in folders below, in an order of files that is drawn once. Every method takes the rate of the
grid with the fewest bits per character on validation text, by all seeds or the first few (``--searched``); the test
text is read once for each row and seed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conversions import DECAY, Autograd
from conversions import METHODS as OF_IMAGES
from grid import GRID, RATE, show_times
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, Captured, Network, Rates, from_torch
from brodmann.feedback import Feedback, KolenPollack, Shape

CONTEXT, BATCH, HEADS = 64, 32, 4
EXPERTS, BALANCING = 16, 0.01
"""Areas or experts of a feed-forward part, and the weight of a mixture's balancing loss."""


class Method(NamedTuple):
    """How a model is trained, and what is changed in it.

    Attributes:
        settings: Arguments of `from_torch`; None for the model itself under autograd and AdamW.
        hidden: Units of the feed-forward parts, as a multiple of the width.
        mixture: Whether the feed-forward parts are mixtures of experts.
        rates: Rates of the parts of a network, if not the usual ones.
    """

    settings: dict[str, Any] | None
    hidden: int = 4
    mixture: bool = False
    rates: Rates | None = None


def with_areas(feedback: str | Callable[[Shape], Feedback]) -> Method:
    """Returns the method of gated areas in the feed-forward parts, which are used evenly."""
    areas = {"areas": EXPERTS, "gated": True, "router": {"balance_rate": 1e-3, "dimension": 16}}
    layers = {"blocks.*.wide": areas, "blocks.*.narrow": areas}
    return Method({"feedback": feedback, "areas": 1, "layers": layers}, rates=Rates(areas=1.0))


METHODS = {name: Method(given) for name, given in OF_IMAGES.items() if given is None or given["areas"] == 1} | {
    "Kolen-Pollack, mirrored start, 8 areas": Method({"feedback": "kolen-pollack-mirrored", "areas": 8}),
    "autograd, 2.5 times as many hidden units": Method(None, hidden=10),
    "autograd, mixtures of 16 experts": Method(None, mixture=True),
    "transpose, 16 areas in feed-forward parts": with_areas("transpose"),
    "mirrored start, 16 areas in feed-forward parts": with_areas(
        partial(KolenPollack, start="mirrored", per_area=True)
    ),
    "the same, one feedback map for all areas": with_areas("kolen-pollack-mirrored"),
}


class Mixture(nn.Module):
    """Experts, of which the likeliest serves a row and is scaled by its likelihood (Fedus et al. 2022).

    Attributes:
        imbalance: ``n sum_e f_e p_e`` of the last rows: f the share of rows that went to an expert, p the mean of its
            likelihood. It is 1 if all serve equally many.
    """

    def __init__(self, width: int, hidden: int) -> None:
        """Draws the weights."""
        super().__init__()
        self.gate = nn.Linear(width, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)) for _ in range(EXPERTS)
        )
        self.imbalance = torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        rows = x.flatten(0, 1)
        likelihood = self.gate(rows).softmax(1)
        highest, chosen = likelihood.max(1)
        order, counts = chosen.argsort(), torch.bincount(chosen, minlength=EXPERTS)
        parts = zip(self.experts, rows[order].split(counts.tolist()), strict=True)
        out = torch.cat([expert(own) for expert, own in parts])[order.argsort()]
        self.imbalance = EXPERTS * (counts / len(rows) * likelihood.mean(0)).sum()
        return (highest[:, None] * out).view(x.shape)


class Block(nn.Module):
    """Causal attention and two maps, or a mixture of them, each in a residual path behind a norm."""

    def __init__(self, width: int, hidden: int, *, mixture: bool = False) -> None:
        """Draws the weights."""
        super().__init__()
        self.mixture = Mixture(width, hidden) if mixture else None
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if not mixture:
            self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Takes (samples, steps, width); returns the same shape."""
        parts = self.joint(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return x + (self.narrow(functional.gelu(self.wide(y))) if self.mixture is None else self.mixture(y))


class Decoder(nn.Module):
    """Guesses the next character at every step; the table of characters is its readout, too."""

    def __init__(self, characters: int, width: int, depth: int, hidden: int, *, mixture: bool) -> None:
        """Draws the weights, those of the table as small as is usual where they are the readout."""
        super().__init__()
        self.table, self.places = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, hidden, mixture=mixture) for _ in range(depth)))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, characters, bias=False)
        self.readout.weight = self.table.weight
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Takes whole numbers (samples, steps); returns logits (samples, steps, characters)."""
        return self.readout(self.norm(self.blocks(self.table(x) + self.places)))  # type: ignore[no-any-return]


def text(most: int, *, whole: bool = False) -> tuple[Tensor, int]:
    """Returns so many characters of the sources as whole numbers, and how many different ones there are."""
    found: list[str] = []
    for file in sources(whole=whole):
        found.append(file.read_bytes().decode("ascii", "ignore"))
        if sum(map(len, found)) > most:
            break
    joined = "".join(found)[:most]
    known = {character: number for number, character in enumerate(sorted(set(joined)))}
    return torch.tensor([known[character] for character in joined]), len(known)


def sources(*, whole: bool) -> list[Path]:
    """Returns the files of the standard library's folder; or of the whole library, in an order drawn once."""
    folder = Path(statistics.__file__).parent
    if not whole:
        return sorted(folder.glob("*.py"))
    files = [file for file in sorted(folder.rglob("*.py")) if "-packages" not in str(file)]
    random.Random(0).shuffle(files)
    return files


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
    learner = captured(learner)
    for step in range(steps):
        rate = lr * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        learner.learn_with_output(*windows(part, draw), None, lr=rate)


def active_parameters(learner: Any) -> int:
    """Counts what a learner reads for one character at inference."""
    if isinstance(learner, Network):
        return learner.active_parameters()
    unused = [expert for part in learner.modules() if isinstance(part, Mixture) for expert in part.experts[1:]]
    return sum(p.numel() for p in learner.parameters()) - sum(p.numel() for one in unused for p in one.parameters())


def captured(learner: Any) -> Any:
    """Returns the captured steps of a network; what autograd trains as it is."""
    return Captured(learner, own_parts=True) if isinstance(learner, Network) else learner


def under_autograd(model: nn.Module) -> Autograd:
    """Returns a model under autograd, whose loss is the mean over all steps, and what balances mixtures."""
    learner = Autograd(model)
    mixtures = [part for part in model.modules() if isinstance(part, Mixture)]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        balancing = BALANCING * sum(part.imbalance for part in mixtures)
        return functional.cross_entropy(output.flatten(0, 1), target.flatten()) + balancing

    learner.loss = loss
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
    parser.add_argument("--held-out", type=float, default=0.05, help="share of the text for validation, and for test")
    parser.add_argument("--rates", type=float, nargs="+", default=GRID)
    parser.add_argument("--searched", type=int, help="seeds that choose the rate, the first ones; all unless given")
    parser.add_argument("--whole", action="store_true", help="take the whole library, in an order drawn once")
    options = parser.parse_args()
    found, characters = text(options.characters, whole=options.whole)
    ends = [int((1 - share) * len(found)) for share in (2 * options.held_out, options.held_out)]
    training, validation, test = found.tensor_split(ends)
    print(f"{len(found):,} characters, {characters} different ones")

    def learner(method: str) -> Any:
        settings, hidden, mixture, rates = METHODS[method]
        model = Decoder(characters, options.width, options.depth, hidden * options.width, mixture=mixture)
        if settings is None:
            return under_autograd(model)
        build: Callable[..., Any] = from_torch
        return Network(
            build(
                model,
                training[: 2 * CONTEXT].view(2, CONTEXT),
                routing="layer",
                update=Adam(decay=DECAY),
                **settings,
            ),
            rates=rates,
        )

    def trained(method: str, lr: float, seed: int) -> tuple[float, Any]:
        torch.manual_seed(seed)
        network = learner(method)
        train(network, training, options.steps, lr, seed)
        return bits(network, validation), network

    steps: dict[str, Callable[[], object]] = {}
    batch = windows(training, torch.Generator().manual_seed(0))
    for method in options.methods:
        searched = options.searched or options.seeds
        tried = {lr: [trained(method, lr, seed) for seed in range(searched)] for lr in options.rates}
        scores = {lr: statistics.mean(score for score, _ in runs) for lr, runs in tried.items()}
        best = min(scores, key=lambda lr: scores[lr])
        tried[best] += [trained(method, best, seed) for seed in range(searched, options.seeds)]
        tests = [bits(network, test) for _, network in tried[best]]
        each = ", ".join(f"{one:.3f}" for one in tests)
        others = ", ".join(f"{lr:g}: {score:.3f}" for lr, score in scores.items())
        print(
            f"{method:46} {active_parameters(tried[best][0][1]):,} active parameters  lr {best:g}  bits per character "
            f"{statistics.mean(tests):.3f} ({each})  validation {others}",
            flush=True,
        )
        steps[method] = partial(captured(tried[best][0][1]).learn_with_output, *batch, None, lr=RATE)
    show_times(steps)


if __name__ == "__main__":
    main()
