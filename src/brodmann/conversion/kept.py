"""What a network keeps from call to call: a body keeps nothing but what it learns, so that it would be lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import BrodmannError
from ..generators import drawing_by
from ..recording import Mode
from ..several import Several, called_with, of_each, parts_in, rows_of
from .nodes import parts_of

FAR = 1000
"""How many calls what a network keeps goes on, to see whether it answers by that."""
LONGER = 10
"""How many times as long a call may then take before it counts as another answer: it may loop for ever."""

Place = tuple[str, str, Any]
"""Name of a module, name of its attribute, and the key in that, if it is a list or a dictionary."""


def check_keeps_nothing(model: nn.Module, sample: Several) -> None:
    """Raises if a network writes into its parameters, or answers by what it keeps from call to call.

    It is called twice in each mode, so that it may make once what it needs for samples of a size. Statistics of batch
    norms are what a body keeps, too, and a count that nothing reads is not missed.

    Args:
        model: A copy of the network, which changes as the network does when it is called.
        sample: A few samples (samples, ...).

    Raises:
        BrodmannError: The network does one of these.
    """
    sample = rows_of(sample, slice(2))
    for training in (False, True):
        with _Watching(model) as watching:
            runs = _outputs(model, sample, training) is not None
            found = _numbers_in(model, watching.statistics)
            before = {place: _as_it_is(value) for place, (_, value) in found.items()}
            runs = runs and _outputs(model, sample, training) is not None
        _check_writes_no_parameter(model, watching)
        if runs:
            _check_reads_nothing_kept(model, sample, before, _numbers_in(model, watching.statistics), training)


def _check_writes_no_parameter(model: nn.Module, watching: _Watching) -> None:
    """Raises if a network wrote into a parameter, although it may have left it as it was, or replaced one."""
    now = dict(model.named_parameters())
    for name, (parameter, place) in watching.parameters.items():
        if name in watching.written or now.get(name) is not parameter or parameter.data_ptr() != place.data_ptr():
            raise BrodmannError(
                f"{type(model).__name__} cannot be converted: it writes into its parameter '{name}' when it is "
                "called, which would be lost. Compute with another tensor instead, as in "
                "F.linear(x, self.weight * self.mask), or change the parameter outside of forward."
            )


def _check_reads_nothing_kept(
    model: nn.Module, sample: Several, before: dict[Place, Any], now: dict[Place, tuple[Any, Any]], training: bool
) -> None:
    """Raises if numbers that a network holds changed during a call, and it answers by them in any mode."""
    both = [place for place, old in before.items() if place in now and _comparable(old, now[place][1])]
    moved = [place for place in both if not _equal(before[place], now[place][1])]
    if not moved:
        return
    with _Lines() as lines:
        near = _in_both_modes(model, sample)
    for place in moved:
        holder, new = now[place]
        holder[place[2]] = before[place] + FAR * (new - before[place])
        try:
            with _Lines(LONGER * lines.count):
                same = all(map(_same, near, _in_both_modes(model, sample)))
        except _TakesTooLongError:
            same = False
        if not same:
            module, attribute, key = place
            named = ".".join(filter(None, (module, attribute or str(key))))
            raise BrodmannError(
                f"{type(model).__name__} cannot be converted: it changes '{named}' from call to call"
                f"{' in training mode' if training else ''}, and answers by it, which would be lost. Whatever it keeps "
                "must come in with the samples or be removed."
            )


def _numbers_in(model: nn.Module, apart: set[int]) -> dict[Place, tuple[Any, Any]]:
    """Returns numbers and tensors that modules hold beside parameters, each with the dictionary or list it lies in.

    Left out are statistics of norms, and tensors that lie ``apart`` in memory.
    """
    found: dict[Place, tuple[Any, Any]] = {}
    for module, part in model.named_modules():
        fields = {name: held for name, held in part.__dict__.items() if isinstance(held, dict | list)}
        del fields["_parameters"]
        if isinstance(part, _NormBase):
            del fields["_buffers"]
        for field, holder in {"": part.__dict__, **fields}.items():
            attribute = "" if field == "_buffers" else field
            for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
                number = isinstance(value, int | float) and not isinstance(value, bool)
                tensor = isinstance(value, Tensor) and value.dtype != torch.bool and value.data_ptr() not in apart
                if number or tensor:
                    found[module, attribute, key] = holder, value
    return found


class _Watching(Mode):  # type: ignore[no-untyped-call]
    """Notes which parameters are written into, and the addresses of the running statistics of batch norms.

    Writes show even if they change nothing, such as limits that are kept already, and by whatever name.

    Attributes:
        parameters: Parameters of a network by name, each with its numbers: memory in use goes to no other tensor.
        written: Names of those that were written into.
        statistics: Where in memory statistics lie, also those that are given to functions.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parameters = {name: (held, held.detach()) for name, held in model.named_parameters() if held.numel()}
        self.written: set[str] = set()
        self.statistics: set[int] = set()
        self._names = {held.untyped_storage().data_ptr(): name for name, (held, _) in self.parameters.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            of_norm = argument.name in ("running_mean", "running_var")
            if not (of_norm or argument.is_write):
                continue
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            for part in (part for part in parts_of(value) if isinstance(part, Tensor)):
                name = self._names.get(part.untyped_storage().data_ptr())
                if argument.is_write and name is not None:
                    self.written.add(name)
                if of_norm:
                    self.statistics.add(part.data_ptr())
        return func(*args, **kwargs)


class _TakesTooLongError(BaseException):
    """No `Exception`, which a network might catch."""


class _Lines:
    """Counts the lines of Python that run inside the block, and stops what takes more than a few.

    Attributes:
        count: How many lines ran.
    """

    def __init__(self, most: float = float("inf")) -> None:
        self.count, self._most = 0, most

    def __enter__(self) -> _Lines:
        self._before = sys.gettrace()
        sys.settrace(self._next)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _next(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.count += 1
        if self.count > self._most:
            raise _TakesTooLongError
        return self._next


def _in_both_modes(model: nn.Module, sample: Several) -> list[Any]:
    """Returns what copies of a network make of samples at inference and in training mode."""
    return [_outputs(deepcopy(model), sample, mode) for mode in (False, True)]


def _outputs(model: nn.Module, sample: Several, training: bool) -> Any:
    """Returns what a network makes of copies of samples, always with the same draws; None if it fails."""
    model.train(training)
    with drawing_by(0), torch.no_grad():
        try:
            outputs = called_with(model, of_each(Tensor.clone, sample))
            return [part.detach() for part in parts_in(outputs) if isinstance(part, Tensor)]
        except Exception:  # from whatever it does with so few samples, or with such parameters
            return None


def _as_it_is(value: Any) -> Any:
    """Returns a number, or a copy of a tensor."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def _same(ours: Any, theirs: Any) -> bool:
    """Whether outputs are the same, or both are none."""
    if ours is None or theirs is None:
        return ours is theirs
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(one: Any, other: Any) -> bool:
    """Whether numbers or tensors are the same, NaN too."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _comparable(one, other) and torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
    return bool(one == other) or (one != one and other != other)


def _comparable(one: Any, other: Any) -> bool:
    """Whether two are numbers, or tensors of one shape and dtype."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return not isinstance(one, Tensor) and not isinstance(other, Tensor)
