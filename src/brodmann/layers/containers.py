"""Containers of layers, which are layers themselves: Sequential, Residual, Routed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..autograd import unrecorded
from ..checks import check_finite, check_tensors
from ..errors import BrodmannError
from ..held import Held
from ..layer import Container, Context, Gathering, Layer, check_layer, error_through, trace_of
from ..processes import Processes
from ..routing import Chosen, Route, Router, settle_feedback
from ..rows import as_rows
from .area_linear import AreaLinear
from .steering import Steering, followers


class Sequential(Container):
    """Layers one after the other. Traces are freed as the error passes down."""

    layers = Held[nn.ModuleList]()

    def __init__(self, *layers: Layer) -> None:
        """Takes the layers from input to output.

        Raises:
            BrodmannError: One of them is not a `Layer`, stands there twice, or sends no error down to those that learn.
        """
        super().__init__()
        self._check(layers)
        self.layers = nn.ModuleList(layers)

    def settle(self) -> None:
        """Checks its layers again, see `Container.settle`."""
        self._check([*self.layers])

    def _check(self, layers: Sequence[Any]) -> None:
        below: set[Layer] = set()
        for index, layer in enumerate(layers):
            place = f"Layer {index} of {type(self).__name__}"
            check_layer(layer, place)
            if layer.can_learn and layer in below:
                raise BrodmannError(
                    f"{place} is in it twice, and would be updated twice per step: give each place a layer of its own, "
                    "or share one in a Graph."
                )
            below.add(layer)
            if not layer.sends_down and any(lower.learns for lower in layers[:index]):
                raise _without_feedback(layer, index)

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (batch, ...) as the first layer takes it; returns the output of the last."""
        for layer in self.layers:
            x = layer(x, choice)
        return x

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, list[Any]]:
        """Learning forward pass: x as for `forward`; returns the output, and the trace of each layer."""
        return self._up(0, len(self.layers), x, context)

    @unrecorded
    def learn(self, trace: list[Any], error: Tensor, context: Context) -> Tensor | None:
        """Error pass from the last layer to the first: error shaped as the output; returns that of x.

        It stops at a layer that sends nothing down, and returns None.
        """
        return self._down(len(self.layers), trace, error, context)

    def _up(self, begin: int, end: int, x: Tensor, context: Context) -> tuple[Tensor, list[Any]]:
        """Computes the layers from ``begin`` up to, but without, ``end``: returns the output, and the trace of each."""
        traces = []
        for layer in [*self.layers][begin:end]:
            x, trace = trace_of(layer, x, context)
            traces.append(trace)
        return x, traces

    def _down(self, end: int, traces: list[Any], error: Tensor, context: Context) -> Tensor | None:
        """Sends an error down through as many layers below ``end`` as there are traces, which it empties."""
        below: Tensor | None = error
        layers = [*self.layers][:end]  # a ModuleList itself goes backwards slowly
        while traces and below is not None:
            below = error_through(layers.pop(), traces.pop(), below, context)
        if below is None and any(lower.learns for lower in layers):  # the layer on top is user-defined
            raise _without_feedback(self.layers[len(layers)], len(layers))
        traces.clear()
        return below


def _without_feedback(layer: Any, index: int) -> BrodmannError:
    return BrodmannError(
        f"Layer {index} ({type(layer).__name__}) sends no error down, but layers below it learn: give an AreaLinear a "
        "feedback path, give a builder lowest=False, and let a layer of your own return the error from `learn`, as "
        "torch.zeros_like(x) if it computes none. A layer of your own whose parameters never change should set "
        "moves = False."
    )


class Residual(Container):
    """``h + alpha body(h)``, or ``shortcut(h) + alpha body(h)``.

    ``e_below = e + b(alpha e)``, or ``s(e) + b(alpha e)``: ``e``, shaped like the output, is the error that arrives;
    b and s are what ``learn`` of body and shortcut return. h (batch, ..., in); the output has the shape of the body's.
    The output error that direct feedback inside the body uses is multiplied by ``alpha`` too.

    Source: He et al. (2016).
    """

    def __init__(self, body: Layer, alpha: float = 1.0, shortcut: Layer | None = None) -> None:
        """Wraps a body.

        Args:
            body: The layer beside the path.
            alpha: Scale of the body, a finite number. Default 1; `residual_mlp` uses 1 / sqrt(blocks) so that the sum
                keeps its variance with depth.
            shortcut: The path if body and input differ in shape, such as a map to more units, or patches of one pixel
                with a stride and a map. Default None: the input itself.

        Raises:
            BrodmannError: Body or shortcut is no `Layer`, alpha no number; or, at the first step, they return different
                shapes.
        """
        super().__init__()
        check_layer(body, "The body of Residual")
        if shortcut is not None:
            check_layer(shortcut, "The shortcut of Residual")
        check_finite(alpha=alpha)
        self.body, self.alpha, self.shortcut = body, alpha, shortcut

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"alpha={self.alpha}"

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (batch, ..., in); returns the shape of the body's output."""
        around = x if self.shortcut is None else self.shortcut(x, choice)
        return self._sum(around, self.body(x, choice))

    def _sum(self, around: Tensor, y: Tensor) -> Tensor:
        if not isinstance(around, Tensor) or not isinstance(y, Tensor) or y.shape != around.shape:
            sizes = (tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (around, y))
            raise BrodmannError(
                "Expected a residual body to return the shape of its shortcut, {}, got {}: make one fit the other, "
                "with a shortcut layer if there is none.".format(*sizes)
            )
        return torch.add(around, y, alpha=self.alpha)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass: x (batch, ..., in); returns the output, and the traces of body and shortcut."""
        y, trace = trace_of(self.body, x, context)
        around, beside = (x, None) if self.shortcut is None else trace_of(self.shortcut, x, context)
        return self._sum(around, y), (trace, beside)

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Error pass, through the body and around it: error shaped as the output; returns that of x, or None."""
        trace, beside = trace
        around = error if self.shortcut is None else error_through(self.shortcut, beside, error, context)
        if context.output_error is not None:
            # Direct feedback inside the body stands for an error that came through `alpha` as well.
            context = context._replace(output_error=self.alpha * context.output_error)
        through = error_through(self.body, trace, self.alpha * error, context)
        return None if through is None or around is None else around + through


