"""Several tensors instead of one: the inputs and outputs of networks that have several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy
from torch import Tensor

from .checks import check_tensors, check_weights, length_of
from .errors import BrodmannError

Several = Tensor | tuple[Tensor, ...] | list[Tensor] | Mapping[str, Tensor]
"""One tensor, or several as a tuple, a list, or a dictionary by name."""


def parts_in(values: Any) -> tuple[Any, ...]:
    """Returns the values in a tuple, a list or a dictionary, in order; for anything else, the thing itself."""
    if isinstance(values, Tensor):  # the usual case, and an abstract class such as Mapping is slow to ask
        return (values,)
    if isinstance(values, Mapping):
        return tuple(values.values())
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def of_each(function: Callable[[Any], Any], values: Any) -> Any:
    """Returns what a function makes of each of `parts_in`, by the same names or in the same order."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, Mapping):
        return {name: function(part) for name, part in values.items()}
    return tuple(map(function, values)) if isinstance(values, tuple | list) else function(values)


def in_form_of(values: Any, parts: Iterable[Any]) -> Any:
    """Returns parts, one for each of `parts_in`, by the same names or in the same order."""
    given = iter(parts)
    return of_each(lambda _: next(given), values)


def rows_of(values: Any, rows: Tensor | slice) -> Any:
    """Returns some of the samples of tensors (samples, ...)."""
    return of_each(lambda part: part[rows], values)


def called_with(function: Callable[..., Any], values: Any) -> Any:
    """Returns what a function makes of tensors: a tuple is its arguments in order, a dictionary those by name."""
    if isinstance(values, Mapping):
        return function(**values)
    return function(*values) if isinstance(values, tuple | list) else function(values)


def check_several(**given: Any) -> None:
    """Checks that arguments are tensors, or tuples or dictionaries of tensors, by name; raises a `BrodmannError`."""
    for name, values in given.items():
        if isinstance(values, Tensor) or not isinstance(values, tuple | list | Mapping):
            check_tensors(**{name: values})
            continue
        if not any(isinstance(part, Tensor | numpy.ndarray) for part in parts_in(values)):
            check_tensors(**{name: values})
        places = values.keys() if isinstance(values, Mapping) else range(len(values))
        check_tensors(**{f"{name}[{place!r}]": part for place, part in zip(places, parts_in(values), strict=True)})


def sample_count(values: Several) -> int:
    """Returns how many samples tensors (samples, ...) hold; 0 if one has no dimension.

    Raises:
        BrodmannError: They do not hold equally many.
    """
    counts = [part.shape[0] if part.ndim else 0 for part in parts_in(values)]
    if counts.count(counts[0]) < len(counts):  # not by a set: sizes of an exported graph have no hash
        came = ", ".join(map(str, sorted(set(counts))))
        raise BrodmannError(f"Expected the same number of samples in all tensors, got {came}.")
    return counts[0]


def check_pairs(samples: Several, targets: Several) -> None:
    """Checks that there are samples, and a target for each; raises a `BrodmannError`."""
    count, wanted = sample_count(samples), sample_count(targets)
    if not count or count != wanted:
        raise BrodmannError(f"Expected samples with one target each, got {count} samples and {wanted} targets.")


def check_batch(x: Several, target: Several, weight: Tensor | None) -> None:
    """Checks what a learner is given for a step: samples, targets and perhaps weights, each (batch, ...).

    Raises:
        BrodmannError: These are not tensors, they are empty, there is no target and a weight for each sample, or
            weights are below 0 or not finite. The last is looked at on the CPU alone: elsewhere every step would wait
            for the device.
    """
    check_several(x=x, target=target)
    samples, targets = sample_count(x), parts_in(target)
    if samples == 0 or not all(values.numel() for values in (*parts_in(x), *targets)):
        raise BrodmannError("Cannot learn from an empty batch: expected at least one sample.")
    for values in targets:
        if values.shape[:1] != (samples,):
            raise BrodmannError(f"Expected as many targets as samples, got {length_of(values)} for {samples}.")
    if weight is not None:
        check_weights(weight, samples, on_cpu_alone=True)


def near(ours: Any, theirs: Any, tolerance: float) -> bool:
    """Whether outputs are the same, up to a share of the largest number."""
    ours, theirs = parts_in(ours), parts_in(theirs)
    return len(ours) == len(theirs) and all(_tensor_near(*pair, tolerance) for pair in zip(ours, theirs, strict=True))


def _tensor_near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    size = float(theirs.abs().max()) + 1e-6
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= tolerance * size
