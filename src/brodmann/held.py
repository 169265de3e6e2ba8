"""Parts of a module, looked up at once."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Held(Generic[T]):
    """A part of an `nn.Module` that a step reads: declared in the class, assigned and registered as always.

    PyTorch searches three tables for a part, in a function that is called only after the usual lookup has failed: a
    microsecond, of which a small step has dozens. This looks into the one that holds it, and takes a fifth of that.
    What is assigned as None before anything else is an ordinary attribute, which Python finds first.

    Source: our choice.
    """

    table = "_modules"
    """Where PyTorch keeps parts of this kind."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Remembers the name that it has in the class."""
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> Held[T]: ...
    @overload
    def __get__(self, module: Any, owner: type) -> T: ...
    def __get__(self, module: Any, owner: type) -> Held[T] | T:
        """Returns the part.

        Raises:
            AttributeError: There is none (yet), as for any attribute.
        """
        if module is None:
            return self
        try:
            return module.__dict__[self.table][self.name]
        except KeyError:
            raise AttributeError(f"{type(module).__name__} holds no '{self.name}'.") from None


class HeldBuffer(Held[T]):
    """Likewise for buffers."""

    table = "_buffers"
