"""AreaLinear: a linear layer of many mutually exclusive areas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..areas.starts import start_of
from ..autograd import followed, unrecorded
from ..checks import check_error, check_input, check_real, check_switch, check_whole
from ..errors import BrodmannError
from ..feedback import Feedback, KolenPollack, Shape, Signal, build_feedback, error_below
from ..held import Held
from ..kernels import Groups
from ..layer import Context
from ..origin import is_ours
from ..processes import Processes
from ..routing import Choice, Chosen, Route, Router, build_router, checked_route, settle_feedback, sketch
from ..rows import as_rows, repeat_rows, unflatten_rows
from ..storage import storage_dtype
from ..updates import SGD, Factors, UpdateRule, check_counts, check_rule
from .maps import Maps
from .steering import Steering

SHARED = ("learned", "frozen", "off")


class AreaTrace(NamedTuple):
    """What an `AreaLinear` remembers of one forward pass.

    Attributes:
        x: (rows, in).
        own: The area's own part ``D[g] x + d[g]``, (rows, out), if something learns from it, else None.
        route: The route, or None with a single area.
        groups: The rows of each area.
        leading: Leading shape of the input.
    """

    x: Tensor
    own: Tensor | None
    route: Route | None
    groups: Groups
    leading: tuple[int, ...]


class AreaLinear(Maps):
    """A linear layer of many mutually exclusive areas: ``z = W0 x + b0 + a (D[g] x + d[g])``.

    ``g`` is the area that the router picks for the sample; ``a`` is 1, or the gate if ``gated``. With
    ``delta = dL/dz`` as the feedback sees it, a step computes ``e_below`` from the weights as they are and then moves

    - ``W0, b0`` by the factors ``(delta, x)``;
    - ``D[g], d[g]`` by ``(a delta, x)`` of the area's own samples, and no other area;
    - the feedback weights, as their path says;
    - the router by ``dL/da = delta . (D[g] x + d[g])``, which also adds to ``e_below`` if the router has feedback.

    Source: SAL (arXiv 2601.21561), abstract, for exclusive areas and asymmetric feedback; the shared part,
    areas that start at zero, the gate and the projection's rule are our choice.

    Attributes:
        shared: ``W0``, (1, out, in), with biases ``b0``, (1, out), or None.
        areas: ``D`` and ``d`` of all areas, or None if there is only the shared part.
        budget: Largest number of areas.
        router: Its own router, or None.
        routed: Whether it follows the route of an enclosing `Routed`; ``place`` is its number among such layers.
        feedback: Its feedback path, or None.
        merged: Whether `merge_parts` made it a layer for inference only.
    """

    router = Held[Router | None]()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        areas: int = 16,
        shared: str = "learned",
        gated: bool = False,
        feedback: Callable[[Shape], Feedback] | None = KolenPollack,
        update: UpdateRule | None = None,
        pooling: float = 0.0,
        router: Callable[..., Router] | None = Router,
        start_scale: float = 1.0,
        start: nn.Linear | None = None,
        bias: bool = True,
        storage: str | torch.dtype | None = None,
    ) -> None:
        """Draws the weights from torch's global generator.

        Args:
            in_features: Size of a sample.
            out_features: Size of the output.
            areas: Largest number of areas. With one area and a shared part the layer is just the shared part.
            shared: ``"learned"`` (default: pools what areas have in common), ``"frozen"`` (random, never moves) or
                ``"off"`` (no shared part; areas start as copies of one random map).
            gated: Whether the gate multiplies the area's part. Default False: then both parts can be merged into one
                map.
            feedback: The feedback path: a class of `brodmann.feedback`, or a `functools.partial` of one. None for
                the lowest layer, which sends no error down.
            update: Update rule of every weight of the layer, the router's projection included. Default plain SGD.
            pooling: Extra decay on the areas' own parts, which pulls them towards what is shared. Default 0.
            router: Builds the layer's own router from (in_features, areas, update=...). None to use the route of the
                enclosing `Routed`.
            start_scale: Standard deviation of the initial shared weights, and of feedback weights that learn, in units
                of ``1 / sqrt(in)``. Default 1: outputs as large as inputs. Readouts start smaller, see `mlp`. With 0
                the shared part starts at zero, feedback weights as with 1.
            start: A map to start from, such as one of a trained network, in place of ``start_scale``: the initial
                output equals its output, whatever the area; times the gate, if ``gated`` without a shared part.
                Feedback weights start independently, at the same scale. A float64 map gives a float64 layer, any other
                one of PyTorch's default dtype. Default None.
            bias: Whether maps have biases, which start at 0 and never decay. Default True; a ``start`` decides this
                itself.
            storage: Dtype in which weights, and feedback weights that learn, are stored, or its name. Default None:
                that of the computation. ``"bfloat16"`` halves the bytes of a step. Products are summed in float32, with
                rows rounded to bfloat16 if the processor multiplies such numbers; new weights are rounded
                stochastically.

        Raises:
            BrodmannError: A size is not a positive whole number, a choice is unknown, or the start has other sizes or
                is no plain `nn.Linear`.
        """
        check_whole(in_features=in_features, out_features=out_features, areas=areas)
        check_real(pooling=pooling, start_scale=start_scale)
        check_switch(gated=gated, bias=bias)
        if router is not None and (not callable(router) or isinstance(router, nn.Module)):
            raise BrodmannError(f"Expected router to be a class, or a functools.partial of one, got {router!r}.")
        if update is not None:
            check_rule(update)
        if shared not in SHARED:
            raise BrodmannError(f"Expected shared to be one of {', '.join(SHARED)}, got '{shared}'.")
        in_features, out_features, areas = int(in_features), int(out_features), int(areas)  # NumPy's overflow
        weight, biases, scale = start_of(in_features, out_features, start_scale, start, bias=bias)
        shape = Shape(
            in_features,
            out_features,
            areas=areas,
            shared=shared == "learned",
            equal_start=weight,
            update=update or SGD(),
            storage=storage_dtype(storage),
            scale=scale or 1.0,
        )
        super().__init__(shape, biases, shared=shared, gated=gated, pooling=pooling)
        self.router = None if router is None or areas == 1 else build_router(router, in_features, areas, shape.update)
        if self.router is not None:
            settle_feedback(self.router, gated=gated, lowest=feedback is None)
        self.routed = router is None and areas > 1
        self.place, self.steers = 0, True  # among the layers that follow one `Routed`; whether that learns from it
        self.feedback = None if feedback is None else build_feedback(feedback, shape)
        if weight.dtype != torch.get_default_dtype():
            self.to(weight.dtype)

    @property
    def sends_down(self) -> bool:
        """Whether it has feedback."""
        return self.feedback is not None

    @property
    def sends_error_of_gates(self) -> bool:
        """Whether what it sends down is also the error of gates, by a router of its own, see `Router`."""
        return self.router is not None and self.router.feedback is not None

    @property
    def moves(self) -> bool:
        """Whether it still learns: not once it was merged."""
        return not self.merged

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (..., in); returns (..., out)."""
        check_input(x, self._map)
        rows = as_rows(x)
        if self.budget == 1:
            choice = None
        elif self.router is not None:
            choice = self.router(rows)
        else:
            choice = checked_route(choice, x, rows)
        if isinstance(choice, Choice) or followed(rows, *self._weights()):
            out = self._followed(rows, choice)
        else:
            groups = groups_of(rows, choice)
            slot = None if self.areas is None else self.areas.slots_of_now(groups.of_rows)  # another thread may learn
            out, _ = self._output(rows, choice, groups, slot)
        return unflatten_rows(out, x.shape[:-1])

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, AreaTrace]:
        """Learning forward pass: x (..., in); returns (..., out) and the trace."""
        if self.merged:
            raise BrodmannError("This layer was merged for inference: learn with the network that it was made from.")
        check_input(x, self._map)
        rows = as_rows(x)
        if context.weight is not None and self.update_rule.repeats:
            check_counts(context.weight, len(rows))  # here, where no layer has moved yet
        route = self._route(x, rows, context)
        groups = groups_of(rows, route)
        out, own = self._output(rows, route, groups)
        needed = own if route is not None and route.reads_gate_error and self.steers else None
        leading = x.shape[:-1]
        return unflatten_rows(out, leading), AreaTrace(rows, needed, route, groups, leading)

    @unrecorded
    def learn(self, trace: AreaTrace, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error (..., out), ``dL/dz``; returns ``e_below`` (..., in), or None without feedback."""
        signal = self._received(trace, error, context)
        below = self._below(signal, trace)
        self._learn_from(signal, trace, context)
        return below

    @unrecorded
    def learn_without_sending(self, trace: AreaTrace, error: Tensor, context: Context) -> None:
        """As `learn`, for callers that already have the error below, such as from `send`."""
        self._learn_from(self._received(trace, error, context), trace, context)

    def _received(self, trace: AreaTrace, error: Tensor, context: Context) -> Signal:
        self.check_error(error, trace.leading, trace.x)
        return self._signal(trace, context.received(self, error), context)

    def _learn_from(self, signal: Signal, trace: AreaTrace, context: Context) -> None:
        """Adds to what the router learns from, and hands over what moves the layer."""
        route, lr = trace.route, context.lr_of(self)
        if route is not None:
            if trace.own is not None:
                route.add_gate_error(_gate_error(signal, trace.own), gated=self.gated)
            if lr and route.grows:
                route.add_pulls(sketch(signal.part_delta, trace.x, self.place))
        if lr:
            if context.weight is not None and self.update_rule.repeats and trace.groups.rows:
                signal = signal.repeated(context.weight)
            self.hand_over((signal, route), context)

    @unrecorded
    def send(self, trace: AreaTrace, error: Tensor, context: Context) -> Tensor | None:
        """Returns the error below that `learn` returns, and moves nothing: for a layer that learns from several errors.

        No observer is called.
        """
        self.check_error(error, trace.leading, trace.x)
        return self._below(self._signal(trace, context.clipped(error), context), trace)

    @unrecorded
    def move_together(self, parts: list[tuple[Signal, Route | None]], context: Context) -> None:
        """Processes exchange the gradient of one map; for those of several see `of_all`."""
        if context.processes is None or not self.learns_by_gradient:
            super().move_together(parts, context)
            return
        signal = Signal.joined([signal for signal, _ in parts])
        gradient, of_bias = (Factors(signal.delta, x).dense() for x in (signal.x, None))
        self.move_by_gradient(gradient, of_bias, context)

    def of_all(self, part: tuple[Signal, Route | None], processes: Processes) -> tuple[Signal, Route | None]:
        """Returns the rows of all processes, or gradients of areas in the form of rows if these are smaller.

        The route of a shared router is looked after by its `Routed`.
        """
        signal, route = part
        if self.feedback is None or is_ours(self.feedback):  # those of this package learn only from rows
            signal = signal._replace(output_error=None, output=None, target=None)
        counts = processes.counts(signal.x, signal.delta)
        sums = self.learns_by_gradients_of_areas and max(counts) * (self.in_features + self.out_features) > (
            self.budget * self.in_features * self.out_features
        )
        whole = signal.gradients_of_all(processes) if sums else signal.of_all(processes, counts)
        if route is not None and self.router is not None and self.router.moves:
            route = route.of_all(processes, whole.x if route.x is signal.x and not sums else None)
        return whole, route

    @unrecorded
    def move(self, parts: list[tuple[Signal, Route | None]], context: Context) -> None:
        """Moves every weight by signals, each with the route of its rows; then a router of its own by the routes."""
        if signals := [signal for signal, _ in parts if signal.groups.rows]:
            signal = Signal.joined(signals)
            if still := {area for _, route in parts if route is not None for area in route.router.protected}:
                signal = signal._replace(groups=signal.groups.without(still))
            route = parts[0][1]
            self.move_by_rows(signal, context, grown=route is not None and route.grows)
        if self.router is not None:
            self._steering().learn((route for _, route in parts if route is not None), context)

    def _signal(self, trace: AreaTrace, error: Tensor, context: Context) -> Signal:
        """Returns what the feedback path and the updates learn from."""
        delta = part_delta = as_rows(error)
        if self.gated and trace.route is not None:
            part_delta = repeat_rows(trace.route.gate, len(delta))[:, None] * delta
        output_error, output = context.output_error, context.output
        if output_error is not None:
            output_error = as_rows(output_error)
        if output is not None:
            output = as_rows(output)
        parts = self.shared, self.areas
        return Signal(trace.x, delta, part_delta, trace.groups, output_error, *parts, context.target, output)

    def _below(self, signal: Signal, trace: AreaTrace) -> Tensor | None:
        if self.feedback is None:
            return None
        below = error_below(self.feedback, signal)
        if self.sends_error_of_gates:
            assert self.router is not None
            assert trace.route is not None
            assert trace.own is not None
            below = below + self.router.error_below(trace.route, _gate_error(signal, trace.own))
        return unflatten_rows(below, trace.leading)

    def check_error(self, error: Tensor, leading: tuple[int, ...], x: Tensor) -> None:
        """Checks that an error is one of the output, (*leading, out), for x; raises a `BrodmannError`."""
        check_error(error, (*leading, self.out_features), x.dtype)

    def split(self, area: int, cells: Iterable[int] | None = None) -> int:
        """Splits an area by cloning: no output changes. See `Router.split`; the layer must own its router."""
        return self._steering().split(area, cells)

    def merge(self, kept: int, gone: int) -> float:
        """Merges two areas, by default into their mean. See `Router.merge` and `UpdateRule.merge`.

        Returns:
            How far apart the two maps were, relative to their size, see `AreaMap.merge`.

        Raises:
            BrodmannError: The layer is frozen, or has no router of its own; or as `Router.merge`.
        """
        return self._steering().merge(kept, gone, changing=[self])

    def _steering(self) -> Steering:
        if self.router is None:
            raise BrodmannError("This layer has no router of its own: call split or merge on the Routed that holds it.")
        return Steering(self.router, self)

    def _route(self, x: Tensor, rows: Tensor, context: Context) -> Route | None:
        if self.budget == 1:
            return None
        if self.router is not None:
            return self._steering().choose(rows, context)
        return checked_route(context.route, x, rows)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        sizes = f"{self.in_features}, {self.out_features}, areas={self.budget}"
        return f"{sizes}, shared={self.shared_mode}, gated={self.gated}, pooling={self.pooling}, {self.update_rule}"


def _gate_error(signal: Signal, own: Tensor) -> Tensor:
    """Returns ``dL/da`` of each row, (rows,): ``delta . (D[g] x + d[g])``."""
    return (signal.delta * own).sum(1)


def groups_of(rows: Tensor, route: Route | None) -> Groups:
    """Returns the rows of each area in a layer that gets rows (rows, in); without a route all are of area 0."""
    return Groups.single(rows.shape[0], rows.device) if route is None else route.groups_of(rows.shape[0])
