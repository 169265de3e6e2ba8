"""Sizes for which a conversion holds: those for which a network decides as it did for the samples it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import BrodmannError
from ..generators import undisturbed
from ..several import Several, check_several, in_form_of, parts_in
from .questions import ASKED

Shapes = tuple[tuple[int, ...], ...]
"""Shapes of the tensors that come to a network, (samples, ...), in their order."""


class _OfModules(fx.Tracer):
    """Traces a network again, as when it is unpickled: every module is a step, and sizes may slice buffers."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class Questions:
    """What a network asked about sizes, and its answers, to be asked again for other sizes.

    Numbers have no part in the answers, so that zeros stand for the network's parameters and take no memory. Where
    answers differ, the network may still do the same, as one that masks nothing in short sequences: sizes for which
    this was tried are noted.

    Attributes:
        count_samples: Whether an answer may depend on how many samples come.
    """

    def __init__(self, graph: fx.Graph, root: nn.Module, sample: Several) -> None:
        """Takes the graph of a network that asked, before anything in it is replaced, the network, and its samples."""
        asked: dict[Any, Any] = graph.output_node().meta[ASKED]
        needed = {node for node, _ in asked}
        for node in reversed(graph.nodes):
            if not needed.isdisjoint(node.users):
                needed.add(node)
        inside, copies = fx.Graph(tracer_cls=_OfModules), dict[fx.Node, fx.Node]()
        for node in graph.nodes:
            if node in needed:
                copies[node] = inside.node_copy(node, copies.__getitem__)
                copies[node].type = None  # an annotation, which may be text that pickle does not know
        inside.output([copies[node] for node, _ in asked])
        zeros: dict[int, Any] = {id(held): _zeros(held) for held in root.parameters()}
        self._values = fx.GraphModule(deepcopy(root, zeros), inside)
        self._asks = [ask for _, ask in asked]
        self._answers = [answer for answer, _ in asked.values()]
        self._kinds: Any = in_form_of(sample, (part.dtype for part in parts_in(sample)))
        self.count_samples = any(counts for _, counts in asked.values())
        self._tried: list[tuple[list[Any], Shapes]] = []

    def have_same_answers(self, shapes: Shapes) -> bool:
        """Whether the network decides for samples of some shapes as it did for those shown."""
        return self._answers_for(shapes) == self._answers

    def note(self, shapes: Shapes) -> None:
        """Notes shapes for which the network was found to do the same, although it decides otherwise."""
        if (answers := self._answers_for(shapes)) is not None:
            self._tried.append((answers, shapes))

    def allow(self, shapes: Shapes) -> bool:
        """Whether what was followed holds for samples of some shapes.

        It does where the answers are the same; or those for shapes that were tried, no smaller and no larger than all.
        """
        found = self._answers_for(shapes)
        if found is None or found == self._answers:
            return found is not None
        tried = [_numbers_of(other) for answers, other in self._tried if answers == found]
        size = _numbers_of(shapes)
        return any(map(partial(_no_larger, size), tried)) and any(_no_larger(other, size) for other in tried)

    @torch.no_grad()
    def _answers_for(self, shapes: Shapes) -> list[Any] | None:
        """Returns the answers for samples of some shapes, None where the network does not take them."""
        sizes = iter(shapes)
        sample = in_form_of(self._kinds, (torch.zeros(next(sizes), dtype=kind) for kind in parts_in(self._kinds)))
        try:
            with undisturbed():  # the network may draw, as from torch.randn
                values = fx.Interpreter(self._values).run(sample)  # whose errors torch.fx does not print
            return [ask(value) for ask, value in zip(self._asks, values, strict=True)]
        except Exception:  # from whatever the network does with samples of shapes that it is not made for
            return None


def _numbers_of(shapes: Shapes) -> list[int]:
    """Returns the sizes of all dimensions but that of the samples."""
    return [size for shape in shapes for size in shape[1:]]


def _no_larger(one: list[int], other: list[int]) -> bool:
    """Whether no size is larger than its counterpart."""
    return len(one) == len(other) and all(size <= most for size, most in zip(one, other, strict=True))


def _zeros(parameter: nn.Parameter) -> nn.Parameter:
    """Returns zeros in the shape of a parameter, which are a single number in memory."""
    return nn.Parameter(parameter.detach().new_zeros(()).expand(parameter.shape), requires_grad=False)


class OfSizes(nn.Module):
    """Passes on one of the tensors that come to a network, (samples, ...), where all have sizes that it is made for."""

    def __init__(self, shown: Sequence[Tensor], images: Sequence[bool], passed: int, asked: Questions | None) -> None:
        """Takes what decides on sizes.

        Args:
            shown: Samples that the network was converted with.
            images: Which of them come with their channels last.
            passed: Which of them is passed on.
            asked: What the network asked about sizes; None if it is made for the shapes of ``shown`` alone.
        """
        super().__init__()
        self.images, self.passed, self.asked = tuple(images), passed, asked
        self.shapes: Shapes = tuple(tuple(part.shape[1:]) for part in shown)
        self._known = {(2, self.shapes)}  # how many samples, and of which shapes

    def forward(self, *values: Tensor) -> Tensor:
        """Returns one of the values as it is.

        Raises:
            BrodmannError: The network does something else for values of such sizes.
        """
        check_several(x=values if len(values) > 1 else values[0])
        of_torch = (x.movedim(-1, 1) if last else x for x, last in zip(values, self.images, strict=True))
        shapes = tuple(tuple(x.shape[1:]) for x in of_torch)
        # One sample is treated as several are, and none as well; see `same_alone`.
        count = max(2, len(values[0])) if self.asked is not None and self.asked.count_samples else 2
        if (count, shapes) not in self._known:
            # Compilers cannot follow it; as a decorator, this would load them wherever this package is imported.
            if torch.compiler.is_compiling():
                torch.compiler.disable(self._learn)(count, shapes)  # type: ignore[no-untyped-call]
            else:
                self._learn(count, shapes)
        return values[self.passed]

    def _learn(self, count: int, shapes: Shapes) -> None:
        """Notes sizes for which the answers are the same, which are computed once; raises for others."""
        if self.asked is None or not self.asked.allow(tuple((count, *shape) for shape in shapes)):
            raise self._refused(count, shapes)
        self._known.add((count, shapes))

    def _refused(self, count: int, shapes: Shapes) -> BrodmannError:
        """Returns the error for samples of other shapes, or for another number of them."""
        if shapes == self.shapes:
            return BrodmannError(
                f"This network decides by the number of samples, and computes differently for {count} than for those "
                "it was converted with: give it fewer or more samples at a time, or let the model do the same for any "
                "number."
            )
        return BrodmannError(
            f"This network was converted for samples of shape {_listed(self.shapes)}, and computes differently for "
            "other shapes, for example by repeating a step once for each element of a sequence; got "
            f"{_listed(shapes)}: convert the model for that shape."
        )

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return ", ".join(map(str, self.shapes[0])) if len(self.shapes) == 1 else _listed(self.shapes)


def _listed(shapes: Shapes) -> str:
    return ", ".join(map(str, shapes))
