"""Recipes: which cases answer which question. A recipe is a function; adding one is adding a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..builders.sizes import dense_size
from ..runs import RunOptions
from .case import Case
from .facts import data_facts, is_here
from .methods import (
    CONFLICTING,
    CONVERGING,
    COSTLY,
    EVERYWHERE,
    MOVED,
    MUON,
    STREAMED,
    paper_methods,
    shared_options,
    tuned_methods,
    with_muon,
)
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
Recipe = Callable[[Plan], list[Case]]


def ten(plan: Plan) -> list[Case]:
    """Accuracy on ten sets: SAL with 1 to 64 areas beside backpropagation, other feedback paths, and controls."""
    cases: list[Case] = []
    for dataset in plan.datasets(TEN):
        base = shared_options(dataset, quick=plan.quick)
        for seed in plan.seeds_for(dataset):
            if "tuned" in plan.protocols:
                for method, options in tuned_methods(dataset, base).items():
                    task = "scikit-learn" if method == "scikit-learn MLP" else "train"
                    cases.append(Case("ten", method, replace(options, seed=seed), "tuned", task, searched=True))
            if "paper" in plan.protocols:
                for method, options in paper_methods(base, quick=plan.quick).items():
                    cases.append(Case("ten", method, replace(options, seed=seed), "paper", "paper"))
    return cases


def optimisers(plan: Plan) -> list[Case]:
    """Adam beside Muon, for SAL and for backpropagation alike, under the protocol `tuned` of `ten`."""
    cases: list[Case] = []
    for dataset in plan.datasets(TEN):
        methods = with_muon(tuned_methods(dataset, shared_options(dataset, quick=plan.quick)))
        for seed in plan.seeds_for(dataset):
            for method in (*MOVED, "backpropagation, equal total", *(f"{name}{MUON}" for name in MOVED)):
                if not (plan.quick and method in COSTLY):
                    options = replace(methods[method], seed=seed)
                    cases.append(Case("optimisers", method, options, "tuned", searched=True))
    return cases


def depth(plan: Plan) -> list[Case]:
    """Residual and plain networks of 3 to 1024 layers under four feedback paths, settings unchanged with depth."""
    cases: list[Case] = []
    for dataset in plan.datasets(("digits", "mnist")):
        large = data_facts(dataset).is_large
        layers = (3, 8, 32) if plan.quick else (3, 8, 32, 128, 1024) if large else (3, 8, 32, 128, 512, 1024)
        epochs = 3 if plan.quick else 2 if large else 15
        base = replace(shared_options(dataset, quick=plan.quick), width=64, areas=1, decay=0.0, epochs=epochs)
        for seed in plan.seeds_for(dataset, 3, 2):
            for count in layers:
                deep = replace(base, layers=count, residual=True, seed=seed)
                methods: dict[str, RunOptions] = {}
                for rule in ("transpose", "kolen-pollack", "random", "direct"):
                    methods[f"{rule}, residual"] = replace(deep, rule=rule)
                    if count <= 32:
                        methods[f"{rule}, plain"] = replace(deep, rule=rule, residual=False)
                methods["kolen-pollack, residual, 10 % noise"] = replace(deep, rule="kolen-pollack-noisy")
                if count <= 128:
                    methods["kolen-pollack, residual, 16 areas"] = replace(deep, **EVERYWHERE)
                cases += [Case("depth", method, options, task="deep") for method, options in methods.items()]
    return cases


def scale(plan: Plan) -> list[Case]:
    """Networks of 1e6 to 1e9 parameters that differ only in the number of areas, of which a sample uses one.

    Areas that no sample chose do not exist: a budget of 6e9 is what makes about 1e9 exist on MNIST. Plain SGD at the
    package's own rate for it: nothing is tuned.
    """
    cases: list[Case] = []
    for dataset in plan.datasets(("mnist",)):
        facts = data_facts(dataset)
        one = dense_size(facts.features, facts.outputs, 2, 256)
        base = replace(
            shared_options(dataset, quick=plan.quick),
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
        methods = with_muon(tuned_methods(dataset, shared_options(dataset, quick=plan.quick)))
        every = 5 if plan.quick else 50 if dataset == "mnist" else 10
        for seed in plan.seeds_for(dataset, 5):
            for method in CONVERGING:
                options = replace(methods[method], seed=seed)
                cases.append(Case("convergence", method, options, "tuned", searched=True, detail={"every": every}))
    return cases


def interference(plan: Plan) -> list[Case]:
    """Conflict of gradients inside areas, and streams of tasks in one pass: what is forgotten, and by which method."""
    cases: list[Case] = []
    for dataset in plan.datasets(("digits", "mnist", "cifar10-jpeg")):
        for seed in plan.seeds_for(dataset, 3, 3):
            base = replace(shared_options(dataset, quick=plan.quick), seed=seed)
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
