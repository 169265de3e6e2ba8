"""The grouped operations compiled for this processor, called through their C interface."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..updates import SGD, Adam, UpdateRule
from .build import build
from .interface import Operations, Target
from .pure import Pure

if TYPE_CHECKING:
    from ..groups import Groups

NUMBERS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}

_POINTER, _INTEGER, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_GROUPS = [_INTEGER, _INTEGER, *[_POINTER] * 4, _INTEGER, _INTEGER]
_TARGET = [*[_POINTER] * 4, _NUMBER, _NUMBER, _INTEGER]
_ARGUMENTS = {
    "forward": [*_GROUPS, *[_POINTER] * 4],
    "error": [*_GROUPS, *[_POINTER] * 3],
    "update": [*_GROUPS, *[_POINTER] * 2, _INTEGER, *[_NUMBER] * 3, *_TARGET * 3],
}
_GROUP = [_POINTER, _INTEGER, _INTEGER, *[_POINTER] * 3]
_NEAREST = [*[_INTEGER] * 4, *[_POINTER] * 3]
_GATE = [*[_INTEGER] * 3, *[_POINTER] * 4, _NUMBER, _POINTER]
_LOSS = [_INTEGER, _INTEGER, _POINTER, _POINTER, _NUMBER, _POINTER, _POINTER]
_SMALL = 1 << 14  # exponentials of a batch: beyond them PyTorch's vectors and threads are worth their calls
_WITHOUT_AREAS: dict[str, tuple[list[Any], Any]] = {
    "nearest": (_NEAREST, None),
    "gate_down": (_GATE, None),
    "cross_entropy": (_LOSS, _INTEGER),
}
_OF_ROWS = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}
_MANY, _WIDE, _WORK = 4096, 32, 50_000_000  # from there on a BLAS, see `_for_blas`: measured, docs/log.md
_NOTHING = (None, None, None, None, 0.0, 0.0, 0)  # no target
_switched_off = False


@contextmanager
def switched_off() -> Iterator[None]:
    """Computes in pure PyTorch inside the block: for tests and comparisons."""
    global _switched_off
    before, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = before


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Returns the compiled functions by name, none where they could not be built; then says so once."""
    built = build()
    if built.library is None:
        if not built.intended:
            warnings.warn(
                f"Brodmann computes in pure PyTorch, several times slower with many areas. {built.why} "
                "`brodmann doctor` tells more.",
                RuntimeWarning,
                stacklevel=2,
            )
        return {}
    signatures: dict[str, tuple[list[Any], Any]] = {"group": (_GROUP, _INTEGER), "pairs": ([], _INTEGER)}
    for number in NUMBERS.values():
        signatures |= {f"{name}_{number}": (arguments, None) for name, arguments in _ARGUMENTS.items()}
    for number in ("float32", "float64"):
        signatures |= {f"{name}_{number}": signature for name, signature in _WITHOUT_AREAS.items()}
    found: dict[str, Callable[..., Any]] = {}
    for name, (arguments, result) in signatures.items():
        function = getattr(built.library, f"brodmann_{name}")
        function.argtypes, function.restype = arguments, result
        found[name] = function
    return found


def active() -> bool:
    """Whether there are compiled kernels, and they are not switched off."""
    return not _switched_off and bool(functions())


def multiplies_bfloat16() -> bool:
    """Whether rows are rounded to bfloat16 for products with bfloat16 weights, as the processor's instructions ask."""
    return active() and bool(functions()["pairs"]())


def supports(weight: Tensor, rows: Tensor) -> bool:
    """Whether the kernels take these: on the processor, of kinds of number that they know."""
    return (
        weight.is_cpu
        and rows.is_cpu
        and _OF_ROWS.get(weight.dtype) == rows.dtype
        and weight.is_contiguous()  # one that was assigned, or called functionally, may be a view
        and active()
    )


