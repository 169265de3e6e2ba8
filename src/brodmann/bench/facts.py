"""What recipes need to know about a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..data import data_directory, load
from ..errors import BrodmannError

LARGE = 50_000
"""Training samples from which a set counts as large: fewer epochs and seeds."""


@dataclass(frozen=True)
class DataFacts:
    """What recipes need to know about a data set, which is read once.

    Attributes:
        features: Size of a sample; for images, in grey.
        outputs: Classes, or targets.
        samples: Samples of the training part.
        is_coloured: Whether it holds coloured images.
        is_classification: Whether targets are classes.
    """

    features: int
    outputs: int
    samples: int
    is_coloured: bool
    is_classification: bool

    @property
    def is_large(self) -> bool:
        """Whether it counts as large, see `LARGE`."""
        return self.samples >= LARGE


def data_facts(dataset: str) -> DataFacts:
    """Returns the facts about a data set in the data folder."""
    return _facts_in(data_directory(), dataset)


@cache
def _facts_in(folder: Path, dataset: str) -> DataFacts:
    data = load(dataset, folder)
    features = math.prod(data.shape[1:] if data.is_coloured else data.shape)
    return DataFacts(features, data.outputs, len(data.y_train), data.is_coloured, data.is_classification)


def is_here(dataset: str) -> bool:
    """Whether a data set is on this machine."""
    try:
        data_facts(dataset)
    except BrodmannError:
        return False
    return True
