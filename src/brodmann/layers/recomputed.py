"""Recomputed: layers of which only inputs of segments are kept until the error comes down."""

from __future__ import annotations

import itertools
import math
from typing import Any

from torch import Tensor

from ..autograd import unrecorded
from ..checks import check_whole
from ..errors import BrodmannError
from ..generators import Draws
from ..layer import Context, Layer
from ..several import parts_in
from .containers import Sequential


class Recomputed(Sequential):
    """Layers one after the other, in segments: each remembers its input alone, and computes its traces again.

    Of n equal layers in k segments it holds the inputs of k segments and the traces of n / k layers at a time, by one
    more forward pass, whatever k is. Weights have not moved in between, and the generator is rewound, so that every
    number, dropout masks included, is that of `Sequential`; so are the names of its parameters.

    Source: activation checkpointing (Chen et al. 2016), which needs no graph here.
    """

    def __init__(self, *layers: Layer, segments: int | None = None) -> None:
        """Takes the layers from input to output, such as the one inside of a `Residual`.

        Args:
            *layers: As for `Sequential`.
            segments: Into how many parts of equally many layers they fall, at most as many as there are layers. Default
                None: the square root of their number, which needs least memory where traces are as large as inputs.

        Raises:
            BrodmannError: As `Sequential`; or segments is no whole number from 1 to the number of layers.
        """
        super().__init__(*layers)
        if segments is not None:
            check_whole(segments=segments)
            if segments > len(layers):
                raise BrodmannError(f"Expected at most a segment for each of the {len(layers)} layers, got {segments}.")
        self.segments = max(1, round(math.sqrt(len(layers)))) if segments is None else int(segments)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"segments={self.segments}"

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, list[Any]]:
        """Learning forward pass: x as for `forward`; returns the output; of each segment the input, and its draws."""
        kept = []
        for begin, end in self._segments():
            kept.append((x, Draws.from_here(parts_in(x)[0].device)))
            x = self._up(begin, end, x, context)[0]  # no name for the traces, which would live on through the next
        return x, kept

    @unrecorded
    def learn(self, trace: list[Any], error: Tensor, context: Context) -> Tensor | None:
        """Error pass, a segment at a time, whose traces are computed again: shapes as in `Sequential.learn`."""
        for begin, end in reversed(self._segments()):
            x, draws = trace.pop()
            with draws.going_on():
                traces = self._up(begin, end, x, context)[1]
            below = self._down(end, traces, error, context)
            if below is None:
                trace.clear()
                return None
            error = below
        return error

    def _segments(self) -> list[tuple[int, int]]:
        """Returns where each segment begins, and the next one does."""
        bounds = [round(index * len(self.layers) / self.segments) for index in range(self.segments + 1)]
        return list(itertools.pairwise(bounds))
