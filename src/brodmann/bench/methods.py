"""Methods: what recipes compare, by the names in tables, and the settings of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..baselines import matching_width
from ..builders import mlp
from ..builders.sizes import dense_size
from ..network import Network
from ..runs import RunOptions
from ..training import Schedule
from .facts import data_facts

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
MOVED = ("SAL, growing to 16 areas", "SAL, 16 areas", "SAL, 1 area", "backpropagation, equal active")
"""Methods that run under both Adam and Muon."""
MUON = ", Muon"
"""Suffix of the names of methods under Muon."""
CONVERGING = (
    "SAL, 16 areas",
    "SAL, 1 area",
    "backpropagation, equal active",
    "fixed random feedback",
    f"SAL, 1 area{MUON}",
    f"backpropagation, equal active{MUON}",
)
"""Methods whose steps and seconds are counted."""
EVERYWHERE: dict[str, Any] = {"areas": 16, "routing": "layer", "lr_areas": 1.0}
"""A router in every layer, areas at the full rate: the strongest separation that the options allow."""
CONFLICTING: dict[str, dict[str, Any]] = {
    "SAL, 16 areas": EVERYWHERE,
    "SAL, 16 areas, exclusive": {"areas": 16, "shared": "off", "learn_projection": False, "routing": "network"},
    "dense": {"areas": 1, "rule": "transpose"},
}
"""Methods in which the conflict between classes is measured, and the options that they do not share."""
_FREE: dict[str, Any] = {"lr": 1e-3}
"""These learn by sums over samples: no learning rate, so nothing to search for."""
STREAMED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "SAL, exclusive, 256 areas": (
        {"areas": 256, "shared": "off", "learn_projection": False, "routing": "network"},
        {"learner": "areas"},
    ),
    "SAL, pooled, 16 areas": (EVERYWHERE, {"learner": "areas"}),
    "SAL, recursive, 1 area": (_FREE | {"areas": 1}, {"learner": "recursive"}),
    "SAL, recursive, 16 areas": (_FREE | {"areas": 16}, {"learner": "recursive"}),
    "SAL, recursive, 64 areas": (_FREE | {"areas": 64}, {"learner": "recursive"}),
    "SAL, recursive, 256 areas": (_FREE | {"areas": 256}, {"learner": "recursive"}),
    "SAL, recursive, 1024 areas": (_FREE | {"areas": 1024}, {"learner": "recursive"}),
    "SAL, recursive, 16 areas, hidden layer frozen": (_FREE | {"areas": 16}, {"learner": "recursive", "frozen": True}),
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
"""Methods that learn streams: the options that they do not share, and their learners, see `stream_learners`."""
COSTLY = (
    "SAL, recursive, 256 areas",
    "SAL, recursive, 1024 areas",
    "4096 random features, streaming LDA",
    f"SAL, 16 areas{MUON}",
)
"""Not part of quick runs: they need more memory, or time, than the small sets are worth."""


def shared_options(dataset: str, *, quick: bool) -> RunOptions:
    """Returns the settings that all methods share: as many epochs as a schedule takes by default; quick: 4."""
    facts = data_facts(dataset)
    epochs = 4 if quick else Schedule().pace(facts.samples).epochs
    return RunOptions(dataset, epochs=epochs, batch_size=64, grey=facts.is_coloured)


def tuned_methods(dataset: str, base: RunOptions) -> dict[str, RunOptions]:
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


def paper_methods(base: RunOptions, *, quick: bool) -> dict[str, RunOptions]:
    """Returns `PAPER_METHODS` with the published settings."""
    published = replace(base, optimiser="sgd", lr=1e-4, decay=0.0, batch_size=16, schedule="constant")
    published = replace(published, epochs=3 if quick else 25)
    return {method: replace(published, **changes) for method, changes in PAPER_METHODS.items()}


def with_muon(methods: dict[str, RunOptions]) -> dict[str, RunOptions]:
    """Returns these methods and the same under Muon."""
    return methods | {f"{name}{MUON}": replace(options, optimiser="muon") for name, options in methods.items()}
