"""What happens to raw inputs before a network sees them, in a form that can be stored and repeated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..checks import check_switch, check_tensors, rows_not_finite
from ..errors import BrodmannError, unknown_name

NORMALISATIONS = ("standard", "unit", "none")
"""The known values of ``normalise``."""

# ITU-R BT.601: the eye's share of red, green and blue, in the order in which images store them.
_LUMINANCE = (0.299, 0.587, 0.114)
# Arithmetic is in float64, a block of rows at a time: a copy of a whole image set in float64 would not fit everywhere.
_ROWS_PER_BLOCK = 2048
"""Block size of the statistics, whose last digits depend on it."""
_VALUES_PER_BLOCK = 2**17
"""Block size of the scaling, which goes value by value: as many as stay in the cache."""


@dataclass(frozen=True)
class Preprocessing:
    """Grey conversion, normalisation and flattening with fixed statistics; callable on raw inputs.

    Attributes:
        mean: What is subtracted: one value per channel for images (after the grey conversion), one per feature for
            tables. In the units of the raw values.
        scale: What the difference is divided by, same length and units as ``mean``; positive and finite.
        grey: Whether three colour channels become one (luminance 0.299, 0.587, 0.114).
        flat: Whether the result is flattened to ``(n, features)``.
        shape: Shape of one raw input: ``(features,)`` for tables, ``(channels, height, width)`` for images.

    Raises:
        BrodmannError: The parts do not fit each other.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    grey: bool
    flat: bool
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_grey(self.shape, self.grey)
        groups = _working_shape(self.shape, self.grey)[0]
        if len(self.mean) != groups or len(self.scale) != groups:
            raise BrodmannError(
                f"mean and scale must have {groups} values for shape {self.shape}, "
                f"got {len(self.mean)} and {len(self.scale)}. Fit the preprocessing on these inputs again."
            )
        if not all(map(math.isfinite, (*self.mean, *self.scale))) or min(self.scale) <= 0:
            raise BrodmannError("mean must be finite and scale positive and finite. Fit the preprocessing again.")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one processed input, without the batch."""
        shape = _working_shape(self.shape, self.grey)
        return (math.prod(shape),) if self.flat else shape

    def __call__(self, x: Tensor) -> Tensor:
        """Processes raw inputs.

        Args:
            x: Raw inputs, shape ``(n, *shape)``, any real dtype; ``n`` may be 0. Left unchanged.

        Returns:
            Float32 tensor of shape ``(n, *output_shape)`` on the device of ``x``.

        Raises:
            BrodmannError: The inputs are no tensor of the shape that this preprocessing was fitted for, they hold NaN,
                or float32 cannot hold what becomes of them.
        """
        check_tensors(x=x)
        x = x.detach()
        if tuple(x.shape[1:]) != self.shape:
            raise BrodmannError(
                f"Inputs of shape (n, {', '.join(map(str, self.shape))}) were expected, got {tuple(x.shape)}. "
                "Use inputs like those of the training data."
            )
        axes = (1, -1, *(1 for _ in self.shape[1:]))
        mean = torch.tensor(self.mean, dtype=torch.float64, device=x.device).view(axes)
        scale = torch.tensor(self.scale, dtype=torch.float64, device=x.device).view(axes)
        result = torch.empty(len(x), *_working_shape(self.shape, self.grey), dtype=torch.float32, device=x.device)
        rows = max(1, _VALUES_PER_BLOCK // math.prod(self.shape))
        for block, place in zip(torch.split(x, rows), torch.split(result, rows), strict=True):
            place.copy_((_wide(block, self.grey) - mean) / scale)
        if bad := rows_not_finite(result):
            _check_finite(x)
            raise BrodmannError(
                "Inputs are too far from those of the training part for float32, for example those of sample "
                f"{bad[0]}, counted from 0. Look for a mistake in them."
            )
        return result.reshape(len(x), *self.output_shape)

    def as_dict(self) -> dict[str, Any]:
        """Returns the parts by name, which JSON stores without loss."""
        return asdict(self)

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Preprocessing:
        """Rebuilds a preprocessing from what `as_dict` gave, also after a round trip through JSON.

        Args:
            parts: The mapping with the keys ``mean``, ``scale``, ``grey``, ``flat`` and ``shape``.

        Returns:
            An equal preprocessing.

        Raises:
            BrodmannError: A part is missing, unknown or of the wrong kind.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(parts, Mapping) or set(parts) != known:
            came = sorted(map(str, parts)) if isinstance(parts, Mapping) else parts
            raise BrodmannError(
                f"A stored preprocessing must have the parts {sorted(known)}, got {came}. Save the run again."
            )
        try:
            mean, scale = (tuple(float(value) for value in parts[key]) for key in ("mean", "scale"))
            shape = tuple(int(size) for size in parts["shape"])
            grey, flat = _truth(parts["grey"]), _truth(parts["flat"])
        except (TypeError, ValueError, OverflowError) as error:
            raise BrodmannError(
                f"A stored preprocessing holds a part of the wrong kind ({error}). Save the run again."
            ) from error
        return cls(mean=mean, scale=scale, grey=grey, flat=flat, shape=shape)

    @classmethod
    def fit(
        cls, x_train: Tensor, *, normalise: str = "standard", grey: bool = False, flat: bool = True
    ) -> Preprocessing:
        """Takes the statistics from training inputs.

        Images get one mean and scale per channel over all pixels: a pixel at the border is often constant, so a scale
        of its own would be 0 or would blow up the one odd example that uses it. Columns of a table have units of their
        own, so each gets its own statistics. What is constant in training gets scale 1.

        Args:
            x_train: Raw training inputs, shape ``(n, *shape)`` with ``n`` of at least 1.
            normalise: ``"standard"`` (mean 0 and standard deviation 1; default, since it suits signed activations),
                ``"unit"`` (training minimum to 0 and maximum to 1; other data may fall outside) or ``"none"``.
            grey: Whether to turn three colour channels into one. Default ``False``: colour is information. Images of
                one channel stay as they are.
            flat: Whether to flatten. Default ``True``, since dense layers take vectors.

        Returns:
            The fitted preprocessing.

        Raises:
            BrodmannError: If ``normalise`` is unknown, there is no example, one is not finite, the inputs have another
                shape, or ``grey`` does not fit them.
        """
        check_tensors(x_train=x_train)
        check_switch(grey=grey, flat=flat)
        if normalise not in NORMALISATIONS:
            raise unknown_name("normalisation", normalise, NORMALISATIONS)
        shape = tuple(x_train.shape[1:])
        _check_shape(shape)
        if len(x_train) == 0:
            raise BrodmannError("Statistics need at least one training example, got none. Use a smaller validation.")
        _check_finite(x_train)
        if len(shape) == 3 and shape[0] == 1:
            grey = False
        _check_grey(shape, grey)
        offset, scale = _statistics(x_train, normalise, grey)
        return cls(mean=tuple(offset.tolist()), scale=tuple(scale.tolist()), grey=grey, flat=flat, shape=shape)


