"""In-place writes of a network, while torch.fx follows it, become functions that return what would be written."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...checks import is_real
from ...errors import BrodmannError
from ...several import Several, of_each, rows_of
from ..following.derivatives import WITHOUT_ERROR
from ..nodes import IN_PLACE, RELUS, in_one_memory, is_complex, name_of, reads_numbers, writes


def leave_out_writing(graph: fx.Graph, root: nn.Module, sample: Several) -> None:
    """Makes functions and modules that would write into their input return what they would write instead.

    Later readers of the input read that in its place.

    Args:
        graph: Graph of the network, which is changed.
        root: The network; its modules no longer write.
        sample: A few samples (samples, ...).

    Raises:
        BrodmannError: What would be overwritten is read again as a view, there is nothing that returns it, or it is
            written under ``torch.no_grad()`` into what errors go down through.
    """
    for node in list(graph.nodes):
        if node.op == "call_method" and node.target == "requires_grad_":  # what comes out of others asks for one anyway
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    writing = [node for node in graph.nodes if writes(node, root)]
    copy = deepcopy(root) if writing else root
    values, alone = (_values(graph, copy, rows_of(sample, slice(n))) if writing else {} for n in (2, 1))
    for found in (values, alone):  # some are views only for one sample
        _check_views(graph, found, writing)
    # Nothing is written into numbers: `n += 1` makes another one.
    numbers = {node for node, value in values.items() if not isinstance(value, Tensor)}
    # No error goes down through these, such as whole numbers.
    silent = {node for node, value in values.items() if not (is_real(value) or is_complex(value))}
    order = {node: place for place, node in enumerate(graph.nodes)}
    for part in root.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    for node in writing:
        returns = _make_functional(node) or node.op == "call_module"
        written = node.all_input_nodes[0]
        if WITHOUT_ERROR in node.meta and WITHOUT_ERROR not in written.meta and written not in silent:
            raise BrodmannError(
                f"{name_of(node)} cannot be converted: it writes under torch.no_grad() into a value that errors go "
                "down through. Write x + (f(x) - x).detach() instead."
            )
        later = [user for user in written.users if order[user] > order[node] and reads_numbers(user, written)]
        if not node.users or (returns and later):
            if returns and written in numbers:
                continue
            if not returns or not values:
                raise _overwrites(node)
            for user in later:
                user.replace_input_with(written, node)


def _make_functional(node: fx.Node) -> bool:
    """Replaces a call that writes into its input by one that returns it; returns whether there is one."""
    target: Any = node.target
    twin = target
    if node.op == "call_method" and target.endswith("_") and hasattr(Tensor, target[:-1]):
        twin = target[:-1]
    if node.op == "call_function":
        name = getattr(target, "__name__", "")
        twin = IN_PLACE.get(target, getattr(torch, name[:-1], target) if name.endswith("_") else target)
    node.target = twin
    asked = bool(node.kwargs.get("inplace"))
    if asked:
        node.kwargs = {**node.kwargs, "inplace": False}
    if twin in RELUS:
        asked |= True in node.args[1:]
        node.args, node.kwargs = node.args[:1], {}
    return asked or twin is not target


def _overwrites(node: fx.Node) -> BrodmannError:
    return BrodmannError(
        f"{name_of(node)} cannot be converted: it overwrites a value that others read. Use a version that is "
        "not in place."
    )


def _values(graph: fx.Graph, root: nn.Module, sample: Several) -> dict[fx.Node, Any]:
    """Returns the values of nodes for samples, of a network that may be written into; none if that fails."""
    walk = fx.Interpreter(root, garbage_collect_values=False, graph=graph)
    try:
        with torch.no_grad():
            walk.run(of_each(Tensor.clone, sample))
    except Exception:  # from samples of a shape that the network is not made for, which is reported later
        return {}
    return walk.env


def _check_views(graph: fx.Graph, values: dict[fx.Node, Any], writing: list[fx.Node]) -> None:
    """Raises if a node writes into what is read after it through another tensor that shares its memory."""
    before = list(graph.nodes)
    order = {node: place for place, node in enumerate(before)}
    for node in writing:
        written = node.all_input_nodes[0]
        for other in before[: order[node]]:
            later = any(order[user] > order[node] and reads_numbers(user, other) for user in other.users)
            if later and other is not written and in_one_memory(values.get(other), values.get(written)):
                raise _overwrites(node)