def routed_maps(body: Layer) -> list[AreaLinear]:
    """Returns the maps with several areas, in and below a body, that follow a router outside."""
    return [part for part in followers(body, AreaLinear) if part.routed]


class Routed(Container, Gathering):
    """One router for a whole body: ``y = body(x, route(x))``, the same area for a sample in every layer.

    The projection learns once a step, from ``dL/da`` summed over the layers of the body, the gated ones alone if there
    are any, and over the rows of a sample if a layer sees several. In several nodes of a `Graph` it learns from each of
    them, after the body has moved. The error below is the body's, with that of the gates if the router has feedback.
    Source: our choice.
    """

    router = Held[Router]()
    body = Held[Layer]()

    def __init__(self, router: Router, body: Layer) -> None:
        """Lets the layers of a body follow a router, which sees the input of the body.

        The router sees each row of an input (..., in). If instead a whole sample has as many numbers as the router has
        inputs, it sees samples, and all rows of a sample share its area.

        Args:
            router: The router.
            body: The layers. An `AreaLinear` that is to follow is built with ``router=None``, and with as many areas as
                the router has; one with a router of its own, or inside another `Routed`, follows that.

        Raises:
            BrodmannError: The body is no `Layer`, the router no `Router`, all layers of the body have routers of their
                own, or one has another number of areas; or, when called, neither a row nor a sample has as many numbers
                as the router has inputs.
        """
        super().__init__()
        check_layer(body, "The body of Routed")
        if not isinstance(router, Router):
            raise BrodmannError(f"Expected the router of Routed to be a Router, got {type(router).__name__}.")
        self.router, self.body = router, body
        self.settle()
        self._update_rule = router.projection.update_rule

    def settle(self) -> None:
        """Checks whether the layers go with the router, and tells them their places, see `Container.settle`."""
        router, body = self.router, self.body
        named = [(name, part) for name, part in body.named_modules() if isinstance(part, AreaLinear)]
        alone = [name for name, part in named if part.router is not None]
        maps = routed_maps(body)
        if alone and not maps:
            raise BrodmannError(
                f"No layer of the body would follow this router: '{alone[0]}' has one of its own. Build it with "
                "router=None."
            )
        gated = any(part.gated for part in maps)
        for place, part in enumerate(maps):
            if part.budget != router.areas:
                raise BrodmannError(
                    f"The router has {router.areas} areas, but a layer of its body has {part.budget}: make them equal."
                )
            part.place, part.steers = place, part.gated or not gated
        settle_feedback(router, gated=gated, lowest=not body.sends_down)

    @property
    def moves(self) -> bool:
        """Whether its router changes, for a body in which something moves."""
        return self.router.moves and self.body.can_learn

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (batch, ..., in); returns the body's output; it follows this router, not an outer one."""
        return self.body(x, self.router(self._rows(x)))

    def _rows(self, x: Tensor) -> Tensor:
        """Returns the rows to route: each row of (..., in), or each flattened sample.

        Samples are routed if a sample, and not a row, has as many numbers as the router has inputs.
        """
        check_tensors(x=x)
        inputs = self.router.projection.value.shape[-1]
        if x.ndim and (x.shape[-1] == inputs or x.ndim < 3):
            return as_rows(x)
        if x.ndim == 0 or x.shape[1:].numel() != inputs:
            raise BrodmannError(
                f"Expected an input of shape (..., {inputs}), or (samples, ...) of {inputs} numbers each, got "
                f"{tuple(x.shape)}."
            )
        return x.flatten(1)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass: x (batch, ..., in); returns the body's output, and the route with the body's trace."""
        route = self._steering().choose(self._rows(x), context)
        y, trace = trace_of(self.body, x, context._replace(route=route))
        return y, (route, trace)

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error shaped as the output; returns that of x, or None."""
        route, inner = trace
        below: Tensor | None = error_through(self.body, inner, error, context._replace(route=route))
        if below is not None and route.error_of_gates is not None:
            below = below + self.router.error_below(route, route.error_of_gates).reshape(below.shape)
        if self.router.moves and context.lr_of(self):
            self.hand_over(route, context)  # after the layers of the body have handed over theirs: they move first
        return below

    def of_all(self, part: Route, processes: Processes) -> Route:
        """Returns the route of the rows of all processes."""
        return part.of_all(processes)

    @unrecorded
    def move(self, parts: list[Route], context: Context) -> None:
        """Lets the router learn from the routes of all places; then areas may split."""
        self._steering().learn(parts, context)

    def split(self, area: int, cells: Iterable[int] | None = None) -> int:
        """Splits an area in every layer of the body by cloning: no output changes. See `Router.split`."""
        return self._steering().split(area, cells)

    def merge(self, kept: int, gone: int) -> float:
        """Merges two areas in every layer of the body; returns the largest distance of two maps, see `AreaMap.merge`.

        Raises:
            BrodmannError: One of these layers, or the router, is frozen; or as `Router.merge`.
        """
        return self._steering().merge(kept, gone, changing=[self, *routed_maps(self.body)])

    def _steering(self) -> Steering:
        return Steering(self.router, self)
