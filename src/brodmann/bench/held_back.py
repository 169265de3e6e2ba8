"""The data of a case, whose test part stays closed until it is asked for: an honest result reads it once."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..data import Dataset, Split, load
from ..errors import BrodmannError
from ..runs import RunOptions
from ..runs.assembly import split_data


class HeldBack:
    """A test part that counts how often it was read, in ``reads``."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        """Takes samples and targets, unread."""
        self._x, self._y = x, y
        self.reads = 0

    def read(self) -> tuple[Tensor, Tensor]:
        """Returns samples and targets."""
        self.reads += 1
        return self._x, self._y


def without_test_part(options: RunOptions, data: Dataset | None = None) -> tuple[Split, HeldBack]:
    """Returns the parts that options ask for, with the test part held apart: the split itself keeps no test sample.

    Args:
        options: Options of the training.
        data: Data set that the parts are taken from. Default the options' data set.

    Raises:
        BrodmannError: Its targets are not classes.
    """
    data = load(options.dataset) if data is None else data
    if not data.is_classification:
        raise BrodmannError(f"Cases compare classifiers, and '{options.dataset}' has real targets: leave it out.")
    split = split_data(options, data)
    left = replace(split, x_test=split.x_test[:0], y_test=split.y_test[:0])
    return left, HeldBack(split.x_test, split.y_test)
