"""Oracle: processes that learn together make the steps of one process, and hold the same bits.

All cases run in one group of processes, which is started once; what they found is looked at test by test.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Context,
    CrossEntropy,
    Layer,
    Muon,
    Network,
    Parallel,
    Rates,
    Route,
    Router,
    Sequential,
    UpdateRule,
    from_torch,
    mlp,
)
from brodmann.layer import Gathering
from brodmann.network import copy_of
from brodmann.training import Schedule, Trainer
from brodmann.updates import Factors

from ..settings import default_dtype
from .cases import BODIES, LAYERS, PATHS, RULES, Rewarded
from .models import CLASSES, MODELS, OF_TOKENS, described, samples

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
LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip": (None, {"clip": 0.05}),
    "class weights": (CrossEntropy(class_weights=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), {}),
    "one class ignored": (nn.CrossEntropyLoss(ignore_index=2), {}),
    "rates": (None, {"rates": Rates(areas=0.5, feedback=0.0, layers={"layers.0": 0.0})}),
}
RANDOM = {
    "noise": partial(BODIES["mlp"], areas=4, update=Adam(), feedback="kolen-pollack-noisy"),
    "bfloat16": partial(BODIES["mlp"], areas=4, update=Adam(), storage="bfloat16"),
    "dropout": partial(BODIES["mlp"], areas=4, update=Adam(), dropout=0.5),
    "batch norms": partial(BODIES["normed"], areas=4, update=Adam()),
}
"""What draws random numbers, or goes by the samples of one process: no step of one process, but the same in all."""
WEIGHTED = ("areas", "one route", "adam", "rls", "mixture", "many rows", "many rows, rls")
EXACT = [*BUILT, *LOSSES, "a sum of one's own", "a mean of one's own", *(f"{name}, weighted" for name in WEIGHTED)]


def total(output: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own that is a sum, and says so."""
    return functional.cross_entropy(output, y, reduction="sum")


