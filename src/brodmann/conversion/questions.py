"""Questions of size, such as `if x.dim() == 3`, answered from samples while torch.fx follows a network."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute

from ..errors import BrodmannError
from .followed import Followed, asks_metadata, in_one_memory, name_of, parts_of

MODULES = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
"""Methods of `nn.Module` that torch.fx replaces while it follows a network."""
FACTORIES = ("arange", "zeros", "ones", "full", "empty", "eye", "linspace", "tensor", "rand", "randn", "finfo", "iinfo")
"""Functions of sizes, kinds and devices, which torch.fx does not see."""
RAGGED = ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount")
"""Functions and methods whose values have sizes that depend on numbers."""
MANY = 64
"""Samples of a large batch."""


def place_of(error: Exception) -> str:
    """Returns the last line outside of PyTorch and this package that an error came through; empty if there is none."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(frames: traceback.StackSummary) -> str:
    roots = Path(torch.__file__).parent, Path(__file__).parents[1]
    packages = tuple(str(root) + os.sep for root in roots)
    own = [frame for frame in frames if not frame.filename.startswith((*packages, "<"))]
    return f"{own[-1].filename}, line {own[-1].lineno}: `{own[-1].line}`" if own else ""


R = TypeVar("R")


class Answering(fx.Tracer):
    """A tracer that answers what a network asks of sizes; what it asks of the numbers themselves is refused.

    Each question is put to the network's own values for all samples and for two of them. Where both answer alike, it is
    a question of what comes to the network and not of how many; the graph then holds for samples of that shape. What is
    made of the number of samples has to answer alike for `MANY`, too. A sample that comes alone is treated as several
    are, as by `if len(x) != 1: mask = mask.expand(len(x), -1)`: that this is the same is checked in the end.

    Of `if x.dim() == 3` that is so. Refused are `if x.max() > 1`, which asks for numbers; `range(len(x[x > 0]))`, whose
    size they decide; and `int(len(x) / 2)`, which counts samples.
    """

    proxy_buffer_attributes = True  # so that buffers are cut to the size that comes, not to that of the samples

    def __init__(self, sample: Tensor) -> None:
        """Takes a few samples (samples, ...)."""
        super().__init__()
        many = torch.cat([sample] * (1 + MANY // len(sample)))[:MANY]
        self._walks = [_Values(part) for part in (many[: max(3, len(sample))], many[:2], many)]
        self._numbers: set[fx.Node] = set()  # nodes that depend on numbers, of samples or parameters
        self._ragged: set[fx.Node] = set()  # nodes whose sizes do
        self._held: dict[str, Tensor] = {}
        self._overwritten: list[tuple[fx.Node, fx.Node, BrodmannError]] = []  # before and after, and what to raise

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Follows a network."""
        self._held = dict(root.named_parameters(remove_duplicate=False)) | dict(root.named_buffers())
        replaced = {name: self._symbolic(name) for name in FACTORIES}
        # It is off meanwhile, and asked for by kinds of devices that are not known yet.
        with _replaced(torch, replaced | {"is_autocast_enabled": lambda *_: False}):
            graph = super().trace(root, concrete_args)
            self._check_overwritten()
            return graph

    def _symbolic(self, name: str) -> Callable[..., Any]:
        """Returns a function of PyTorch's that becomes a node where it takes what is not known yet."""
        function: Callable[..., Any] = getattr(torch, name)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(part, fx.Proxy) for part in parts_of((args, kwargs))):
                return self.whole(made, (name, *args), kwargs)
            return function(*args, **kwargs)

        return called

    def whole(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Proxy:
        """Returns a call of one of this module's functions, which stays one wherever the graph is read again."""
        # While a network is followed, the name of a wrapped function stands for its wrapper.
        call: fx.Proxy = self.create_proxy("call_function", inspect.unwrap(function), args, kwargs)
        call.node.meta["is_wrapped"] = True
        return call

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Returns a proxy that asks."""
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answers `if`, `while`, `and`, `assert`."""
        return bool(self.answer(obj.node, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Answers `for`: as many parts as there are."""
        return (obj[index] for index in range(self.answer(obj.node, len)))  # type: ignore[index]

    def answer(self, node: fx.Node, ask: Callable[[Any], R]) -> R:
        """Returns what ``ask`` makes of the value of a node.

        Raises:
            BrodmannError: It depends on the numbers of the samples, or on how many there are.
        """
        self._follow()
        if node in self._ragged or (node in self._numbers and ask is not len):
            raise self._refused("decides by numbers what to do", "write it without, as by torch.where")
        if self._counts(node) or (ask is len and not isinstance(self._walks[0].of[node], torch.Size)):
            self._follow(all_walks=True)
        answers = [ask(walk.of[node]) for walk in self._walks if node in walk.of]
        if any(other != answers[0] for other in answers):
            raise self._refused(
                "decides by the number of samples what to do",
                "write it without, as x.shape[0] in place of len(x), or a // b in place of int(a / b)",
            )
        return answers[0]

    def _counts(self, node: fx.Node) -> bool:
        """Whether a size is made of the number of samples."""
        first, second = (walk.of[node] for walk in self._walks[:2])
        if not isinstance(first, int | float | torch.Size):
            return False
        if first != second:
            return True
        return node.target is not operator.getitem and any(map(self._counts, node.all_input_nodes))

    def written(self, node: fx.Node, index: Any, value: Any) -> fx.Node:
        """Returns what a value is once a part of it is written; later it is checked that nobody reads it as it was."""
        after = self.whole(with_part, (fx.Proxy(node, self), index, value), {}).node
        self._overwritten.append(
            (node, after, self._refused("writes into what other values are views of", "clone it before"))
        )
        return after

    def _check_overwritten(self) -> None:
        """Raises where a value is read after a part of its memory was written, by another name or as a view."""
        if not self._overwritten:
            return
        self._follow()
        values, order = self._walks[0].of, {node: place for place, node in enumerate(self.graph.nodes)}
        for before, after, refused in self._overwritten:
            for node in list(order)[: order[after]]:
                if in_one_memory(values.get(node), values[before]) and any(
                    order[user] > order[after] and not asks_metadata(user) for user in node.users
                ):
                    raise refused

    def _refused(self, what: str, instead: str) -> BrodmannError:
        name = type(self.root[0]).__name__  # type: ignore[index]
        return BrodmannError(
            f"{name} cannot be converted: it {what} ({_innermost(traceback.extract_stack())}). Instead, {instead}, or "
            "compose its layers by brodmann.Sequential, Residual and Graph."
        )

    @torch.no_grad()
    def _follow(self, *, all_walks: bool = False) -> None:
        """Computes all nodes so far, in their order, as they would be at inference."""
        training = self.root.training
        with _replaced(nn.Module, MODULES):
            self.root.eval()
            try:
                for walk in self._walks if all_walks else self._walks[:2]:
                    for node in list(self.graph.nodes):
                        if node not in walk.of and node.op != "output":
                            walk.of[node] = walk.value(node, self.root, self._held)
            finally:
                self.root.train(training)
        for node in self.graph.nodes:
            self._judge(node)

    def _judge(self, node: fx.Node) -> None:
        """Notes whether a node depends on numbers, and whether its sizes do."""
        read = node.all_input_nodes
        if asks_metadata(node):
            if read[0] in self._ragged or not self._numbers.isdisjoint(read[1:]):
                self._numbers.add(node)
            return
        own = node.op == "get_attr" and isinstance(self._held.get(str(node.target)), nn.Parameter)
        if own or node.op == "placeholder" or not self._numbers.isdisjoint(read):
            self._numbers.add(node)
        name = name_of(node)
        masks = (self._walks[0].of[part] for part in read[1:])
        masked = name in ("getitem", "with_part") and any(_is_mask(mask) for mask in masks)
        if not self._ragged.isdisjoint(read) or name in RAGGED or (masked and name == "getitem"):
            self._ragged.add(node)


class _Values:
    """What nodes come to for a batch."""

    def __init__(self, batch: Tensor) -> None:
        """Takes samples (samples, ...)."""
        self.batch, self.of = batch, dict[fx.Node, Any]()

    def value(self, node: fx.Node, root: nn.Module, held: dict[str, Tensor]) -> Any:
        """Computes a node; what it overwrites is a copy, and what the network holds is what it held at first."""
        if node.op == "placeholder":
            return self.batch.clone()
        target: Any = node.target
        if node.op == "get_attr":
            value = held[target] if target in held else operator.attrgetter(target)(root)
            return value.detach().clone() if isinstance(value, Tensor) else value
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.of.__getitem__)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return (root.get_submodule(target) if node.op == "call_module" else target)(*args, **kwargs)


class _Proxy(Followed):
    """The same, and what can be said of its size."""

    tracer: Answering

    def __getattr__(self, k: str) -> Attribute:
        return _Attribute(self, k)

    def __index__(self) -> int:
        return self.tracer.answer(self.node, operator.index)

    def __int__(self) -> int:
        return self.tracer.answer(self.node, int)

    def __float__(self) -> float:
        return self.tracer.answer(self.node, float)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.node = self.tracer.written(self.node, index, value)

    def __len__(self) -> int:
        return self.tracer.answer(self.node, len)


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool


@fx.wrap
def with_part(x: Tensor, index: Any, value: Any) -> Tensor:
    """Returns a copy of a tensor with a part put in the place of its own."""
    x = x.clone()
    x[index] = value
    return x


@fx.wrap
def made(factory: str, *args: Any, **kwargs: Any) -> Tensor:
    """Returns what one of `FACTORIES` makes."""
    tensor: Tensor = getattr(torch, factory)(*args, **kwargs)
    return tensor


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
