"""What a feedback path is, what it is told, and how it is built and asked."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..areas import AreaMap, Slab, map_of_parts
from ..checks import changes_of, check_sent, check_unmodified
from ..errors import BrodmannError, lacks_memory
from ..generators import Draws
from ..kernels import Groups
from ..origin import is_ours
from ..processes import Processes
from ..recording import told
from ..routing import weights_of_rows
from ..several import of_each, parts_in
from ..storage import computing
from ..updates import UpdateRule, check_counts, counted


class Signal(NamedTuple):
    """What one layer offers its feedback path during an error pass.

    Attributes:
        x: Input of the layer, (rows, in).
        delta: Gradient with respect to the layer's output as the feedback sees it, (rows, out).
        part_delta: The same for the area's own part: ``a * delta`` where the gate multiplies, else ``delta``.
        groups: The rows of each area; while learning, rows of protected areas belong to none.
        output_error: Error at the network's output, (rows, outputs), or None.
        shared: The shared part's weight (slab of one), or None. A path without weight transport leaves it alone; of
            those here `Transpose` reads it, and `SignSymmetric` its signs.
        areas: The areas' maps, or None; likewise.
        target: What the network's output is compared with, (samples, ...), or None: for paths that carry targets down.
        output: The network's output from before the step, (rows, outputs), or None.
    """

    x: Tensor
    delta: Tensor
    part_delta: Tensor
    groups: Groups
    output_error: Tensor | None
    shared: Slab | None
    areas: AreaMap | None
    target: Tensor | None = None
    output: Tensor | None = None

    def weight_of(self, area: int) -> Tensor:
        """Returns the forward map of an area, ``W0 + D[g]``, (out, in), for paths that read weights, or their signs.

        It has the dtype of x, whatever the weights are stored in.
        """
        return map_of_parts(self.shared, self.areas, area, self.x.dtype)

    @staticmethod
    def joined(several: Sequence[Signal]) -> Signal:
        """Returns one signal for all rows of a layer that stands in several places of a network."""
        if len(several) == 1:
            return several[0]
        errors = [signal.output_error for signal in several if signal.output_error is not None]
        outputs = [signal.output for signal in several if signal.output is not None]
        return several[0]._replace(
            x=torch.cat([signal.x for signal in several]),
            delta=torch.cat([signal.delta for signal in several]),
            part_delta=torch.cat([signal.part_delta for signal in several]),
            groups=Groups.joined([signal.groups for signal in several]),
            output_error=torch.cat(errors) if errors else None,
            output=torch.cat(outputs) if outputs else None,
        )

    def of_all(self, processes: Processes, counts: list[int]) -> Signal:
        """Returns the signal of the rows of all processes, of which there are so many in each."""
        output_error, output, target = self.output_error, self.output, self.target
        gated = self.part_delta is not self.delta
        x, delta, area, *part = processes.rows(
            self.x, self.delta, self.groups.of_rows, *([self.part_delta] if gated else []), counts=counts
        )
        return self._replace(
            x=x,
            delta=delta,
            part_delta=part[0] if gated else delta,
            groups=self.groups.of_all(area),
            output_error=None if output_error is None else processes.rows(output_error)[0],
            output=None if output is None else processes.rows(output)[0],
            target=None if target is None else of_each(lambda part: processes.rows(part)[0], target),
        )

    def gradients_of_all(self, processes: Processes) -> Signal:
        """Returns a signal of few rows with the gradients of the rows of all processes, of each area that has some.

        The gradient G of an area, (out, in), is ``I^T G`` and ``(G^T)^T I``: the one of fewer rows is taken. Another
        row, with x = 0, makes the sum of the deltas that of all rows, as biases need it. What looks at single rows, or
        counts them, needs `of_all`; so does a gate, by which areas have other deltas than what they share.
        """
        groups, x, delta = self.groups, self.groups.sort(self.x), self.groups.sort(self.delta)
        (counts,) = processes.summed(torch.bincount(groups.of_rows, minlength=groups.areas))
        chosen = counts.nonzero()[:, 0]
        place = {area: number for number, area in enumerate(chosen.tolist())}
        outputs, inputs = delta.shape[1], x.shape[1]
        weights, biases = delta.new_zeros(len(chosen), outputs, inputs), delta.new_zeros(len(chosen), outputs)
        for area, start, stop in groups.segments:
            torch.mm(delta[start:stop].t(), x[start:stop], out=weights[place[area]])
            biases[place[area]] = delta[start:stop].sum(0)
        weights, biases = processes.summed(weights, biases)
        size = min(inputs, outputs)
        one = torch.eye(size, dtype=delta.dtype, device=delta.device).expand(len(chosen), -1, -1)
        rows, x = (weights.transpose(1, 2), one) if inputs <= outputs else (one, weights)
        rows = torch.cat([rows, (biases - rows.sum(1))[:, None]], 1).flatten(0, 1)
        return self._replace(
            x=torch.cat([x, x.new_zeros(len(chosen), 1, inputs)], 1).flatten(0, 1),
            delta=rows,
            part_delta=rows,
            groups=groups.of_all(chosen.repeat_interleave(size + 1)),
        )

    def repeated(self, weight: Tensor) -> Signal:
        """Returns the signal by which a rule counts each sample ``weight`` times, (samples, ...), see `counted`."""
        check_counts(weight, len(self.x))
        weight = weights_of_rows(weight, len(self.x))
        x, delta, part_delta = counted(weight, self.x, self.delta, self.part_delta)
        return self._replace(x=x, delta=delta, part_delta=part_delta)


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
        storage: Dtype in which weights are stored, or None: that in which the layer computes.
        scale: Standard deviation of the forward weights at the start, in units of ``1 / sqrt(in)``.
        rows: Rows of the layer for each row of the network's output, such as patches of an image or steps of a
            sequence; 0 where there is no such number.

    Raises:
        BrodmannError: The storage is not None for float64 weights.
    """

    in_features: int
    out_features: int
    areas: int
    shared: bool
    equal_start: Tensor
    update: UpdateRule
    storage: torch.dtype | None = None
    scale: float = 1.0
    rows: int = 1

    def __post_init__(self) -> None:
        if self.storage is not None and self.equal_start.dtype == torch.float64:
            raise BrodmannError(
                "A separate storage dtype works only with float32, but the weights are float64: leave storage out."
            )

    def draw(self) -> Tensor:
        """Draws a matrix (out, in), normal with variance ``1 / in``, independent of the forward weights."""
        return torch.randn(self.out_features, self.in_features).div_(self.in_features**0.5)

    def stored(self, matrix: Tensor) -> Tensor:
        """Returns the matrix in the dtype in which the layer's weights are stored."""
        return matrix.to(self.storage or matrix.dtype)


