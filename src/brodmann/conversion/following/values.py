"""Values of the nodes of a graph that torch.fx is still making, for batches of several sizes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from ...generators import undisturbed
from ...several import Several, of_each, rows_of, sample_count
from ..nodes import asks_metadata, called, in_one_memory, name_of

RAGGED = ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount")
"""Functions and methods whose values have sizes that depend on numbers."""
MANY = 64
"""Samples of a large batch."""
LARGE = 4096
"""Numbers in a tensor that is large: it is dropped once nothing can ask for it any more."""

R = TypeVar("R")


class Walks:
    """Values of all nodes so far for a few samples, for two, for one and, if that matters, for `MANY`.

    Large tensors go as soon as no node is left that reads them and the network holds nothing that could.

    Attributes:
        numbers: Nodes that depend on numbers, of samples or parameters.
        ragged: Nodes whose sizes do.
    """

    def __init__(self, sample: Several, root: nn.Module, held: Mapping[str, Tensor], *, alone: bool = False) -> None:
        """Takes what values are computed from.

        Args:
            sample: (samples, ...), repeated if there are too few.
            root: The network.
            held: Its parameters and buffers as they are at first, by name.
            alone: Whether the sample is only one.
        """
        count = sample_count(sample)
        many = of_each(lambda part: torch.cat([part] * (1 + MANY // count))[:MANY], sample)
        some = (rows_of(many, slice(number)) for number in (max(3, count), 2, MANY))
        batches = (sample,) * 3 if alone else some
        self._few, self._two, self._many, self._one = (
            _Values(batch, root, held) for batch in (*batches, rows_of(sample, slice(1)))
        )
        self._held = held
        self.numbers: set[fx.Node] = set()
        self.ragged: set[fx.Node] = set()

    @torch.no_grad()
    def follow(self, graph: fx.Graph, in_use: Collection[fx.Node], *, many: bool = False) -> None:
        """Computes all nodes so far, in their order, as they would be at inference.

        Args:
            graph: Graph of the network.
            in_use: Nodes that the network may still read.
            many: Whether to compute them for the large batch, too.
        """
        nodes = [node for node in graph.nodes if node.op != "output"]
        last = {read: node for node in nodes for read in node.all_input_nodes}
        with undisturbed():  # what is drawn here is not drawn by the network
            self._few.follow(nodes, last, in_use, self._judge)
            for walk in (self._two, self._many) if many else (self._two,):
                walk.follow(nodes, last, in_use)
            with suppress(Exception):  # what is done with several samples may fail with one
                self._one.follow(nodes, last, in_use)

    def __getitem__(self, node: fx.Node) -> Any:
        """Returns the value of a node for a few samples."""
        return self._few.of[node]

    def answers(self, node: fx.Node, ask: Callable[[Any], R]) -> list[R]:
        """Returns what a question makes of the values of a node, one for each batch."""
        return [ask(walk.of[node]) for walk in (self._few, self._two, self._many) if node in walk.of]

    def differs_alone(self, node: fx.Node, ask: Callable[[Any], R]) -> bool:
        """Whether a question has another answer for one sample."""
        return node in self._one.of and ask(self._one.of[node]) != ask(self._few.of[node])

    def counts(self, node: fx.Node) -> bool:
        """Whether a size is made of the number of samples."""
        first, second = (walk.of.get(node) for walk in (self._few, self._two))
        if not isinstance(first, int | float | torch.Size):
            return False
        if first != second:
            return True
        return node.target is not operator.getitem and any(map(self.counts, node.all_input_nodes))

    def in_memory_of(self, node: fx.Node) -> list[fx.Node]:
        """Returns the nodes whose values share memory with that of a node, for several samples or for one."""
        walks = [walk.of for walk in (self._few, self._one) if node in walk.of]
        return [other for of in walks for other, value in of.items() if in_one_memory(value, of[node])]

    def _judge(self, node: fx.Node) -> None:
        """Notes whether a node depends on numbers, and whether its sizes do."""
        read = node.all_input_nodes
        if asks_metadata(node):
            if read[0] in self.ragged or not self.numbers.isdisjoint(read[1:]):
                self.numbers.add(node)
            return
        own = node.op == "get_attr" and isinstance(self._held.get(str(node.target)), nn.Parameter)
        if own or node.op == "placeholder" or not self.numbers.isdisjoint(read):
            self.numbers.add(node)
        name = name_of(node)
        masked = name == "getitem" and any(_is_mask(self._few.of[part]) for part in read[1:])
        if not self.ragged.isdisjoint(read) or name in RAGGED or masked:
            self.ragged.add(node)


class _Values:
    """Values of nodes for one batch."""

    def __init__(self, batch: Several, root: nn.Module, held: Mapping[str, Tensor]) -> None:
        """Takes samples (samples, ...), the network, and what it holds at first."""
        self.batch, self.of = batch, dict[fx.Node, Any]()
        self._root, self._held = root, held
        self._done: set[fx.Node] = set()

    def follow(
        self,
        nodes: list[fx.Node],
        last: Mapping[fx.Node, fx.Node],
        in_use: Collection[fx.Node],
        computed: Callable[[fx.Node], None] = lambda node: None,
    ) -> None:
        """Computes nodes, and calls ``computed`` with each when it first is; ``last`` is the last reader of each."""
        for node in nodes:
            if node in self._done:
                continue
            self._done.add(node)
            self.of[node] = self._value(node)
            computed(node)
            for read in {node, *node.all_input_nodes}:
                if last.get(read, node) is node and read not in in_use:
                    self._let_go(read)
        for node in [node for node in self.of if node not in in_use]:
            self._let_go(node)

    def _let_go(self, node: fx.Node) -> None:
        value = self.of.get(node)
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel() >= LARGE:
            del self.of[node]

    def _value(self, node: fx.Node) -> Any:
        """Computes a node; what it overwrites is a copy, and what the network holds is what it held at first."""
        if node.op == "placeholder":
            return of_each(Tensor.clone, self.batch)
        target: Any = node.target
        if node.op == "get_attr":
            value = self._held[target] if target in self._held else operator.attrgetter(target)(self._root)
            return value.detach().clone() if isinstance(value, Tensor) else value
        if node.op != "call_module":
            return called(node, self.of)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.of.__getitem__)
        with _at_inference(self._root.get_submodule(target)) as module:
            return module(*args, **kwargs)


@contextmanager
def _at_inference(module: nn.Module) -> Iterator[nn.Module]:
    """Puts a module into inference mode inside the block."""
    before = [(part, part.training) for part in module.modules()]
    try:
        yield module.eval()
    finally:
        for part, training in before:
            part.training = training


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool
