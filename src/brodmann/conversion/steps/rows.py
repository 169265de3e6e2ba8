"""Rows: in which order the rows of samples lie in the values of a network."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import BrodmannError
from ...several import Several, rows_of, sample_count
from ..modules import module_text
from .stirring import stir


class Rows:
    """Compares the values of several samples with those of the first alone."""

    def __init__(self, root: fx.GraphModule, sample: Several) -> None:
        """Takes a network, and a few samples (samples, ...)."""
        self.root, self.sample, self.count = root, sample, sample_count(sample)
        self._alone = self._walk(root, rows_of(sample, slice(1)))

    def per_sample(self, node: fx.Node, values: Mapping[fx.Node, Any], module: nn.Module) -> int:
        """Returns how many rows of the first dimension each sample has, whose rows lie one after the other.

        Args:
            node: A call of a module.
            values: Values of it and of what it reads, for all samples.
            module: What it calls.

        Raises:
            BrodmannError: There is no such number.
        """
        result, (read, *_) = values[node], node.all_input_nodes
        rows, more = divmod(len(result), self.count)
        lie_by_samples = self.lie_by_samples(read, values[read])
        if rows == 1 and not more and not lie_by_samples:
            raise BrodmannError(
                f"{module_text(module)} cannot be converted: its input for a sample changes when the sample comes "
                "alone. The network draws random numbers at inference, as F.dropout does without "
                "training=self.training, mixes the samples of a batch, or keeps them in a dimension other than the "
                "first."
            )
        if more or not rows or not lie_by_samples:
            raise BrodmannError(
                f"{module_text(module)} cannot be converted: its output, {tuple(result.shape)} for {self.count} "
                "samples, does not hold one row for each sample, or equally many rows for each, one sample after the "
                "other."
            )
        return rows

    def are_turned(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
        """Whether samples lie in the second dimension of what a node takes and returns."""
        result, (read, *_) = values[node], node.all_input_nodes
        if result.ndim != 3 or result.shape[1] != self.count:
            return False
        first, second = (self.lie_by_samples(read, values[read], dimension) for dimension in (0, 1))
        return second and not first

    def lie_by_samples(self, node: fx.Node, came: Tensor, dimension: int = 0) -> bool:
        """Whether the first rows of the value of a node, along a dimension, are those of the first sample.

        True if the network does not take a single sample: then it mixes the samples of a batch, and is refused for
        that.
        """
        several: Tensor | None = came
        first = _value_of(node, self._alone)
        if bool((came == came[:1]).all()):  # because of weights of 0, say, which show no order
            several, first = (_value_of(node, walk) for walk in self._stirred)
        if several is None or first is None:
            return True
        if min(first.ndim, several.ndim) <= dimension:
            return False
        near = 1e-3 * float(several.abs().max()) if several.is_floating_point() else 0.0
        count = first.shape[dimension]
        rows = several.narrow(dimension, 0, min(count, several.shape[dimension]))
        fits = count * self.count == several.shape[dimension] and first.shape == rows.shape
        return fits and torch.allclose(first, rows, rtol=0.0, atol=near)

    @cached_property
    def _stirred(self) -> tuple[fx.Interpreter, fx.Interpreter]:
        """Walks with all samples and with the first, through a copy of the network with noise for weights of 0."""
        root = deepcopy(self.root)
        stir(root)
        return self._walk(root, self.sample), self._walk(root, rows_of(self.sample, slice(1)))

    def _walk(self, root: fx.GraphModule, sample: Several) -> fx.Interpreter:
        """Returns a walk through the graph of the network, with the weights of a copy of it, that has not begun."""
        walk = fx.Interpreter(root, garbage_collect_values=False, graph=self.root.graph)
        walk.env[next(iter(self.root.graph.nodes))] = sample
        return walk


def _value_of(node: fx.Node, walk: fx.Interpreter) -> Tensor | None:
    """Returns the value of a node in a walk, which goes on to it; None if it fails before."""
    try:
        for other in node.graph.nodes:
            if other not in walk.env:
                walk.env[other] = walk.run_node(other)
            if other is node:
                break
    except Exception:  # from whatever the network does with a single sample
        return None
    return walk.env[node]