def group(area: Tensor, areas: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Sorts rows by area, (rows,) int64: returns order (rows,), the areas that have rows, and their bounds.

    None where one of them is not in [0, areas).
    """
    area = area.contiguous()
    rows = area.shape[0]
    most = min(rows, areas)
    numbers = torch.empty(rows + 2 * most + 1, dtype=torch.int64, device="cpu")
    start = numbers.data_ptr()
    count = functions()["group"](area.data_ptr(), rows, areas, start, start + 8 * rows, start + 8 * (rows + most))
    if count < 0:
        return None
    return numbers[:rows], numbers[rows : rows + count], numbers[rows + most : rows + most + count + 1]


def nearest(u: Tensor, prototypes: Tensor) -> Tensor:
    """Returns ``argmax_m u . prototypes[m]`` of each row, (rows,) int64, the first of equals.

    Takes u (rows, dimension) and prototypes (cells, dimension). The compiled kernel stores no product, which thousands
    of cells need: 4913 of them for 128 rows take a sixth of the time of a product and its argmax.
    """
    if prototypes.dtype == torch.bfloat16 or not supports(prototypes, u):
        return (u @ prototypes.t()).argmax(1)
    u, prototypes = u.contiguous(), prototypes.contiguous()
    (rows, dimension), cells = u.shape, len(prototypes)
    cell = torch.empty(rows, dtype=torch.int64, device="cpu")
    functions()["nearest_" + NUMBERS[u.dtype]](
        torch.get_num_threads(), rows, cells, dimension, u.data_ptr(), prototypes.data_ptr(), cell.data_ptr()
    )
    return cell


def gate_down(u: Tensor, prototypes: Tensor, cell: Tensor, gate_error: Tensor, temperature: float) -> Tensor | None:
    """Returns ``dL/du`` from ``dL/da``, ``a = softmax(cos(u, prototypes) / temperature)[cell]``, see `Router`.

    Takes u (rows, dimension), prototypes (cells, dimension), cell and gate_error (rows,); returns (rows, dimension), or
    None where that is PyTorch's to do: not on the processor, many scores, or not one error for each row.
    """
    taken = (
        len(u) * len(prototypes) <= _SMALL
        and gate_error.shape == u.shape[:1]
        and gate_error.dtype == prototypes.dtype != torch.bfloat16
        and gate_error.is_cpu
        and supports(prototypes, u)
    )
    if not taken:
        return None
    u, prototypes, gate_error = u.contiguous(), prototypes.contiguous(), gate_error.contiguous()
    cell = cell.contiguous()
    error = torch.empty_like(u)
    functions()["gate_down_" + NUMBERS[u.dtype]](
        len(u),
        *prototypes.shape,
        u.data_ptr(),
        prototypes.data_ptr(),
        cell.data_ptr(),
        gate_error.data_ptr(),
        temperature,
        error.data_ptr(),
    )
    return error


def cross_entropy(output: Tensor, target: Tensor, smoothing: float) -> tuple[Tensor, Tensor] | None:
    """Returns the mean loss and ``dL/d output``: output (..., classes), target (...).

    None where that is PyTorch's to do: not on the processor, many outputs, or a target that is no class.
    """
    taken = (
        output.is_cpu
        and 0 < output.numel() <= _SMALL
        and output.dtype in (torch.float32, torch.float64)
        and target.dtype == torch.int64
        and target.shape == output.shape[:-1]
        and target.is_cpu
        and active()
    )
    if not taken:
        return None
    output, target = output.contiguous(), target.contiguous()
    classes = output.shape[-1]
    error, loss = torch.empty_like(output), output.new_empty(())
    fits = functions()["cross_entropy_" + NUMBERS[output.dtype]](
        target.numel(), classes, output.data_ptr(), target.data_ptr(), smoothing, error.data_ptr(), loss.data_ptr()
    )
    return (loss, error) if fits else None


class Native(Operations):
    """Calls the compiled kernels; update rules that they do not know go the way of pure PyTorch.

    So do products of thousands of rows by one weight, as in convolutions: those are what a BLAS is best at.
    """

    def forward(self, x: Tensor, groups: Groups, slot: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Operations.forward`."""
        if _for_blas(groups, weight, x):
            return Pure().forward(x, groups, slot, weight, bias)
        x = x.contiguous()
        bias = None if bias is None else bias.to(x.dtype).contiguous()
        out = torch.empty((x.shape[0], weight.shape[1]), dtype=x.dtype, device="cpu")
        functions()["forward_" + NUMBERS[weight.dtype]](
            *_arguments(groups, slot, weight), x.data_ptr(), weight.data_ptr(), _address(bias), out.data_ptr()
        )
        return out

    def add_error(self, below: Tensor, delta: Tensor, groups: Groups, slot: Tensor | None, weight: Tensor) -> None:
        """See `Operations.add_error`."""
        if _for_blas(groups, weight, delta):
            Pure().add_error(below, delta, groups, slot, weight)
            return
        delta, sums = delta.contiguous(), below.contiguous()
        functions()["error_" + NUMBERS[weight.dtype]](
            *_arguments(groups, slot, weight), delta.data_ptr(), weight.data_ptr(), sums.data_ptr()
        )
        if sums is not below:
            below.copy_(sums)

    def update(
        self,
        rule: UpdateRule,
        targets: Sequence[Target],
        groups: Groups,
        slot: Tensor | None,
        delta: Tensor,
        x: Tensor,
        bias: Target | None = None,
    ) -> None:
        """See `Operations.update`."""
        weight = targets[0].weight
        if type(rule) not in (SGD, Adam) or len(targets) > 2 or not _fit(rule, targets, bias, delta, x):
            Pure().update(rule, targets, groups, slot, delta, x, bias)
            return
        if isinstance(rule, Adam):
            kind, numbers = 2, (rule.beta1, rule.beta2, rule.epsilon)
        else:
            assert isinstance(rule, SGD)
            kind, numbers = int(rule.momentum > 0), (rule.momentum, 0.0, 0.0)
        if _for_blas(groups, weight, x) and groups.rows >= 16 * weight.shape[1]:
            if bias is not None:
                Pure().update(rule, [], groups, slot, delta, x, bias)
                bias = None
            # As many rows as there are outputs, with the same sum: the gradient itself, each row under an error of 1.
            x = delta.t() @ x
            delta = torch.eye(len(x), dtype=x.dtype, device=x.device)
            groups = groups.resized(len(x))
        delta, x = delta.contiguous(), x.contiguous()
        functions()["update_" + NUMBERS[weight.dtype]](
            *_arguments(groups, slot, weight),
            delta.data_ptr(),
            x.data_ptr(),
            kind,
            *numbers,
            *_given(targets[0]),
            *(_given(targets[1]) if len(targets) == 2 else _NOTHING),
            *(_NOTHING if bias is None else _given(bias)),
        )


def _for_blas(groups: Groups, weight: Tensor, rows: Tensor) -> bool:
    """Whether all rows, which are many, go through one weight that is not tiny: then a BLAS is up to twice as fast."""
    if groups.rows < _MANY or groups.order is not None or weight.dtype != rows.dtype:
        return False
    _, outputs, inputs = weight.shape
    return min(outputs, inputs) >= _WIDE and groups.rows * outputs * inputs >= _WORK


def _given(target: Target) -> tuple[Any, ...]:
    """Returns a target as the kernels take it."""
    weight, state = target.weight, target.state
    # Stochastic rounding draws its bits from a hash of this seed and the weight's place.
    seed = int(torch.randint(1 << 31, (), device="cpu")) if weight.dtype == torch.bfloat16 else 0
    if not state:
        return weight.data_ptr(), None, None, None, target.lr, target.decay, seed
    first = state["first"] if "first" in state else state["velocity"]
    second, steps = _address(state.get("second")), _address(state.get("steps"))
    return weight.data_ptr(), first.data_ptr(), second, steps, target.lr, target.decay, seed


def _fit(rule: UpdateRule, targets: Sequence[Target], bias: Target | None, delta: Tensor, x: Tensor) -> bool:
    """Whether the kernels can move these: what they hold is of the kinds of number they sum in, and lies in order."""
    names = rule.state_shapes((1, 1)).keys()
    stored, summed = targets[0].weight.dtype, delta.dtype
    if x.dtype != summed or not x.is_cpu:
        return False
    for target in targets:
        if target.weight.dtype != stored or not _walkable(target, names, summed):
            return False
    return bias is None or (bias.weight.dtype == summed and _walkable(bias, names, summed))


def _walkable(target: Target, names: Any, summed: torch.dtype) -> bool:
    state = target.state
    if state.keys() != names or not target.weight.is_contiguous():
        return False
    for name, tensor in state.items():
        if tensor.dtype != (torch.int64 if name == "steps" else summed) or not tensor.is_contiguous():
            return False
    return True


def _arguments(groups: Groups, slot: Tensor | None, weight: Tensor) -> tuple[int | None, ...]:
    _, outputs, inputs = weight.shape
    return torch.get_num_threads(), *groups.addresses, _address(slot), inputs, outputs


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
