"""Paths that read the forward weights: only their signs, or the weights themselves, which is backpropagation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..areas import AreaMap, Slab, error_of_parts, map_of_parts
from ..kernels import Groups
from ..recording import replayed
from .path import Feedback
from .shape import Shape
from .signal import Signal


class SignSymmetric(Feedback):
    """``e_below = delta sign(W0 + D[g]) c``: the signs of the forward weights, no magnitudes.

    delta (rows, out), without the gate even in gated layers; W0 and D[g] (out, in), of which one may be missing;
    e_below (rows, in). A weight that is exactly 0 sends nothing. ``c = sqrt(2 / (pi * in))`` is the mean magnitude of a
    normal weight of variance ``1 / in``, whatever the layer's ``start_scale``: below a readout that starts at a tenth,
    errors start about ten times too large. Reads the forward weights, holds none. Source: Liao, Leibo and Poggio
    (2016).
    """

    def __init__(self, shape: Shape) -> None:
        """Holds no weights."""
        super().__init__()
        self.magnitude = (2.0 / (torch.pi * shape.in_features)) ** 0.5

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        if signal.areas is None:
            return (signal.delta @ signal.weight_of(0).sign()).mul_(self.magnitude)
        below = torch.empty_like(signal.x)
        # As a whole, which reads where each area's rows lie: those of another batch lie elsewhere.
        replayed(_send, below, signal.delta, signal.groups.area, signal.groups.areas, signal.shared, signal.areas)
        return below.mul_(self.magnitude)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """``sign(W) c`` of the one map, if there is one."""
        return None if weight is None else weight.sign().mul_(self.magnitude)


def _send(below: Tensor, delta: Tensor, area: Tensor, areas: int, shared: Slab | None, parts: AreaMap | None) -> None:
    """Writes ``delta sign(W0 + D[g])`` into ``below``."""
    groups = Groups.single(len(delta), delta.device) if area is None else Groups.of(area, areas)
    rows, sent = groups.sort(delta), torch.empty_like(below)
    for group, start, stop in groups.segments:
        torch.mm(rows[start:stop], map_of_parts(shared, parts, group, delta.dtype).sign(), out=sent[start:stop])
    below.copy_(groups.unsort(sent))


class Transpose(Feedback):
    """``e_below = delta W0 + part_delta D[g]``: backpropagation itself. The oracle of the tests and a baseline.

    delta and part_delta (rows, out), W0 and D[g] (out, in), e_below (rows, in). Reads the forward weights, holds none.
    """

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        return error_of_parts(signal.shared, signal.areas, signal.delta, signal.part_delta, signal.groups)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """The one map itself, if there is one."""
        return weight
