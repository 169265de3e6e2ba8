"""Feedback paths: how an error travels down through a layer without its forward weights."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .areas import AreaMap
from .checks import check_real
from .errors import BrodmannError
from .generators import Draws
from .groups import Groups
from .slabs import Slab
from .starts import mirrored
from .updates import UpdateRule


class Signal(NamedTuple):
    """What one layer offers its feedback path during an error pass.

    Attributes:
        x: Input of the layer, (rows, in).
        delta: Gradient with respect to the layer's output as the feedback sees it, (rows, out).
        part_delta: The same for the area's own part: ``a * delta`` where the gate multiplies, else ``delta``.
        groups: The rows of each area.
        output_error: Error at the network's output, (rows, outputs), or None.
        shared: The shared part's weight (slab of one), or None. A path without weight transport leaves it alone; of
            those here `Transpose` reads it, and `SignSymmetric` its signs.
        areas: The areas' maps, or None; likewise.
        target: What the network's output is compared with, (samples, ...), or None: for paths that carry targets down.
    """

    x: Tensor
    delta: Tensor
    part_delta: Tensor
    groups: Groups
    output_error: Tensor | None
    shared: Slab | None
    areas: AreaMap | None
    target: Tensor | None = None

    def weight_of(self, area: int) -> Tensor:
        """Returns the forward map of an area, ``W0 + D[g]``, (out, in), for paths that read weights, or their signs."""
        own = None if self.areas is None else self.areas.weight.value[int(self.areas.slot[area])]
        if self.shared is None:
            assert own is not None  # a layer has one or the other
            return own
        return self.shared.value[0] if own is None else self.shared.value[0] + own

    def repeated(self, weight: Tensor) -> Signal:
        """Returns the signal by which a least-squares rule counts each sample ``weight`` times: weight (rows,).

        It holds ``sqrt(w) x`` and ``sqrt(w) e``, where the delta of this one is ``w e``.

        Raises:
            BrodmannError: There is not one weight for each row, or one is negative.
        """
        if weight.numel() != len(self.x) or bool((weight < 0).any()):
            raise BrodmannError(
                "Expected a weight of at least 0 for each row of the layers, which count a sample so many times, got "
                f"{weight.numel()} for {len(self.x)} rows, the smallest {float(weight.min())}."
            )
        root = weight.to(self.x).reshape(-1, 1).sqrt()
        inverse = torch.where(root > 0, 1 / root, 0.0)
        delta, part_delta = self.delta * inverse, self.part_delta * inverse
        return self._replace(x=self.x * root, delta=delta, part_delta=part_delta)


@dataclass(frozen=True, eq=False)
class Shape:
    """What a feedback path must know of its layer.

    Attributes:
        in_features: Size of what comes to the layer, and of the error below.
        out_features: Size of what it returns, and of the error that arrives.
        areas: Budget of areas.
        shared: Whether a shared part learns, whose factors a path can follow, see `Feedback.follower`.
        equal_start: The forward weights at the start, (out, in), for a path that begins as their copy.
        update: Rule of the layer's weights.
        storage: Kind of number that weights are stored in, or None: that in which the layer computes.
        scale: Standard deviation of the forward weights at the start, in units of ``1 / sqrt(in)``.
    """

    in_features: int
    out_features: int
    areas: int
    shared: bool
    equal_start: Tensor
    update: UpdateRule
    storage: torch.dtype | None = None
    scale: float = 1.0

    def draw(self) -> Tensor:
        """Draws a matrix (out, in), normal with variance ``1 / in``, independent of the forward weights."""
        return torch.randn(self.out_features, self.in_features).div_(self.in_features**0.5)

    def stored(self, matrix: Tensor) -> Tensor:
        """Returns the matrix in the kind of number that the layer's weights are stored in."""
        return matrix.to(self.storage or matrix.dtype)


