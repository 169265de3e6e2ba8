"""What processes compute that learn together, beside one process: steps, trainings, and what they tell one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from brodmann import RLS, SGD, Adam, CrossEntropy, Layer, Muon, Network, Parallel, Rates, from_torch, mlp
from brodmann.network import copy_of
from brodmann.training import Schedule, Trainer

from ...settings import default_dtype
from ..cases import BODIES, LAYERS, PATHS, RULES, Rewarded
from ..models import CLASSES, MODELS, OF_TOKENS, described, samples

COUNT = 2
STEPS = 4
SAMPLES = 9
"""Odd, so that shares differ."""
SMOOTH = {"activation": "tanh", "update": Adam(), "feedback": "kolen-pollack"}
"""The derivative of relu at 0 would hang on rounding."""


def of_table() -> Iterator[tuple[str, Callable[[], Layer]]]:
    """Yields every body, layer, rule and path of the common table."""
    for name, options in LAYERS.items():
        yield name, partial(BODIES["mlp"], **{**SMOOTH, **options, "activation": "tanh"})
    for name, body in BODIES.items():
        if name != "normed":
            yield name, partial(body, areas=4, routing="layer", **SMOOTH)
    for name, rule in RULES.items():
        yield name, partial(BODIES["mlp"], areas=3, routing="layer", **{**SMOOTH, "update": rule})
    for path in PATHS:
        if path != "kolen-pollack-noisy":
            yield path, partial(BODIES["mlp"], areas=3, routing="layer", **{**SMOOTH, "feedback": path})


def converted(name: str) -> Layer:
    """Returns a converted network."""
    areas = 1 if name in OF_TOKENS else 4
    return from_torch(MODELS[name][0](), described(name), areas=areas, update=Adam())


BUILT: dict[str, Callable[[], Layer]] = {
    **dict(of_table()),
    **{
        name: partial(converted, name) for name in ("residual", "grouped", "mixture", "translating", "language", "bags")
    },
}
MANY = {
    "many rows": {},
    "many rows, shared part off": {"shared": "off"},
    "many rows, maps of feedback": {"feedback": "kolen-pollack-per-area"},
    "many rows, muon": {"update": Muon(decay=0.3)},
    "many rows, momentum": {"update": SGD(momentum=0.9, decay=0.1)},
    "many rows, gated": {"gated": True},
    "many rows, rls": {"update": RLS(ridge=2.0)},
    "many rows, fixed feedback": {"feedback": "random"},
    "many rows, feedback by the output": {"feedback": Rewarded},
}
"""Of each sample, as of patches or tokens: gradients of areas are smaller."""
BUILT |= {
    name: partial(BODIES["mlp"], **{**SMOOTH, "areas": 3, "routing": "layer", **options})
    for name, options in MANY.items()
}


def total(output: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own that is a sum, and says so."""
    return functional.cross_entropy(output, y, reduction="sum")


