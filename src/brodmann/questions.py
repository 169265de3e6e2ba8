"""Questions of size, such as `if x.dim() == 3`, answered from samples while torch.fx follows a network."""

from __future__ import annotations

import functools
import operator
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute

from .errors import BrodmannError

METADATA = frozenset(
    "dtype device shape ndim size dim numel nelement is_floating_point new_zeros new_ones new_full".split()  # noqa: SIM905
)
"""Properties and methods of a tensor that ask for none of its numbers."""
MODULES = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
"""Methods of `nn.Module` that torch.fx replaces while it follows a network."""
FACTORIES = ("arange", "zeros", "ones", "full", "empty", "eye", "linspace", "tensor")
"""Functions of sizes, kinds and devices, which torch.fx does not see."""


def asks_metadata(node: fx.Node) -> bool:
    """Whether a node asks a tensor for something else than its numbers."""
    asked = node.args[1] if node.target is getattr else node.target
    return asked in METADATA and node.op in ("call_function", "call_method")


def place_of(error: Exception) -> str:
    """Returns the last line outside of PyTorch and this package that an error came through; empty if there is none."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(frames: traceback.StackSummary) -> str:
    packages = tuple(str(Path(module).parent) + os.sep for module in (torch.__file__, __file__))
    own = [frame for frame in frames if not frame.filename.startswith((*packages, "<"))]
    return f"{own[-1].filename}, line {own[-1].lineno}: `{own[-1].line}`" if own else ""


def parts_of(arguments: Any) -> list[Any]:
    """Returns all that stands in tuples, lists and dictionaries inside of each other."""
    found: list[Any] = []
    fx.node.map_aggregate(arguments, found.append)
    return found


class Answering(fx.Tracer):
    """A tracer that answers what a network asks of sizes; what it asks of the numbers themselves is refused.

    Each question is put to the network's own values for all samples and for one of them. Where both answer alike, it is
    a question of what comes to the network and not of how many; the graph then holds for samples of that shape.
    """

    proxy_buffer_attributes = True  # so that buffers are cut to the size that comes, not to that of the samples

    def __init__(self, sample: Tensor) -> None:
        """Takes a few samples (samples, ...)."""
        super().__init__()
        self._batches = (sample, sample[:1])
        self._values: dict[fx.Node, tuple[Any, Any]] = {}
        self._numbers: set[fx.Node] = set()  # nodes that depend on the numbers of samples

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Follows a network."""
        with _replaced(torch, {name: self._symbolic(getattr(torch, name)) for name in FACTORIES}):
            return super().trace(root, concrete_args)

    def _symbolic(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that becomes a node where it takes what is not known yet."""

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            unknown = any(isinstance(part, fx.Proxy) for part in parts_of((args, kwargs)))
            return self.create_proxy("call_function", function, args, kwargs) if unknown else function(*args, **kwargs)

        return called

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Returns a proxy that asks."""
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answers `if`, `while`, `and`, `assert`."""
        return bool(self.answer(obj.node, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Answers `for`: as many parts as there are."""
        return (obj[index] for index in range(self.answer(obj.node, len)))  # type: ignore[index]

    def answer(self, node: fx.Node, ask: Callable[[Any], Any]) -> Any:
        """Returns what ``ask`` makes of the value of a node.

        Raises:
            BrodmannError: It depends on the numbers of the samples, or on how many there are.
        """
        self._follow()
        if node in self._numbers and ask is not len:
            raise self._refused("decides by the numbers of a sample what to do", "write it without, as by torch.where")
        first, second = (ask(value) for value in self._values[node])
        if first != second:
            raise self._refused(
                "decides by the number of samples what to do", "write it without, as a // b in place of int(a / b)"
            )
        return first

    def check_own(self, node: fx.Node) -> None:
        """Checks that a value that is written into has its memory for itself; raises a `BrodmannError`."""
        self._follow()
        written = self._values[node][0]
        others = (value for other, (value, _) in self._values.items() if other is not node)
        if any(isinstance(value, Tensor) and _in_one(value, written) for value in others):
            raise self._refused("writes into what other values are views of", "clone it before")

    def _refused(self, what: str, instead: str) -> BrodmannError:
        name = type(self.root[0]).__name__  # type: ignore[index]
        return BrodmannError(
            f"{name} cannot be converted: it {what} ({_innermost(traceback.extract_stack())}). Instead, {instead}, or "
            "compose its layers by brodmann.Sequential, Residual and Graph."
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Computes all nodes so far, in their order, as they would be at inference."""
        training = self.root.training
        with _replaced(nn.Module, MODULES):
            self.root.eval()
            try:
                for node in self.graph.nodes:
                    if node not in self._values:
                        self._values[node] = (self._value(node, 0), self._value(node, 1))
                        read = node.all_input_nodes[1:] if asks_metadata(node) else node.all_input_nodes
                        if node.op == "placeholder" or not self._numbers.isdisjoint(read):
                            self._numbers.add(node)
            finally:
                self.root.train(training)

    def _value(self, node: fx.Node, index: int) -> Any:
        """Computes a node for a batch; what it overwrites is a copy."""
        if node.op == "placeholder":
            return self._batches[index].clone()
        target: Any = node.target
        if node.op == "get_attr":
            held = operator.attrgetter(target)(self.root)
            return held.detach().clone() if isinstance(held, Tensor) else held
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda read: self._values[read][index])
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return (self.root.get_submodule(target) if node.op == "call_module" else target)(*args, **kwargs)


class _Proxy(fx.Proxy):
    """A value that is not known while a network is followed, and what can be said of its size."""

    tracer: Answering

    def __getattr__(self, k: str) -> Attribute:
        return _Attribute(self, k)

    def __index__(self) -> int:
        return self.tracer.answer(self.node, operator.index)  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self.tracer.answer(self.node, int)  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return self.tracer.answer(self.node, float)  # type: ignore[no-any-return]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.check_own(self.node)
        self.node = self.tracer.create_proxy("call_function", with_part, (self, index, value), {}).node

    def __len__(self) -> int:
        return self.tracer.answer(self.node, len)  # type: ignore[no-any-return]


def _in_one(one: Tensor, other: Tensor) -> bool:
    """Whether tensors lie in the same memory."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def with_part(x: Tensor, index: Any, value: Any) -> Tensor:
    """Returns a copy of a tensor with a part put in the place of its own."""
    x = x.clone()
    x[index] = value
    return x


class _Attribute(_Proxy, Attribute):
    """A property or method of such a value."""


@contextmanager
def _replaced(owner: Any, others: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Lets an owner have other functions inside."""
    before = {name: getattr(owner, name) for name in others}
    for name, other in others.items():
        setattr(owner, name, other)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)
