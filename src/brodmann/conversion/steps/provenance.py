"""Provenance: what the value of each node of a network is made of: inputs, parameters, both or neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from ...checks import is_real
from ...errors import BrodmannError
from ...layer import has_parameters
from ...origin import package_of
from ..nodes import FOLLOWED_PACKAGES, fixed, held_by, is_complex, name_of, parts_of, reached, reads_numbers

_PRODUCTS = (
    "matmul mm bmm addmm baddbmm addbmm mv addmv inner outer ger dot vdot vecdot kron tensordot einsum chain_matmul "
    "multi_dot cdist cosine_similarity linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d scaled_dot_product_attention multi_head_attention_forward solve solve_triangular lu_solve "
    "cholesky_solve lstsq tensorsolve householder_product "
    "grouped_mm _grouped_mm scaled_mm _scaled_mm _int_mm conv_tbc convolution _convolution cross embedding_bag "
    "rnn_tanh rnn_relu gru lstm rnn_tanh_cell rnn_relu_cell gru_cell lstm_cell"
)
PRODUCTS = frozenset(_PRODUCTS.split())
"""Functions whose derivative by one argument is another argument, by name; without the prefix ``linalg_``."""


class Provenance:
    """Sets of nodes by what their values depend on, each node noted once, in the order of the graph.

    In ``(x + self.position) @ self.scale[0]`` the sum is ``live``, ``scale[0]`` is one of ``weights`` and ``fixed``,
    the product is live and one of ``products``. In ``y = x.shape[0] * torch.ones(3)`` the size is ``dependent`` but not
    ``moved``: it depends on how many samples came, not on their numbers.

    Attributes:
        live: Nodes that depend on the network's input through real numbers: errors go down there.
        weights: Nodes that do not, but depend on parameters.
        fixed: Nodes made by functions of tensors that the network holds, and of nothing else.
        products: Nodes that multiply live values by weights.
        dependent: Nodes that depend on the input, on parameters or on modules, if only on their sizes.
        moved: Nodes that depend on the numbers in the input, not on sizes alone.
    """

    def __init__(self, graph: fx.Graph, root: nn.Module) -> None:
        """Begins with the input of a graph, its first node, and the tensors that the network holds."""
        given = next(iter(graph.nodes))
        self.live = {given}
        self.weights: set[fx.Node] = set()
        self.fixed = fixed(graph)
        self.products: set[fx.Node] = set()
        self.dependent = reached(
            graph,
            lambda node: node is given or node.op == "call_module" or isinstance(held_by(root, node), nn.Parameter),
        )
        self.moved = reached(graph, lambda node: node is given, reads_numbers)

    def note(self, node: fx.Node, values: Mapping[fx.Node, Any], module: nn.Module | None) -> None:
        """Notes the next node.

        Args:
            node: The node.
            values: Values of all nodes so far, this one included.
            module: What it calls, if that is one.

        Raises:
            BrodmannError: A function that is no product would carry errors down through weights.
        """
        if node.op == "get_attr":
            if isinstance(values[node], nn.Parameter):
                self.weights.add(node)
            return
        read = [part for part in node.all_input_nodes if reads_numbers(node, part) and _carries_numbers(values[part])]
        maps = has_parameters(module)  # what it makes of weights is a value
        if maps or not self.live.isdisjoint(read):
            self.live.add(node)
        if maps or self.weights.isdisjoint(read):
            return
        opaque = module is None and callable(node.target) and package_of(node.target) not in FOLLOWED_PACKAGES
        # A factor for frequencies is a convolution of what they were made of.
        spectral = node in self.live and is_complex(values[node])
        product = is_product(node)
        if self._looks_up(node, read, values):
            self.live.add(node)
            return
        weights = [part for part in parts_of((node.args, node.kwargs)) if part in self.weights]
        if product and self.live.isdisjoint((node, *read)) and len(weights) == 1:  # of zeros, or a buffer
            self.weights.add(node)
            return
        if opaque or spectral or (product and not (node in self.live and is_real(values[node]))):
            raise not_followed(node)
        if product:
            self.products.add(node)
        if node not in self.live:
            self.weights.add(node)

    def _looks_up(self, node: fx.Node, read: list[fx.Node], values: Mapping[fx.Node, Any]) -> bool:
        """Whether a node returns rows of a table for tokens, which are values; matrices that are looked up are not."""
        if node not in self.moved or len(read) != 1 or values[read[0]].ndim != 2:
            return False
        return name_of(node) in ("embedding", "getitem", "index_select")


def is_product(node: fx.Node) -> bool:
    """Whether a node calls one of `PRODUCTS`."""
    return name_of(node).removeprefix("linalg_") in PRODUCTS


def not_followed(node: fx.Node) -> BrodmannError:
    """Returns the error for a function that would carry errors down through weights, and is no product with them."""
    return BrodmannError(
        f"{name_of(node)} cannot be converted here, since it takes parameters and errors would go down through it: "
        "expected a product of one value and one parameter, linear in both. Put the parameters into an nn.Linear or a "
        "convolution."
    )


def _carries_numbers(value: Any) -> bool:
    """Whether a value is, or holds, a tensor through which errors may go down."""
    if isinstance(value, tuple | list | Mapping):
        return any(map(_carries_numbers, value.values() if isinstance(value, Mapping) else value))
    return is_real(value) or is_complex(value)
