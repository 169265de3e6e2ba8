"""Data sets by name, one uniform return.

``load("digits")`` gives a `Dataset` of raw values; ``.split()`` gives a `Split` that is ready to train, together with
the `Preprocessing` that prediction has to repeat. Nothing is downloaded except by `fetch`.
"""

from .catalogue import DatasetRow, available, fetch, load
from .dataset import Dataset, Split
from .directory import data_directory
from .inputs import load_inputs
from .preprocessing import NORMALISATIONS, Preprocessing

__all__ = [
    "NORMALISATIONS",
    "Dataset",
    "DatasetRow",
    "Preprocessing",
    "Split",
    "available",
    "data_directory",
    "fetch",
    "load",
    "load_inputs",
]
