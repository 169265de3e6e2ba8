"""Local: operations without parameters, whose derivative holds no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import BrodmannError
from .graphs import unrecorded
from .layers import Context, Layer
from .routes import Choice, Route


class Local(Layer):
    """A parameter-free operation: activation, norm without weights, dropout, flatten, pooling.

    Its derivative holds no weights, so PyTorch's own backward formula, or a confined `torch.func.vjp`, transports none.
    """

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        """Wraps an operation.

        Args:
            operation: A module or function of one tensor.

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
        self._known = type(operation) in (nn.ReLU, RMSNorm)  # of these the derivative is written out below

    def train(self, mode: bool = True) -> Local:
        """Leaves the operation in inference mode: only `trace` draws dropout masks."""
        super().train(mode)
        if isinstance(self.operation, nn.Module):
            self.operation.eval()
        return self

    def forward(self, x: Tensor, choice: Route | Choice | None = None) -> Tensor:
        """Inference: dropout off."""
        return self.operation(x)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Learning forward pass: dropout on."""
        if self._known:
            return self.operation.with_pull_back(x) if isinstance(self.operation, RMSNorm) else _relu(x)
        with torch.inference_mode(False), torch.no_grad():
            # Autograd refuses tensors made in inference mode.
            x = x.clone() if x.is_inference() else x
            module = self.operation if isinstance(self.operation, nn.Module) else None
            if module is not None:
                module.train()
            try:
                y, pull_back = torch.func.vjp(self.operation, x)[:2]
            except (RuntimeError, AttributeError, IndexError, TypeError) as error:
                raise self._cannot_follow(str(error)) from None
            finally:
                if module is not None:
                    module.eval()
        if not isinstance(y, Tensor):
            raise self._cannot_follow(f"it returned {type(y).__name__}")
        return y, pull_back

    def _cannot_follow(self, reason: str) -> BrodmannError:
        name = getattr(self.operation, "__name__", type(self.operation).__name__)
        return BrodmannError(
            f"Local cannot carry errors through {name}: {reason.rstrip('.')}. Expected an operation that takes one "
            "tensor, leaves it as it was, and returns another that PyTorch can follow."
        )

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Carries the error through the derivative."""
        if self._known:
            return trace(error)  # type: ignore[no-any-return]
        with torch.inference_mode(False), torch.no_grad():
            below = trace(error.clone() if error.is_inference() else error)
            carried: Tensor = below[0] if isinstance(below, tuple) else below
            return carried.detach()


class RMSNorm(nn.Module):
    """Root-mean-square norm without weights, ``x / sqrt(mean(x^2) + 1e-6)`` over the last dimension."""

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


def _relu(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """ReLU and its pull back, which remembers the output: the layer above keeps it anyway."""
    y = torch.relu(x)

    def pull_back(error: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(error, y, 0)  # type: ignore[no-any-return]

    return y, pull_back
