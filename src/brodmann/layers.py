"""Layers and containers: three methods each, and nothing remembered between calls.

- ``forward(x, choice=None) -> y``: inference, an ordinary module; ``choice`` hands down what an enclosing `Routed`
  chose;
- ``trace(x, context) -> (y, trace)``: the learning forward pass;
- ``learn(trace, error, context) -> error_below``: local update, then the error for the layer below. It uses up the
  trace.

A layer without feedback returns None as its error below: it is the lowest that learns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .areas import AreaMap, Groups, Slab
from .errors import BrodmannError
from .feedback import Feedback, KolenPollack, Shape, Signal
from .routing import Route, Router
from .updates import SGD, Factors, UpdateRule

SHARED = ("learned", "frozen", "off")

Choice = tuple[Tensor, Tensor]
"""Area (rows,) int64 and gate (rows,) of each row: all that inference needs of a route."""


@dataclass(frozen=True)
class Rates:
    """Learning rates of the parts, as multiples of the step's learning rate. Default 1 each; 0 freezes a part."""

    shared: float = 1.0
    areas: float = 1.0
    projection: float = 1.0
    feedback: float = 1.0


@dataclass(frozen=True)
class Context:
    """What is not local to one layer during a learning step.

    Attributes:
        lr: Learning rate of this step.
        rates: Multiples of it for each part.
        output_error: Error at the network's output, (batch, ..., outputs), known from the error pass on.
        route: Route shared by the layers of a `Routed` body, else None.
        gate_error: Where those layers add up their ``dL/da``, (rows,).
        clip: Largest norm of an error that a layer accepts (over the whole batch), else it is scaled down to that;
            None for no limit.
        observe: Called by every `AreaLinear` in `learn` with itself and the error that arrived.
    """

    lr: float = 0.0
    rates: Rates = field(default_factory=Rates)
    output_error: Tensor | None = None
    route: Route | None = None
    gate_error: Tensor | None = None
    clip: float | None = None
    observe: Callable[[AreaLinear, Tensor], None] | None = None


