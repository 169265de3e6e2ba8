"""A PyTorch network as a graph of torch.fx, whose functions leave their inputs as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from functools import wraps
from threading import RLock
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import fx
from torch.nn.modules.dropout import _DropoutNd

from ..errors import warn
from ..generators import generator_states
from ..several import Several
from .following.questions import Questions, questions_of
from .following.recurrent import RecurrentLayer
from .following.tracers import Following, Root
from .rewriting.batch_norms import make_norms
from .rewriting.biases_and_masks import write_out_parts
from .rewriting.in_place import leave_out_writing
from .rewriting.ties import write_out_tied
from .rewriting.training_mode import (
    joining_values,
    keep_from_training,
    leave_out_dropouts,
    modules_that_differ,
    modules_that_draw,
    taking_tensors,
)

P = ParamSpec("P")
R = TypeVar("R")

_ALONE = RLock()


def exclusively(function: Callable[P, R]) -> Callable[P, R]:
    """As the function, but without autocast, whose numbers differ, and in one thread at a time.

    `torch.fx` replaces methods of all modules while it follows one.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _ALONE, torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return call


def traced(root: Root, sample: Several) -> tuple[fx.GraphModule, Questions | None]:
    """Returns what a network computes, in which the modules of PyTorch and maps of other classes are single steps.

    Beside it, what the network asked about sizes, if it did: it computes something else if the answers differ.

    Functions and modules that would write into their input return what they would write instead. Biases of functions
    are sums of their own. Modules without parameters that do more in training mode, such as stochastic depth, are
    single steps too. A few samples (samples, ...) answer what the network asks about sizes.

    Raises:
        BrodmannError: The network cannot be followed, writes into what others read, or does something else with a
            single sample than with several.

    Warns:
        UserWarning: Other modules do more in training mode, which is left out.
    """
    twin = deepcopy(root).train()  # what is written into buffers in training mode must not be found at inference
    follow = Following(sample)
    modes = _in_both_modes(follow, root, twin, ())
    if whole := _to_keep_whole(follow, root, twin, sample, modes):
        modes = _in_both_modes(follow, root, twin, whole)
    _warn_of_left_out(root, modes)
    asked = questions_of(modes.inference, root, modes.training, twin, sample)
    return _rewritten(root, modes, whole, sample), asked


class _Modes(NamedTuple):
    """What a network does at inference and in training mode.

    Attributes:
        inference: Its graph at inference.
        training: That in training mode.
        draws: Whether the network itself drew random numbers while it was followed in training mode: values of nodes
            move no generator.
    """

    inference: fx.Graph
    training: fx.Graph
    draws: bool


def _in_both_modes(follow: Following, root: Root, twin: Root, whole: Collection[str]) -> _Modes:
    """Follows a network, and its twin in training mode; the modules of some names are single steps."""
    inference = follow(root, whole)
    for part, other in zip(root.modules(), twin.modules(), strict=True):
        if isinstance(part, RecurrentLayer) and isinstance(other, RecurrentLayer):
            other.unrolled = part.unrolled
    before = generator_states()
    training = follow(twin, whole)
    return _Modes(inference, training, generator_states() != before)


def _to_keep_whole(follow: Following, root: Root, twin: Root, sample: Several, modes: _Modes) -> list[str]:
    """Returns the names of the modules that do more in training mode, and can be single steps."""
    differ = {*modules_that_differ(modes.inference, modes.training)}
    if modes.draws:
        differ.update(modules_that_draw(deepcopy(twin), sample))
    if not differ:
        return []
    whole = [name for name in taking_tensors(root, sample) if name in differ]
    return joining_values(follow(root, whole), whole) if whole else []


def _warn_of_left_out(root: Root, modes: _Modes) -> None:
    """Warns of what modules still do only in training mode."""
    left = modules_that_differ(modes.inference, modes.training)
    if not left and not modes.draws:
        return
    kinds = dict.fromkeys(type(root.get_submodule(name)).__name__ for name in left or ["0"])
    warn(
        f"What {', '.join(kinds)} does only in training mode is left out. To keep random draws made there, "
        "put them into a separate module that holds no parameters, takes one tensor, or several by place that "
        "are real and depend on the input, and returns one. Or make the noise an input of the network.",
    )


def _rewritten(root: Root, modes: _Modes, whole: Collection[str], sample: Several) -> fx.GraphModule:
    """Returns the graph at inference, of functions that leave their inputs as they are."""
    graph, training, _ = modes
    drawing = {name for name, part in root.named_modules() if isinstance(part, _DropoutNd)}.union(whole)
    leave_out_dropouts(graph, training, drawing, type(root[0]).__name__)
    keep_from_training(root, training)
    make_norms(graph, training, root)
    leave_out_writing(graph, root, sample)
    write_out_tied(graph, root)
    write_out_parts(graph, root)
    found = fx.GraphModule(root, graph)
    found.graph.eliminate_dead_code()
    return found
