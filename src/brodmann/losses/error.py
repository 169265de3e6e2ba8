"""The error at the output: the derivative of a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..autograd import as_leaf, ordinary
from ..checks import TRUSTED, Unmodified, all_finite, form_of
from ..errors import BrodmannError, DivergenceError
from ..origin import is_ours
from ..recording import replayed
from ..several import Several, in_form_of, of_each, parts_in
from .builtin import Loss
from .facts import check_single, name_of_loss, one_number


def error_and_loss(loss: Loss, output: Several, target: Several, weight: Tensor | None) -> tuple[Any, Tensor]:
    """Returns ``dL/d output``, in the form of the output, and the loss; autograd, if used, sees only the loss.

    If there are several outputs, one that the loss leaves out has an error of 0.

    Raises:
        BrodmannError: The loss takes one output and gets several, returns no number, cannot be followed, changes the
            output in place, or has parameters that nothing would train.
        DivergenceError: The loss is finite, and its derivative is not.
    """
    check_single(loss, output, target)
    exact = getattr(loss, "value_and_error", None)
    if exact is not None:
        ours = is_ours(loss)
        watch = TRUSTED if ours else Unmodified(f"{name_of_loss(loss)}.value_and_error", [output])
        with torch.no_grad(), watch:
            value, error = exact(output, target, weight)
        value = one_number(value)
        if not ours:
            _check_own(loss, error, output, value)
        return error, value
    with torch.inference_mode(False), torch.enable_grad():
        leaf = of_each(as_leaf, output)
        leaves = parts_in(leaf)
        given = None if weight is None else ordinary(weight).detach()
        value = one_number(loss(leaf, of_each(lambda part: ordinary(part).detach(), target), given))
        if not value.requires_grad:
            raise BrodmannError(
                "Expected a loss that PyTorch can differentiate with respect to the output: leave out .item(), "
                ".detach() and NumPy."
            )
        if _trains_others(value, leaves):
            raise BrodmannError(
                f"{name_of_loss(loss)} computes with tensors that ask for gradients, such as the parameters of a head, "
                "which nothing would train: train them by the error of an output, see Network.trace, or freeze them "
                "with requires_grad_(False)."
            )
        errors = torch.autograd.grad(value, leaves, allow_unused=len(leaves) > 1, materialize_grads=len(leaves) > 1)
        value = value.detach()
        replayed(check_derivative, value, errors)
        return in_form_of(leaf, errors), value


def _check_own(loss: Loss, error: Any, output: Several, value: Tensor) -> None:
    """Raises if the derivative that a user-defined loss knows is not one of the output, or not finite."""
    wanted, came = (", ".join(map(form_of, parts_in(parts))) for parts in (output, error))
    if came != wanted:
        raise BrodmannError(
            f"{name_of_loss(loss)}.value_and_error should return the value and dL/d output, {wanted}, got {came}."
        )
    replayed(check_derivative, value, parts_in(error))


def _trains_others(value: Tensor, outputs: Iterable[Tensor]) -> bool:
    """Whether a loss has derivatives with respect to leaves of autograd besides these outputs."""
    seen, left = set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch._C._functions.AccumulateGrad):  # type: ignore[attr-defined]
            if not any(node.variable is output for output in outputs):
                return True
            continue
        left += [below for below, _ in node.next_functions]
    return False


def check_derivative(value: Tensor, errors: Iterable[Tensor]) -> None:
    """Raises a `DivergenceError` if a loss is finite, and its derivative is not; only on the CPU."""
    if value.is_cpu and math.isfinite(value) and not all(map(all_finite, errors)):
        raise DivergenceError(
            f"The loss is {float(value)}, but its derivative with respect to the output is not finite: look for "
            "values that the loss computes and then masks out, such as targets of NaN, and for square roots of 0."
        )
