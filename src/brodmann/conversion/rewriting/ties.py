"""Ties: parameters that several maps of a network share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from ..modules import function_of
from ..nodes import held_by, reads_numbers

ALIKE = (nn.Linear, _ConvNd)
"""Modules that are functions of their input, a weight and a bias."""


def write_out_tied(graph: fx.Graph, root: nn.Module) -> None:
    """Rewrites maps whose weights others hold too as functions of the weights, so that all of them read one parameter.

    Others are other modules, and the network itself if it reads the parameter, as it does once an `nn.Embedding` is
    written out. A module that is called several times and shares nothing stays one.
    """
    modules = dict(root.named_modules())
    holders: dict[int, set[int]] = defaultdict(set)
    for node in graph.nodes:
        if node.op == "call_module":
            for held in modules[node.target].parameters():
                holders[id(held)].add(id(modules[node.target]))
        held = held_by(root, node)
        if isinstance(held, nn.Parameter) and any(reads_numbers(user, node) for user in node.users):
            holders[id(held)].add(id(root))
    for node in list(graph.nodes):
        module = modules[node.target] if node.op == "call_module" else None
        if not isinstance(module, ALIKE) or _pads_otherwise(module) or len(node.args) + len(node.kwargs) > 1:
            continue
        if len(holders[id(module.weight)]) > 1:
            _write_out(node, module)


def _pads_otherwise(module: nn.Linear | _ConvNd) -> bool:
    return isinstance(module, _ConvNd) and module.padding_mode != "zeros"


def _write_out(node: fx.Node, module: nn.Linear | _ConvNd) -> None:
    """Replaces a map by a function of its parameters."""
    (x,) = node.args or node.kwargs.values()
    function, settings = function_of(module) if isinstance(module, _ConvNd) else (functional.linear, {})
    with node.graph.inserting_before(node):
        held = [
            None if parameter is None else node.graph.get_attr(f"{node.target}.{name}")
            for name, parameter in (("weight", module.weight), ("bias", module.bias))
        ]
        written = node.graph.call_function(function, (x, *held), settings)
    written.meta.update(node.meta)
    node.replace_all_uses_with(written)
    node.graph.erase_node(node)


def uses_of_parameters(graph: fx.Graph, root: nn.Module, moved: Collection[fx.Node]) -> dict[int, int]:
    """Returns how many nodes use each parameter that a network reads by itself, by its `id`.

    A use is a module, or a function of values (made from samples or by modules), that computes with the parameter's
    numbers, or with what functions made of them alone: ``w = self.w.t(); x @ w + y @ w`` has two.

    Args:
        graph: Graph of the network.
        root: The network.
        moved: Nodes that depend on the numbers of samples.
    """
    made_of: dict[fx.Node, set[int]] = {}
    values: set[fx.Node] = set()
    users: dict[int, set[fx.Node]] = defaultdict(set)
    for node in graph.nodes:
        held = held_by(root, node)
        read = [part for part in node.all_input_nodes if reads_numbers(node, part)]
        parameters = (
            {id(held)} if isinstance(held, nn.Parameter) else set().union(*(made_of.get(one, ()) for one in read))
        )
        if node in moved or node.op in ("call_module", "output") or not values.isdisjoint(read):
            values.add(node)
            for parameter in parameters:
                users[parameter].add(node)
        else:
            made_of[node] = parameters
    return {parameter: len(nodes) for parameter, nodes in users.items()}
