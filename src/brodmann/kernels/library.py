"""The library of compiled kernels: its functions by name, and whether they are in use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..errors import warn
from ..recording import recorder_here
from ..storage import computing
from .build import build

NUMBERS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_OF_ROWS = {stored: computing(stored) for stored in NUMBERS}  # asked several times a step

_POINTER, _INTEGER, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_GROUPS = [_INTEGER, _INTEGER, *[_POINTER] * 4, _INTEGER, _INTEGER]
_TARGET = [*[_POINTER] * 4, _NUMBER, _NUMBER, _INTEGER]
_ARGUMENTS = {
    "forward": [*_GROUPS, *[_POINTER] * 5, _INTEGER],
    "error": [*_GROUPS, *[_POINTER] * 4],
    "update": [*_GROUPS, *[_POINTER] * 2, _INTEGER, *[_NUMBER] * 3, *_TARGET * 3],
}
WRITTEN, RELU = -2, -1
"""Where forward and error take what they write, and the ReLU behind it: whether there is one, or its outputs."""
_CELL = [*[_INTEGER] * 3, _POINTER, _INTEGER]
_WITHOUT_AREAS: dict[str, tuple[list[Any], Any]] = {
    "norm": ([*[_INTEGER] * 3, _POINTER, _NUMBER, _POINTER, _POINTER], None),
    "norm_down": ([*[_INTEGER] * 3, *[_POINTER] * 4], None),
    "nearest": ([*[_INTEGER] * 4, *[_POINTER] * 3], None),
    "gate_down": ([*[_INTEGER] * 4, *[_POINTER] * 4, _NUMBER, _POINTER], None),
    "cross_entropy": ([_INTEGER, _INTEGER, _POINTER, _POINTER, _NUMBER, _POINTER, _POINTER], _INTEGER),
    "lstm": ([*_CELL, *[_POINTER] * 6], None),
    "lstm_down": ([*[_INTEGER] * 3, *[_POINTER] * 7], None),
    "gru": ([*_CELL, *[_POINTER] * 4], None),
    "gru_down": ([*[_INTEGER] * 3, *[_POINTER] * 7], None),
}
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
    """Returns the compiled functions by name, none if they could not be built, which it warns of once."""
    built = build()
    if built.library is None:
        if not built.intended:
            warn(
                f"Brodmann computes in pure PyTorch, several times slower with many areas. {built.why} `brodmann "
                "doctor` says more.",
                RuntimeWarning,
            )
        return {}
    signatures: dict[str, tuple[list[Any], Any]] = {
        "group": ([_POINTER, _INTEGER, _INTEGER, _POINTER, _INTEGER, *[_POINTER] * 3], _INTEGER),
        "lacks": ([_POINTER, _INTEGER, _POINTER], _INTEGER),
        "pairs": ([], _INTEGER),
    }
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


def call(name: str, *arguments: Any) -> Any:
    """Calls a compiled function, with tensors for addresses; returns what it does."""
    function = functions()[name]
    answer = function(*[part.data_ptr() if isinstance(part, Tensor) else part for part in arguments])
    recorder = recorder_here()
    return answer if recorder is None else recorder.hear(function, arguments, answer, moves=name.startswith("update"))


def active() -> bool:
    """Whether there are compiled kernels, and they are not switched off."""
    return not _switched_off and bool(functions())


def multiplies_bfloat16() -> bool:
    """Whether rows are rounded to bfloat16 for products with bfloat16 weights, as the processor's instructions ask."""
    return active() and bool(functions()["pairs"]())


def supports(weight: Tensor, rows: Tensor) -> bool:
    """Whether the kernels take these: on the CPU, of dtypes that they know."""
    return (
        weight.is_cpu
        and rows.is_cpu
        and _OF_ROWS.get(weight.dtype) == rows.dtype
        and weight.is_contiguous()  # one that was assigned, or called functionally, may be a view
        and active()
    )
