"""Paths that read the forward weights: only their signs, or the weights themselves, which is backpropagation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..areas import error_of_parts
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
        below = torch.empty_like(signal.x)
        for area, start, stop in signal.groups.segments:
            rows = slice(None) if signal.groups.order is None else signal.groups.order[start:stop]
            below[rows] = signal.delta[rows] @ signal.weight_of(area).sign()
        return below.mul_(self.magnitude)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """``sign(W) c`` of the one map, if there is one."""
        return None if weight is None else weight.sign().mul_(self.magnitude)


class Transpose(Feedback):
    """``e_below = delta W0 + part_delta D[g]``: backpropagation itself. The oracle of the tests and a baseline.

    delta and part_delta (rows, out), W0 and D[g] (out, in), e_below (rows, in). Reads the forward weights, holds none.
    """

    def __init__(self, shape: Shape) -> None:
        """Holds no weights."""
        super().__init__()

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        return error_of_parts(signal.shared, signal.areas, signal.delta, signal.part_delta, signal.groups)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """The one map itself, if there is one."""
        return weight
