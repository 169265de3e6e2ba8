"""What learns a stream in a case of the benchmark: networks of areas, and the baselines they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ..baselines import Backpropagation
from ..builders import stream_mlp
from ..errors import unknown_name
from ..feedback import FixedRandom
from ..generators import undisturbed
from ..network import Network
from ..runs.assembly import build_learner
from ..streams import (
    ElasticConsolidation,
    NearestMean,
    NetworkLearner,
    Replay,
    StreamingDiscriminant,
    StreamLearner,
)
from .case import Case


class Counted(StreamLearner, Protocol):
    """A learner that says what it reads and stores."""

    def active_parameters(self) -> int:
        """Numbers read for one sample."""

    def total_parameters(self) -> int:
        """Numbers stored."""


class Recursive(NetworkLearner):
    """Exclusive areas that new samples recruit, with `RLS` inside; knows of no tasks and has nothing to tune."""

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Builds the network; the detail ``"frozen"`` leaves its hidden layer as it was drawn."""
        options = case.options
        frozen = bool(case.detail.get("frozen"))
        path = "random" if frozen else options.rule
        body = stream_mlp(
            features, outputs, depth=options.layers, width=options.width, areas=options.areas, feedback=path
        )
        super().__init__(Network(body), 1.0)
        for part in body.modules():
            if frozen and isinstance(part, FixedRandom):
                part.matrix.zero_()  # no error comes down

    def total_parameters(self) -> int:
        """Counts the weights and, most of it here, what the rule remembers beside them."""
        return sum(tensor.numel() for tensor in self.network.state_dict().values())


def trained(case: Case, features: int, outputs: int) -> Counted:
    """Builds what the options describe, which learns by gradients: areas, or a dense network."""
    return NetworkLearner(build_learner(case.options, features, outputs))


def elastic(case: Case, features: int, outputs: int) -> Counted:
    """Builds consolidation with the detail's ``"strength"``."""
    network = build_learner(case.options, features, outputs)
    assert isinstance(network, Backpropagation)
    return ElasticConsolidation(network, case.detail["strength"])


def replay(case: Case, features: int, outputs: int) -> Counted:
    """Builds replay from a memory of the detail's ``"memory"`` samples.

    With ``"areas"`` the memory is as large as it takes to store as many numbers as a full budget of recursive areas:
    the two are compared at equal storage.
    """
    network = build_learner(case.options, features, outputs)
    if "areas" in case.detail:
        options = replace(case.options, rule="kolen-pollack", areas=case.detail["areas"])
        with undisturbed():  # building the rival must not change later draws
            rival = Recursive(replace(case, options=options), features, outputs)
        rival.network.allocate()
        memory = (rival.total_parameters() - network.total_parameters()) // (features + 1)
    else:
        memory = case.detail["memory"]
    return Replay(network, memory)


def nearest_mean(case: Case, features: int, outputs: int) -> Counted:
    """Builds the nearest class mean."""
    return NearestMean(features, outputs)


def streaming_discriminant(case: Case, features: int, outputs: int) -> Counted:
    """Builds streaming LDA on as many features as the other methods have hidden units, or the detail's ``"width"``."""
    return StreamingDiscriminant(features, outputs, width=case.detail.get("width", case.options.width))


LEARNERS: dict[str, Callable[[Case, int, int], Counted]] = {
    "areas": trained,
    "recursive": Recursive,
    "dense": trained,
    "elastic": elastic,
    "replay": replay,
    "nearest-mean": nearest_mean,
    "streaming-discriminant": streaming_discriminant,
}
READ_BY = {
    "recursive": ("rule", "layers", "width", "areas", "batch_size"),
    "nearest-mean": ("batch_size",),
    "streaming-discriminant": ("width", "batch_size"),
}
"""Options of a case that learners without gradients read; the others read all."""


def stream_learner(case: Case, features: int, outputs: int) -> Counted:
    """Builds the learner that the case's detail names.

    Raises:
        BrodmannError: The name is unknown.
    """
    name = case.detail["learner"]
    if name not in LEARNERS:
        raise unknown_name("stream learner", name, LEARNERS)
    return LEARNERS[name](case, features, outputs)
