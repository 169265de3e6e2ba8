"""Feedback paths built and called, with checks, since users write paths too."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import TRUSTED, Unmodified, check_sent, form_of
from ..errors import BrodmannError, lacks_memory
from ..generators import Draws
from ..origin import is_ours, package_of
from ..recording import replayed
from ..storage import computing
from .path import Feedback
from .shape import Shape
from .signal import Signal

_METHODS = {
    "error": ("signal",),
    "one_matrix": ("weight",),
    "learn": ("signal", "lr", "decay", "area_lr", "area_decay"),
}
"""What every path is called with."""


def build_feedback(feedback: Callable[[Shape], Feedback], shape: Shape) -> Feedback:
    """Builds a path from the layer's shape.

    It draws from a separate generator, which the global one seeds: forward weights are the same whatever the path, so
    that paths can be compared seed by seed.

    Raises:
        BrodmannError: It builds nothing, the shape alone is not enough, what is built is no path, or its methods take
            other arguments.
    """
    if not callable(feedback) or isinstance(feedback, nn.Module):
        raise BrodmannError(f"Expected feedback to be a class, or a functools.partial of one, got {feedback!r}.")
    made = feedback.func if isinstance(feedback, partial) else feedback
    if isinstance(made, type) and not issubclass(made, Feedback):
        raise _no_path(made)
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
        raise _no_path(type(path))
    for name, given in _METHODS.items():
        try:
            inspect.signature(getattr(path, name)).bind(*given)
        except TypeError as error:
            raise BrodmannError(
                f"{type(path).__name__}.{name} must take (self, {', '.join(given)}), as that of Feedback: {error}."
            ) from None
    path._form = shape.out_features, shape.in_features
    return path


def _no_path(kind: type) -> BrodmannError:
    return BrodmannError(f"Expected feedback to build a Feedback, got {kind.__name__}.")


def follows_alone(path: Feedback | None) -> bool:
    """Whether nothing of a path moves but its `follower`, in a layer of one map: `learn` need not be called."""
    if path is None:
        return True
    return all(_follows_alone(part) for part in path.modules() if isinstance(part, Feedback))  # also of a wrapped path


def _follows_alone(path: Feedback) -> bool:
    learn = type(path).learn
    return learn is Feedback.learn or (path.follower is not None and package_of(learn) == "brodmann")


def path_reads_rows(path: Feedback | None) -> bool:
    """Whether a path learns from single rows, as a user-defined one may."""
    if path is None or type(path).learn is Feedback.learn:
        return False
    return not is_ours(path) or path.reads_rows


def one_matrix_of(path: Feedback, weight: Tensor | None) -> Tensor | None:
    """Returns `Feedback.one_matrix`; None if a subclass overrides `error` but not the matrix."""
    of_error, of_matrix = _definer_of("error", path), _definer_of("one_matrix", path)
    if of_error is not of_matrix and issubclass(of_error, of_matrix):
        return None
    return matrix_of(path, weight)


def _definer_of(method: str, path: Feedback) -> type:
    """Returns the class whose method a path has."""
    return next(kind for kind in type(path).__mro__ if method in vars(kind))


def matrix_of(path: Feedback, weight: Tensor | None) -> Tensor | None:
    """Returns `Feedback.one_matrix`, checked if the path is user-defined: a convolution would take any matrix."""
    matrix = path.one_matrix(weight)
    if matrix is not None and not is_ours(path):
        name = f"{type(path).__name__}.one_matrix"
        _check_form(matrix, path._form, weight, name)
        replayed(check_sent, name, [matrix], [] if weight is None else [weight])
    return matrix


def _check_form(matrix: Any, form: tuple[int, int], weight: Tensor | None, name: str) -> None:
    """Raises unless what ``name`` returned is a matrix of this form, in a dtype that goes with the forward map's."""
    kind = torch.float32 if weight is None else computing(weight.dtype)
    fits = isinstance(matrix, Tensor) and matrix.shape == form and matrix.is_floating_point()
    if not fits or (weight is not None and matrix.dtype not in (weight.dtype, kind)):
        raise BrodmannError(
            f"{name} should return the matrix by which errors go down, (out, in) = {form} {kind}, or None, got "
            f"{form_of(matrix)}."
        )


def error_below(feedback: Feedback, signal: Signal) -> Tensor:
    """Returns the error below, (rows, in), once checked: a reshape would take any tensor of as many numbers."""
    x, name, ours = signal.x, type(feedback).__name__, is_ours(feedback)
    try:
        with TRUSTED if ours else Unmodified(f"{name}.error", signal):
            below: Any = feedback.error(signal)
    except (RuntimeError, AttributeError) as error:  # from a user-defined path
        if lacks_memory(error):
            raise
        raise BrodmannError(
            f"{name}.error failed for rows {tuple(x.shape)} and a delta {tuple(signal.delta.shape)}: {error}"
        ) from error
    if not isinstance(below, Tensor) or below.shape != x.shape or below.dtype != x.dtype:
        raise BrodmannError(f"{name}.error should return the error below, {form_of(x)}, got {form_of(below)}.")
    if not ours:
        replayed(check_sent, f"{name}.error", [below], [x, signal.delta])
    return below


def let_learn(feedback: Feedback, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
    """Lets a path learn, see `Feedback.learn`; raises if a user-defined one changes the signal."""
    with TRUSTED if is_ours(feedback) else Unmodified(f"{type(feedback).__name__}.learn", signal):
        feedback.learn(signal, lr, decay, area_lr, area_decay)