def counted(output: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own that leaves a class out, and says what it divides by."""
    return functional.cross_entropy(output, y, ignore_index=2)


total.sums = True  # type: ignore[attr-defined]
counted.counts_for = lambda y, weight, samples: float((y != 2).sum())  # type: ignore[attr-defined]
LOSSES["a sum of one's own"] = total, {"lr": 1e-2}
LOSSES["a mean of one's own"] = counted, {}


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


class Halving(Gathering):
    """A layer of one's own that hands over what is not a tensor, or a gradient."""

    def __init__(self, *, tensor: bool) -> None:
        super().__init__()
        self.factor, self.tensor = nn.Parameter(torch.full((5,), 0.5), requires_grad=False), tensor

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.factor

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return x * self.factor, x

    def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
        gradient = (trace * error).sum(0)
        self.hand_over(gradient if self.tensor else [gradient], context)
        return error * self.factor

    def move(self, parts: list[Tensor], context: Context) -> None:
        self.factor.sub_(sum(parts), alpha=context.lr)


class Online(Router):
    """A router of one's own that moves the prototypes towards the samples that chose them."""

    def learn(self, route: Route, lr: float, weight: Tensor | None = None) -> None:
        self.prototypes.index_add_(0, route.cell, route.u, alpha=lr)


@dataclass(frozen=True)
class Noisy(UpdateRule):
    """A rule of one's own that draws."""

    def apply(self, weight: Tensor, state: Any, factors: Factors, lr: float, decay: float) -> None:
        factors.add_to(weight, keep=1.0, scale=-lr)
        weight.add_(torch.randn_like(weight), alpha=lr)


class Alone(Layer):
    """A layer of one's own that learns at once."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(5), requires_grad=False)

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x + self.shift

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        return x + self.shift, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return error


def own_layer() -> float:
    """Returns how far apart one process and several are with a layer of one's own that hands over gradients."""
    network = Network(Sequential(Halving(tensor=True), AreaLinear(5, 3, areas=1)))
    together, alone = Parallel(network), copy_of(network)
    for step in range(STEPS):
        x, y, _ = batch("", step)
        together.learn(x, y)
        alone.learn(x, y)
    return apart(alone, network)


def own_router(options: dict[str, Any]) -> bool:
    """Lets a network learn by a router or a rule of one's own; raises unless all processes hold the same."""
    together = Parallel(Network(BODIES["mlp"](**{**SMOOTH, "areas": 4, "routing": "layer", **options})))
    for step in range(STEPS):
        x, y, weight = batch("", step)
        together.learn(x, y, weight if "router" in options else None)
    together.check_equal()
    return True


def masks() -> float:
    """Returns how far apart outputs of equal samples are, which only their dropout tells apart."""
    torch.manual_seed(0)
    together = Parallel(Network(BODIES["mlp"](**{**SMOOTH, "areas": 1, "dropout": 0.5})))
    _, output = together.learn_with_output(torch.ones(2, 5), torch.zeros(2, dtype=torch.int64))
    return float((output[0] - output[1]).abs().max())


def refused_trainer() -> str:
    """Returns what a training of batches of one's own says."""
    x, y, _ = batch("", 0)
    try:
        Trainer(Parallel(Network(BUILT["areas"]()), batches="own"), (x, y))
    except BrodmannError as error:
        return str(error)
    return "nothing was refused"


def refused(name: str) -> str:
    """Returns what an error says; nothing may have moved in any process."""
    rank = distributed.get_rank()
    bodies = {
        "recruiting": partial(BODIES["mlp"], areas=4, router={"novelty": 0.5}, **SMOOTH),
        "own layer": lambda: Sequential(Alone(), AreaLinear(5, 3, areas=1)),
        "no tensor": lambda: Sequential(Halving(tensor=False), AreaLinear(5, 3, areas=1)),
        "a loss": BUILT["areas"],
        "another network": partial(BODIES["mlp"], areas=4 + rank, **SMOOTH),
    }
    (x, y, _), weight = batch("", 0), None
    loss = {
        "a loss": lambda output, y: functional.cross_entropy(output, y, reduction="sum"),
        "a term of the batch": lambda output, y: (
            functional.cross_entropy(output, y) + output.softmax(1).mean(0).square().sum()
        ),
    }.get(name)
    network = Network(bodies.get(name, BUILT["areas"])(), loss)
    before: dict[str, Tensor] = {}
    try:
        together = Parallel(network, batches="own" if name in ("NaN", "class", "lengths") else "whole")
        before = {key: part.clone() for key, part in network.learning_state().items()}
        if name == "NaN" and rank == 1:
            x[0, 0] = torch.nan
        if name == "class" and rank == 0:
            y[0] = 7
        if name == "lengths":
            x = torch.randn(4, 3 + rank, 5)
            y, weight = torch.zeros(x.shape[:2], dtype=torch.int64), torch.ones(x.shape[:2])
        if name == "a term of the batch":
            before = {}
            for _ in range(40):
                together.learn(x, y, lr=0.3)
        if name == "clip":
            network.clip = 1.0 + rank
        if name == "smoothing":
            network.loss = CrossEntropy(label_smoothing=0.1 * rank)
        if name == "weights of classes":
            network.loss = CrossEntropy(class_weights=torch.tensor([1.0, 2.0, 3.0 + rank]))
        if name == "protected":
            network.protected_areas = [rank]
        if name == "frozen":
            network.frozen_layers = ["layers.0"][:rank]
        if name == "weights in one" and rank:
            weight = torch.ones(len(x))
        if name == "another order" and rank:
            x, y = x.flip(0), y.flip(0)
        if name == "more steps" and rank:
            together.learn(x, y)
            before = {}
            together.check_equal()
        if name == "few":
            x, y = x[:1], y[:1]
        if name == "another batch":
            x = x + rank
        if name == "no tensor":
            before = {}  # the layer above it has moved
        if name == "graph":
            x.requires_grad_()
        together.learn(x, y, weight, lr=0.1 * rank if name == "another rate" else None)
        if name == "more steps":
            before = {}
            together.learn(x, y)
        if name == "unequal":
            network.body.get_submodule("layers.0.shared").value.add_(rank)
            before = {}
            together.check_equal()
    except BrodmannError as error:
        for key, part in network.learning_state().items():
            assert key not in before or torch.equal(part, before[key])
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


REFUSED = {
    "recruiting": ("The router 'router' recruits areas, for which it would have to see", "The router"),
    "own layer": ("Layer 'layers.0' is a Alone, which learns only from the samples of its own process", "Layer"),
    "no tensor": ("Halving hands over a list, which several processes cannot sum: override `of_all`", "Halving"),
    "another network": ("The network of process 1 has other parts than that of process 0", "The network"),
    "NaN": ("DivergenceError: Process 1 could not make this step", "DivergenceError: The loss is nan"),
    "class": ("targets", "Process 0 could not make this step, so that no process has"),
    "few": ("A batch of 1 samples cannot be shared by 2 processes: choose a batch", "A batch of 1"),
    "another batch": ("Processes 1 have other batches than process 0", "Processes 1 have other batches"),
    "another order": ("Processes 1 have other batches than process 0", "Processes 1 have other batches"),
    "clip": ("Processes 1 have other settings (clip, rates", "Processes 1 have other settings"),
    "smoothing": ("Processes 1 have other settings (clip, rates, the loss", "Processes 1 have other settings"),
    "weights of classes": ("Processes 1 have other settings (clip, rates, the loss", "Processes 1 have other settings"),
    "protected": ("Processes 1 have other settings (clip, rates", "Processes 1 have other settings"),
    "frozen": ("Processes 1 have other settings (clip, rates", "Processes 1 have other settings"),
    "weights in one": ("Processes 1 have other", "Processes 1 have other"),
    "more steps": ("let all processes make equally many steps", "let all processes make equally many steps"),
    "lengths": ("have other shapes of samples, such as lengths of sequences", "have other shapes of samples"),
    "a term of the batch": ("is not the mean of those of its shares", "is not the mean of those of its shares"),
    "a loss": ("give <lambda> an attribute sums = True if it is a sum", "is not the mean of those of its shares"),
    "graph": ("x requires a gradient, which this call would not compute", "x requires a gradient"),
    "another rate": ("Processes were given different learning rates: 0.0, 0.1", "different learning rates"),
    "unequal": ("Processes 1 hold other networks than process 0", "Processes 1 hold other networks"),
}
"""What the first process says, and the second."""


def run(rank: int, folder: str) -> None:
    """What every process does: all cases, one after the other; writes what it found."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=COUNT)
    cases: dict[str, Callable[[], Any]] = {
        **{f"exact {name}": partial(exact, name) for name in EXACT},
        **{f"random {name}": partial(random, name) for name in RANDOM},
        **{f"refused {name}": partial(refused, name) for name in REFUSED},
        "own batches": own_batches,
        "own layer": own_layer,
        "own router": lambda: own_router({"router": Online}),
        "own router of all layers": lambda: own_router({"router": Online, "routing": "network"}),
        "own rule": lambda: own_router({"update": Noisy(), "routing": "network"}),
        "masks": masks,
        "trainer": refused_trainer,
        "traffic": lambda: (traffic(2), traffic(64)),
        "traffic of many rows": traffic_of_many_rows,
        "trained": trained,
    }
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            found[name] = case()
        except Exception as error:  # the test of this case fails, in all processes alike
            found[name] = error
    distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of the processes found."""
    folder = str(tmp_path_factory.mktemp("processes"))
    multiprocessing.spawn(run, (folder,), nprocs=COUNT)
    return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(COUNT)]