class Feedback(nn.Module, ABC):
    """One layer's way down. Abstract: a path computes the error below, and may learn."""

    @abstractmethod
    def error(self, signal: Signal) -> Tensor:
        """Returns the error below, (rows, in), from values before the update."""

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """Returns the matrix (out, in) by which every row's error goes down, ``delta B``; None where there is more.

        What knows how rows lie together, as `brodmann.Convolution` does, then spares the errors of rows, and a
        `brodmann.Product` knows no rows at all. Default None.

        Args:
            weight: The forward map (out, in), where it is the same for all rows, else None. Only `Transpose` and
                `SignSymmetric` may read it.
        """
        return None

    @property
    def follower(self) -> Slab | None:
        """The feedback matrix that receives the updates of the shared part, if there is one.

        The layer moves it together with the shared part, by one gradient; `learn` moves everything else.
        """
        return None

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """Moves the other feedback weights in place, shared ones and maps per area. Default: there are none.

        Args:
            signal: What the layer offers, the same as for `error`; forward weights have not moved yet.
            lr: Learning rate of maps that all areas share: the step's, times the layer's and ``Rates.feedback``.
            decay: Decoupled decay of the layer's rule, that of the shared part.
            area_lr: ``lr`` times the rate of areas, see `Rates`: for maps per area.
            area_decay: ``decay`` plus the layer's pooling: for maps per area.
        """


class KolenPollack(Feedback):
    """Feedback weights that learn by the same updates as the forward weights, and so align with them.

    With delta (rows, out) and ``part_delta``, which is ``a delta`` in gated layers and else ``delta``, e_below (rows,
    in) is, by the layer's shared part and the number of feedback maps,

    - learned, one map: ``delta B0``; B0 (out, in) receives the factors ``(delta, x)`` of ``W0``;
    - learned, per area: ``delta B0 + part_delta E[g]``; E[g] (out, in) starts at 0 and receives those of ``D[g]``;
    - frozen or off, one map: ``part_delta B0``; B0 receives ``(part_delta, x)`` of all samples, the areas' decay;
    - frozen or off, per area: ``part_delta E[g]``; all E[g] start as copies of one random map.

    Where a pair learns at equal rates (`Rates`), its difference shrinks by ``1 - lr * decay`` a step, so without decay
    it stays.

    Source: Kolen and Pollack (1994), Akrout et al. (2019) for the rule; sharing one matrix among areas is our choice.
    """

    def __init__(self, shape: Shape, *, per_area: bool = False, start: str = "independent", noise: float = 0.0) -> None:
        """Draws ``B0``, with the standard deviation of the forward weights.

        Args:
            shape: Of the layer.
            per_area: Whether each area has a feedback map of its own. Default False: as accurate, and half the memory.
            start: ``"independent"`` (default) draws ``B0`` apart from ``W0``; ``"mirrored"`` starts as an estimate of
                ``W0`` from what it answers to noise, which reads no weight, see `brodmann.mirror.mirror_weights`;
                ``"equal"`` starts as a copy, which is backpropagation with a second copy of the weights (exactly so
                with one area) and proves nothing about feedback.
            noise: Standard deviation of a factor ``1 + noise * normal`` on every change of every weight of ``B0``, for
                those who study hardware whose two sets of weights do not move alike. Default 0.

        Raises:
            BrodmannError: The start is unknown, the noise negative, or noise is wanted on maps per area.
        """
        super().__init__()
        check_real(noise=noise)
        if noise and per_area:
            raise BrodmannError(f"Expected no noise with a map per area, got {noise}.")
        self.noise = noise
        if start not in ("independent", "mirrored", "equal"):
            raise BrodmannError(f"Expected a start of 'independent', 'mirrored' or 'equal', got '{start}'.")
        if start == "independent":
            matrix = shape.draw().mul_(shape.scale)
        elif start == "mirrored":
            matrix = mirrored(lambda x: x @ shape.equal_start.t(), shape.equal_start)
        else:
            matrix = shape.equal_start.clone()
        matrix = shape.stored(matrix)
        per_area = per_area and (shape.areas > 1 or not shape.shared)  # else the shared part is all there is
        own_only = per_area and not shape.shared
        self.shared = None if own_only else Slab(matrix[None], shape.update)
        self.areas = None
        if per_area:
            origin = matrix if own_only else torch.zeros_like(matrix)
            self.areas = AreaMap(shape.areas, origin, None, shape.update)
        self.follows_shared = shape.shared

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"per_area={self.areas is not None}, noise={self.noise}"

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        below = signal.x.new_zeros(signal.x.shape)
        if self.shared is not None:
            driver = signal.delta if self.follows_shared else signal.part_delta
            self.shared.add_error(below, driver, signal.groups.whole, None)
        if self.areas is not None:
            self.areas.add_error(below, signal.part_delta, signal.groups)
        return below

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """``B0``, unless there are maps per area, or errors are those of gated parts."""
        return self.shared.value[0] if self.shared is not None and self.areas is None and self.follows_shared else None

    @property
    def follower(self) -> Slab | None:
        """``B0``, unless no shared part learns, or it moves with noise."""
        return self.shared if self.follows_shared and not self.noise else None

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """See the class."""
        if self.shared is not None and self.follower is None:
            driver, shared_decay = (signal.delta, decay) if self.follows_shared else (signal.part_delta, area_decay)
            before = self.shared.value.clone() if self.noise else None
            self.shared.learn(signal.groups.whole, None, driver, signal.x, lr, shared_decay)
            if before is not None:
                change = self.shared.value - before
                self.shared.value.addcmul_(change, torch.randn_like(change), value=self.noise)
        if self.areas is not None:
            self.areas.learn(signal.x, signal.part_delta, signal.groups, area_lr, area_decay)