class Feedback(nn.Module, ABC):
    """Abstract base of feedback paths: computes a layer's error with respect to its input; its weights may learn."""

    from_output: bool = False
    """Whether the error below is made from that at the network's output, not from the one that arrives."""
    reads_rows: bool = True
    """Whether `learn` needs the rows of the signal themselves, not only the sums of their products."""
    _form: tuple[int, int]
    """Shape of its layer's maps, (out, in): what `one_matrix` returns has it too."""

    def __init__(self, shape: Shape | None = None) -> None:
        """Takes what a path may know of its layer; the base class needs none of it."""
        super().__init__()

    @abstractmethod
    def error(self, signal: Signal) -> Tensor:
        """Returns the error below, (rows, in), from values before the update."""

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """Returns the matrix (out, in) by which every row's error goes down, ``delta B``; None where there is more.

        A layer that knows how rows lie together, such as `brodmann.Convolution`, then avoids the errors of single rows,
        and a `brodmann.Product`, which has no rows, needs the matrix. Default None.

        Args:
            weight: The forward map (out, in), where it is the same for all rows, else None. Only `Transpose` and
                `SignSymmetric` may read it.

        Returns:
            (out, in), in the dtype of the layer or of its storage.
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


_METHODS = {
    "error": ("signal",),
    "one_matrix": ("weight",),
    "learn": ("signal", "lr", "decay", "area_lr", "area_decay"),
}
"""What every path is called with."""


def build_feedback(feedback: Callable[[Shape], Feedback], shape: Shape) -> Feedback:
    """Builds a path from the layer's shape.

    What it draws comes from a generator of its own, which the global one seeds: forward weights are the same whatever
    the path, so that paths can be compared seed by seed.

    Raises:
        BrodmannError: The shape alone is not enough, what is built is no path, or its methods take other arguments.
    """
    try:
        inspect.signature(feedback).bind(shape)
    except (TypeError, ValueError) as error:
        name = getattr(feedback, "__name__", repr(feedback))
        raise BrodmannError(
            f"{name} cannot be built from the layer's shape alone ({error}): give the other arguments with "
            "functools.partial, as in partial(Direct, outputs=10)."
        ) from None
    with Draws(int(torch.randint(2**62, (), device="cpu"))).going_on():
        path = feedback(shape)
    if isinstance(path, Feedback) and not hasattr(path, "_modules"):
        raise BrodmannError(f"{type(path).__name__}.__init__ must begin with super().__init__(), as for any nn.Module.")
    if not isinstance(path, Feedback):
        raise BrodmannError(f"Expected feedback to build a Feedback, got {type(path).__name__}.")
    for name, given in _METHODS.items():
        try:
            inspect.signature(getattr(path, name)).bind(*given)
        except TypeError as error:
            raise BrodmannError(
                f"{type(path).__name__}.{name} must take (self, {', '.join(given)}), as that of Feedback: {error}."
            ) from None
    path._form = shape.out_features, shape.in_features
    return path


def follows_alone(path: Feedback | None) -> bool:
    """Whether nothing of a path moves but its `follower`, in a layer of one map: `learn` need not be called."""
    if path is None:
        return True
    return all(_follows_alone(part) for part in path.modules() if isinstance(part, Feedback))  # also of a wrapped path


def _follows_alone(path: Feedback) -> bool:
    learn = type(path).learn
    return learn is Feedback.learn or (path.follower is not None and learn.__module__.startswith("brodmann."))


def path_reads_rows(path: Feedback | None) -> bool:
    """Whether a path learns, and from single rows: one of a user's own may."""
    return path is not None and type(path).learn is not Feedback.learn and (not is_ours(path) or path.reads_rows)


