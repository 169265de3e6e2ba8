"""A tracer of torch.fx that answers from samples what a network asks about sizes, such as `if x.dim() == 3`."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import Tensor, autocast, fx, nn

from ...errors import BrodmannError
from ...origin import line_now
from ...several import Several
from ..nodes import reads_numbers
from .kinds import replaced
from .proxies import VIEWS, Asking, is_unknown
from .questions import ASKED
from .values import Walks

MODULES = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
"""Methods of `nn.Module` that torch.fx replaces while it follows a network."""
FACTORIES = ("arange", "zeros", "ones", "full", "empty", "eye", "linspace", "tensor", "rand", "randn", "finfo", "iinfo")
"""Functions of sizes, kinds and devices, which torch.fx does not see."""
READING_AGAIN: ContextVar[fx.Tracer | None] = ContextVar("READING_AGAIN", default=None)
"""The tracer that reads functions again, as when they are unpickled, if one does."""
R = TypeVar("R")
_compiled = torch.jit.ScriptFunction.__call__


class Answering(fx.Tracer):
    """A tracer that answers what a network asks about sizes, and refuses what it asks about the numbers themselves.

    Each question is put to the network's own values for all samples and for two of them. If both give the same
    answer, the question is about what comes to the network and not about how many samples; the graph then holds for
    samples of that shape. A size made from the number of samples must have the same answer for `MANY`, too. For a
    single sample it need not: whether the network does the same with it, as with
    `if len(x) != 1: mask = mask.expand(len(x), -1)`, is another question, see `same_alone`.

    So `if x.dim() == 3` is answered. Refused are `if x.max() > 1`, which asks for numbers; `range(len(x[x > 0]))`,
    whose size numbers decide; and `int(len(x) / 2)`, which counts samples.
    """

    asks_whether_alone = False
    """Whether the network asked something whose answer differs between one sample and several."""
    done = False
    """Whether the network was followed to its end."""
    proxy_buffer_attributes = True  # so that buffers are cut to the size that comes, not to that of the samples

    def __init__(self, sample: Several, *, alone: bool = False, constants: bool = False, **others: Any) -> None:
        """Takes a few samples.

        Args:
            sample: (samples, ...), or several such tensors.
            alone: Whether it is a single sample, whose answers alone count.
            constants: Whether what `FACTORIES` make of numbers alone becomes a node, too: its methods may then take
                sizes, as in ``torch.zeros(1, 4).expand(len(x), -1)``.
            others: What the tracer takes that this is a part of.
        """
        super().__init__(**others)
        self._sample, self._alone = sample, alone
        self.constants = constants
        self._computes = False  # whether values are being computed: factories then do what they always did
        self._asked: dict[tuple[fx.Node, Callable[[Any], Any]], Any] = {}
        self._proxies: list[weakref.ref[Asking]] = []
        # What was written, who else sees that memory, and what to raise if they are read later.
        self._overwritten: list[tuple[fx.Node, list[fx.Node], BrodmannError]] = []

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Follows a network."""
        held = dict(root.named_parameters(remove_duplicate=False)) | dict(root.named_buffers())
        self._walks = Walks(self._sample, root, held, alone=self._alone)
        factories = {name: self._symbolic(name) for name in FACTORIES}
        with (
            replaced(torch, factories | {"autocast": _autocast, "is_autocast_enabled": lambda *_: False}),
            replaced(torch.jit.ScriptFunction, {"__call__": _as_written}),
        ):
            try:
                graph = super().trace(root, concrete_args)
            finally:
                self.done = True
                del self._walks  # which would otherwise stay until Python collects reference cycles
        self._check_overwritten(graph)
        graph.output_node().meta[ASKED] = self._asked
        return graph

    def _symbolic(self, name: str) -> Callable[..., Any]:
        """Returns a function of PyTorch that becomes a node if an argument is not known yet."""
        function: Callable[..., Any] = getattr(torch, name)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if is_unknown(*args, **kwargs) or (self.constants and not self._computes):
                return whole(self, made, (name, *args), kwargs)
            return function(*args, **kwargs)

        return called

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Returns a proxy whose questions this tracer answers."""
        return Asking(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answers `if`, `while`, `and`, and `assert`, which may ask for numbers: it only decides whether to go on."""
        asking = sys._getframe(2)  # the caller of `Proxy.__bool__`
        if _is_asserted(asking.f_code, asking.f_lasti):
            self._follow()
            holds = bool(self._walks[obj.node])
            if obj.node not in self._walks.ragged | self._walks.numbers:
                self._asked[obj.node, bool] = holds, self._walks.counts(obj.node)
            return holds
        return bool(self.answer(obj.node, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Answers `for`: as many parts as there are."""
        return (obj[index] for index in range(self.answer(obj.node, len)))  # type: ignore[index]

    def answer(self, node: fx.Node, ask: Callable[[Any], R]) -> R:
        """Returns what ``ask`` makes of the value of a node.

        Raises:
            BrodmannError: It depends on the numbers of the samples, or on how many there are.
        """
        if node.target is getattr and node.args[1] == "requires_grad":
            raise self.refused("decides what to do by whether a value requires a gradient", "leave that out")
        self._follow()
        walks = self._walks
        if node in walks.ragged or (node in walks.numbers and ask is not len):
            raise self.refused(
                "decides what to do by the values of the samples", "avoid that, for example with torch.where"
            )
        # How many dimensions there are does not depend on how many samples, except for one, which is asked anyway.
        may_count = not isinstance(walks[node], torch.Size) if ask is len else walks.counts(node)
        if may_count:
            self._follow(many=True)
        answers = walks.answers(node, ask)
        self.asks_whether_alone |= walks.differs_alone(node, ask)
        if any(other != answers[0] for other in answers):
            raise self.refused(
                "decides what to do by the number of samples",
                "avoid that, for example with x.shape[0] in place of len(x), or a // b in place of int(a / b)",
            )
        self._asked[node, ask] = answers[0], walks.counts(node)
        return answers[0]

    def hash_of(self, proxy: Asking) -> int:
        """Returns what a set or a dictionary looks a value up by: the number that a size is, else what is held."""
        self._follow()
        is_size = isinstance(self._walks[proxy.node], int | float | torch.Size)
        return self.answer(proxy.node, hash) if is_size else id(proxy)

    def is_tensor(self, node: fx.Node) -> bool:
        """Answers `isinstance(x, Tensor)`."""
        self._follow()
        return isinstance(self._walks[node], Tensor)

    def written(self, node: fx.Node, index: Any, value: Any) -> fx.Node:
        """Returns what a value is once a part of it is written; later it is checked that nobody reads it as it was."""
        self._follow()
        others = self._walks.in_memory_of(node)
        after = whole(self, with_part, (fx.Proxy(node, self), index, value), {}).node
        self._overwritten.append((after, others, self.refused(*VIEWS)))
        return after

    def _check_overwritten(self, graph: fx.Graph) -> None:
        """Raises if a value is read after a part of its memory was written, by another name or as a view."""
        order = {node: place for place, node in enumerate(graph.nodes)}
        for after, others, refused in self._overwritten:
            readers = (user for node in others for user in node.users if reads_numbers(user, node))
            if any(order[user] > order[after] for user in readers):
                raise refused

    def refused(self, what: str, instead: str) -> BrodmannError:
        """Returns an error that says what a network does, where, and what to write instead."""
        name = type(self.root[0]).__name__  # type: ignore[index]
        return BrodmannError(
            f"{name} cannot be converted: it {what} ({line_now()}). Instead, {instead}, or "
            "compose its layers with brodmann.Sequential, Residual and Graph."
        )

    def _follow(self, *, many: bool = False) -> None:
        """Computes all nodes so far."""
        self._proxies = [proxy for proxy in self._proxies if proxy() is not None]
        held = (proxy() for proxy in self._proxies)
        in_use = {proxy.made for proxy in held if proxy is not None and proxy.made is not None}
        self._computes = True
        try:
            with replaced(nn.Module, MODULES):
                self._walks.follow(self.graph, in_use, many=many)
        finally:
            self._computes = False

    def know(self, proxy: Asking) -> None:
        """Notes a value that the network may read as long as it holds it."""
        self._proxies.append(weakref.ref(proxy))


@functools.lru_cache
def _is_asserted(code: CodeType, place: int) -> bool:
    """Whether what code asks at an instruction is the whole question of an `assert`."""
    between = ("COMPARE_OP", "TO_BOOL", "CACHE", "NOT_TAKEN", "EXTENDED_ARG")  # since Python 3.13 comparisons may ask
    asked = (one for one in dis.get_instructions(code) if one.offset >= place)
    following = [one for one in asked if one.opname not in between]
    behind_jump = following[1:2]
    return any(one.opname == "LOAD_ASSERTION_ERROR" or one.argval is AssertionError for one in behind_jump)


def _as_written(compiled: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the Python that a `torch.jit` function was made from, if an argument is not known yet."""
    written = getattr(compiled, "_torchdynamo_inline", None)
    if written is not None and is_unknown(*args, **kwargs):
        return written(*args, **kwargs)
    return _compiled(compiled, *args, **kwargs)


def _autocast(*args: Any, **kwargs: Any) -> Any:
    """Returns autocast, nothing for a kind of device that is not known yet: it is off while a network is followed."""
    return nullcontext() if is_unknown(*args, **kwargs) else autocast(*args, **kwargs)


def whole(tracer: fx.Tracer, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Proxy:
    """Returns a call of one of this module's functions, which stays one wherever the graph is read again."""
    # While a network is followed, the name of a wrapped function stands for its wrapper.
    call: fx.Proxy = tracer.create_proxy("call_function", inspect.unwrap(function), args, kwargs)
    call.node.meta["is_wrapped"] = True
    return call


def made_of_numbers(node: fx.Node) -> None:
    """Lets `made` do what a function of PyTorch does with numbers alone, such as ``torch.arange(3)``."""
    name = getattr(node.target, "__name__", "")
    if node.op == "call_function" and not node.all_input_nodes and getattr(torch, name, None) is node.target:
        node.args, node.target, node.meta["is_wrapped"] = (name, *node.args), made, True


@fx.wrap
def with_part(x: Tensor, index: Any, value: Any) -> Tensor:
    """Returns a copy of a tensor in which ``value`` replaces a part."""
    x = x.clone()
    x[index] = value
    return x


@fx.wrap
def made(factory: str, *args: Any, **kwargs: Any) -> Tensor:
    """Returns what a function of PyTorch makes; a call of this one while a graph that holds it is read again."""
    tracer = READING_AGAIN.get()
    if tracer is not None:  # and all arguments are numbers: torch.fx would keep the tensor as one more buffer
        return whole(tracer, made, (factory, *args), kwargs)  # type: ignore[return-value]
    tensor: Tensor = getattr(torch, factory)(*args, **kwargs)
    return tensor
