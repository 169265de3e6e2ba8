"""Proxies: what stands for values while a network is followed."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy
from torch import fx
from torch.fx.proxy import Attribute

from ..nodes import IN_PLACE, parts_of

if TYPE_CHECKING:
    from .answering import Answering

VIEWS = "writes into a tensor that other values are views of", "clone it first"
"""What a network is refused for, and what to do instead, see `Answering.refused`."""
UFUNCS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
}
"""Operators by the names of NumPy's functions."""


def is_unknown(*args: Any, **kwargs: Any) -> bool:
    """Whether an argument, or a part of one, is not known while a network is followed."""
    return any(isinstance(part, fx.Proxy) for part in parts_of((args, kwargs)))


class Followed(fx.Proxy):
    """A value that is not known while a network is followed; what writes into it, such as ``x += y``, says so."""

    def __hash__(self) -> int:
        raise fx.proxy.TraceError("a set, a dictionary or a cache looks up a value that is not known")

    def written(self, write: Callable[[Any, Any], Any], other: Any) -> fx.Proxy:
        """Returns what an operator leaves in its place."""
        return self.tracer.create_proxy("call_function", write, (self, other), {})


for _write in IN_PLACE:
    setattr(Followed, f"__{_write.__name__}__", functools.partialmethod(Followed.written, _write))


class Asking(Followed):
    """A value about whose size (`len`, `int`, indexing) a tracer is asked, which answers from samples."""

    tracer: Answering

    def __init__(self, node: fx.Node, tracer: Answering) -> None:
        """Takes the node of the value."""
        super().__init__(node, tracer)
        tracer.know(self)

    @property
    def made(self) -> fx.Node | None:
        """Its node, None if that is not made yet."""
        return self.node

    def __getattr__(self, k: str) -> Attribute:
        if k.startswith("__"):  # by which NumPy and others ask what something is
            raise AttributeError(k)
        return AskingAttribute(self, k)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc.__name__ in UFUNCS:  # from a NumPy number on the left
            return UFUNCS[ufunc.__name__](
                *(part.item() if isinstance(part, numpy.generic) else part for part in inputs)
            )
        known = (self.tracer.answer(part.node, float) if isinstance(part, fx.Proxy) else part for part in inputs)
        return getattr(ufunc, method)(*known, **kwargs)

    def __index__(self) -> int:
        return self.tracer.answer(self.node, operator.index)

    def __int__(self) -> int:
        return self.tracer.answer(self.node, int)

    def __float__(self) -> float:
        return self.tracer.answer(self.node, float)

    def __round__(self, digits: int | None = None) -> Any:
        return self.tracer.answer(self.node, round) if digits is None else round(float(self), digits)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.node = self.tracer.written(self.node, index, value)

    def __len__(self) -> int:
        return self.tracer.answer(self.node, len)

    def __hash__(self) -> int:
        return self.tracer.hash_of(self)

    def __eq__(self, other: object) -> Any:
        ours = not isinstance(other, fx.Proxy) or other.tracer is self.tracer
        if not ours or self.tracer.done:  # one is left in a cache by a network that was followed before
            return NotImplemented
        return self.tracer.create_proxy("call_function", operator.eq, (self, other), {})


class AskingAttribute(Asking, Attribute):
    """A property or method of a traced value."""

    def __init__(self, root: Asking, attr: str) -> None:
        """Takes the value, and what it is asked for."""
        Attribute.__init__(self, root, attr)
        self.tracer.know(self)

    @property
    def made(self) -> fx.Node | None:
        """Its node, which is made when it is first read."""
        return self._node

    def __setitem__(self, index: Any, value: Any) -> None:
        raise self.tracer.refused(*VIEWS)
