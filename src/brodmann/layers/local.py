"""Local: operations without parameters, whose derivative holds no weights."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..autograd import as_leaf, ordinary, unrecorded
from ..checks import check_error
from ..errors import BrodmannError, lacks_memory
from ..held import Held
from ..kernels.per_row import norm, norm_down
from ..layer import Context, Layer
from ..routing import Chosen
from ..several import check_several


class LocalTrace(NamedTuple):
    """What a `Local` remembers of one forward pass.

    Attributes:
        pull_back: Turns the error of the output into that of the input, or of each input.
        shape: Shape of the output.
        dtype: Its dtype.
    """

    pull_back: Callable[[Tensor], Any]
    shape: tuple[int, ...]
    dtype: torch.dtype


class Local(Layer):
    """A parameter-free operation: activation, norm without weights, dropout, flatten, pooling.

    ``y = f(x)`` and ``e_below = e J``, J the Jacobian of f at x: x (batch, ...), y and e alike in shape, e_below as x.
    J holds no weights, so PyTorch's own derivative of this one operation transports none. In a `Graph` it may take
    several tensors, which come as a tuple; it returns an error for each.

    Attributes:
        draws: Whether `trace` puts the operation into training mode, in which dropout draws. Default True.
    """

    operation = Held[Callable[..., Tensor]]()

    def __init__(self, operation: Callable[..., Tensor]) -> None:
        """Wraps an operation.

        Args:
            operation: A module or function of one tensor, in a `Graph` of as many as the node reads, which must treat
                samples independently. It is put into inference mode; only `trace` draws dropout.

        Raises:
            BrodmannError: It is a class, or a module that has parameters or buffers, overwrites its input, or mixes the
                samples of a batch; or a function in training mode by default, such as ``functional.dropout``, which
                would draw at inference too.
        """
        super().__init__()
        if not callable(operation) or isinstance(operation, type):
            raise BrodmannError(f"Expected an operation of one tensor, such as nn.GELU(), got {operation!r}.")
        if isinstance(operation, nn.Module):
            _check_module(operation)
            operation.eval()
        elif _in_training_mode(operation):
            raise BrodmannError(
                f"Local calls a function as it is, at inference too, but {_name_of(operation)} is in training mode "
                "by default: use a module such as nn.Dropout(0.5), which Local switches."
            )
        self.operation, self.draws = operation, True
        self._known = type(operation) is nn.ReLU or isinstance(operation, WithPullBack)  # derivatives written out

    def train(self, mode: bool = True) -> Local:
        """Leaves the operation in inference mode: only `trace` draws dropout masks."""
        super().train(mode)
        if isinstance(self.operation, nn.Module):
            self.operation.eval()
        return self

    def forward(self, x: Tensor | tuple[Tensor, ...], choice: Chosen = None) -> Tensor:
        """Inference: dropout off."""
        try:
            return self.operation(*x) if isinstance(x, tuple) else self.operation(x)
        except (TypeError, AttributeError):
            check_several(x=x)
            raise

    @unrecorded
    def trace(self, x: Tensor | tuple[Tensor, ...], context: Context) -> tuple[Tensor, LocalTrace]:
        """Learning forward pass: dropout on."""
        if self._known:
            operation: Any = self.operation
            y, pull_back = _relu(x) if isinstance(operation, nn.ReLU) else operation.with_pull_back(x)
            return y, LocalTrace(pull_back, y.shape, y.dtype)
        module = self.operation if isinstance(self.operation, nn.Module) else None
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [as_leaf(part) for part in (x if isinstance(x, tuple) else (x,))]
            if module is not None:
                module.train(self.draws)
            try:
                y = self.operation(*leaves)
            except (RuntimeError, AttributeError, IndexError, TypeError) as error:
                if lacks_memory(error):
                    raise
                self._check_computes(leaves)
                raise self._cannot_follow(str(error)) from None
            finally:
                if module is not None:
                    module.eval()
        if not isinstance(y, Tensor):
            raise self._cannot_follow(f"it returned {type(y).__name__}")
        if not y.is_floating_point() and any(leaf.requires_grad for leaf in leaves):
            raise self._cannot_follow(f"it returned {y.dtype}")
        return y.detach(), LocalTrace(partial(_pull_back, y, leaves), y.shape, y.dtype)

    def _check_computes(self, inputs: list[Tensor]) -> None:
        """Raises if the operation fails without a derivative, too: then its inputs are at fault, not the operation."""
        try:
            with torch.no_grad():
                self.operation(*(part.detach() for part in inputs))
        except Exception as error:
            shapes = " and ".join(str(tuple(part.shape)) for part in inputs)
            raise BrodmannError(
                f"{_name_of(self.operation)} does not accept its input, of shape {shapes}: {str(error).rstrip('.')}. "
                "Give samples of a length, of kinds of numbers and of values that it takes."
            ) from None

    def _cannot_follow(self, reason: str) -> BrodmannError:
        return BrodmannError(
            f"Local cannot carry errors through {_name_of(self.operation)}: {reason.rstrip('.')}. Expected an "
            "operation that takes one tensor, leaves it as it was, and returns another that PyTorch can follow."
        )

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return "" if isinstance(self.operation, nn.Module) else _name_of(self.operation)

    @unrecorded
    def learn(self, trace: LocalTrace, error: Tensor, context: Context) -> Any:
        """Carries the error through the derivative; returns one for each input, None for whole numbers."""
        check_error(error, trace.shape, trace.dtype)
        try:
            return trace.pull_back(error)
        except RuntimeError as failure:  # from an operation that PyTorch knows no derivative of
            if lacks_memory(failure):
                raise
            raise self._cannot_follow(str(failure)) from None


def _check_module(operation: nn.Module) -> None:
    """Raises if a module holds what would have to learn, mixes samples, or overwrites its input."""
    if any(isinstance(part, _BatchNorm) for part in operation.modules()):
        raise BrodmannError(
            "Local takes operations that treat each sample by itself, but a batch norm mixes the samples of a batch: "
            "use brodmann.BatchNorm(features), a layer of its own, or brodmann.RMSNorm()."
        )
    # Functions of a network that was converted hold buffers, which nothing changes.
    parts = [part for part in operation.modules() if not isinstance(part, fx.GraphModule)]
    held = [*operation.parameters(), *(one for part in parts for one in part.buffers(recurse=False))]
    if held:
        raise BrodmannError(
            f"Local takes operations without parameters or buffers; {type(operation).__name__} holds {len(held)}. Use "
            "elementwise_affine=False, affine=False, or an AreaLinear."
        )
    if any(getattr(part, "inplace", False) for part in operation.modules()):
        raise BrodmannError(
            f"Local takes operations that leave their input unchanged, but {type(operation).__name__} "
            "overwrites it: leave inplace=True out."
        )


def _name_of(operation: Any) -> str:
    inner = operation.func if isinstance(operation, partial) else operation
    return str(getattr(inner, "__name__", type(inner).__name__))


def _in_training_mode(function: Callable[..., Tensor]) -> bool:
    """Whether a function, such as PyTorch's, has an argument ``training`` that is on by default."""
    try:
        known = inspect.signature(function).parameters.get("training")
    except ValueError:  # some built-in functions do not say
        return False
    return known is not None and known.default is True


