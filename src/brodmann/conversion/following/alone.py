"""Whether a network does the same for a single sample as for several."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...several import Several, of_each
from ..nodes import held_by, name_of, writes

_SPREADING = "expand expand_as broadcast_to repeat repeat_interleave tile reshape view contiguous clone"
SPREADING = frozenset(_SPREADING.split())
"""Functions and methods that leave a tensor as it is if it has the requested size already."""


@torch.no_grad()
def same_alone(several: fx.Graph, alone: fx.Graph, root: nn.Module, sample: Several) -> bool:
    """Whether a network's graph for several samples does, for one sample, what the network does for one.

    Both graphs must be the same calls of the same values, except for functions that leave the sample's values as they
    are, such as the `expand` in ``if len(x) != 1: mask = mask.expand(len(x), -1)``. The output alone would not show it:
    a readout may start at zero.

    Args:
        several: Graph of the network for several samples.
        alone: That for one.
        root: The network.
        sample: One sample (1, ...).

    Raises:
        ValueError: Something is written into what was spread.
    """
    return _meaning(several, root, sample) == _meaning(alone, root, sample)


def _meaning(graph: fx.Graph, root: nn.Module, sample: Several) -> list[int]:
    """Returns numbers that stand for the output of a graph, and for what it writes: equal ones for equal calls."""
    walk = _Spreading(deepcopy(root).eval(), graph=graph)
    walk.run(of_each(Tensor.clone, sample))
    values: dict[fx.Node, int] = {}
    found = []
    for node in graph.nodes:
        if node in walk.idle:
            values[node] = values[node.all_input_nodes[0]]
            continue
        given: Any = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        values[node] = hash(repr((node.op, _target(node, root), given)))
        if node.op == "output" or writes(node, root):
            found.append(values[node])
    spread = {values[node] for node in walk.idle}
    if any(values[node.all_input_nodes[0]] in spread for node in graph.nodes if writes(node, root)):
        raise ValueError("What is written into may be another tensor for one sample than for several.")
    return found


class _Spreading(fx.Interpreter):
    """Notes which functions leave the numbers that come to them as they are."""

    idle: set[fx.Node]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.idle = set()
        return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if (
            n.op in ("call_function", "call_method")
            and name_of(n) in SPREADING
            and n.all_input_nodes[:1] == [n.args[0]]
        ):
            came = self.env[n.all_input_nodes[0]]
            if isinstance(came, Tensor) and came.dtype == result.dtype and torch.equal(came, result):
                self.idle.add(n)
        return result


def _target(node: fx.Node, root: nn.Module) -> Any:
    """Returns what a node calls or reads; constants that torch.fx named are what they hold."""
    held = held_by(root, node)
    if isinstance(held, Tensor) and not isinstance(held, nn.Parameter):
        return held.dtype, tuple(held.shape), held.flatten().tolist()
    return id(node.target) if callable(node.target) else node.target