def one_matrix_of(path: Feedback, weight: Tensor | None) -> Tensor | None:
    """Returns `Feedback.one_matrix`; None where a subclass overrides `error` but not the matrix."""
    errors, matrices = (
        next(kind for kind in type(path).__mro__ if name in vars(kind)) for name in ("error", "one_matrix")
    )
    return None if errors is not matrices and issubclass(errors, matrices) else matrix_of(path, weight)


def matrix_of(path: Feedback, weight: Tensor | None) -> Tensor | None:
    """Returns `Feedback.one_matrix`, once checked where the path is a user's own: a convolution would take any."""
    matrix = path.one_matrix(weight)
    if matrix is not None and not is_ours(path):
        name = f"{type(path).__name__}.one_matrix"
        _check_form(matrix, path._form, weight, name)
        told(check_sent, name, [matrix], [] if weight is None else [weight])
    return matrix


def _check_form(matrix: Any, form: tuple[int, int], weight: Tensor | None, name: str) -> None:
    """Raises unless what ``name`` returned is a matrix of this form, in a dtype that goes with the forward map's."""
    kind = torch.float32 if weight is None else computing(weight.dtype)
    fits = isinstance(matrix, Tensor) and matrix.shape == form and matrix.is_floating_point()
    if not fits or (weight is not None and matrix.dtype not in (weight.dtype, kind)):
        came = f"{tuple(matrix.shape)} {matrix.dtype}" if isinstance(matrix, Tensor) else type(matrix).__name__
        raise BrodmannError(
            f"{name} should return the matrix by which errors go down, (out, in) = {form} {kind}, or None, got {came}."
        )


def error_below(feedback: Feedback, signal: Signal) -> Tensor:
    """Returns what a path says, (rows, in), once checked: a reshape would take any tensor of as many numbers."""
    x, name = signal.x, type(feedback).__name__
    before = [] if is_ours(feedback) else changes_of(_read(signal))
    try:
        below: Any = feedback.error(signal)
    except (RuntimeError, AttributeError) as error:  # from a user's own path
        if lacks_memory(error):
            raise
        raise BrodmannError(
            f"{name}.error failed for rows {tuple(x.shape)} and a delta {tuple(signal.delta.shape)}: {error}"
        ) from error
    if not isinstance(below, Tensor) or below.shape != x.shape or below.dtype != x.dtype:
        came = f"{tuple(below.shape)} {below.dtype}" if isinstance(below, Tensor) else type(below).__name__
        raise BrodmannError(f"{name}.error should return the error below, {tuple(x.shape)} {x.dtype}, got {came}.")
    if not is_ours(feedback):
        check_unmodified(f"{name}.error", _read(signal), before)
        told(check_sent, f"{name}.error", [below], [x, signal.delta])
    return below


def let_learn(feedback: Feedback, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
    """Lets a path learn, see `Feedback.learn`; raises where one of a user's own changes the signal."""
    before = [] if is_ours(feedback) else changes_of(_read(signal))
    feedback.learn(signal, lr, decay, area_lr, area_decay)
    if not is_ours(feedback):
        check_unmodified(f"{type(feedback).__name__}.learn", _read(signal), before)


def _read(signal: Signal) -> list[Any]:
    """Returns what others read after a path: the layer's rows and errors, and the target, which is the user's."""
    targets = [] if signal.target is None else parts_in(signal.target)
    return [signal.x, signal.delta, signal.part_delta, signal.output_error, signal.output, *targets]