def _pull_back(y: Tensor, leaves: list[Tensor], error: Tensor) -> Any:
    """Returns the error for each tensor that an operation took, None for whole numbers."""
    real = [leaf for leaf in leaves if leaf.requires_grad]
    below: Iterator[Tensor]
    with torch.inference_mode(False):
        if y.requires_grad:
            below = iter(torch.autograd.grad(y, real, ordinary(error), materialize_grads=True))
        else:  # it does not depend on what came
            below = map(torch.zeros_like, real)
        errors = tuple(_laid_as(leaf, next(below)) if leaf.requires_grad else None for leaf in leaves)
    return errors[0] if len(errors) == 1 else errors


def _laid_as(leaf: Tensor, error: Tensor) -> Tensor:
    """Returns an error laid out in memory like the tensor it belongs to: mixing two layouts is slow."""
    return error.contiguous() if leaf.is_contiguous() else error


class WithPullBack(nn.Module, ABC):
    """Abstract: an operation with a formula for the errors of its inputs, which is faster than autograd."""

    @abstractmethod
    def with_pull_back(self, x: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """Returns the output, and a function that turns its error into that of x, one for each tensor of a tuple."""


class Sum(WithPullBack):
    """The sum of tensors of equal shape, for the place at which branches of a `Graph` meet."""

    def forward(self, *x: Tensor) -> Tensor:
        """Takes tensors (...); returns (...)."""
        total = x[0]
        for part in x[1:]:
            total = total + part
        return total

    def with_pull_back(self, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """Returns the sum, and a function that passes the error to each of its parts."""
        if isinstance(x, Tensor):
            return x, lambda error: error
        return self(*x), lambda error: (error,) * len(x)


_EPSILON = 1e-6


class RMSNorm(WithPullBack):
    """Root-mean-square norm without weights, ``x / sqrt(mean(x^2) + 1e-6)`` over the last dimension.

    x (..., n); returns the same shape, of mean square 1. The 1e-6 keeps rows of zeros at zero. Source: Zhang and
    Sennrich (2019), without their gain.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Takes x (..., n); returns the same shape."""
        return norm(x, _EPSILON)[0]

    def with_pull_back(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Returns the output and what carries an error ``e`` down: ``s (e - y mean(y e))``, with ``y = s x``.

        It remembers only x and s; autograd would keep y too, and take several times as long.
        """
        y, scale = norm(x, _EPSILON)
        return y, partial(norm_down, x, scale)


def _relu(x: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """ReLU and its pull back, which remembers the output: the layer above keeps it anyway."""
    y = torch.relu(x)

    def pull_back(error: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(error, y, 0)

    return y, pull_back
