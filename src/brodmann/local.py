"""Local: operations without parameters, whose derivative holds no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import BrodmannError
from .layers import Context, Layer
from .recording import ordinary, unrecorded
from .routes import Choice, Route


class Local(Layer):
    """A parameter-free operation: activation, norm without weights, dropout, flatten, pooling.

    ``y = f(x)`` and ``e_below = e J``, J the Jacobian of f at x: x (batch, ...), y and e alike in shape, e_below as x.
    J holds no weights, so PyTorch's own backward formula, or a confined `torch.func.vjp`, transports none. In a `Graph`
    it may take several tensors, which come as a tuple, and returns an error for each.
    """

    def __init__(self, operation: Callable[..., Tensor]) -> None:
        """Wraps an operation.

        Args:
            operation: A module or function of one tensor, in a `Graph` of as many as the node reads, which must treat
                every sample alone. It is put into inference mode; dropout is drawn by `trace` alone.

        Raises:
            BrodmannError: It is a class, or a module that has parameters or buffers, overwrites its input, or mixes the
                samples of a batch.
        """
        super().__init__()
        if not callable(operation) or isinstance(operation, type):
            raise BrodmannError(f"Expected an operation of one tensor, such as nn.GELU(), got {operation!r}.")
        if isinstance(operation, nn.Module):
            if any(isinstance(part, _BatchNorm) for part in operation.modules()):
                raise BrodmannError(
                    "Local takes operations that treat every sample alone, and a batch norm mixes those of a batch: "
                    "use RMSNorm() of brodmann.local, or nn.LayerNorm with elementwise_affine=False."
                )
            held = [*operation.parameters(), *operation.buffers()]
            if held:
                raise BrodmannError(
                    f"Local takes operations without parameters or buffers; {type(operation).__name__} holds "
                    f"{len(held)}. "
                    "Use elementwise_affine=False, affine=False, or an AreaLinear."
                )
            if any(getattr(part, "inplace", False) for part in operation.modules()):
                raise BrodmannError(
                    f"Local takes operations that leave their input alone, and {type(operation).__name__} overwrites "
                    "it: leave inplace=True out."
                )
            operation.eval()
        self.operation = operation
        self._known = type(operation) in (nn.ReLU, RMSNorm, Sum)  # of these the derivative is written out below

    def train(self, mode: bool = True) -> Local:
        """Leaves the operation in inference mode: only `trace` draws dropout masks."""
        super().train(mode)
        if isinstance(self.operation, nn.Module):
            self.operation.eval()
        return self

    def forward(self, x: Tensor | tuple[Tensor, ...], choice: Route | Choice | None = None) -> Tensor:
        """Inference: dropout off."""
        return self.operation(*x) if isinstance(x, tuple) else self.operation(x)

    @unrecorded
    def trace(self, x: Tensor | tuple[Tensor, ...], context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass: dropout on."""
        if self._known:
            operation: Any = self.operation
            return _relu(x) if isinstance(operation, nn.ReLU) else operation.with_pull_back(x)
        module = self.operation if isinstance(self.operation, nn.Module) else None
        with torch.inference_mode(False), torch.no_grad():
            if module is not None:
                module.train()
            try:
                y, trace = _followed(self.operation, x if isinstance(x, tuple) else (x,))
            except (RuntimeError, AttributeError, IndexError, TypeError) as error:
                raise self._cannot_follow(str(error)) from None
            finally:
                if module is not None:
                    module.eval()
        if not isinstance(y, Tensor):
            raise self._cannot_follow(f"it returned {type(y).__name__}")
        return y, trace

    @property
    def _name(self) -> str:
        return getattr(self.operation, "__name__", type(self.operation).__name__)

    def _cannot_follow(self, reason: str) -> BrodmannError:
        return BrodmannError(
            f"Local cannot carry errors through {self._name}: {reason.rstrip('.')}. Expected an operation that takes "
            "one tensor, leaves it as it was, and returns another that PyTorch can follow."
        )

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return "" if isinstance(self.operation, nn.Module) else self._name

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Any:
        """Carries the error through the derivative; returns one for each tensor that came, None for whole numbers."""
        if self._known:
            return trace(error)
        pull_back, real = trace
        with torch.inference_mode(False), torch.no_grad():
            below = iter(pull_back(ordinary(error)))
            errors = tuple(next(below).detach() if is_real else None for is_real in real)
        return errors[0] if len(errors) == 1 else errors


def _followed(operation: Callable[..., Tensor], x: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Any, tuple[bool, ...]]]:
    """Returns what an operation makes of tensors, what carries an error down to the real ones, and which those are."""
    real = tuple(tensor.is_floating_point() for tensor in x)
    if not any(real):
        return operation(*x), (lambda error: (), real)
    if all(real):
        y, pull_back = torch.func.vjp(operation, *map(ordinary, x))[:2]
        return y, (pull_back, real)

    def of_real(*tensors: Tensor) -> Tensor:
        given = iter(tensors)
        return operation(*(next(given) if is_real else tensor for tensor, is_real in zip(x, real, strict=True)))

    of = [ordinary(tensor) for tensor, is_real in zip(x, real, strict=True) if is_real]
    y, pull_back = torch.func.vjp(of_real, *of)[:2]
    return y, (pull_back, real)


class Sum(nn.Module):
    """The sum of tensors of equal shape, where branches of a `Graph` meet."""

    def forward(self, *x: Tensor) -> Tensor:
        """Takes tensors (...); returns (...)."""
        total = x[0]
        for part in x[1:]:
            total = total + part
        return total

    def with_pull_back(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """Returns the sum and what hands the error to each of its parts."""
        return self(*x), lambda error: (error,) * len(x)


class RMSNorm(nn.Module):
    """Root-mean-square norm without weights, ``x / sqrt(mean(x^2) + 1e-6)`` over the last dimension.

    x (..., n); returns the same shape, of mean square 1. The 1e-6 keeps rows of zeros at zero. Source: Zhang and
    Sennrich (2019), without their gain.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Takes x (..., n); returns the same shape."""
        return x * self._scale(x)

    def with_pull_back(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Returns the output and what carries an error ``e`` down: ``s (e - y mean(y e))``, with ``y = s x``.

        It remembers x and s alone; autograd's general way would keep y too, and costs several times as long.
        """
        scale = self._scale(x)

        def pull_back(error: Tensor) -> Tensor:
            y = x * scale
            total = (y * error).sum(-1, keepdim=True)
            return torch.addcmul(error, y, total, value=-1 / x.shape[-1]).mul_(scale)

        return x * scale, pull_back

    @staticmethod
    def _scale(x: Tensor) -> Tensor:
        return torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _relu(x: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """ReLU and its pull back, which remembers the output: the layer above keeps it anyway."""
    y = torch.relu(x)

    def pull_back(error: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(error, y, 0)  # type: ignore[no-any-return]

    return y, pull_back
