"""Image sets in torchvision's layout."""

from __future__ import annotations

import http.client
import importlib
import pickle
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BrodmannError
from .dataset import Dataset, with_fixed_test_part
from .directory import damaged, first_line, missing
from .idx import find_idx, read_idx

_DIGITS = tuple(string.digits)
_READ_ERRORS = (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError)


@dataclass(frozen=True)
class ImageSet:
    """What has to be known about one image set; a new set is one more row of `IMAGE_SETS`.

    Attributes:
        source: Name of the class in ``torchvision.datasets``.
        files: What must lie in the data directory, relative to it. For idx sets: training images and labels, test
            images and labels.
        train: Arguments that choose the training part.
        test: Arguments that choose the test part, ``None`` if the source has one part only.
        classes: Names in the order of the labels, ``None`` to take them from torchvision (too many to repeat here).
        is_idx: Whether the files are idx files, which `read_idx` reads too.
    """

    source: str
    files: tuple[str, ...]
    train: Mapping[str, Any] = field(default_factory=lambda: {"train": True})
    test: Mapping[str, Any] | None = field(default_factory=lambda: {"train": False})
    classes: tuple[str, ...] | None = _DIGITS
    is_idx: bool = False


def _idx_files(folder: str, train: str, test: str) -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{folder}/raw/{part}-{kind}" for part in (train, test) for kind in kinds)


def _words(names: str) -> tuple[str, ...]:
    return tuple(names.split())


IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet("MNIST", _idx_files("MNIST", "train", "t10k"), is_idx=True),
    "fashion-mnist": ImageSet(
        "FashionMNIST",
        _idx_files("FashionMNIST", "train", "t10k"),
        classes=_words("top trouser pullover dress coat sandal shirt sneaker bag ankle-boot"),
        is_idx=True,
    ),
    "kmnist": ImageSet(
        "KMNIST",
        _idx_files("KMNIST", "train", "t10k"),
        classes=_words("o ki su tsu na ha ma ya re wo"),
        is_idx=True,
    ),
    # The balanced split: 47 classes, lower case kept apart only where it looks different. Its images lie on their side
    # (rows and columns swapped); they stay so, as in torchvision, since results are published on them like that.
    "emnist": ImageSet(
        "EMNIST",
        _idx_files("EMNIST", "emnist-balanced-train", "emnist-balanced-test"),
        train={"split": "balanced", "train": True},
        test={"split": "balanced", "train": False},
        classes=(*string.digits, *string.ascii_uppercase, *"abdefghnqrt"),
        is_idx=True,
    ),
    "usps": ImageSet("USPS", ("usps.bz2", "usps.t.bz2")),
    "semeion": ImageSet("SEMEION", ("semeion.data",), train={}, test=None),
    "svhn": ImageSet("SVHN", ("train_32x32.mat", "test_32x32.mat"), train={"split": "train"}, test={"split": "test"}),
    "cifar10": ImageSet(
        "CIFAR10",
        ("cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"),
        classes=_words("airplane automobile bird cat deer dog frog horse ship truck"),
    ),
    "cifar100": ImageSet("CIFAR100", ("cifar-100-python/train", "cifar-100-python/test"), classes=None),
    "stl10": ImageSet(
        "STL10",
        ("stl10_binary/train_X.bin", "stl10_binary/test_X.bin"),
        train={"split": "train"},
        test={"split": "test"},
        classes=_words("airplane bird car cat deer dog horse monkey ship truck"),
    ),
}
"""The image sets by name."""


def image_place(name: str, directory: Path) -> Path:
    """Returns the first file that a set needs and that is absent, or its first file if all are there."""
    row = IMAGE_SETS[name]
    places = [directory / file for file in row.files]
    return next((place for place in places if not _exists(row, place)), places[0])


def images_present(name: str, directory: Path) -> bool:
    """Says whether the files of a set are there, without reading them."""
    row = IMAGE_SETS[name]
    return all(_exists(row, directory / file) for file in row.files) or _legacy_folder(row, directory).is_dir()


def load_images(name: str, directory: Path) -> Dataset:
    """Loads an image set that is already in the data directory.

    Args:
        name: A key of `IMAGE_SETS`.
        directory: The data directory, torchvision's ``root``.

    Returns:
        The data set, images ``(n, channels, height, width)`` with values 0 to 255.

    Raises:
        MissingDataError: Files are absent.
        BrodmannError: Files are damaged, or torchvision is needed and cannot be imported.
    """
    if not images_present(name, directory):
        raise missing(name, image_place(name, directory), directory)
    row = IMAGE_SETS[name]
    # On many CPU machines the installed torchvision does not match the build of torch and cannot even be imported, so
    # the sets of the simplest format are read without it.
    if row.is_idx and all(_exists(row, directory / file) for file in row.files):
        return _load_idx(name, row, directory)
    return _load_torchvision(name, row, directory)


def fetch_images(name: str, directory: Path) -> None:
    """Downloads an image set through torchvision.

    Raises:
        BrodmannError: Torchvision cannot be imported or the download fails.
    """
    row = IMAGE_SETS[name]
    source = _torchvision_class(name, row)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in (row.train, row.test):
            if part is not None:
                source(root=str(directory), download=True, **part)
    except (*_READ_ERRORS, http.client.HTTPException) as error:
        raise BrodmannError(
            f"Data set '{name}' could not be fetched ({first_line(error)}). Check the network connection, or put its "
            f"files into {directory} in torchvision's layout, the first being {image_place(name, directory)}."
        ) from error


def _exists(row: ImageSet, place: Path) -> bool:
    return find_idx(place) is not None if row.is_idx else place.is_file()


def _legacy_folder(row: ImageSet, directory: Path) -> Path:
    """Older torchvision versions kept idx sets as tensors here, and torchvision still reads them."""
    return directory / row.source / "processed"


def _load_idx(name: str, row: ImageSet, directory: Path) -> Dataset:
    found = [find_idx(directory / file) or directory / file for file in row.files]
    x_train, y_train, x_test, y_test = (read_idx(path, axes) for path, axes in zip(found, (3, 1, 3, 1), strict=True))
    return Dataset.from_arrays(name, x_train, y_train, x_test, y_test, row.classes)


def _load_torchvision(name: str, row: ImageSet, directory: Path) -> Dataset:
    source = _torchvision_class(name, row)
    try:
        train = source(root=str(directory), download=False, **row.train)
        test = None if row.test is None else source(root=str(directory), download=False, **row.test)
    except _READ_ERRORS as error:
        raise damaged(name, image_place(name, directory), directory, error) from error
    classes = row.classes or tuple(str(label) for label in train.classes)
    if test is None:
        return with_fixed_test_part(name, *_arrays(train), classes)
    return Dataset.from_arrays(name, *_arrays(train), *_arrays(test), classes)


def _arrays(source: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Takes images and labels whole, not through torchvision's items: decoding each image again takes minutes."""
    labels = source.targets if hasattr(source, "targets") else source.labels
    return np.asarray(source.data), np.asarray(labels).astype(np.int64)


def _torchvision_class(name: str, row: ImageSet) -> Any:
    try:
        module = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # a build that does not match raises the rest
        raise BrodmannError(
            f"Data set '{name}' needs torchvision, which cannot be imported ({first_line(error)}). "
            "Install it with: pip install 'brodmann[vision]'"
        ) from error
    return getattr(module, row.source)
