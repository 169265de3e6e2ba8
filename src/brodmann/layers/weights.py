"""Weights: one tensor for all areas, and the feedback weights beside it, as products of any form use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..areas import Slab
from ..autograd import as_leaf, ordinary, unrecorded
from ..checks import form_of
from ..errors import BrodmannError
from ..feedback import Feedback, Shape, build_feedback, follows_alone, matrix_of, one_matrix_of
from ..layer import Context, Gathering, has_parameters
from ..storage import computing, storage_dtype
from ..updates import SGD, UpdateRule, check_rule

Operation = Callable[..., Tensor]
"""A function of an input (samples, ...) and weights, linear in each of the two, which treats samples independently.
Further arguments, such as which of several weights a row goes to, have no derivative."""


class NoWayDownError(BrodmannError):
    """A feedback path cannot carry errors through one tensor of weights."""


class ProductTrace(NamedTuple):
    """What a product remembers of one forward pass.

    Attributes:
        x: Input.
        weight: Weights.
        y: The output that autograd made of them.
        others: What else the operation took.
    """

    x: Tensor
    weight: Tensor
    y: Tensor
    others: tuple[Tensor, ...] = ()


class Weights(Gathering):
    """Abstract: a layer that holds one tensor of weights W, and feedback weights B shaped as W."""

    update_rule: UpdateRule

    def __init__(
        self,
        weight: Tensor,
        feedback: Callable[[Shape], Feedback] | None,
        update: UpdateRule | None,
        storage: str | torch.dtype | None = None,
    ) -> None:
        """Copies the weights; the arguments are those of `Product`."""
        super().__init__()
        if not isinstance(weight, Tensor) or weight.ndim < 2 or weight.dtype not in (torch.float32, torch.float64):
            raise BrodmannError(f"Expected weights (out, ...) of float32 or float64, got {form_of(weight)}.")
        rule = update or SGD()
        check_rule(rule)
        self.form, self._update_rule = tuple(weight.shape), rule
        with torch.inference_mode(False):
            matrix = weight.detach().clone().flatten(1)
        out, inputs = matrix.shape
        scale = float(matrix.square().mean() * inputs) ** 0.5
        moving = SGD() if rule.needs_inputs else rule  # else it would keep a square of inputs, and move nothing
        shape = Shape(
            inputs,
            out,
            areas=1,
            shared=True,
            equal_start=matrix,
            update=moving,
            storage=storage_dtype(storage),
            scale=scale or 1.0,
        )
        self.shared = Slab(shape.stored(matrix[None]), moving)
        self.feedback = None if feedback is None else build_feedback(feedback, shape)
        if weight.dtype != torch.get_default_dtype():
            self.to(weight.dtype)
        if self.feedback is not None:
            _check_path(self.feedback, self.one_map)

    @property
    def one_map(self) -> Tensor:
        """W as a matrix, (out, in)."""
        return self.shared.value[0]

    @property
    def weight(self) -> Tensor:
        """W."""
        return self.one_map.view(self.form)

    def pulled_back(
        self, operation: Operation, trace: ProductTrace, error: Tensor, *, down: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Returns what an error becomes below an operation, None unless it is to go ``down``, and the gradient of W.

        They are ``d<e, f(x, B)> / dx``, shaped as x, and ``d<e, f(x, W)> / dW``.
        """
        with torch.inference_mode(False):
            error = ordinary(error)
            below = self._error_through(operation, trace, error) if down else None
            (gradient,) = torch.autograd.grad(trace.y, trace.weight, error)
        return below, gradient

    def _error_through(self, operation: Operation, trace: ProductTrace, error: Tensor) -> Tensor:
        assert self.feedback is not None
        matrix = matrix_of(self.feedback, self.one_map)
        assert matrix is not None
        with torch.enable_grad():
            x = as_leaf(trace.x)
            y = operation(x, matrix.detach().to(x.dtype).view(self.form), *trace.others)
        return torch.autograd.grad(y, x, error)[0]

    @unrecorded
    def move(self, parts: list[Tensor], context: Context) -> None:
        """Moves the weights, and feedback weights that follow them, by gradients shaped as W; none under `RLS`."""
        if self.update_rule.needs_inputs:
            return
        gradient = sum(parts[1:], parts[0]).flatten(1)
        lr, feedback_lr = context.lr_of(self, "shared"), context.lr_of(self, "feedback")
        move_with_follower(self.shared, self.feedback, gradient, lr, feedback_lr)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.form}, {self.update_rule}"


def move_with_follower(
    shared: Slab, path: Feedback | None, gradient: Tensor, lr: float, feedback_lr: float, of_bias: Tensor | None = None
) -> None:
    """Moves the one map of a layer, and feedback weights that follow it, by gradients (out, in) and (out,)."""
    follower, decay = None if path is None else path.follower, shared.update_rule.decay
    if lr:
        shared.move(gradient, lr, decay, of_bias)
    if follower is not None and feedback_lr:
        follower.move(gradient, feedback_lr, decay)


def traced_product(operation: Operation, x: Tensor, weight: Tensor, *others: Tensor) -> ProductTrace:
    """Applies an operation so that autograd knows the way from its output to the weights.

    Gradients have the dtype of the weights, except for weights that are stored in bfloat16.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = as_leaf(weight.to(computing(weight.dtype)))
        y = operation(ordinary(x).detach(), leaf.to(x.dtype), *map(ordinary, others))
        return ProductTrace(x, leaf, y, others)


def check_operation(operation: Operation, owner: str) -> None:
    """Raises if an operation is no function of inputs and weights; ``owner`` is the layer that takes it."""
    if not callable(operation) or has_parameters(operation):
        raise BrodmannError(
            f"Expected the operation of a {owner} to be a function of inputs and weights, without parameters of its "
            f"own, got {operation!r}."
        )


def _check_path(path: Feedback, matrix: Tensor) -> None:
    """Raises unless a path is one matrix, which stays or follows the weights: it would need rows to learn from."""
    if one_matrix_of(path, matrix) is None or not follows_alone(path):
        raise NoWayDownError(
            f"{type(path).__name__} cannot send errors down through a Product, such as a convolution of several "
            "groups, or through tied weights: choose a path with one matrix that stays fixed or moves as the weights "
            "do, by `follower` and no `learn` of its own, such as KolenPollack without noise."
        )
