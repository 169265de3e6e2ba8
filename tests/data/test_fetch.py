"""Nothing downloads unless told; what is missing says where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brodmann.data import fetch, load
from brodmann.errors import BrodmannError, MissingDataError

from .sources import write_mnist, write_npz


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("stl10", "stl10_binary/train_X.bin"),
        ("openml:61", "openml/openml/openml.org/api/v1/json/data/61.gz"),
        ("openml:Iris", "openml/openml/openml.org/api/v1/json/data/list/data_name/iris/limit/2/status/active/.gz"),
    ],
)
def test_missing_data_names_path_and_command(tmp_path: Path, torchvision: Any, name: str, expected: str) -> None:
    directory = tmp_path / "no such"
    with pytest.raises(MissingDataError) as caught:
        load(name, directory)
    assert str(caught.value) == (
        f"Data set '{name}' was expected at {directory / expected}; nothing is there. "
        f"Fetch it with: brodmann data fetch {name} --data-dir '{directory}'"
    )
    assert not directory.exists()
    assert all(not getattr(torchvision, source).calls for source in ("MNIST", "CIFAR10", "STL10"))


def test_missing_file_of_a_set_is_the_one_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingDataError, match="t10k-labels-idx1-ubyte; nothing is there"):
        load("mnist", tmp_path)


def test_fetch_asks_torchvision_to_download_both_parts(tmp_path: Path, torchvision: Any) -> None:
    place = fetch("cifar10", tmp_path / "new")
    assert place == tmp_path / "new/cifar-10-batches-py/data_batch_1"
    assert [(call["download"], call["train"]) for call in torchvision.CIFAR10.calls] == [(True, True), (True, False)]


def test_fetch_of_what_is_there_does_nothing(tmp_path: Path, torchvision: Any) -> None:
    write_mnist(tmp_path)
    assert fetch("mnist", tmp_path) == tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    assert torchvision.MNIST.calls == []


def test_fetch_that_fails_says_what_to_do(tmp_path: Path, torchvision: Any) -> None:
    torchvision.CIFAR10.fails = OSError("no route")
    with pytest.raises(
        BrodmannError, match=r"could not be fetched \(no route\)\. Check the network connection, or put"
    ):
        fetch("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "Nothing to fetch for 'digits': it comes with scikit-learn"),
        ("mine.npz", r"Nothing to fetch for 'mine\.npz': it is a file of your own, .*mine\.npz\. Use it as it is"),
        (Path("own.npz"), "Nothing to fetch for 'own"),
        ("own.npz", r"Nothing to fetch for 'own\.npz': it is a file of your own\. Put a \.npz file .* at .*own\.npz"),
        ("mine", r"Nothing to fetch for 'mine': .*mine\.npz is there"),
        ("cifar", "Unknown data set 'cifar'"),
    ],
)
def test_fetch_of_what_cannot_be_fetched(tmp_path: Path, name: str | Path, message: str) -> None:
    write_npz(tmp_path / "mine.npz")
    with pytest.raises(BrodmannError, match=message):
        fetch(name, tmp_path)


def test_a_file_of_another_kind_is_no_unknown_name(tmp_path: Path) -> None:
    path = tmp_path / "table.xls"
    path.write_text("1,2")
    with pytest.raises(BrodmannError, match=r"table\.xls is not a data set: Put a \.npz file with .* at .*table\.npz"):
        load(str(path))


def test_unknown_name_has_a_suggestion_and_lists_own_files(tmp_path: Path) -> None:
    write_npz(tmp_path / "mine.npz")
    with pytest.raises(
        BrodmannError, match=r"Unknown data set 'fashion_mnist'\. Did you mean 'fashion-mnist'\?.* mine,"
    ):
        load("fashion_mnist", tmp_path)
