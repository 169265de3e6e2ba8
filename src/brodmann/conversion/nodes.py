"""Nodes of a graph of torch.fx: what they call, read and hold, and what writes into their values."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

IN_PLACE: dict[Any, Callable[..., Any]] = {
    getattr(operator, f"i{name.strip('_')}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "matmul", "pow", "floordiv", "mod", "and_", "or_", "xor")
}
"""Operators that write into their input, and those that do not: `operator.iadd` -> `operator.add`, and so on."""
RELUS: set[Any] = {functional.relu, torch.relu, "relu"}
"""Functions, and a method, that `nn.ReLU` stands for."""
_METADATA = (
    "dtype device layout is_cuda shape ndim size dim numel nelement stride is_contiguous is_floating_point is_complex "
    "new_zeros new_ones new_full"
)
METADATA = frozenset(_METADATA.split())
"""Properties and methods of a tensor that ask for none of its numbers."""
LIKE = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})
"""Methods that may take another tensor, whose size or kind they adopt."""
FOLLOWED_PACKAGES = {"torch", "operator", "_operator", "math", "builtins", "brodmann"}
"""Packages whose functions do no more than their names say."""
ROOT = "0"
"""Name of the model in the `Root` that is followed."""
TRAINING = "training"
"""Key in a node's metadata: whether the module that it calls was in training mode."""
STANDS_FOR = "stands_for"
"""Attribute of a module that is written out: the class of the module that it replaces."""


class Retracing(fx.Tracer):
    """Traces a graph again, as when it is unpickled: every module is one step, and sizes may slice buffers."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """True, whatever the module."""
        return True


def parts_of(arguments: Any) -> list[Any]:
    """Returns everything in nested tuples, lists and dictionaries."""
    found: list[Any] = []
    fx.node.map_aggregate(arguments, found.append)
    return found


def asks_metadata(node: fx.Node) -> bool:
    """Whether a node asks a tensor for something other than its numbers."""
    asked = node.args[1] if node.target is getattr else node.target
    return asked in METADATA and node.op in ("call_function", "call_method")


def reads_numbers(node: fx.Node, read: fx.Node) -> bool:
    """Whether a node computes with the numbers of one that it reads, and not only asks for its size or kind."""
    return not asks_metadata(node) and (node.target not in LIKE or node.args[:1] == (read,))


def called(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Returns the value of a node that calls a function or a method, made of the values of others."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    target: Any = node.target
    return getattr(args[0], target)(*args[1:], **kwargs) if node.op == "call_method" else target(*args, **kwargs)


def name_of(node: fx.Node) -> str:
    """Returns what a node's function, method or module is called."""
    return str(getattr(node.target, "__name__", node.target))


def caller_of(node: fx.Node) -> str:
    """Returns the name of the innermost module that calls a node's function or module."""
    callers = ["", *(name for name, _ in node.meta.get("nn_module_stack", {}).values())]
    return str(callers[-2 if node.op == "call_module" else -1])


def is_held(node: fx.Node) -> bool:
    """Whether a node is a module that the network holds, or a tensor."""
    return node.op in ("call_module", "get_attr")


def origin_of(node: fx.Node) -> str:
    """Returns the name of a node's module or tensor, or of the module that calls its function, as the model has it."""
    found = str(node.target) if is_held(node) else caller_of(node)
    return found.removeprefix(ROOT).removeprefix(".")  # nothing for the model itself


def held_by(root: nn.Module, node: Any) -> Any:
    """Returns what a node reads of the network itself; None if it reads something else."""
    reads = isinstance(node, fx.Node) and node.op == "get_attr"
    return operator.attrgetter(str(node.target))(root) if reads else None


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Returns the arguments of a call of a function by name, defaults included."""
    asked = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    asked.apply_defaults()
    return asked.arguments


def in_one_memory(one: Any, other: Any) -> bool:
    """Whether two values are, or hold, tensors that lie in the same memory."""
    return not _places_of(one).isdisjoint(_places_of(other))


def _places_of(value: Any) -> set[int]:
    """Returns the addresses of the tensors of a value."""
    if isinstance(value, tuple | list):
        return set().union(*map(_places_of, value))
    return {value.untyped_storage().data_ptr()} if isinstance(value, Tensor) else set()


def reached(
    graph: fx.Graph,
    begins: Callable[[fx.Node], bool],
    passes: Callable[[fx.Node, fx.Node], bool] = lambda *_: True,
) -> set[fx.Node]:
    """Returns the nodes that begin, and all that read one of those found, where the reader and what it reads pass."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if begins(node) or any(read in found and passes(node, read) for read in node.all_input_nodes):
            found.add(node)
    return found


def fixed(graph: fx.Graph) -> set[fx.Node]:
    """Returns the nodes made by functions of tensors that the network holds, and of nothing else."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        read = node.all_input_nodes
        if node.op == "get_attr" or (node.op != "call_module" and read and found.issuperset(read)):
            found.add(node)
    return found


def is_complex(value: Any) -> bool:
    """Whether a value is a tensor of complex numbers."""
    return isinstance(value, Tensor) and value.is_complex()


def writes(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node writes into its first input."""
    target: Any = node.target
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(target), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = name_of(node)
    if target in IN_PLACE or name in ("setitem", "__setitem__") or (name.endswith("_") and not name.endswith("__")):
        return True
    return bool(node.kwargs.get("inplace")) or (target in RELUS and True in node.args[1:])
