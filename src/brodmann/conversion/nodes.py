"""Nodes of a graph of torch.fx: what they call, read and hold, and what writes into their values."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn

IN_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
    operator.ipow: operator.pow,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}
"""Operators that write into their input, and those that do not."""
_METADATA = (
    "dtype device layout is_cuda shape ndim size dim numel nelement stride is_contiguous is_floating_point is_complex "
    "new_zeros new_ones new_full"
)
METADATA = frozenset(_METADATA.split())
"""Properties and methods of a tensor that ask for none of its numbers."""
FOLLOWED_PACKAGES = {"torch", "operator", "_operator", "math", "builtins", "brodmann"}
"""Packages whose functions do no more than their names say."""


STANDS_FOR = "stands_for"
"""Attribute of a module that is written out: the class of the module that it replaces."""


def parts_of(arguments: Any) -> list[Any]:
    """Returns everything in nested tuples, lists and dictionaries."""
    found: list[Any] = []
    fx.node.map_aggregate(arguments, found.append)
    return found


def is_unknown(*args: Any, **kwargs: Any) -> bool:
    """Whether an argument, or a part of one, is not known while a network is followed."""
    return any(isinstance(part, fx.Proxy) for part in parts_of((args, kwargs)))


def asks_metadata(node: fx.Node) -> bool:
    """Whether a node asks a tensor for something other than its numbers."""
    asked = node.args[1] if node.target is getattr else node.target
    return asked in METADATA and node.op in ("call_function", "call_method")


LIKE = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})
"""Methods that may take another tensor, whose size or kind they adopt."""


def reads_numbers(node: fx.Node, read: fx.Node) -> bool:
    """Whether a node computes with the numbers of one that it reads, and not only asks for its size or kind."""
    return not asks_metadata(node) and (node.target not in LIKE or node.args[:1] == (read,))


def module_text(module: nn.Module) -> str:
    """Returns a module as it prints itself, or its class where that takes several lines."""
    text = str(module)
    return type(module).__name__ if "\n" in text else text


def name_of(node: fx.Node) -> str:
    """Returns what a node's function, method or module is called."""
    return str(getattr(node.target, "__name__", node.target))


def caller_of(node: fx.Node) -> str:
    """Returns the name of the innermost module that calls a node's function or module."""
    callers = ["", *(name for name, _ in node.meta.get("nn_module_stack", {}).values())]
    return str(callers[-2 if node.op == "call_module" else -1])


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
    """Returns where in memory the tensors of a value lie."""
    if isinstance(value, tuple | list):
        return set().union(*map(_places_of, value))
    return {value.untyped_storage().data_ptr()} if isinstance(value, Tensor) else set()


class Followed(fx.Proxy):
    """A value that is not known while a network is followed; what writes into it, such as ``x += y``, says so."""

    def __hash__(self) -> int:
        raise fx.proxy.TraceError("a set, a dictionary or a cache looks up a value that is not known")

    def written(self, write: Callable[[Any, Any], Any], other: Any) -> fx.Proxy:
        """Returns what an operator leaves in its place."""
        return self.tracer.create_proxy("call_function", write, (self, other), {})


for _write in IN_PLACE:
    setattr(Followed, f"__{_write.__name__}__", functools.partialmethod(Followed.written, _write))
