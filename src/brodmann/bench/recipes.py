"""Recipes: which cases answer which question. A recipe is a function; adding one is adding a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ..baselines import matching_width
from ..builders import mlp
from ..builders.sizes import dense_size
from ..checks import check_registered
from ..errors import BrodmannError, MissingDataError, unknown_name
from ..network import Network
from ..runs import RunOptions
from ..training import Schedule
from .case import Case
from .facts import data_facts, is_here
from .plan import Plan

TEN = (
    "digits",
    "semeion",
    "optdigits",
    "pendigits",
    "segment",
    "texture",
    "satimage",
    "letter",
    "mnist",
    "cifar10-jpeg",
)
"""The ten sets. ``cifar10-jpeg`` went through JPEG once and is never called CIFAR-10."""
MIXED_WITH = {"mnist": "cifar10-jpeg", "digits": "semeion"}
"""The second set of the stream that mixes two."""
PUBLISHED = {
    "mnist": (90.64, 94.71),
    "cifar10-jpeg": (30.81, 36.60),
    "digits": (38.53, 71.63),
    "semeion": (35.16, 72.03),
}
"""Baseline and 16 areas as published for the paper (for CIFAR-10 itself), known from its abstract and descriptions.

Its splits and preprocessing are unknown.
"""


Recipe = Callable[[Plan], list[Case]]


def ten(plan: Plan) -> list[Case]:
    """Accuracy on ten sets: SAL with 1 to 64 areas beside backpropagation, other feedback paths, and controls."""
    cases: list[Case] = []
    for dataset in plan.datasets(TEN):
        base = _options(dataset, quick=plan.quick)
        for seed in plan.seeds_for(dataset):
            if "tuned" in plan.protocols:
                for method, options in _methods(dataset, base).items():
                    task = "scikit-learn" if method == "scikit-learn MLP" else "train"
                    cases.append(Case("ten", method, replace(options, seed=seed), "tuned", task, searched=True))
            if "paper" in plan.protocols:
                published = replace(
                    base,
                    optimiser="sgd",
                    lr=1e-4,
                    decay=0.0,
                    batch_size=16,
                    epochs=3 if plan.quick else 25,
                    schedule="constant",
                    seed=seed,
                )
                for method, changes in PAPER_METHODS.items():
                    cases.append(Case("ten", method, replace(published, **changes), "paper", "paper"))
    return cases


PAPER_METHODS: dict[str, dict[str, Any]] = {
    "backpropagation": {"rule": "backprop", "areas": 1},
    "backpropagation, lr x 2": {"rule": "backprop", "areas": 1, "lr": 2e-4},
    "backpropagation, inputs in [0, 1]": {"rule": "backprop", "areas": 1, "normalise": "unit"},
    "backpropagation, raw inputs": {"rule": "backprop", "areas": 1, "normalise": "none"},
    "SAL, 1 area": {"areas": 1},
    "SAL, 16 areas": {"areas": 16, "routing": "layer"},
    "SAL, 16 areas, no shared part": {"areas": 16, "routing": "layer", "shared": "off"},
}
"""A router in every layer, as published.

