"""What a network keeps from call to call: a body keeps nothing but what it learns, so that it would be lost."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from ..errors import BrodmannError
from ..generators import drawing_by
from ..several import Several, called_with, of_each, parts_in, rows_of

FAR = 1000
"""How large the parameters are that show what a network writes into them, and how many calls what it keeps goes on."""

Place = tuple[str, str, Any]
"""Name of a module, name of its attribute, and the key in that, where it is a list or a dictionary."""


def check_keeps_nothing(model: nn.Module, sample: Several) -> None:
    """Raises where a network writes into its parameters, or answers by what it keeps from call to call.

    It is called twice, so that it may make once what it needs for samples of a size. Statistics of batch norms are what
    a body keeps, too, and a count that nothing reads is not missed.
    """
    sample = rows_of(sample, slice(2))
    for sign in (1, -1):
        _check_writes_no_parameter(model, sample, sign)
    for training in (False, True):
        _check_reads_nothing_kept(model, sample, training)


def _check_writes_no_parameter(model: nn.Module, sample: Several, sign: int) -> None:
    """Raises where a network changes parameters that are large: limits and norms change no others."""
    copy = deepcopy(model)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.is_floating_point():
                signs = sign * (torch.rand(parameter.shape, generator=draws) - 0.5).sign()
                parameter.copy_(FAR * signs * (1 + torch.rand(parameter.shape, generator=draws)))
    before = {name: held.detach().clone() for name, held in copy.named_parameters()}
    for training in (False, True):
        _outputs(copy, sample, training)
        after = dict(copy.named_parameters())
        for name, held in before.items():
            if name not in after or not torch.equal(held, after[name]):
                raise BrodmannError(
                    f"{type(model).__name__} cannot be converted: it writes into its parameter '{name}' when it is "
                    "called, which would be lost. Compute with another tensor instead, as in "
                    "F.linear(x, self.weight * self.mask), or change the parameter outside of forward."
                )


def _check_reads_nothing_kept(model: nn.Module, sample: Several, training: bool) -> None:
    """Raises where a network, in one mode, changes numbers that it holds, and answers by them in any mode."""
    copy = deepcopy(model)
    with _Statistics() as statistics:
        if _outputs(copy, sample, training) is None:
            return
        before = {place: deepcopy(value) for place, (_, value) in _numbers_in(copy, statistics.known).items()}
        _outputs(copy, sample, training)
    now = _numbers_in(copy, statistics.known)
    both = [place for place, old in before.items() if place in now and _alike(old, now[place][1])]
    moved = [place for place in both if not _equal(before[place], now[place][1])]
    if not moved:
        return
    near = [_outputs(deepcopy(copy), sample, mode) for mode in (False, True)]
    for place in moved:
        holder, new = now[place]
        holder[place[2]] = before[place] + FAR * (new - before[place])
        far = [_outputs(deepcopy(copy), sample, mode) for mode in (False, True)]
        if not all(map(_same, near, far)):
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


class _Statistics(TorchFunctionMode):
    """Notes where the running statistics of batch norms lie, also of those that are functions.

    Attributes:
        known: Where in memory they lie.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is functional.batch_norm:
            given = {**dict(zip(("x", "running_mean", "running_var"), args, strict=False)), **(kwargs or {})}
            held = (given.get(name) for name in ("running_mean", "running_var"))
            self.known.update(part.data_ptr() for part in held if part is not None)
        return func(*args, **(kwargs or {}))


def _outputs(model: nn.Module, sample: Several, training: bool) -> Any:
    """Returns what a network makes of copies of samples, always with the same draws; None where it fails."""
    model.train(training)
    with drawing_by(0), torch.no_grad():
        try:
            outputs = called_with(model, of_each(Tensor.clone, sample))
            return [part.detach() for part in parts_in(outputs) if isinstance(part, Tensor)]
        except Exception:  # from whatever it does with so few samples, or with such parameters
            return None


def _same(ours: Any, theirs: Any) -> bool:
    """Whether outputs are the same, or both are none."""
    if ours is None or theirs is None:
        return ours is theirs
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(one: Any, other: Any) -> bool:
    """Whether numbers or tensors are the same, NaN too."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _alike(one, other) and torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
    return bool(one == other) or (one != one and other != other)


def _alike(one: Any, other: Any) -> bool:
    """Whether two are numbers, or tensors of one shape and kind."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return not isinstance(one, Tensor) and not isinstance(other, Tensor)