def of_all(found: list[dict[str, Any]], name: str) -> list[Any]:
    """Returns what the processes found in a case; raises what they raised."""
    for part in found:
        if isinstance(part[name], Exception):
            raise part[name]
    return [part[name] for part in found]


@pytest.mark.parametrize("name", EXACT)
def test_a_step_is_that_of_one_process(found, name):
    assert max(of_all(found, f"exact {name}")) < 1e-7


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn_at_random_is_the_same_in_all_processes(found, name):
    of_all(found, f"random {name}")


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_is_made_by_all_processes_or_by_none(found, name):
    for said, expected in zip(of_all(found, f"refused {name}"), REFUSED[name], strict=True):
        assert expected in said


def test_processes_may_bring_samples_of_their_own(found):
    assert max(of_all(found, "own batches")) < 1e-9


def test_a_layer_of_ones_own_hands_over_gradients(found):
    assert max(of_all(found, "own layer")) < 1e-12


@pytest.mark.parametrize("name", ["own router", "own router of all layers", "own rule"])
def test_routers_and_rules_of_ones_own_move_alike_in_all_processes(found, name):
    assert all(of_all(found, name))


def test_each_process_draws_masks_of_its_own(found):
    assert min(of_all(found, "masks")) > 0.01


def test_a_training_needs_whole_batches(found):
    assert all("Expected a Parallel that shares whole batches" in said for said in of_all(found, "trainer"))


def test_traffic_does_not_grow_with_the_areas(found):
    for few, many in of_all(found, "traffic"):
        assert few == many > 0


def test_traffic_does_not_grow_with_the_rows_beyond_the_weights(found):
    for told, weights in of_all(found, "traffic of many rows"):
        assert told < 2 * weights


def test_a_trainer_of_several_processes_is_that_of_one(found):
    for alone, together in of_all(found, "trained"):
        assert len(alone) == 3
        for one, other in zip(alone, together, strict=True):
            assert one == pytest.approx(other, abs=1e-9)


def test_without_a_process_group_it_says_what_to_call():
    with pytest.raises(BrodmannError, match=re.escape("torch.distributed.init_process_group() first")):
        Parallel(Network(mlp(5, 3, areas=1, width=4)))


def test_batches_are_whole_or_ones_own():
    with pytest.raises(BrodmannError, match="Expected batches to be one of whole, own, got 'mine'"):
        Parallel(Network(mlp(5, 3, areas=1, width=4)), batches="mine")