class Layer(nn.Module, ABC):
    """Abstract: anything that can be traced and can learn."""

    @abstractmethod
    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference, with the area and the gate that an enclosing `Routed` chose, if any."""

    @abstractmethod
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Computes the output and what `learn` must remember."""

    @abstractmethod
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Updates in place; returns the error for the layer below, or None where nothing below learns."""


@dataclass
class AreaTrace:
    """What an `AreaLinear` remembers of one forward pass; rows sorted by area.

    Attributes:
        x: (rows, in).
        own: The area's own part ``D[g] x + d[g]``, (rows, out), where something learns from it, else None.
        route: The route, or None with a single area.
        groups: The rows of each area.
        leading: Leading shape of the input.
    """

    x: Tensor
    own: Tensor | None
    route: Route | None
    groups: Groups
    leading: tuple[int, ...]


class AreaLinear(Layer):
    """A linear layer of many mutually exclusive areas: ``z = W0 x + b0 + a (D[g] x + d[g])``.

    ``g`` is the area that the router picks for the sample; ``a`` is 1, or the gate where ``gated``. With ``delta =
    dL/dz`` as the
    feedback sees it, a step computes ``e_below`` from the weights as they are and then moves

    - ``W0, b0`` by the factors ``(delta, x)``, ``D[g], d[g]`` by ``(a delta, x)`` of the area's own samples, no
      other area;
    - the feedback weights, as their path says;
    - the router by ``dL/da = delta . (D[g] x + d[g])``.

    Source: SAL (arXiv 2601.21561), abstract, for exclusive areas and asymmetric feedback; the shared part, areas
        that start
    at zero, the gate and the projection's rule are our choice.
    """

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
        zero_start: bool = False,
    ) -> None:
        """Draws the weights from torch's global generator.

        Args:
            in_features: Size of a sample.
            out_features: Size of the output.
            areas: Budget of areas. With one area and a shared part the layer is the shared part alone.
            shared: ``"learned"`` (default: pools what areas have in common), ``"frozen"`` (random, never moves) or
                ``"off"`` (no shared part;
                areas start as copies of one random map).
            gated: Whether the gate multiplies the area's part. Default False: then both parts can be merged into one
                map.
            feedback: The feedback path: a class of `brodmann.feedback`, or a `functools.partial` of one. None for
                the lowest
                layer, which sends no error down.
            update: Update rule of every weight of the layer, the router's projection included. Default plain SGD.
            pooling: Extra decay on the areas' own parts, which pulls them towards what is shared. Default 0.
            router: Builds the layer's own router from (in_features, areas, update=...). None to use the route of the
                enclosing `Routed`.
            zero_start: Whether the shared part starts at zero. Default False: normal with variance ``1 / in``.

        Raises:
            BrodmannError: A size is not positive, or a choice is unknown.
        """
        super().__init__()
        if min(in_features, out_features, areas) < 1:
            raise BrodmannError(
                "AreaLinear needs in_features, out_features and areas of at least 1, got "
                f"{in_features}, {out_features} and {areas}."
            )
        if shared not in SHARED:
            raise BrodmannError(f"Expected shared to be one of {', '.join(SHARED)}, got '{shared}'.")
        if pooling < 0:
            raise BrodmannError(f"Expected pooling of at least 0, got {pooling}.")
        rule = update or SGD()
        self.in_features, self.out_features, self.budget = in_features, out_features, areas
        self.shared_mode, self.gated, self.pooling, self.update_rule = shared, gated, pooling, rule
        start = torch.zeros(out_features, in_features)
        if not zero_start:
            start.normal_(std=in_features**-0.5)
        self.shared: Slab | None = None
        self.shared_bias: Slab | None = None
        self.areas: AreaMap | None = None
        if shared != "off":
            self.shared = Slab(start[None].clone(), rule)
            self.shared_bias = Slab(torch.zeros(1, out_features), rule)
        if areas > 1 or shared != "learned":
            origin = start if shared == "off" else torch.zeros_like(start)
            self.areas = AreaMap(areas, origin, torch.zeros(out_features), rule)
        self.router = router(in_features, areas, update=rule) if router is not None and areas > 1 else None
        self.routed = router is None and areas > 1
        shape = Shape(in_features, out_features, areas, shared == "learned", start, rule)
        self.feedback = None if feedback is None else feedback(shape)

    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference: x (..., in); returns (..., out)."""
        self._check(x)
        rows = x.reshape(-1, self.in_features)
        out = None
        if self.shared is not None and self.shared_bias is not None:
            out = F.linear(rows, self.shared.value[0], self.shared_bias.value[0])
        if self.areas is not None:
            if self.router is not None:
                choice = self.router(rows)
            elif self.routed and choice is None:
                raise BrodmannError("This AreaLinear has no router of its own: put it into a Routed, or give it one.")
            if choice is None or self.budget == 1:
                choice = rows.new_zeros(rows.shape[0], dtype=torch.int64), rows.new_ones(rows.shape[0])
            area, gate = choice
            own = self.areas(rows, area)
            if self.gated:
                own = gate[:, None] * own
            out = own if out is None else out + own
        assert out is not None
        return out.reshape(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, AreaTrace]:
        """Learning forward pass: x (..., in); returns (..., out) and the trace."""
        self._check(x)
        rows = x.reshape(-1, self.in_features)
        route = self._route(rows, context)
        groups = Groups.single(len(rows)) if route is None else route.groups
        rows = groups.sort(rows)
        out = own = None
        if self.shared is not None and self.shared_bias is not None:
            out = torch.addmm(self.shared_bias.value[0], rows, self.shared.value[0].t())
        if self.areas is not None:
            own = self.areas.forward_groups(rows, groups)
            part = own
            if self.gated and route is not None:
                part = groups.sort(route.gate)[:, None] * own
            # `own` is kept for the router: never add into it where it is still needed.
            out = part if out is None else out.add_(part)
        assert out is not None
        trace = AreaTrace(rows, own if self._own_is_needed(route) else None, route, groups, tuple(x.shape[:-1]))
        return groups.unsort(out).reshape(*x.shape[:-1], self.out_features), trace

    @torch.no_grad()
    def learn(self, trace: AreaTrace, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error (..., out), ``dL/dz``; returns ``e_below`` (..., in), or None without feedback."""
        if context.clip is not None:
            norm = error.norm()
            error = error * (context.clip / norm.clamp_min(context.clip))
        if context.observe is not None:
            context.observe(self, error)
        route, groups, rates = trace.route, trace.groups, context.rates
        delta = part_delta = groups.sort(error.reshape(-1, self.out_features))
        if self.gated and route is not None:
            part_delta = groups.sort(route.gate)[:, None] * delta
        gate_error = None if trace.own is None else groups.unsort((delta * trace.own).sum(1))

        below = None
        if self.feedback is not None:
            output_error = context.output_error
            if output_error is not None:
                output_error = groups.sort(output_error.reshape(-1, output_error.shape[-1]))
            signal = Signal(trace.x, delta, part_delta, groups, output_error, self.shared, self.areas)
            below = groups.unsort(self.feedback.error(signal)).reshape(*trace.leading, self.in_features)
        decay = self.update_rule.decay
        area_decay = decay + self.pooling
        if self.feedback is not None and rates.feedback and len(delta):
            self.feedback.learn(signal, context.lr * rates.feedback, decay, area_decay)
        if self.shared_mode == "learned" and rates.shared and len(delta):
            assert self.shared is not None
            assert self.shared_bias is not None
            self.shared.step(0, Factors(delta, trace.x), context.lr * rates.shared, decay)
            self.shared_bias.step(0, Factors(delta), context.lr * rates.shared, 0.0)
        if self.areas is not None and rates.areas:
            self.areas.learn(trace.x, part_delta, groups, context.lr * rates.areas, area_decay)
        if gate_error is not None and route is not None:
            if self.router is None:
                assert context.gate_error is not None
                context.gate_error.add_(gate_error)
            elif rates.projection:
                self.router.learn(route, gate_error, context.lr * rates.projection)
        return below

    def split(self, area: int, cells: list[int] | None = None) -> int:
        """Splits an area by cloning: no output changes. See `Router.split`; the layer must own its router."""
        new = self._own_router().split(area, cells)
        clone_area(self, area, new)
        return new

    def merge(self, kept: int, gone: int) -> float:
        """Merges two areas into their mean. See `Router.merge`.

        Returns:
            How far apart the two maps were, relative to their size, see `AreaMap.merge`.
        """
        self._own_router().merge(kept, gone)
        return merge_areas(self, kept, gone)

    def active_parameters(self) -> int:
        """Counts what inference reads for one sample, without the router: the merged map, or both where gated."""
        one = (self.in_features + 1) * self.out_features
        both = self.gated and self.shared is not None and self.areas is not None
        return 2 * one if both else one

    def _own_router(self) -> Router:
        if self.router is None:
            raise BrodmannError("This layer has no router of its own: split or merge on the Routed that holds it.")
        return self.router

    def _route(self, rows: Tensor, context: Context) -> Route | None:
        if self.areas is None or self.budget == 1:
            return None
        if self.router is not None:
            return self.router.route(rows)
        if context.route is None:
            raise BrodmannError("This AreaLinear has no router of its own: put it into a Routed, or give it one.")
        if len(context.route.area) != len(rows):
            raise BrodmannError(
                f"The shared route has {len(context.route.area)} rows, this layer got {len(rows)}: "
                "keep rows apart inside a Routed."
            )
        return context.route

    def _own_is_needed(self, route: Route | None) -> bool:
        return route is not None and (self.router is None or self.router.learned or self.router.balance_rate > 0)

    def _check(self, x: Tensor) -> None:
        if x.shape[-1] != self.in_features:
            raise BrodmannError(f"Expected an input of shape (..., {self.in_features}), got {tuple(x.shape)}.")

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        sizes = f"{self.in_features}, {self.out_features}, areas={self.budget}"
        return f"{sizes}, shared={self.shared_mode}, gated={self.gated}"


def clone_area(module: nn.Module, area: int, new: int) -> None:
    """Copies an area's maps, feedback and optimiser state, in every layer below a module that shares its router."""
    for part in _area_maps(module):
        part.clone(area, new)


def merge_areas(module: nn.Module, kept: int, gone: int) -> float:
    """Merges two areas' maps, feedback and optimiser state; returns the largest relative distance that it removed."""
    return max((part.merge(kept, gone) for part in _area_maps(module)), default=0.0)


def _area_maps(module: nn.Module) -> Iterator[AreaMap]:
    """Yields the area maps that follow the router of `module`: not those of layers with a router of their own."""
    if isinstance(module, AreaMap):
        yield module
        return
    for child in module.children():
        if not _has_router(child):
            yield from _area_maps(child)


def _has_router(module: nn.Module) -> bool:
    return isinstance(module, Routed) or (isinstance(module, AreaLinear) and module.router is not None)


class Local(Layer):
    """A parameter-free operation: activation, norm without weights, dropout, flatten, pooling.

    Its derivative holds no weights, so PyTorch's own backward formula, or a confined `torch.func.vjp`, transports none.
    """

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        """Wraps an operation.

        Args:
            operation: A module or function of one tensor.

        Raises:
            BrodmannError: It is a module with parameters or buffers.
        """
        super().__init__()
        if isinstance(operation, nn.Module):
            held = [*operation.parameters(), *operation.buffers()]
            if held:
                raise BrodmannError(
                    f"Local takes operations without parameters or buffers; {type(operation).__name__} holds "
                    f"{len(held)}. "
                    "Use elementwise_affine=False, affine=False with track_running_stats=False, or an AreaLinear."
                )
            operation.eval()
        self.operation = operation

    def train(self, mode: bool = True) -> Local:
        """Leaves the operation in inference mode: only `trace` draws dropout masks."""
        super().train(mode)
        if isinstance(self.operation, nn.Module):
            self.operation.eval()
        return self

    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference: dropout off."""
        return self.operation(x)

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass: dropout on."""
        if isinstance(self.operation, nn.ReLU):
            with torch.no_grad():
                y = torch.relu(x)
            return y, y
        with torch.inference_mode(False), torch.no_grad():
            # Autograd refuses tensors made in inference mode.
            x = x.clone() if x.is_inference() else x
            module = self.operation if isinstance(self.operation, nn.Module) else None
            if module is not None:
                module.train()
            try:
                y, pull_back = torch.func.vjp(self.operation, x)[:2]
            finally:
                if module is not None:
                    module.eval()
        return y, pull_back

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Carries the error through the derivative."""
        if isinstance(trace, Tensor):
            with torch.no_grad():
                below: Tensor = torch.ops.aten.threshold_backward(error, trace, 0)
                return below
        with torch.inference_mode(False), torch.no_grad():
            carried: Tensor = trace(error.clone() if error.is_inference() else error)[0]
            return carried.detach()


class RMSNorm(nn.Module):
    """Root-mean-square norm without weights, ``x / sqrt(mean(x^2) + 1e-6)`` over the last dimension."""

    def forward(self, x: Tensor) -> Tensor:
        """X (..., n); returns the same shape."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Sequential(Layer):
    """Layers one after the other. Traces are freed as the error passes down."""

    def __init__(self, *layers: Layer) -> None:
        """Takes the layers from input to output.

        Raises:
            BrodmannError: One of them is not a `Layer`.
        """
        super().__init__()
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise BrodmannError(
                    f"Layer {index} of Sequential is a {type(layer).__name__}, which cannot learn: wrap parameter-free "
                    "operations in Local, and use AreaLinear for linear maps."
                )
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference."""
        for layer in self.layers:
            x = layer(x, choice)
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, list[Any]]:
        """Learning forward pass."""
        traces = []
        for layer in self.layers:
            x, trace = layer.trace(x, context)  # type: ignore[operator]
            traces.append(trace)
        return x, traces

    def learn(self, trace: list[Any], error: Tensor, context: Context) -> Tensor | None:
        """Error pass from the last layer to the first; stops where a layer sends nothing down."""
        below: Tensor | None = error
        for layer in reversed(self.layers):
            if below is None:
                if any(isinstance(part, AreaLinear) for part in layer.modules()):
                    raise BrodmannError("A layer without feedback lies above one that learns: give it a feedback path.")
                trace.pop()
                continue
            below = layer.learn(trace.pop(), below, context)  # type: ignore[operator]
        return below


class Residual(Layer):
    """``h + alpha body(h)``. The error below is ``e + alpha``-scaled error through the body."""

    def __init__(self, body: Layer, alpha: float = 1.0) -> None:
        """Wraps a body of equal input and output size.

        Args:
            body: The layer beside the path.
            alpha: Scale of the body. Default 1; `residual_mlp` uses 1 / sqrt(blocks) so that the sum keeps its
                variance with depth.
        """
        super().__init__()
        self.body, self.alpha = body, alpha

    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference."""
        return torch.add(x, self.body(x, choice), alpha=self.alpha)

    @torch.no_grad()
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass."""
        y, trace = self.body.trace(x, context)
        if y.shape != x.shape:
            raise BrodmannError(f"A residual body must keep the shape {tuple(x.shape)}, got {tuple(y.shape)}.")
        return torch.add(x, y, alpha=self.alpha), trace

    @torch.no_grad()
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: through the body and around it."""
        through = self.body.learn(trace, self.alpha * error, context)
        return error if through is None else error + through


class Routed(Layer):
    """One router for a whole body.

    The route is computed once, and the projection learns once, from what all layers of the body found useful.
    """

    def __init__(self, router: Router, body: Layer) -> None:
        """Every `AreaLinear` in the body is built with ``router=None`` and as many areas as the router has.

        Raises:
            BrodmannError: A layer of the body has another number of areas.
        """
        super().__init__()
        for part in body.modules():
            if isinstance(part, AreaLinear) and part.routed and part.budget != router.areas:
                raise BrodmannError(
                    f"The router has {router.areas} areas, a layer of its body {part.budget}: make them equal."
                )
        self.router, self.body = router, body

    def forward(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Inference; the body follows this router, not an outer one."""
        return self.body(x, self.router(x.reshape(-1, x.shape[-1])))  # type: ignore[no-any-return]

    @torch.no_grad()
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass."""
        route = self.router.route(x.reshape(-1, x.shape[-1]))
        y, trace = self.body.trace(x, replace(context, route=route))
        return y, (route, trace)

    @torch.no_grad()
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Error pass."""
        route, inner = trace
        gate_error = torch.zeros_like(route.gate)
        below = self.body.learn(inner, error, replace(context, route=route, gate_error=gate_error))
        if context.rates.projection:
            self.router.learn(route, gate_error, context.lr * context.rates.projection)
        return below

    def split(self, area: int, cells: list[int] | None = None) -> int:
        """Splits an area in every layer of the body by cloning: no output changes. See `Router.split`."""
        new = self.router.split(area, cells)
        clone_area(self.body, area, new)
        return new

    def merge(self, kept: int, gone: int) -> float:
        """Merges two areas in every layer of the body; returns the largest relative distance, see `AreaMap.merge`."""
        self.router.merge(kept, gone)
        return merge_areas(self.body, kept, gone)