def counted(output: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own that leaves a class out, and says what it divides by."""
    return functional.cross_entropy(output, y, ignore_index=2)


total.sums = True  # type: ignore[attr-defined]
counted.counts_for = lambda y, weight, samples: float((y != 2).sum())  # type: ignore[attr-defined]
LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip": (None, {"clip": 0.05}),
    "class weights": (CrossEntropy(class_weights=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), {}),
    "one class ignored": (nn.CrossEntropyLoss(ignore_index=2), {}),
    "rates": (None, {"rates": Rates(areas=0.5, feedback=0.0, layers={"layers.0": 0.0})}),
    "a sum of one's own": (total, {"lr": 1e-2}),
    "a mean of one's own": (counted, {}),
}
RANDOM = {
    "noise": partial(BODIES["mlp"], areas=4, update=Adam(), feedback="kolen-pollack-noisy"),
    "bfloat16": partial(BODIES["mlp"], areas=4, update=Adam(), storage="bfloat16"),
    "dropout": partial(BODIES["mlp"], areas=4, update=Adam(), dropout=0.5),
    "batch norms": partial(BODIES["normed"], areas=4, update=Adam()),
}
"""What draws random numbers, or goes by the samples of one process: no step of one process, but the same in all."""
WEIGHTED = ("areas", "one route", "adam", "rls", "mixture", "many rows", "many rows, rls")
EXACT = [*BUILT, *LOSSES, *(f"{name}, weighted" for name in WEIGHTED)]


def batch(name: str, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns samples, classes, and weights that are whole numbers, as RLS asks for."""
    torch.manual_seed(step)
    count = SAMPLES + step % 2
    x = samples(name, count).to(torch.int64 if name in OF_TOKENS else torch.float64) if name in MODELS else None
    x = torch.randn(count, 5) if x is None else x
    shape = (count,)
    if name in MANY:
        shape = count, 20
        x = torch.randn(*shape, 5)
    return x, torch.randint(0, CLASSES, shape), torch.randint(0, 3, shape).double()


def apart(one: Network, other: Network) -> float:
    """Returns the largest difference of what two networks hold."""
    first, second = one.learning_state(), other.learning_state()
    assert {name: part.shape for name, part in first.items()} == {name: part.shape for name, part in second.items()}
    return max(
        float((part.double() - second[name].double()).abs().max()) for name, part in first.items() if part.numel()
    )


def exact(name: str) -> float:
    """Returns how far the networks of one process and of several are apart after the same steps."""
    kind, _, weighted = name.partition(", weighted")
    loss, options = LOSSES.get(name, (None, {}))
    torch.manual_seed(distributed.get_rank())  # what the others build is overwritten
    network = Network(BUILT[kind if kind in BUILT else "areas"](), loss, **options)
    together = Parallel(network)
    alone = copy_of(network)
    for step in range(STEPS):
        x, y, weight = batch(kind, step)
        given = (x, y, weight) if weighted else (x, y)
        loss_alone, output_alone = alone.learn_with_output(*given)
        loss_together, output_together = together.learn_with_output(*given)
        torch.testing.assert_close(loss_together, loss_alone, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(output_together, output_alone, rtol=1e-6, atol=1e-6)
    together.check_equal()
    return apart(alone, network)


def random(name: str) -> None:
    """Lets what draws random numbers learn in single precision, as bfloat16 asks for; raises unless all are equal."""
    with default_dtype(torch.float32):
        torch.manual_seed(distributed.get_rank())
        together = Parallel(Network(RANDOM[name]()))
        for step in range(STEPS):
            x, y, _ = batch("", step)
            together.learn(x.float(), y)
        together.check_equal()


def own_batches() -> float:
    """Returns how far apart one process and several are where each brings samples of its own, one of them more."""
    rank = distributed.get_rank()
    network = Network(BUILT["areas"]())
    together, alone = Parallel(network, batches="own"), copy_of(network)
    for step in range(STEPS):
        x, y, weight = batch("", step)
        parts = slice(0, 2) if rank == 0 else slice(2, None)
        loss, output = together.learn_with_output(x[parts], y[parts], weight[parts])
        torch.testing.assert_close(loss, alone.learn(x, y, weight))
        assert len(output) == len(x[parts])
    return apart(alone, network)


def traffic(areas: int) -> int:
    """Returns how many bytes one process tells the other in a step of so many areas."""
    together = Parallel(Network(mlp(5, 3, width=16, areas=areas, shared="off", router={"cells": 64})))
    before = together.processes.bytes_sent
    together.learn(*batch("", 0)[:2])
    return together.processes.bytes_sent - before


def traffic_of_many_rows() -> tuple[int, int]:
    """Returns how many bytes one process tells the other in a step of many rows, and those of its weights."""
    fixed = {"routing": "layer", "router": {"learned": False}}
    together = Parallel(Network(BODIES["mlp"](**{**SMOOTH, "areas": 3, **fixed})))
    before = together.processes.bytes_sent
    x, y, _ = batch("many rows", 0)
    together.learn(x.repeat(8, 1, 1), y.repeat(8, 1))
    return together.processes.bytes_sent - before, sum(part.nbytes for part in together.network.body.parameters())


def trained() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the history of the same training, by one process and by several."""
    x, y, weight = (torch.cat(parts) for parts in zip(*(batch("", step) for step in range(6)), strict=True))
    network = Network(BUILT["one route"]())
    together, alone = Parallel(network), copy_of(network)
    schedule = Schedule(epochs=3, batch_size=11, seed=3)
    histories = []
    for learner in (alone, together):
        history = Trainer(learner, (x, y, weight), (x, y), schedule).run().history
        histories.append([{name: value for name, value in row.items() if name != "seconds"} for row in history])
    together.check_equal()
    return histories[0], histories[1]


def masks() -> float:
    """Returns how far apart outputs of equal samples are, which only their dropout tells apart."""
    torch.manual_seed(0)
    together = Parallel(Network(BODIES["mlp"](**{**SMOOTH, "areas": 1, "dropout": 0.5})))
    _, output = together.learn_with_output(torch.ones(2, 5), torch.zeros(2, dtype=torch.int64))
    return float((output[0] - output[1]).abs().max())
