"""Recomputed: a sequence or graph of layers that keeps only the inputs of segments until the error comes down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..autograd import unrecorded
from ..checks import check_whole
from ..errors import BrodmannError
from ..generators import Draws
from ..layer import Context, Layer
from ..routing import Recruiting
from ..several import Several, of_each, parts_in
from .containers import Sequential
from .graph import INPUT, Graph, last_first
from .recurrent import Recurrent


class Recomputed(Sequential):
    """Layers one after the other, in segments: each remembers only its input, and computes its traces again.

    Of n equal layers in k segments it holds the inputs of k segments, and the traces of n / k layers at a time. The
    price is one more forward pass, whatever k is. Weights have not moved in between, and the generator is rewound, so
    that every number, dropout masks included, is that of `Sequential`; so are the names of its parameters.

    Source: activation checkpointing (Chen et al. 2016), which needs no graph here.
    """

    traces_again = True

    def __init__(self, *layers: Layer, segments: int | None = None) -> None:
        """Takes the layers from input to output, such as the one inside of a `Residual`.

        Args:
            *layers: As for `Sequential`.
            segments: Into how many parts of equally many layers they are divided, at most one for each layer. Default
                None: the square root of their number, which needs least memory if traces are as large as inputs.

        Raises:
            BrodmannError: As `Sequential`; segments is not a whole number from 1 to the number of layers; or the steps
                of a `Recurrent` recruit areas: computed again, earlier steps would go through them.
        """
        super().__init__(*layers)
        _check_steps(self)
        self.segments = _checked(segments, len(layers), "layers")

    def settle(self) -> None:
        """Checks its layers again, see `Container.settle`."""
        super().settle()
        _check_steps(self)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"segments={self.segments}"

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, list[Any]]:
        """Learning forward pass: x as for `forward`; returns the output, and the input and draws of each segment."""
        kept = []
        for begin, end in _parted(len(self.layers), self.segments):
            kept.append((x, _draws(x)))
            x = self._up(begin, end, x, context)[0]  # no name for the traces, which would live on through the next
        return x, kept

    @unrecorded
    def learn(self, trace: list[Any], error: Tensor, context: Context) -> Tensor | None:
        """Error pass, segment by segment, each traced again first: shapes as in `Sequential.learn`."""
        for begin, end in reversed(_parted(len(self.layers), self.segments)):
            x, draws = trace.pop()
            with draws.going_on():
                traces = self._up(begin, end, x, context)[1]
            below = self._down(end, traces, error, context)
            if below is None:
                trace.clear()
                return None
            error = below
        return error


class RecomputedGraph(Graph):
    """A `Graph` in segments of nodes: each remembers only the values that it and later ones read, see `Recomputed`.

    A segment begins where few earlier values are still read, such as before a residual block, at most half a segment
    away from where it would begin if all were of one size. Numbers and names are those of `Graph`. A layer in several
    nodes whose router recruits is refused: its second place would change the areas of the first.
    """

    traces_again = True

    def __init__(
        self,
        nodes: Mapping[str, tuple[Any, ...]],
        inputs: Sequence[str] = (INPUT,),
        outputs: str | Sequence[str] | Mapping[str, str] | None = None,
        segments: int | None = None,
    ) -> None:
        """Takes the nodes from input to output.

        Args:
            nodes: As for `Graph`.
            inputs: As for `Graph`.
            outputs: As for `Graph`.
            segments: As for `Recomputed`, of nodes.

        Raises:
            BrodmannError: As `Graph` and `Recomputed`.
        """
        super().__init__(nodes, inputs, outputs)
        self.segments = _checked(segments, len(self.plan), "nodes")

    def settle(self) -> None:
        """Checks its layers again, see `Container.settle`."""
        super().settle()
        _check_steps(self)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{super().extra_repr()}\nsegments={self.segments}"

    @unrecorded
    def trace(self, x: Several, context: Context) -> tuple[Any, Any]:
        """Learning forward pass: x and output as for `Graph.forward`; also returns the inputs of each segment."""
        values, kept = self._given(x), []
        for names in self._parts():
            kept.append(_Segment(names, dict(values), _draws(x)))
            self._up(names, values, context)
        return of_each(values.__getitem__, self.outputs), kept

    @unrecorded
    def learn(self, trace: Any, error: Several, context: Context) -> Tensor | None:
        """Error pass, segment by segment, each traced again first: shapes as in `Graph.learn`."""
        return self._down(self._again(trace, context), error, context)

    def _parts(self) -> list[list[str]]:
        """Returns the nodes of each segment."""
        names, entering = list(self.plan), self._entering()
        half = len(names) / self.segments / 2
        bounds = [0]
        for begin, _ in _parted(len(names), self.segments)[1:]:
            near = range(max(bounds[-1] + 1, math.ceil(begin - half)), min(len(names), math.ceil(begin + half)))
            bounds += [min(near, key=lambda place: (entering[place], abs(place - begin)))] if near else []
        return [names[begin:end] for begin, end in itertools.pairwise([*bounds, len(names)])]

    def _entering(self) -> list[int]:
        """Returns for each node how many values of nodes before it are read by it or later ones, or returned."""
        alive, entering = 0, []
        for node in self.plan.values():
            entering.append(alive)
            alive += 1 - len(node.last)
        return entering

    def _again(self, kept: list[_Segment], context: Context) -> Iterator[tuple[str, Any]]:
        """Yields name and trace of each node, from the last one to the first: a segment's are computed when due."""
        while kept:
            segment = kept.pop()
            with segment.draws.going_on():
                traces = self._up(segment.names, segment.values, context)
            del segment  # its values, of which the traces hold what they need
            yield from last_first(traces)


class _Segment(NamedTuple):
    """What a segment of nodes is computed from.

    Attributes:
        names: Its nodes.
        values: What they and later ones read of what comes before them.
        draws: The random numbers that they draw.
    """

    names: list[str]
    values: dict[str, Any]
    draws: Draws


def _check_steps(module: nn.Module) -> None:
    """Raises if the steps of a layer recruit in turn, so that it would be traced differently the second time."""
    for part in module.modules():
        if isinstance(part, Recurrent) and isinstance(part.states.router, Recruiting):
            raise BrodmannError(
                "A Recurrent whose map of states has a router that recruits cannot be recomputed: its first steps "
                "would go through areas that later ones recruited. Use Graph or Sequential (recompute=False), a router "
                "without novelty, or one route for all layers."
            )


def _checked(segments: int | None, count: int, kind: str) -> int:
    """Returns the number of segments, the default filled in."""
    if segments is None:
        return max(1, round(math.sqrt(count)))
    check_whole(segments=segments)
    if segments > count:
        raise BrodmannError(f"Expected at most a segment for each of the {count} {kind}, got {segments}.")
    return int(segments)


def _parted(count: int, segments: int) -> list[tuple[int, int]]:
    """Returns the first item of each segment, and of the next one."""
    return list(itertools.pairwise(round(index * count / segments) for index in range(segments + 1)))


def _draws(x: Several) -> Draws:
    """Returns the random numbers that are drawn from here on, on the device of x."""
    return Draws.from_here(parts_in(x)[0].device)
