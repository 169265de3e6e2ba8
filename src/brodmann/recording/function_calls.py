"""FunctionCalls: what functions of PyTorch do of which a recorder does not learn by their operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from .call import Call
from .nested import leaves
from .numbers import Rate
from .operations import name_of

if TYPE_CHECKING:
    from .recorder import Recorder

_OUTSIDE = {
    Tensor.tolist: "tolist",
    Tensor.numpy: "numpy",
    Tensor.__array__: "numpy",
    Tensor.__dlpack__: "dlpack",
    Tensor.untyped_storage: "untyped_storage",
}
"""Functions that look at a tensor without an operation that a recorder would hear of."""
_SIZED = {"arange", "range"}
"""Functions that make as many numbers as their arguments say."""


class FunctionCalls(TorchFunctionMode):
    """Sees functions that look at a tensor's numbers without an operation, and those that are given a learning rate."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Is called for every function and method of PyTorch."""
        if func in _OUTSIDE:
            self.recorder.refuse(f"numbers are looked at by {_OUTSIDE[func]}")
        before = len(self.recorder.calls)
        result = func(*args, **(kwargs or {}))
        rates = [part for part in leaves((args, kwargs)) if type(part) is Rate]
        if rates and not _put_back(rates, func, self.recorder.calls[before:]):
            self.recorder.refuse(f"{getattr(func, '__name__', func)} takes a learning rate")
        return result


def _put_back(rates: list[Rate], function: Any, calls: list[Call]) -> bool:
    """Puts the learning rate that a function was given into the operation that it is, which saw a plain number.

    Returns:
        Whether there is no doubt that the operation was given this number, and no other was made of it.
    """
    name = str(getattr(function, "__name__", "")).strip("_")
    if len(rates) > 1 or len(calls) != 1 or name != name_of(calls[0].function).strip("_") or name in _SIZED:
        return False
    (rate,), (call,) = rates, calls
    places = [place for place, part in enumerate(call.arguments) if type(part) is float and part == rate.plain]
    keys = [key for key, part in call.keywords.items() if type(part) is float and part == rate.plain]
    if len(places) + len(keys) != 1:
        return False
    call.arguments = tuple(rate if place in places else part for place, part in enumerate(call.arguments))
    call.keywords = {key: rate if key in keys else part for key, part in call.keywords.items()}
    return True
