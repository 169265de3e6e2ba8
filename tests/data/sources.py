"""Writes small data sets as their publishers would, and stands for torchvision."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


def small_arrays(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.normal(size=(20, 3)),
        "y_train": np.arange(20) % 2,
        "x_test": generator.normal(size=(6, 3)),
        "y_test": np.arange(6) % 2,
    }
    return {**arrays, **changes}


def write_npz(path: Path, **changes: Any) -> Path:
    np.savez(path, **{key: value for key, value in small_arrays(**changes).items() if value is not None})
    return path


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(directory: Path, ending: str = "", folder: str = "MNIST") -> tuple[np.ndarray, np.ndarray]:
    images = np.arange(20 * 4 * 5).reshape(20, 4, 5) % 256
    labels = np.arange(20) % 10
    raw = directory / folder / "raw"
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte{ending}", labels)
    return images, labels


class Frame:
    """As much of a data frame as names its columns."""

    def __init__(self, names: str, *values: np.ndarray[Any, Any]) -> None:
        self.columns, self.values = list(names), np.stack(values, 1)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.values


class FakeSource:
    """Stands for a class of torchvision.datasets; remembers how it was asked."""

    calls: ClassVar[list[dict[str, Any]]] = []
    image_shape: tuple[int, ...] = (4, 4, 3)
    labels_name = "targets"
    fails: Exception | None = None

    def __init__(self, root: str, download: bool = False, **options: Any) -> None:
        type(self).calls.append({"root": root, "download": download, **options})
        if self.fails is not None:
            raise self.fails
        self.data = np.arange(30 * np.prod(self.image_shape)).reshape(30, *self.image_shape).astype(np.uint8)
        setattr(self, self.labels_name, [index % 10 for index in range(30)])
        self.classes = [f"class {index}" for index in range(10)]


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b"")


def write_table(directory: Path, columns: list[tuple[str, str]], target: str, rows: list[str]) -> None:
    """Writes scikit-learn's cache of a table with identifier 7 and name 'small'."""
    cache = directory / "openml/openml/openml.org"
    header = [f"@ATTRIBUTE {name} {kind}" for name, kind in columns]
    content = "\n".join(["@RELATION small", *header, "@DATA", *rows, ""]).encode()
    features = [
        {
            "index": str(index),
            "name": name,
            "data_type": "numeric" if kind == "REAL" else "string" if kind == "STRING" else "nominal",
            "is_target": str(name == target).lower(),
            "is_ignore": "false",
            "is_row_identifier": "false",
            "number_of_missing_values": "0",
        }
        for index, (name, kind) in enumerate(columns)
    ]
    description = {
        "id": "7",
        "name": "small",
        "version": "1",
        "format": "ARFF",
        "status": "active",
        "description": "",
        "url": "https://localhost/data/v1/download/7/small.arff",
        "file_id": "7",
        "md5_checksum": hashlib.md5(content).hexdigest(),
    }
    documents = {
        "data/7": {"data_set_description": description},
        "data/features/7": {"data_features": {"feature": features}},
        "data/qualities/7": {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(rows))}]}},
        "data/list/data_name/small/limit/2/status/active/": {"data": {"dataset": [{"did": 7, "version": 1}]}},
    }
    files = {f"api/v1/json/{path}": json.dumps(document).encode() for path, document in documents.items()}
    # The older scikit-learn asks for the file by its number, the newer by its address.
    tables = dict.fromkeys(("data/v1/download/7", "data/v1/download/7/small.arff"), content)
    for path, text in {**files, **tables}.items():
        place = cache / f"{path}.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(text))


MIXED = [("row", "REAL"), ("size", "REAL"), ("colour", "{red,green,blue}"), ("empty", "REAL"), ("kind", "{yes,no}")]
MIXED_ROWS = [
    f"{i},{'?' if i % 5 == 0 else 100 + i},{'?' if i == 3 else ('red', 'green')[i % 2]},?,{('no', 'yes')[i % 2]}"
    for i in range(20)
]
