"""Products of a value and weights: what they multiply, whether they are linear in both, and which are matrices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ...errors import BrodmannError
from ..nodes import asks_metadata, name_of
from ..rewriting.training_mode import DROPOUTS
from .provenance import is_product, not_followed

TURNING = frozenset({"t", "transpose", "permute", "contiguous", "to", "type_as", "getattr"})
"""Functions and methods that leave the numbers of a matrix as they are."""


class Multiplication(NamedTuple):
    """A product of a value and weights, and what it multiplies.

    Attributes:
        product: The function, of a value, weights, and what else says what to do, such as where each row goes.
        read: Nodes of these, in this order.
        given: What they are for a few samples.
        inside: Calls that the function is made of.
    """

    product: Callable[..., Tensor]
    read: list[fx.Node]
    given: list[Any]
    inside: list[fx.Node]


def multiplication_of(
    node: fx.Node,
    function: fx.GraphModule,
    read: Sequence[fx.Node],
    values: Mapping[fx.Node, Any],
    live: Collection[fx.Node],
) -> Multiplication:
    """Returns what a product multiplies: one value and one parameter.

    Args:
        node: The product.
        function: It and all that is part of it. If no parameter learns, this no longer detaches anything.
        read: Nodes of the function's arguments.
        values: What nodes are for a few samples.
        live: Nodes through which errors would go down.

    Raises:
        BrodmannError: There are several values or parameters, or what the product takes goes through a dropout.
    """
    inside = [one for one in function.graph.nodes if one.op in ("call_function", "call_method")]
    if any(one.target in DROPOUTS for one in inside):
        raise BrodmannError(
            f"{name_of(node)} cannot be converted here: it takes parameters through a dropout, which would be lost."
        )
    given = [values[one] for one in read]
    held = [place for place, value in enumerate(given) if isinstance(value, nn.Parameter)]
    if not any(given[place].requires_grad for place in held):
        pass_all(function)
    order = order_of(function, given, [one in live for one in read], held[0]) if len(held) == 1 else None
    if order is None:
        raise not_followed(node)
    product = function if order == (0, 1) else partial(arranged, function, order)
    return Multiplication(product, [read[place] for place in order], [given[place] for place in order], inside)


def check_learns_as_before(node: fx.Node, multiplication: Multiplication) -> None:
    """Raises if a layer would not learn the weights of a product as autograd does."""
    product, (came, weight, *besides) = multiplication.product, multiplication.given
    if weight.ndim < 2:
        raise BrodmannError(
            f"{name_of(node)} cannot be converted: it multiplies by a parameter of shape {tuple(weight.shape)}. "
            "Expected one of two or more dimensions: give it the shape (features, 1), as in (x @ self.query)[..., "
            "0], or use an nn.Linear(features, 1)."
        )
    if not is_linear_in_both(lambda x, weights: product(x, weights, *besides), came, weight):
        raise not_followed(node)
    if weight.requires_grad and not leads_to(product, multiplication.given, 1):
        raise BrodmannError(
            f"{name_of(node)} cannot be converted: it multiplies by a parameter that gets no gradient, because of "
            "detach() or torch.no_grad(), but that would learn all the same. Make the parameter a buffer."
        )


def turns_alone(nodes: Iterable[fx.Node]) -> bool:
    """Whether functions that stand in a product leave the numbers of its weights as they are."""
    return all(is_product(node) or name_of(node) in TURNING or asks_metadata(node) for node in nodes)


def pass_all(function: fx.GraphModule) -> None:
    """Lets autograd through what a function detaches.

    So a product with weights that stay as they are is like any other: a layer asks for the gradient of its weights
    though it does not move them, and what the product itself detaches is a step of its own.
    """
    for node in function.graph.nodes:
        if name_of(node) == "detach":
            node.replace_all_uses_with(node.args[0])
            function.graph.erase_node(node)
    function.recompile()


def order_of(
    function: Callable[..., Tensor], given: Sequence[Tensor], live: Sequence[bool], weights: int
) -> tuple[int, ...] | None:
    """Returns the places of the value, the weights and what else a product takes; None if there are several values.

    The value is what errors go through; the rest says what to do, such as where each row goes.

    Args:
        function: The product.
        given: Its arguments.
        live: Whether errors would go down through each argument.
        weights: The place of the weights.
    """
    values = [at for at, goes_on in enumerate(live) if goes_on and at != weights and leads_to(function, given, at)]
    others = [at for at in range(len(given)) if at not in (weights, *values)]
    if not values:
        values = others[:1]
        del others[:1]
    return (values[0], weights, *others) if len(values) == 1 else None


def leads_to(function: Callable[..., Tensor], given: Sequence[Tensor], place: int) -> bool:
    """Whether autograd knows a way from what a function returns to one of its arguments."""
    if not given[place].is_floating_point():
        return False
    leaves = [part.detach() for part in given]
    leaves[place] = leaves[place].requires_grad_()
    with torch.enable_grad():
        return function(*leaves).requires_grad


def arranged(function: Callable[..., Tensor], order: Sequence[int], *given: Tensor) -> Tensor:
    """Returns a function of its arguments, which come in another order: each in the place that the order names."""
    arguments = dict(zip(order, given, strict=True))
    return function(*(arguments[place] for place in range(len(order))))


def is_linear_in_both(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> bool:
    """Whether ``f(x + x', w + w')`` is ``f(x, w) + f(x, w') + f(x', w) + f(x', w')``, for random numbers."""
    (a, u), (b, v) = _drawn_as(x, weight, seed=0), _drawn_as(x, weight, seed=1)
    parts = [product(one, other) for one in (a, b) for other in (u, v)]
    return torch.allclose(product(a + b, u + v), sum(parts[1:], parts[0]), rtol=1e-3, atol=1e-3)


def as_matrix(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor | None:
    """Returns the matrix (out, in) by which a product maps the last dimension of a value, None if there is none.

    The two are compared in float64: a product that rounds in between has none.
    """
    if weight.ndim != 2:
        return None
    a, u = _drawn_as(x.double(), weight.double(), seed=0)
    try:
        y = product(a, u)
    except RuntimeError:  # from one that computes in another dtype
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
