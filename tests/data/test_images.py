"""Image sets: idx files without torchvision, the rest through it."""

from __future__ import annotations

import gzip
import importlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brodmann.data import Dataset, available, fetch, load
from brodmann.data.idx import read_idx
from brodmann.errors import BrodmannError

from .sources import touch, write_idx, write_mnist, write_npz


@pytest.mark.usefixtures("no_torchvision")
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_idx_sets_need_no_torchvision(tmp_path: Path, name: str, folder: str, ending: str) -> None:
    pixels, labels = write_mnist(tmp_path, ending, folder)
    dataset = load(name, tmp_path)
    assert dataset.shape == (1, 4, 5)
    assert np.array_equal(dataset.x_train[:, 0].numpy(), pixels)
    assert dataset.y_test.tolist() == labels.tolist()
    assert dataset.outputs == 10


@pytest.mark.usefixtures("no_torchvision")
def test_emnist_is_the_balanced_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_idx(tmp_path / f"EMNIST/raw/emnist-balanced-{part}-images-idx3-ubyte", np.zeros((47, 2, 2)))
        write_idx(tmp_path / f"EMNIST/raw/emnist-balanced-{part}-labels-idx1-ubyte", np.arange(47))
    dataset = load("emnist", tmp_path)
    assert dataset.outputs == 47
    assert dataset.classes is not None
    assert (dataset.classes[9], dataset.classes[10], dataset.classes[36], dataset.classes[46]) == ("9", "A", "a", "t")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an idx file of unsigned bytes with 1 axes"),
        (b"<html>", "must be an idx file"),
        (
            bytes((0, 0, 8, 3)) + bytes(12),
            "must be an idx file of unsigned bytes with 1 axes; it begins with '00000803'",
        ),
        (bytes((0, 0, 8, 1, 0, 0, 0, 5, 1, 2)), r"must hold 5 values for shape \(5,\), got 2"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 1, 1, 2)), r"must hold 1 values for shape \(1,\), got 2"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(BrodmannError, match=message):
        read_idx(path, axes=1)
    compressed = tmp_path / "labels.gz"
    compressed.write_bytes(gzip.compress(content))
    with pytest.raises(BrodmannError, match=message):
        read_idx(compressed, axes=1)


@pytest.mark.parametrize("content", [b"plain", gzip.compress(b"long enough to be cut", mtime=0)[:-6]])
def test_damaged_compressed_idx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(BrodmannError, match=r"labels\.gz cannot be read"):
        read_idx(path, axes=1)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(BrodmannError, match=r"y_test must be \(n,\) class indices from 0 to 9, got .* from 10 to 10"):
        load("mnist", tmp_path)


def test_cifar10_comes_channels_first_without_download(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch")
    dataset = load("cifar10", tmp_path)
    assert dataset.x_train.shape == (30, 3, 4, 4)
    assert dataset.x_train[0, 1, 0, 0] == 1
    assert dataset.classes is not None
    assert dataset.classes[0] == "airplane"
    root = str(tmp_path)
    assert torchvision.CIFAR10.calls == [
        {"root": root, "download": False, "train": True},
        {"root": root, "download": False, "train": False},
    ]


def test_sets_with_a_split_argument_and_labels(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "train_32x32.mat", "test_32x32.mat")
    torchvision.SVHN.image_shape = (3, 4, 4)
    torchvision.SVHN.labels_name = "labels"
    assert load("svhn", tmp_path).x_train.shape == (30, 3, 4, 4)
    assert [call["split"] for call in torchvision.SVHN.calls] == ["train", "test"]


def test_class_names_come_from_torchvision_where_the_table_has_none(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "cifar-100-python/train", "cifar-100-python/test")
    assert load("cifar100", tmp_path).classes == tuple(f"class {index}" for index in range(10))


def test_a_set_in_one_part_gets_the_fixed_test_part(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "semeion.data")
    torchvision.SEMEION.image_shape = (4, 4)
    dataset = load("semeion", tmp_path)
    assert (len(dataset.x_train), len(dataset.x_test), dataset.shape) == (24, 6, (1, 4, 4))
    assert len(torchvision.SEMEION.calls) == 1
    assert load("semeion", tmp_path).digest == dataset.digest


def test_idx_sets_in_the_older_layout_go_through_torchvision(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "MNIST/processed/training.pt")
    torchvision.MNIST.image_shape = (4, 4)
    assert load("mnist", tmp_path).shape == (1, 4, 4)


def test_own_file_comes_before_the_image_set(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "semeion.data")
    write_npz(tmp_path / "semeion.npz")
    assert load("semeion", tmp_path).shape == (3,)
    assert torchvision.SEMEION.calls == []


def test_digits_stay_the_bundled_set_whatever_lies_in_the_directory(tmp_path: Path, digits: Dataset) -> None:
    write_npz(tmp_path / "digits.npz")
    assert load("digits", tmp_path).digest == digits.digest
    assert load("digits.npz", tmp_path).shape == (3,)
    assert {row.name for row in available(tmp_path)} >= {"digits", "digits.npz"}


@pytest.mark.usefixtures("no_torchvision")
def test_without_torchvision_the_error_names_the_extra(tmp_path: Path) -> None:
    touch(tmp_path, "usps.bz2", "usps.t.bz2")
    with pytest.raises(BrodmannError, match=r"needs torchvision.*pip install 'brodmann\[vision\]'"):
        load("usps", tmp_path)
    with pytest.raises(BrodmannError, match=r"needs torchvision.*pip install 'brodmann\[vision\]'"):
        fetch("mnist", tmp_path)


def test_torchvision_of_another_build_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "usps.bz2", "usps.t.bz2")
    original = importlib.import_module

    def broken(name: str, package: str | None = None) -> types.ModuleType:
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist\nmore lines")
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BrodmannError, match=r"cannot be imported \(operator torchvision::nms does not exist\)\."):
        load("usps", tmp_path)


def test_damaged_files_say_how_to_get_them_anew(tmp_path: Path, torchvision: Any) -> None:
    touch(tmp_path, "usps.bz2", "usps.t.bz2")
    torchvision.USPS.fails = RuntimeError("Dataset not found or corrupted. More")
    with pytest.raises(BrodmannError, match="incomplete or damaged .* Remove it and run: brodmann data fetch usps"):
        load("usps", tmp_path)