class FixedRandom(Feedback):
    """Feedback alignment: ``e_below = delta B0`` with ``B0`` random and fixed.

    delta (rows, out), without the gate in gated layers too; B0 (out, in); e_below (rows, in). B0 does not follow the
    layer's ``start_scale``: below a readout that starts at a tenth, errors start about ten times as large as the true
    gradient. This does not matter to Adam; it does to SGD and ``clip``. Source: Lillicrap et al. (2016).
    """

    matrix: Tensor

    def __init__(self, shape: Shape) -> None:
        """Draws ``B0``, (out, in), normal with variance ``1 / in``: it never grows, so it starts at full size."""
        super().__init__()
        self.register_buffer("matrix", shape.draw())

    def one_matrix(self, weight: Tensor | None) -> Tensor:
        """``B0``."""
        return self.matrix

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        return signal.delta @ self.matrix


class SignSymmetric(Feedback):
    """``e_below = delta sign(W0 + D[g]) c``: the signs of the forward weights, no magnitudes.

    delta (rows, out), without the gate in gated layers too; W0 and D[g] (out, in), of which one may be missing; e_below
    (rows, in). A weight that is exactly 0 sends nothing. ``c = sqrt(2 / (pi * in))`` is the mean magnitude of a normal
    weight of variance ``1 / in``, whatever the layer's ``start_scale``: below a readout that starts at a tenth, errors
    start about ten times too large. Reads the forward weights, holds none. Source: Liao, Leibo and Poggio (2016).
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
            below[rows] = signal.delta[rows] @ signal.weight_of(area).sign().to(below.dtype)
        return below.mul_(self.magnitude)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """``sign(W) c`` of the one map, if there is one."""
        return None if weight is None else weight.sign().mul_(self.magnitude)


class Direct(Feedback):
    """Direct feedback alignment: ``e_below = e_out B``, the output error through a fixed random matrix (outputs, in).

    e_out (rows, outputs); e_below (rows, in). The delta of the layer itself plays no part; inside a `Residual` e_out
    comes multiplied by its alpha. Source: Nokland (2016).
    """

    matrix: Tensor

    def __init__(self, shape: Shape, *, outputs: int) -> None:
        """Draws ``B``, (outputs, in), normal with variance ``1 / in``.

        Args:
            shape: Of the layer.
            outputs: Width of the network's output. The builders fill it in; else `functools.partial` does.

        Raises:
            BrodmannError: By `error`: the output error is not known, of another width, or has another number of rows
                than the layer.
        """
        super().__init__()
        self.register_buffer("matrix", torch.randn(outputs, shape.in_features) / shape.in_features**0.5)

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        if signal.output_error is None:
            raise BrodmannError(
                "Direct feedback needs the output error: train through Network.learn, or set it in the context."
            )
        outputs = signal.output_error.shape[-1]
        if outputs != len(self.matrix):
            raise BrodmannError(
                f"Direct feedback was built for {len(self.matrix)} outputs, and the output error has {outputs}: build "
                f"it by partial(Direct, outputs={outputs})."
            )
        if len(signal.output_error) != len(signal.x):
            raise BrodmannError(
                f"Direct feedback needs one output error per row, got {len(signal.output_error)} for "
                f"{len(signal.x)} rows."
            )
        return signal.output_error @ self.matrix


class Transpose(Feedback):
    """``e_below = delta W0 + part_delta D[g]``: backpropagation itself. The oracle of the tests and a baseline.

    delta and part_delta (rows, out), W0 and D[g] (out, in), e_below (rows, in). Reads the forward weights, holds none.
    """

    def __init__(self, shape: Shape) -> None:
        """Holds no weights."""
        super().__init__()

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        below = signal.x.new_zeros(signal.x.shape)
        if signal.shared is not None:
            signal.shared.add_error(below, signal.delta, signal.groups.whole, None)
        if signal.areas is not None:
            signal.areas.add_error(below, signal.part_delta, signal.groups)
        return below

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """The one map itself, if there is one."""
        return weight


class LeastChange(Feedback):
    """Rescales another path's error to the length of the least input change that would cancel ``delta``, for `RLS`.

    ``e_below = e |delta|^2 / |e|^2`` for each sample, ``e`` the error of the path. Where its matrix B has orthogonal
    rows of length b, that is ``delta B / b^2``, the product with the pseudo-inverse of B^T: the least change of x that
    takes ``delta`` off ``B x``. So the size of hidden steps depends neither on the width nor on how large B has grown.
    delta (rows, out); e and e_below (rows, in); a row whose e is 0 sends 0. In a `Convolution` every patch is scaled by
    itself, and the transposed convolution is not used. Source: our choice, after target propagation (Lee et al. 2015).
    """

    def __init__(self, shape: Shape, *, path: Callable[[Shape], Feedback] = KolenPollack) -> None:
        """Wraps ``path``, a feedback path or a `functools.partial` of one."""
        super().__init__()
        self.path = build_feedback(path, shape)

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        below = self.path.error(signal)
        size = below.square().sum(1, keepdim=True)
        wanted = signal.delta.square().sum(1, keepdim=True)
        return below * torch.where(size > 0, wanted / size, 0.0)

    @property
    def follower(self) -> Slab | None:
        """That of the path."""
        return self.path.follower

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """As the path that it wraps."""
        self.path.learn(signal, lr, decay, area_lr, area_decay)


def build_feedback(feedback: Callable[[Shape], Feedback], shape: Shape) -> Feedback:
    """Builds a path from the layer's shape.

    What it draws comes from a generator of its own, which the global one seeds: forward weights are the same whatever
    the path, so that paths can be compared seed by seed.

    Raises:
        BrodmannError: The shape alone does not do, or it builds no path.
    """
    try:
        inspect.signature(feedback).bind(shape)
    except (TypeError, ValueError) as error:
        name = getattr(feedback, "__name__", repr(feedback))
        raise BrodmannError(
            f"{name} cannot be built from the layer's shape alone ({error}): give the rest by functools.partial, as in "
            "partial(Direct, outputs=10)."
        ) from None
    # One number of the global generator, whatever a path draws: so forward weights are the same under all paths.
    with Draws(int(torch.randint(2**62, (), device="cpu"))).going_on():
        path = feedback(shape)
    if not isinstance(path, Feedback):
        raise BrodmannError(f"Expected feedback to build a Feedback, got {type(path).__name__}.")
    return path


def error_below(feedback: Feedback, signal: Signal) -> Tensor:
    """Returns what a path says, (rows, in), once checked: a reshape would take any tensor of as many numbers."""
    x, name = signal.x, type(feedback).__name__
    try:
        below: Any = feedback.error(signal)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AttributeError) as error:  # of a path of one's own
        raise BrodmannError(
            f"{name}.error failed for rows {tuple(x.shape)} and a delta {tuple(signal.delta.shape)}: {error}"
        ) from error
    if not isinstance(below, Tensor) or below.shape != x.shape or below.dtype != x.dtype:
        came = f"{tuple(below.shape)} {below.dtype}" if isinstance(below, Tensor) else type(below).__name__
        raise BrodmannError(f"{name}.error should return the error below, {tuple(x.shape)} {x.dtype}, got {came}.")
    return below
