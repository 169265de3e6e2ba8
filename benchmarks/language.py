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
from decoders import CONTEXT, EXPERTS, PER_AREA, ROUTER, Decoder, Mixture, stacked
from grid import GRID, RATE, show_times
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, Captured, Network, Rates, from_torch
from brodmann.feedback import Feedback, Shape

BATCH, BALANCING = 32, 0.01
"""Windows of a step, and the weight of a mixture's balancing loss."""
WIDER = ROUTER | {"dimension": 32}
DOWN = WIDER | {"feedback": "kolen-pollack-mirrored"}
SURER = DOWN | {"temperature": 0.12}
"""Settings of routers of 32 dimensions, of those that also send the error of their gates down, and for many areas."""


class Sizes(NamedTuple):
    """Sizes of a decoder, and a few windows of its text."""

    characters: int
    width: int
    depth: int
    sample: Tensor


Build = Callable[[Sizes], Any]
Way = str | Callable[[Shape], Feedback]


def under_autograd(hidden: int = 4, *, experts: int = 0, own_readout: bool = False) -> Build:
    """Returns what builds a decoder under autograd and AdamW, whose feed-forward parts have so many times its width.

    Its loss is the mean over all steps, and what balances mixtures.
    """

    def build(sizes: Sizes) -> Autograd:
        learner = Autograd(Decoder(*sizes[:3], hidden * sizes.width, experts=experts, own_readout=own_readout))
        mixtures = [part for part in learner.modules() if isinstance(part, Mixture)]

        def loss(output: Tensor, target: Tensor) -> Tensor:
            balancing = BALANCING * sum(part.imbalance for part in mixtures)
            return functional.cross_entropy(output.flatten(0, 1), target.flatten()) + balancing

        learner.loss = loss
        return learner

    return build


def converted(*, rates: Rates | None = None, **settings: Any) -> Build:
    """Returns what builds a converted decoder."""

    def build(sizes: Sizes) -> Network:
        model = Decoder(*sizes[:3], 4 * sizes.width)
        body = from_torch(model, sizes.sample, routing="layer", update=Adam(decay=DECAY), **settings)
        return Network(body, rates=rates)

    return build


def with_areas(feedback: Way, routing: str = "layer", router: dict[str, Any] = ROUTER) -> Build:
    """Returns what builds a decoder with gated areas in its feed-forward parts, routed by each map or by the part."""
    layers = {"blocks.*.mlp": {"areas": EXPERTS, "gated": True, "router": router, "routing": routing}}
    return converted(rates=Rates(areas=1.0), feedback=feedback, areas=1, layers=layers)


def of_whole_parts(feedback: Way, router: dict[str, Any] = ROUTER, *, gated: bool | str = True) -> Build:
    """Returns what builds a decoder whose feed-forward parts are areas, without a shared one; a part has one route."""
    own = {"areas": EXPERTS, "shared": "off", "gated": gated, "router": router, "routing": "module"}
    return converted(feedback=feedback, areas=1, layers={"blocks.*.mlp": own})


def of_parts(
    areas: int, hidden: int, feedback: str, router: dict[str, Any] = ROUTER, *, gated: bool | str = True
) -> Build:
    """Returns what builds a decoder stacked from parts, whose areas are whole feed-forward parts."""

    def build(sizes: Sizes) -> Network:
        width = hidden * sizes.width
        settings: Any = {"areas": areas, "feedback": feedback, "router": router, "gated": gated}
        return Network(stacked(sizes.sample, *sizes[:3], width, **settings))

    return build