def _check_finite(x: Tensor) -> None:
    if bad := rows_not_finite(x):
        raise BrodmannError(
            f"Inputs hold NaN or infinite values, for example those of sample {bad[0]}, counted from 0: remove or fill "
            "them first."
        )


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise BrodmannError(
            f"The shape of an input must be (features,) or (channels, height, width), got {shape}. "
            "Give the shape of one raw input without the batch."
        )


def _check_grey(shape: tuple[int, ...], grey: bool) -> None:
    if grey and (len(shape) != 3 or shape[0] != 3):
        raise BrodmannError(f"grey needs images of 3 channels, got inputs of shape {shape}. Use grey=False for them.")


def _working_shape(shape: tuple[int, ...], grey: bool) -> tuple[int, ...]:
    return (1, *shape[1:]) if grey else shape


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _wide(x: Tensor, grey: bool) -> Tensor:
    """Returns rows in float64, in grey if asked to."""
    if not grey:
        return x.to(torch.float64)
    red, green, blue = _LUMINANCE
    wide = x.to(torch.float64)
    # Written out: the order of terms in a sum over an axis may change with the size of the block.
    return red * wide[:, 0:1] + green * wide[:, 1:2] + blue * wide[:, 2:3]


def _statistics(x: Tensor, normalise: str, grey: bool) -> tuple[Tensor, Tensor]:
    """Returns offset and scale per channel or feature."""
    groups = _working_shape(tuple(x.shape[1:]), grey)[0]
    offset, scale = torch.zeros(groups, dtype=torch.float64), torch.ones(groups, dtype=torch.float64)
    if normalise == "none":
        return offset, scale
    blocks = [(values.amin(dim=1), values.amax(dim=1), values.sum(dim=1)) for values in _grouped(x, grey)]
    lows, highs, sums = (torch.stack(parts) for parts in zip(*blocks, strict=True))
    low, high = lows.amin(dim=0), highs.amax(dim=0)
    if normalise == "unit":
        offset, scale = low, high - low
    else:
        count = len(x) * math.prod(x.shape[2:])
        # Rounding takes the mean of large, nearly equal numbers beyond the extremes, by many times what they differ.
        offset = (sums.sum(dim=0) / count).clamp(low, high)
        # A second pass over the differences: the one-pass formula loses all digits if the mean is large.
        squares = [values.sub_(offset[:, None]).square_().sum(dim=1) for values in _grouped(x, grey)]
        scale = (torch.stack(squares).sum(dim=0) / count).sqrt()
    # Equal extremes say "constant" exactly; a rounded deviation of 1e-17 does not.
    return offset, torch.where((high > low) & (scale > 0), scale, torch.ones_like(scale))


def _grouped(x: Tensor, grey: bool) -> Iterator[Tensor]:
    """Yields the values of each block of rows in float64, with one row per channel or feature; all in one memory."""
    room = torch.empty(min(len(x), _ROWS_PER_BLOCK) * math.prod(x.shape[1:]), dtype=torch.float64, device=x.device)
    for block in torch.split(x, _ROWS_PER_BLOCK):
        values = _wide(block, grey) if grey else block
        if x.ndim > 2:
            values = values.transpose(0, 1)
            yield room[: values.numel()].view(values.shape).copy_(values).flatten(1)
        else:
            yield room[: values.numel()].view(values.shape).copy_(values).transpose(0, 1)
