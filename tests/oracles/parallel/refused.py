"""Steps that processes refuse, all of them or none."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, distributed
from torch.nn import functional

from brodmann import Adam, AreaLinear, BrodmannError, CrossEntropy, Network, Parallel, Sequential
from brodmann.training import Trainer

from ..cases import BODIES
from .own_parts import Alone, Halving
from .steps import BUILT, SMOOTH, batch


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
        if name == "rule":
            network.update_rule = Adam(decay=0.1 * rank)
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
    "few": ("a sample for each of the 2 processes that share a batch, got a batch of 1: leave", "got a batch of 1"),
    "another batch": ("Processes 1 have other batches than process 0", "Processes 1 have other batches"),
    "another order": ("Processes 1 have other batches than process 0", "Processes 1 have other batches"),
    "clip": ("Processes 1 have other settings (clip, rates", "Processes 1 have other settings"),
    "rule": ("Processes 1 have other settings (clip, rates, the loss, update rules", "Processes 1 have other settings"),
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
    "another rate": ("Processes were given different learning rates, 0.0, 0.1: give", "different learning rates"),
    "unequal": ("Processes 1 hold other networks than process 0", "Processes 1 hold other networks"),
}
"""What the first process says, and the second."""


def another_part() -> str:
    """Returns what is said once each process has put a layer of its own in another's place; then all go on alike."""
    (x, y, _), network = batch("", 0), Network(BUILT["areas"]())
    together = Parallel(network)
    with torch.random.fork_rng():
        torch.manual_seed(distributed.get_rank())
        network.body.layers[-1] = AreaLinear(6, 3, areas=4, update=Adam())
    try:
        together.learn(x, y)
    except BrodmannError as error:
        said = str(error)
    together.copy_first()
    together.learn(x, y)
    together.check_equal()
    return said


def refused_trainer() -> str:
    """Returns what a training of batches of one's own says."""
    x, y, _ = batch("", 0)
    try:
        Trainer(Parallel(Network(BUILT["areas"]()), batches="own"), (x, y))
    except BrodmannError as error:
        return str(error)
    return "nothing was refused"
