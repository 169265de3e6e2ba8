"""Checks of arrays from outside, and their way into tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..checks import check_tensors, rows_not_finite
from ..errors import BrodmannError

Array = NDArray[Any]


def as_array(values: ArrayLike | Tensor, label: str) -> Array:
    """Returns values as an array: of words or of numbers, if a data frame holds either as objects.

    Raises:
        BrodmannError: Rows differ in length, words stand beside numbers, it is nothing of the kind, or values are
            masked: the mask would be lost.
    """
    check_unmasked(values, label)
    if isinstance(values, Tensor):
        check_tensors(**{label: values})
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not know
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BrodmannError(f"Expected samples of equal length for {label}, as an array or a tensor: {error}") from None
    return _without_objects(array, label) if array.dtype == object else array


def _without_objects(array: Array, label: str) -> Array:
    """Returns an array of objects as one of words, or of numbers: whole ones stay whole."""
    if array.ndim == 0:
        hint = ": convert it with .toarray()" if hasattr(array.item(), "toarray") else ""
        raise BrodmannError(
            f"Expected {label} as an array, a list, a tensor or a data frame, got {type(array.item()).__name__}{hint}."
        )
    words = [value for value in array.flat if isinstance(value, str)]
    if words and len(words) == array.size:
        return array.astype(str)
    if words:
        raise BrodmannError(
            f"Expected {label} to hold either numbers or words, got '{words[0]}' beside other values: write words as "
            "numbers, such as a column of 0 and 1 for each, and fill gaps."
        )
    try:
        numbers = np.array(array.tolist())
        return array.astype(np.float64) if numbers.dtype == object else numbers  # None becomes NaN, told by its row
    except (TypeError, ValueError) as error:
        raise BrodmannError(
            f"Expected {label} to hold only numbers, got other objects: write them as numbers, and fill gaps ({error})."
        ) from None


def check_unmasked(values: Any, label: str) -> None:
    """Checks that no value is masked, whose mask would be lost; raises a `BrodmannError`."""
    if np.ma.is_masked(values):
        raise BrodmannError(f"Expected {label} without masked values, whose mask would be lost: fill them first.")


def input_tensors(name: str, x_train: Array, x_test: Array) -> tuple[Tensor, Tensor]:
    """Turns inputs of both parts, see `Dataset.from_arrays`, into tensors, images with the channels first.

    Returns:
        ``(n, features)`` or ``(n, channels, height, width)`` each, in float32, or float64 if `is_too_wide`.

    Raises:
        BrodmannError: An array is not numeric, has another number of axes, or a value is not finite in float32.
    """
    train, test = (
        _channels_first(array, f"Data set '{name}': {key}") for key, array in (("x_train", x_train), ("x_test", x_test))
    )
    return _finite_parts(name, "x", train, test)


def _channels_first(array: Array, label: str) -> Array:
    check_numeric(array, label)
    if array.ndim not in (2, 3, 4):
        raise BrodmannError(
            f"{label} must be (n, features), (n, height, width) or (n, channels, height, width), "
            f"got shape {array.shape}. Store one row per example."
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and _ends_with_channels(*array.shape[1:]):
        array = np.moveaxis(array, 3, 1)
    return array


def _ends_with_channels(first: int, second: int, last: int) -> bool:
    """Whether sizes are those of grey, RGB or RGBA images with the channels last, and not of maps with them first."""
    return last in (1, 3, 4) and last != second and first not in (1, 3, last)


def check_numeric(array: Array, label: str) -> None:
    """Raises a `BrodmannError` unless the array holds real numbers."""
    if array.dtype.kind not in "fiub":
        raise BrodmannError(f"{label} must be numeric, got dtype {array.dtype}. Store it as float32 or uint8.")


def finite_tensor(array: Array, label: str, *, wide: bool) -> Tensor:
    """Copies an array into a tensor: float64 if ``wide``, else float32.

    Raises:
        BrodmannError: A value is not finite in float32; the message names the first such row.
    """
    with np.errstate(over="ignore"):
        tensor = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if bad := rows_not_finite(tensor):
        raise BrodmannError(
            f"{label} must be finite in float32, got NaN or an infinite value in row {bad[0]}, counted from 0 "
            f"({len(bad)} such rows). Remove or fill them."
        )
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C")) if wide else tensor


def is_too_wide(array: Array, variation: Array) -> bool:
    """Whether float32 would round away more than a ten-thousandth of a column's variation.

    So it is with times in seconds since 1970; once standardised, they fit.

    Args:
        array: Rows, (n, ...).
        variation: How much each column varies where it is learned from, 0 for a constant, in a shape that broadcasts to
            that of a row. The rows alone cannot tell: a single one varies in nothing.
    """
    if array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2):  # pixels: float32 holds them all
        return False
    limit = 1e-4 * variation
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        lost = np.abs(array - array.astype(np.float32))
    return bool(((lost > limit) & (limit > 0)).any())


def _finite_parts(name: str, key: str, train: Array, test: Array) -> tuple[Tensor, Tensor]:
    """Returns inputs (x) or targets (y) of both parts: float64 if `is_too_wide` holds for what is learned from."""
    with np.errstate(invalid="ignore"):
        wide = is_too_wide(train, np.subtract(train.max(axis=0), train.min(axis=0), dtype=np.float64))
    first, second = (
        finite_tensor(array, f"Data set '{name}': {key}_{part}", wide=wide)
        for part, array in (("train", train), ("test", test))
    )
    return first, second


def check_parts(name: str, train: tuple[Array, Array], test: tuple[Array, Array]) -> None:
    """Raises a `BrodmannError` unless both parts hold as many inputs as targets and inputs of one shape."""
    _check_part(name, "train", *train)
    _check_part(name, "test", *test)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise BrodmannError(
            f"Data set '{name}': x_train and x_test must have inputs of one shape, got {train[0].shape[1:]} and "
            f"{test[0].shape[1:]}. Store both parts with the same features."
        )


def _targets_of(train: Array, test: Array) -> tuple[tuple[str, Array], tuple[str, Array]]:
    return ("y_train", train), ("y_test", test)


def _check_part(name: str, part: str, inputs: Array, targets: Array) -> None:
    for key, array in ((f"x_{part}", inputs), (f"y_{part}", targets)):
        if array.size == 0:
            raise BrodmannError(
                f"Data set '{name}': {key} is empty (shape {array.shape}). Store at least one example with one value."
            )
    if targets.ndim not in (1, 2):
        raise BrodmannError(
            f"Data set '{name}': y_{part} must be (n,) or (n, outputs), got shape {targets.shape}. "
            "Store one target per example."
        )
    if inputs.ndim > 0 and len(inputs) != len(targets):
        raise BrodmannError(
            f"Data set '{name}': x_{part} and y_{part} must have the same length, got {len(inputs)} and "
            f"{len(targets)}. Store one target per example."
        )


def real_targets(name: str, y_train: Array, y_test: Array) -> tuple[Tensor, Tensor]:
    """Returns targets ``(n, outputs)`` of both parts, in float32, or float64 if `is_too_wide`."""
    if y_train.dtype.kind != "f" or y_test.dtype.kind != "f":
        raise BrodmannError(
            f"Data set '{name}': y_train and y_test must be of one kind, got {y_train.dtype} and {y_test.dtype}. "
            "Store both as integers (classes) or both as floats (regression)."
        )
    train, test = (array.reshape(len(array), -1) for array in (y_train, y_test))
    if train.shape[1] != test.shape[1]:
        raise BrodmannError(
            f"Data set '{name}': y_train and y_test must have the same number of outputs, got {train.shape[1]} and "
            f"{test.shape[1]}. Store both parts with the same targets."
        )
    return _finite_parts(name, "y", train, test)


def class_targets(name: str, y_train: Array, y_test: Array) -> tuple[tuple[Tensor, Tensor], tuple[str, ...]]:
    """Returns class indices of both parts and the names in their order, those of the training part ascending."""
    train, test = (_labels(name, key, array) for key, array in _targets_of(y_train, y_test))
    if train.dtype.kind != test.dtype.kind:
        raise BrodmannError(
            f"Data set '{name}': y_train and y_test must be of one kind, got {y_train.dtype} and {y_test.dtype}. "
            "Store both as integers or both as strings."
        )
    known = np.unique(train)
    if len(known) < 2:
        raise BrodmannError(
            f"Data set '{name}': y_train must hold at least two classes, got only '{known[0]}'. "
            "Store float targets for regression, or add examples of another class."
        )
    strange = np.setdiff1d(test, known)
    if len(strange):
        raise BrodmannError(
            f"Data set '{name}': y_test holds {len(strange)} classes that y_train lacks, such as '{strange[0]}'. Split "
            "again so that training has every class, or store float targets for regression."
        )
    indices = tuple(torch.from_numpy(np.searchsorted(known, part).astype(np.int64)) for part in (train, test))
    return (indices[0], indices[1]), tuple(str(label) for label in known)


def _labels(name: str, key: str, array: Array) -> Array:
    if array.dtype.kind not in "iubUS":
        raise BrodmannError(
            f"Data set '{name}': {key} must hold integers, strings or floats, got dtype {array.dtype}. "
            "Store classes as integers or strings."
        )
    if array.ndim == 2 and array.shape[1] != 1:
        raise BrodmannError(
            f"Data set '{name}': classes in {key} must be (n,), got shape {array.shape}. "
            "Store class indices instead of one-hot rows, or floats for regression."
        )
    array = array.reshape(-1)
    if array.dtype.kind in "iub":
        return array.astype(str) if array.max() > np.iinfo(np.int64).max else array.astype(np.int64)
    if array.dtype.kind == "U":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        return np.char.decode(array, "latin-1")  # which has a letter for every byte: none becomes another


def indexed_targets(name: str, y_train: Array, y_test: Array, count: int) -> tuple[Tensor, Tensor]:
    """Returns class indices that the source has already, after a check of their range."""
    if count < 2:
        raise BrodmannError(f"Data set '{name}': classes must name at least two, got {count}. Name all of them.")
    for key, array in _targets_of(y_train, y_test):
        single = array.shape in ((len(array),), (len(array), 1))
        if array.dtype.kind not in "iub" or not single or array.min() < 0 or array.max() >= count:
            values = f", values from {array.min()} to {array.max()}" if array.dtype.kind in "iub" else ""
            raise BrodmannError(
                f"Data set '{name}': {key} must be (n,) class indices from 0 to {count - 1}, "
                f"got {array.dtype} {array.shape}{values}. Check the labels of the source."
            )
    indices = (torch.from_numpy(part.reshape(-1).astype(np.int64)) for part in (y_train, y_test))
    return next(indices), next(indices)