METHODS: dict[str, Build] = {
    name: under_autograd() if given is None else converted(**given)
    for name, given in OF_IMAGES.items()
    if given is None or given["areas"] == 1
} | {
    "Kolen-Pollack, mirrored start, 8 areas": converted(feedback="kolen-pollack-mirrored", areas=8),
    "autograd, 2.5 times as many hidden units": under_autograd(10),
    "autograd, mixtures of 16 experts": under_autograd(experts=EXPERTS),
    "autograd, mixtures of 16 experts, readout of its own": under_autograd(experts=EXPERTS, own_readout=True),
    "autograd, mixtures of 64 experts, readout of its own": under_autograd(experts=64, own_readout=True),
    "transpose, 16 areas in feed-forward parts": with_areas("transpose"),
    "mirrored start, 16 areas in feed-forward parts": with_areas(PER_AREA),
    "the same, one feedback map for all areas": with_areas("kolen-pollack-mirrored"),
    "transpose, 16 areas in feed-forward parts, one route": with_areas("transpose", "module"),
    "mirrored start, 16 areas in feed-forward parts, one route": with_areas(PER_AREA, "module"),
    "transpose, 16 areas of whole feed-forward parts": of_whole_parts("transpose"),
    "mirrored start, 16 areas of whole feed-forward parts": of_whole_parts(PER_AREA),
    "mirrored start, 16 areas of whole feed-forward parts, routers of 32 dimensions": of_whole_parts(PER_AREA, WIDER),
    "transpose, 16 areas of whole feed-forward parts, error of gates": of_whole_parts(
        "transpose", WIDER | {"feedback": "transpose"}
    ),
    "mirrored start, 16 areas of whole feed-forward parts, error of gates": of_whole_parts(PER_AREA, DOWN),
    "transpose, 16 areas of whole feed-forward parts, error of gates, gated once": of_whole_parts(
        "transpose", WIDER | {"feedback": "transpose"}, gated="last"
    ),
    "mirrored start, 16 areas of whole feed-forward parts, error of gates, gated once": of_whole_parts(
        PER_AREA, DOWN, gated="last"
    ),
    "mirrored start, 16 areas in feed-forward parts, one route, error of gates": with_areas(PER_AREA, "module", DOWN),
    "transpose, stacked, a quarter more hidden units": of_parts(1, 5, "transpose"),
    "mirrored start, stacked, 16 areas of whole feed-forward parts": of_parts(EXPERTS, 4, "kolen-pollack-mirrored"),
    "mirrored start, stacked, 16 areas of whole feed-forward parts, routers of 32 dimensions": of_parts(
        EXPERTS, 4, "kolen-pollack-mirrored", WIDER
    ),
    "mirrored start, stacked, 16 areas of whole feed-forward parts, error of gates": of_parts(
        EXPERTS, 4, "kolen-pollack-mirrored", DOWN
    ),
    "mirrored start, stacked, 16 areas of whole feed-forward parts, routers of 32 dimensions, gated once": of_parts(
        EXPERTS, 4, "kolen-pollack-mirrored", WIDER, gated="last"
    ),
    "mirrored start, stacked, 16 areas of whole feed-forward parts, error of gates, gated once": of_parts(
        EXPERTS, 4, "kolen-pollack-mirrored", DOWN, gated="last"
    ),
    "mirrored start, stacked, 16 areas of whole feed-forward parts, error of gates, gated once, surer": of_parts(
        EXPERTS, 4, "kolen-pollack-mirrored", SURER, gated="last"
    ),
    "mirrored start, stacked, 64 areas of whole feed-forward parts, error of gates, gated once, surer": of_parts(
        64, 4, "kolen-pollack-mirrored", SURER, gated="last"
    ),
}


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

    sizes = Sizes(characters, options.width, options.depth, training[: 2 * CONTEXT].view(2, CONTEXT))

    def trained(method: str, lr: float, seed: int) -> tuple[float, Any]:
        torch.manual_seed(seed)
        network = METHODS[method](sizes)
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
            f"{method:62} {active_parameters(tried[best][0][1]):,} active parameters  lr {best:g}  bits per character "
            f"{statistics.mean(tests):.3f} ({each})  validation {others}",
            flush=True,
        )
        steps[method] = partial(captured(tried[best][0][1]).learn_with_output, *batch, None, lr=RATE)
    show_times(steps)


if __name__ == "__main__":
    main()