The row with twice the learning rate names a cause: shared and own part both move, so the merged map moves twice. The
published scaling of the inputs is unknown: standardised ones, which all other rows take, bring backpropagation nearest
to the published baselines.
"""


def optimisers(plan: Plan) -> list[Case]:
    """Adam beside Muon, for SAL and for backpropagation alike, under the protocol `tuned` of `ten`."""
    cases: list[Case] = []
    for dataset in plan.datasets(TEN):
        methods = _with_muon(_methods(dataset, _options(dataset, quick=plan.quick)))
        for seed in plan.seeds_for(dataset):
            for method in (*MOVED, "backpropagation, equal total", *(f"{name}{MUON}" for name in MOVED)):
                if not (plan.quick and method in COSTLY):
                    options = replace(methods[method], seed=seed)
                    cases.append(Case("optimisers", method, options, "tuned", searched=True))
    return cases


MOVED = ("SAL, growing to 16 areas", "SAL, 16 areas", "SAL, 1 area", "backpropagation, equal active")
"""Methods that run under both Adam and Muon."""
MUON = ", Muon"
"""Suffix of the names of methods under Muon."""


def depth(plan: Plan) -> list[Case]:
    """Residual and plain networks of 3 to 1024 layers under four feedback paths, settings unchanged with depth."""
    cases: list[Case] = []
    for dataset in plan.datasets(("digits", "mnist")):
        large = data_facts(dataset).is_large
        layers = (3, 8, 32) if plan.quick else (3, 8, 32, 128, 1024) if large else (3, 8, 32, 128, 512, 1024)
        base = replace(_options(dataset, quick=plan.quick), width=64, areas=1, decay=0.0, epochs=2 if large else 15)
        base = replace(base, epochs=3) if plan.quick else base
        for seed in plan.seeds_for(dataset, 3, 2):
            for count in layers:
                for rule in ("transpose", "kolen-pollack", "random", "direct"):
                    options = replace(base, layers=count, residual=True, rule=rule, seed=seed)
                    cases.append(Case("depth", f"{rule}, residual", options, task="deep"))
                    if count <= 32:
                        plain = replace(options, residual=False)
                        cases.append(Case("depth", f"{rule}, plain", plain, task="deep"))
                noisy = replace(base, layers=count, residual=True, rule="kolen-pollack-noisy", seed=seed)
                cases.append(Case("depth", "kolen-pollack, residual, 10 % noise", noisy, task="deep"))
                areas = replace(base, layers=count, residual=True, seed=seed, **_EVERYWHERE)
                if count <= 128:
                    cases.append(Case("depth", "kolen-pollack, residual, 16 areas", areas, task="deep"))
    return cases


def scale(plan: Plan) -> list[Case]:
    """Total parameters from 1e6 to 1e9 by the number of areas alone; each has the same size, and a sample uses one.

    Areas that no sample chose do not exist: a budget of 6e9 is what makes about 1e9 exist on MNIST. Plain SGD at the
    package's own rate for it: nothing is tuned.
    """
    cases: list[Case] = []
    for dataset in plan.datasets(("mnist",)):
        facts = data_facts(dataset)
        one = dense_size(facts.features, facts.outputs, 2, 256)
        base = replace(
            _options(dataset, quick=plan.quick),
            optimiser="sgd",
            lr=None,
            decay=0.0,
            epochs=2,
            routing="network",
            learn_projection=False,
        )
        for total in (1e6, 1e7) if plan.quick else (1e6, 1e7, 1e8, 1e9, 6e9):
            options = replace(base, areas=max(2, round(total / one)))
            for seed in plan.seeds_for(dataset, 1, 1):
                case = Case("scale", f"budget of {total:.0e} parameters", replace(options, seed=seed), alone=True)
                cases.append(case)
        dense = replace(base, rule="backprop", areas=1)
        cases.append(Case("scale", "backpropagation", dense, alone=True))
    return cases


def convergence(plan: Plan) -> list[Case]:
    """Steps and seconds to reach fixed accuracies, with the settings that the searches of `ten` and `optimisers` chose.

    Sixteen areas under Muon are left out of it: on one thread they take twenty minutes a seed on MNIST.
    """
    cases: list[Case] = []
    for dataset in plan.datasets(("digits", "letter", "mnist")):
        methods = _with_muon(_methods(dataset, _options(dataset, quick=plan.quick)))
        every = 5 if plan.quick else 50 if dataset == "mnist" else 10
        for seed in plan.seeds_for(dataset, 5):
            for method in CONVERGING:
                options = replace(methods[method], seed=seed)
                cases.append(Case("convergence", method, options, "tuned", searched=True, detail={"every": every}))
    return cases


CONVERGING = (
    "SAL, 16 areas",
    "SAL, 1 area",
    "backpropagation, equal active",
    "fixed random feedback",
    f"SAL, 1 area{MUON}",
    f"backpropagation, equal active{MUON}",
)


def interference(plan: Plan) -> list[Case]:
    """Conflict of gradients inside areas, and streams of tasks in one pass: what is forgotten, and by which method."""
    cases: list[Case] = []
    for dataset in plan.datasets(("digits", "mnist", "cifar10-jpeg")):
        for seed in plan.seeds_for(dataset, 3, 3):
            base = replace(_options(dataset, quick=plan.quick), seed=seed)
            for method, changes in CONFLICTING.items() if plan.streams is None else ():
                brief = replace(base, **changes, epochs=base.epochs if plan.quick else 5)
                cases.append(Case("interference", method, brief, task="conflict"))
            for detail in _streams(dataset, plan):
                for method, (changes, own) in STREAMED.items():
                    if plan.quick and method in COSTLY:
                        continue
                    once = replace(base, epochs=1, batch_size=16, schedule="constant", **changes)
                    searched = "lr" not in changes
                    whole = {**detail, **own}
                    cases.append(Case("interference", method, once, "tuned", "stream", searched=searched, detail=whole))
    return cases


def _streams(dataset: str, plan: Plan) -> list[dict[str, Any]]:
    """Returns the streams that are made of a data set, those that the plan names."""
    streams: list[dict[str, Any]] = [{"stream": "split", "tasks": 5}]
    if dataset != "cifar10-jpeg":
        streams.append({"stream": "permuted", "tasks": 3 if plan.quick else 10})
    other = MIXED_WITH.get(dataset)
    if other and is_here(other):
        streams.append({"stream": "mixture", "others": [other]})
    return [detail for detail in streams if plan.streams is None or detail["stream"] in plan.streams]


_EVERYWHERE: dict[str, Any] = {"areas": 16, "routing": "layer", "lr_areas": 1.0}
"""A router in every layer, areas at the full rate: the strongest separation that the options allow."""
CONFLICTING: dict[str, dict[str, Any]] = {
    "SAL, 16 areas": _EVERYWHERE,
    "SAL, 16 areas, exclusive": {"areas": 16, "shared": "off", "learn_projection": False, "routing": "network"},
    "dense": {"areas": 1, "rule": "transpose"},
}
_FREE: dict[str, Any] = {"lr": 1e-3}
"""These learn by sums over samples: no learning rate, so nothing to search for."""
STREAMED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "SAL, exclusive, 256 areas": (
        {"areas": 256, "shared": "off", "learn_projection": False, "routing": "network"},
        {"learner": "areas"},
    ),
    "SAL, pooled, 16 areas": (_EVERYWHERE, {"learner": "areas"}),
    "SAL, recursive, 1 area": (_FREE | {"areas": 1}, {"learner": "recursive"}),
    "SAL, recursive, 16 areas": (_FREE | {"areas": 16}, {"learner": "recursive"}),
    "SAL, recursive, 64 areas": (_FREE | {"areas": 64}, {"learner": "recursive"}),
    "SAL, recursive, 256 areas": (_FREE | {"areas": 256}, {"learner": "recursive"}),
    "SAL, recursive, 1024 areas": (_FREE | {"areas": 1024}, {"learner": "recursive"}),
    "SAL, recursive, 16 areas, hidden layer frozen": (
        _FREE | {"areas": 16},
        {"learner": "recursive", "frozen": True},
    ),
    "backpropagation": ({"rule": "backprop", "areas": 1}, {"learner": "dense"}),
    "elastic consolidation, 100": ({"rule": "backprop", "areas": 1}, {"learner": "elastic", "strength": 100}),
    "elastic consolidation, 10000": ({"rule": "backprop", "areas": 1}, {"learner": "elastic", "strength": 10000}),
    "replay of 200 samples": ({"rule": "backprop", "areas": 1}, {"learner": "replay", "memory": 200}),
    "replay of 2000 samples": ({"rule": "backprop", "areas": 1}, {"learner": "replay", "memory": 2000}),
    "replay, memory of 16 areas": ({"rule": "backprop", "areas": 1}, {"learner": "replay", "areas": 16}),
    "nearest class mean": (_FREE, {"learner": "nearest-mean"}),
    "random features, streaming LDA": (_FREE, {"learner": "streaming-discriminant"}),
    "1024 random features, streaming LDA": (_FREE, {"learner": "streaming-discriminant", "width": 1024}),
    "4096 random features, streaming LDA": (_FREE, {"learner": "streaming-discriminant", "width": 4096}),
}

COSTLY = (
    "SAL, recursive, 256 areas",
    "SAL, recursive, 1024 areas",
    "4096 random features, streaming LDA",
    f"SAL, 16 areas{MUON}",
)
"""Not part of quick runs: they need more memory, or time, than the small sets are worth."""

RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe for recipe in (ten, optimisers, depth, scale, convergence, interference)
}

PROTOCOL_OF: dict[str, dict[str, str]] = {
    "ten": {"train": "tuned", "scikit-learn": "tuned", "paper": "paper"},
    "optimisers": {"train": "tuned"},
    "depth": {"deep": "fixed"},
    "scale": {"train": "fixed"},
    "convergence": {"train": "tuned"},
    "interference": {"conflict": "fixed", "stream": "tuned"},
}
"""Recipe of the package -> task -> protocol of all of its cases."""


def cases_of(names: Iterable[str], plan: Plan) -> list[Case]:
    """Returns the cases of recipes, in the order in which they run.

    Raises:
        BrodmannError: There is no such recipe, or none of them has a method or the streams that the plan names.
        MissingDataError: None of the data of one is on this machine.
    """
    names = list(names)
    if plan.streams is not None and "interference" not in names:
        raise BrodmannError(f"Streams belong to the recipe interference, not to {', '.join(names)}: leave them out.")
    cases = [case for name in names for case in _cases_of(name, plan)]
    if plan.methods is None:
        return cases
    known = dict.fromkeys(case.method for case in cases)
    for method in plan.methods:
        if method not in known:
            raise unknown_name("method", method, known)
    return [case for case in cases if case.method in plan.methods]


def _cases_of(name: str, plan: Plan) -> list[Case]:
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES, "brodmann.bench.RECIPES")
    kind = "a function of a Plan that returns a list of cases"
    check_registered(f"brodmann.bench.RECIPES['{name}']", RECIPES[name], kind, "plan")
    cases = RECIPES[name](plan)
    if not isinstance(cases, list | tuple) or not all(isinstance(case, Case) for case in cases):
        raise BrodmannError(f"Expected brodmann.bench.RECIPES['{name}'] to be {kind}, but it returned {cases!r}.")
    if not cases and plan.sets is None:
        raise MissingDataError(
            f"None of the data sets of '{name}' is on this machine: see what is with `brodmann data list`, fetch a set "
            "with `brodmann data fetch NAME`, or choose others with --sets."
        )
    if not cases:
        raise BrodmannError(
            f"The recipe '{name}' has nothing to run for {', '.join(plan.sets or ())} with these streams and "
            "protocols: choose others."
        )
    for option, asked, found in (
        ("sets", plan.sets, {case.options.dataset for case in cases}),
        ("seeds", None if plan.seeds is None else range(plan.seeds), {case.options.seed for case in cases}),
    ):
        if asked is not None and not found <= set(asked):
            raise BrodmannError(
                f"The recipe '{name}' ignores --{option}: leave that out, or have the recipe ask its plan, with "
                "plan.datasets(...) and plan.seeds_for(...)."
            )
    return cases


def _options(dataset: str, *, quick: bool) -> RunOptions:
    """Returns the settings that all methods share: as many epochs as a schedule takes by default; quick: 4."""
    facts = data_facts(dataset)
    epochs = 4 if quick else Schedule().pace(facts.samples).epochs
    return RunOptions(dataset, epochs=epochs, batch_size=64, grey=facts.is_coloured)


def _methods(dataset: str, base: RunOptions) -> dict[str, RunOptions]:
    """Returns the methods of the tuned protocol. Dense ones are widened to SAL's active, or total, parameters."""
    facts = data_facts(dataset)
    features, outputs = facts.features, facts.outputs
    network = Network(mlp(features, outputs, depth=base.layers, width=base.width, areas=16))
    one = dense_size(features, outputs, 2, base.width)
    active = matching_width(network.active_parameters(), features, outputs, base.layers)
    total = matching_width(16 * one + network.total_parameters(), features, outputs, base.layers)
    wide = matching_width(dense_size(features, outputs, base.layers, total) // 4, features, outputs, base.layers)
    dense = replace(base, areas=1, width=active)
    return {
        "SAL, 16 areas": replace(base, areas=16),
        "SAL, growing to 16 areas": replace(base, areas=16, partition="growing"),
        "SAL, growing to 4 areas, equal total": replace(base, areas=4, partition="growing", shared="off", width=wide),
        "SAL, 1 area": replace(base, areas=1),
        "SAL, 4 areas": replace(base, areas=4),
        "SAL, 64 areas": replace(base, areas=64),
        "backpropagation, equal active": replace(dense, rule="backprop"),
        "backpropagation, equal total": replace(dense, rule="backprop", width=total),
        "Kolen-Pollack": dense,
        "fixed random feedback": replace(dense, rule="random"),
        "direct feedback": replace(dense, rule="direct"),
        "sign-symmetric": replace(dense, rule="sign"),
        "last layer only": replace(dense, rule="last-layer"),
        "scikit-learn MLP": replace(dense, rule="backprop"),
    }


def _with_muon(methods: dict[str, RunOptions]) -> dict[str, RunOptions]:
    """Returns these methods and the same under Muon."""
    return methods | {f"{name}{MUON}": replace(options, optimiser="muon") for name, options in methods.items()}
