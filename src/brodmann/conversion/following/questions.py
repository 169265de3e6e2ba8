"""Questions: what a network asked about sizes while it was followed, to be asked again for samples of other sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from ...generators import undisturbed
from ...several import Several, in_form_of, parts_in
from ..nodes import Retracing, asks_metadata, caller_of, name_of

ASKED = "asked"
"""Key in the metadata of a graph's output: what was asked about which nodes, with the answers, and whether they
may depend on how many samples come."""
Shapes = tuple[tuple[int, ...], ...]
"""Shapes of the tensors that come to a network, (samples, ...), in their order."""
Asked = dict[tuple[fx.Node, Callable[[Any], Any]], tuple[Any, bool]]
"""See `ASKED`."""


def questions_of(
    graph: fx.Graph, root: nn.Module, training: fx.Graph, twin: nn.Module, sample: Several
) -> Questions | None:
    """Returns what a network asked about sizes, None if it asked nothing.

    Args:
        graph: Graph of the network at inference, before anything in it is replaced.
        root: The network.
        training: Likewise in training mode.
        twin: The network in training mode.
        sample: The samples that it was shown.
    """
    here: Asked = graph.output_node().meta.get(ASKED, {})
    there: Asked = training.output_node().meta.get(ASKED, {})
    texts, others = _texts_of(graph, here), _texts_of(training, there)
    counts, other_counts = Counter(texts), Counter(others)
    pairs = zip(others, there.items(), strict=True)
    only_there = dict(item for text, item in pairs if counts[text] != other_counts[text])
    while_learning = Questions(training, twin, sample, only_there) if only_there else None
    return Questions(graph, root, sample, here, while_learning) if here or only_there else None


def _texts_of(graph: fx.Graph, asked: Asked) -> list[Any]:
    """Returns, for each question, who asked what of which size; it is the same text in graphs numbered differently."""
    made_of: dict[fx.Node, int] = {}
    for node in graph.nodes:
        read = dict.fromkeys(node.all_input_nodes) if asks_metadata(node) else made_of  # sizes, not what is measured
        given: Any = fx.node.map_arg((node.args, node.kwargs), read.__getitem__)
        made_of[node] = hash((caller_of(node), name_of(node), repr(given)))
    return [(made_of[node], ask) for node, ask in asked]


class Questions:
    """What a network asked about sizes, and its answers, to be asked again for other sizes.

    Numbers have no part in the answers, so that zeros stand for the network's parameters and take no memory. Where
    answers differ, the network may still do the same, as one that masks nothing in short sequences: sizes for which
    this was tried are noted.

    Attributes:
        count_samples: Whether an answer may depend on how many samples come.
        while_learning: What it asked only in training mode, which may be nothing.
    """

    def __init__(
        self, graph: fx.Graph, root: nn.Module, sample: Several, asked: Asked, while_learning: Questions | None = None
    ) -> None:
        """Takes what was asked.

        Args:
            graph: Graph of the network, before anything in it is replaced.
            root: The network.
            sample: The samples that it was shown.
            asked: What it asked.
            while_learning: What it asked only in training mode; None if this is that.
        """
        needed = {node for node, _ in asked}
        for node in reversed(graph.nodes):
            if not needed.isdisjoint(node.users):
                needed.add(node)
        inside, copies = fx.Graph(tracer_cls=Retracing), dict[fx.Node, fx.Node]()
        for node in graph.nodes:
            if node in needed:
                copies[node] = inside.node_copy(node, copies.__getitem__)
                copies[node].type = None  # an annotation, which may be text that pickle does not know
        inside.output([copies[node] for node, _ in asked])
        zeros: dict[int, Any] = {id(held): _zeros(held) for held in root.parameters()}
        self._values = fx.GraphModule(deepcopy(root, zeros).eval(), inside)
        self._asks = [ask for _, ask in asked]
        self._answers = [answer for answer, _ in asked.values()]
        self._kinds: Any = in_form_of(sample, (part.dtype for part in parts_in(sample)))
        self.while_learning = while_learning
        self.count_samples = any(counts for _, counts in asked.values())
        self.count_samples |= while_learning is not None and while_learning.count_samples
        self._tried: list[tuple[list[Any], Shapes]] = []

    def have_same_answers(self, shapes: Shapes) -> bool:
        """Whether the network decides for samples of some shapes as it did for those shown."""
        return self._answers_for(shapes) == self._answers

    def note(self, shapes: Shapes) -> None:
        """Notes shapes for which the network was found to do the same, although it decides otherwise."""
        if (answers := self._answers_for(shapes)) is not None:
            self._tried.append((answers, shapes))

    def allow(self, shapes: Shapes) -> bool:
        """Whether what was followed holds for samples of some shapes, at inference.

        It does if the answers are the same; or those for shapes that were tried, no smaller and no larger than all.
        """
        found = self._answers_for(shapes)
        if found is None or found == self._answers:
            return found is not None
        tried = [_sizes_of(other) for answers, other in self._tried if answers == found]
        size = _sizes_of(shapes)
        return any(map(partial(_no_larger, size), tried)) and any(_no_larger(other, size) for other in tried)

    def allow_learning(self, shapes: Shapes) -> bool:
        """Whether what is allowed at inference holds while learning, too."""
        return self.while_learning is None or self.while_learning.have_same_answers(shapes)

    @torch.no_grad()
    def _answers_for(self, shapes: Shapes) -> list[Any] | None:
        """Returns the answers for samples of some shapes, None if the network does not take them."""
        sizes = iter(shapes)
        sample = in_form_of(self._kinds, (torch.zeros(next(sizes), dtype=dtype) for dtype in parts_in(self._kinds)))
        try:
            with undisturbed():  # the network may draw, as from torch.randn
                values = self._values_for(sample)
            return [ask(value) for ask, value in zip(self._asks, values, strict=True)]
        except Exception:  # from whatever the network does with samples of shapes that it is not made for
            return None

    def _values_for(self, sample: Several) -> Any:
        """Returns what the network asked about, for some samples."""
        try:
            return fx.Interpreter(self._values).run(sample)  # whose errors torch.fx does not print
        except RuntimeError as error:
            if "stride" not in str(error):
                raise
            # To a function, such as a grouped product, it matters how weights lie in memory.
            whole = deepcopy(self._values)
            for held in whole.parameters():
                held.data = held.data.contiguous()
            return fx.Interpreter(whole).run(sample)


def _sizes_of(shapes: Shapes) -> list[int]:
    """Returns the sizes of all dimensions but that of the samples."""
    return [size for shape in shapes for size in shape[1:]]


def _no_larger(one: list[int], other: list[int]) -> bool:
    """Whether no size is larger than its counterpart."""
    return len(one) == len(other) and all(size <= most for size, most in zip(one, other, strict=True))


def _zeros(parameter: nn.Parameter) -> nn.Parameter:
    """Returns zeros in the shape of a parameter, which are a single number in memory."""
    return nn.Parameter(parameter.detach().new_zeros(()).expand(parameter.shape), requires_grad=False)
