"""Rewriting: functions of a traced network taken apart, so that each parameter stands where a layer can take it."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ...generators import undisturbed
from ..nodes import asks_metadata, called, fixed, held_by, reached, reads_numbers

BIASED = (
    functional.linear,
    functional.conv1d,
    functional.conv2d,
    functional.conv3d,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
"""Functions of an input and weights, which add a third tensor, a number for each feature or channel."""


def write_out_parts(graph: fx.Graph, root: nn.Module) -> None:
    """Makes biases sums of their own, and masks of parameters too; what is asked of held tensors becomes what it is."""
    _fold_metadata(graph, root)
    for node in graph.nodes:
        _part_sum(node)
        _part_bias(node)
    _part_masks(graph, root)


def _fold_metadata(graph: fx.Graph, root: nn.Module) -> None:
    """Replaces what is asked about parameters, or about what functions make of them, by the answers.

    So ``w = self.w.squeeze(1); x.to(w.dtype)`` does not pass for a second use of the parameter. Buffers stay where they
    are read, and answer for themselves.
    """
    values = _values_asked_about(graph, root)
    for node in graph.nodes:
        if node.op == "call_method" and node.target in ("type_as", "to") and len(node.args) == 2:
            other = values.get(node.args[1])
            if isinstance(other, Tensor):
                node.target, node.args = "to", (node.args[0], other.dtype)
        elif asks_metadata(node) and node.args[0] in values:
            answer = called(node, values)
            if not isinstance(answer, Tensor):  # as new_zeros returns
                _read_instead(node, answer)


def _values_asked_about(graph: fx.Graph, root: nn.Module) -> dict[fx.Node, Any]:
    """Returns the values of nodes made of parameters, and of nothing that comes, whose size or kind matters to others.

    Those that they are made of are among them.
    """
    held, learned = fixed(graph), _made_of_parameters(graph, root)
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        asked = node in learned and any(not reads_numbers(user, node) for user in node.users)
        if node in held and (asked or not needed.isdisjoint(node.users)):
            needed.add(node)
    values: dict[fx.Node, Any] = {}
    with torch.no_grad(), undisturbed():  # what is drawn here is not drawn by the network
        for node in (node for node in graph.nodes if node in needed):
            with suppress(Exception):  # which comes again, and is reported, where the network is walked through
                values[node] = held_by(root, node) if node.op == "get_attr" else called(node, values)
    return values


def _read_instead(node: fx.Node, value: Any) -> None:
    """Lets all that read a node read a value."""
    for user in list(node.users):
        user.args, user.kwargs = fx.node.map_arg((user.args, user.kwargs), lambda one: value if one is node else one)


def _part_bias(node: fx.Node) -> None:
    """Replaces the bias that a function adds by a sum above it."""
    if node.target not in BIASED:
        return
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    if not isinstance(bias, fx.Node):
        return
    node.args = node.args[:2] + (None,) * (len(node.args) > 2) + node.args[3:]
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "bias"}
    with node.graph.inserting_after(node):
        total = node.graph.call_function(operator.add, (node, bias))
    if node.target is not functional.linear:
        behind = (1,) * int(node.target.__name__[-2])  # dimensions, as in "conv2d"
        with node.graph.inserting_before(total):
            total.args = node, node.graph.call_method("reshape", (bias, -1, *behind))
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)


def _part_sum(node: fx.Node) -> None:
    """Replaces ``torch.addmm(bias, x, weight)`` by a product and a sum."""
    if node.target is not torch.addmm or len(node.args) != 3 or node.kwargs:
        return
    summand, x, weight = node.args
    with node.graph.inserting_before(node):
        product = node.graph.call_function(torch.mm, (x, weight))
    product.meta.update(node.meta)
    node.target, node.args = torch.add, (product, summand)


def _part_masks(graph: fx.Graph, root: nn.Module) -> None:
    """Writes out attention whose mask is made of parameters, which are then added to the scores, and learn."""
    learned = _made_of_parameters(graph, root)
    for node in [node for node in graph.nodes if node.target is functional.scaled_dot_product_attention]:
        given = dict(zip(("query", "key", "value", "attn_mask"), node.args, strict=False)) | node.kwargs
        more = any(node.args[4:]) or given.get("dropout_p") or given.get("is_causal") or given.get("enable_gqa")
        if given.get("attn_mask") in learned and not more:
            with graph.inserting_before(node):
                node.replace_all_uses_with(_written_out(graph, **given))
            graph.erase_node(node)


def _made_of_parameters(graph: fx.Graph, root: nn.Module) -> set[fx.Node]:
    """Returns the parameters that a network reads by itself, and all that functions make of their numbers."""
    return reached(
        graph,
        lambda node: isinstance(held_by(root, node), nn.Parameter),
        lambda node, read: node.op in ("call_function", "call_method") and reads_numbers(node, read),
    )


def _written_out(
    graph: fx.Graph, query: Any, key: Any, value: Any, attn_mask: Any, scale: Any = None, **_: Any
) -> fx.Node:
    """Returns ``softmax(q k^T scale + mask) v`` in functions of its own."""
    if scale is None:
        scale = graph.call_function(operator.pow, (graph.call_method("size", (query, -1)), -0.5))
    scores = graph.call_function(torch.matmul, (query, graph.call_method("transpose", (key, -2, -1))))
    masked = graph.call_function(operator.add, (graph.call_function(operator.mul, (scores, scale)), attn_mask))
    return graph.call_function(torch.matmul, (graph.call_method("softmax", (masked, -1)), value))
