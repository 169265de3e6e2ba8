"""Proxies: what stands for values while a network is followed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import fx

from ..nodes import IN_PLACE, parts_of


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
