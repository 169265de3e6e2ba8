"""Products of a value and weights: which function a map is, whether one is linear in both, and which are matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from .followed import asks_metadata, name_of
from .provenance import is_product

TURNING = frozenset({"t", "transpose", "permute", "contiguous", "to", "type_as", "getattr"})
"""Functions and methods that leave the numbers of a matrix as they are."""


def function_of(conv: _ConvNd) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """Returns the function of an input, weights and biases that a convolution is, and its settings."""
    name = f"conv{'_transpose' if conv.transposed else ''}{len(conv.kernel_size)}d"
    names = ["stride", "padding", "dilation", "groups", *["output_padding"] * conv.transposed]
    return getattr(functional, name), {setting: getattr(conv, setting) for setting in names}


def turns_alone(nodes: Iterable[fx.Node]) -> bool:
    """Whether functions that stand in a product leave the numbers of its weights as they are."""
    return all(is_product(node) or name_of(node) in TURNING or asks_metadata(node) for node in nodes)


def swapped(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """Returns a function of weights and a value, for the value and the weights."""
    return function(weight, x)


def is_linear_in_both(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> bool:
    """Whether ``f(x + x', w + w')`` is ``f(x, w) + f(x, w') + f(x', w) + f(x', w')``, for random numbers."""
    (a, u), (b, v) = _drawn_as(x, weight, seed=0), _drawn_as(x, weight, seed=1)
    parts = [product(one, other) for one in (a, b) for other in (u, v)]
    return torch.allclose(product(a + b, u + v), sum(parts[1:], parts[0]), rtol=1e-3, atol=1e-3)


def matrix_of(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor | None:
    """Returns the matrix (out, in) by which a product maps the last dimension of a value, None if it does otherwise.

    They are compared in float64: what rounds in between does otherwise.
    """
    if weight.ndim != 2:
        return None
    a, u = _drawn_as(x.double(), weight.double(), seed=0)
    try:
        with redirect_stderr(StringIO()):  # where torch.fx tells of errors
            y = product(a, u)
    except RuntimeError:  # of one that computes in another kind of number
        return None
    for drawn, matrix in ((u, weight), (u.t(), weight.t())):
        if x.shape[-1] == matrix.shape[1]:
            expected = functional.linear(a, drawn)
            if y.shape == expected.shape and y.dtype == expected.dtype and torch.allclose(y, expected, 1e-12, 1e-12):
                return matrix.detach()
    return None


def _drawn_as(*tensors: Tensor, seed: int) -> list[Tensor]:
    """Returns random numbers in the shapes of tensors."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(tensor.shape, generator=draw, dtype=tensor.dtype) for tensor in tensors]


@torch.enable_grad()
def depends_on(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> bool:
    """Whether autograd knows a way from a product to its weights."""
    return product(x, weight.detach().requires_grad_()).requires_grad
