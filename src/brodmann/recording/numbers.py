"""Numbers that differ each time a recording is computed: learning rates, and answers of kernels.

Kernels take them as they are, and operations of PyTorch take a rate. Whoever computes with them in another way
than written here gets a plain number, and the recording is given up: it would hold the number of the time when it was
made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .recorder import Recorder


class Rate(float):
    """A learning rate, or a multiple of it: ``rate * factors[0] * factors[1] ...``, in this order of products."""

    factors: tuple[float, ...]
    recorder: Recorder

    def __new__(cls, value: float, factors: tuple[float, ...], recorder: Recorder) -> Rate:
        """Takes its present value, which is the product of the rate and all factors."""
        rate = super().__new__(cls, value)
        rate.factors, rate.recorder = factors, recorder
        return rate

    @property
    def plain(self) -> float:
        """Its present value."""
        return float.__float__(self)

    def __mul__(self, other: Any) -> Any:
        """Returns a multiple, which changes with the rate; of a tensor what PyTorch makes of both."""
        if isinstance(other, int | float) and not isinstance(other, Rate | Answer):
            return Rate(self.plain * other, (*self.factors, float(other)), self.recorder)
        if isinstance(other, Tensor):
            return torch.mul(other, self)
        self.recorder.refuse("a learning rate is multiplied by something else than a plain number or a tensor")
        return float.__mul__(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Rate:
        """Returns the multiple by -1."""
        return Rate(-self.plain, (*self.factors, -1.0), self.recorder)

    def at(self, rate: float) -> float:
        """Returns what it is at another rate."""
        for factor in self.factors:
            rate = rate * factor
        return rate


class Answer(int):
    """A whole number that a kernel, or a function that is `replayed`, returned.

    Whether that of a kernel is below 0, which says that it could not do its work, may be asked: it is the same each
    time, or the recording is left.
    """

    call: int
    recorder: Recorder

    def __new__(cls, value: int, call: int, recorder: Recorder) -> Answer:
        """Takes its present value and the number of the call that returned it."""
        answer = super().__new__(cls, value)
        answer.call, answer.recorder = call, recorder
        return answer


def _giving_up(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
    def compute(self: Any, *others: Any) -> Any:
        self.recorder.refuse(f"a number that changes from step to step is computed with ({name})")
        return plain(self, *others)

    return compute


_ARITHMETIC = [
    f"{side}{name}" for name in ("add", "sub", "truediv", "floordiv", "mod", "pow", "divmod") for side in ("", "r")
] + ["abs"]
_READING = ["pos", "round", "int", "trunc", "floor", "ceil"]


def _compared(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(float, f"__{name}__")

    def compare(self: Rate, other: Any) -> Any:
        if not (isinstance(other, int | float) and other == 0):  # rates are above 0, each time
            self.recorder.refuse(f"a learning rate is compared with something else than 0 ({name})")
        return plain(self, other)

    return compare


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Rate, f"__{_name}__", _compared(_name))
for _name in ("conjugate", "as_integer_ratio", "is_integer", "hex"):
    setattr(Rate, _name, _giving_up(getattr(float, _name), _name))
for _name in (*_ARITHMETIC, *_READING, "float"):
    setattr(Rate, f"__{_name}__", _giving_up(getattr(float, f"__{_name}__"), _name))
for _name in (*_ARITHMETIC, "neg", "mul", "rmul"):
    setattr(Answer, f"__{_name}__", _giving_up(getattr(int, f"__{_name}__"), _name))
