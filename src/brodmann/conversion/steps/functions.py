"""Functions of a network as modules: each with all that is part of it, so that a layer can call them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.graph import PythonCode

from ..following.answering import READING_AGAIN, made_of_numbers
from ..following.derivatives import WITHOUT_ERROR, OwnDerivative
from ..nodes import Retracing, name_of


class Functions(fx.GraphModule):
    """Functions of a network as one module. If they fail, torch.fx would print it before anyone can catch it."""

    def recompile(self) -> PythonCode:
        """Makes the code of the functions."""
        code = super().recompile()
        del type(self).__call__  # which prints; every module of torch.fx has a class of its own
        return code

    def __reduce__(self) -> tuple[Any, ...]:
        """Is pickled as a module of torch.fx, which forgets this class."""
        restore, given = super().__reduce__()
        return _as_functions, (restore, *given)


def _as_functions(restore: Callable[..., fx.GraphModule], *given: Any) -> Functions:
    found = restore(*given)
    return Functions(found, found.graph)


class OfFunctions(Retracing):
    """Traces functions of a network again: what they make of numbers alone, such as positions, they go on making."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Lets what makes tensors of numbers stay a call."""
        token = READING_AGAIN.set(self)
        try:
            return super().trace(root, concrete_args)
        finally:
            READING_AGAIN.reset(token)


def as_module(
    node: fx.Node, values: Mapping[fx.Node, Any], steps: Collection[fx.Node], within: Collection[fx.Node] = ()
) -> tuple[Functions, list[fx.Node]]:
    """Returns a function, with all that is part of it, as a module, and the nodes whose values that takes.

    Buffers that it needs, such as a mask, are its own.

    Args:
        node: The call of the function.
        values: What nodes are for a few samples.
        steps: Nodes whose values are those of steps.
        within: Functions of these that are part of it all the same.
    """
    inside = fx.Graph(tracer_cls=OfFunctions)
    copies: dict[fx.Node, fx.Node] = {}
    held: dict[str, Tensor | nn.Module] = {}

    def copied(read: fx.Node) -> fx.Node:
        if read not in copies:
            if read.op == "get_attr" and not isinstance(values[read], nn.Parameter):
                held[read.name] = values[read].clone()
                copies[read] = inside.get_attr(read.name)
            elif read in steps and (read.op == "get_attr" or read not in within):
                copies[read] = inside.placeholder(read.name)
            else:
                copies[read] = applied(read)
        return copies[read]

    def applied(read: fx.Node) -> fx.Node:
        if isinstance(read.target, OwnDerivative):
            held[read.name] = read.target
            copy = inside.call_module(read.name, *fx.node.map_arg((read.args, read.kwargs), copied))
        else:
            copy = inside.node_copy(read, copied)
            made_of_numbers(copy)
        stops = WITHOUT_ERROR in read.meta and isinstance(values[read], Tensor)
        return inside.call_method("detach", (copy,)) if stops else copy

    inside.output(applied(node))
    function = Functions(held, inside, name_of(node))
    return function, [read for read, copy in copies.items() if copy.op == "placeholder"]
