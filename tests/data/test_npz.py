"""One's own data as NumPy archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brodmann.data import Preprocessing, load, load_inputs
from brodmann.errors import BrodmannError, MissingDataError

from .sources import write_npz


def test_npz_by_path_by_name_and_by_file_name_give_the_same(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz")
    by_path = load(str(path))
    assert by_path.digest == load("mine", tmp_path).digest == load("mine.npz", tmp_path).digest
    assert by_path.name == str(path)
    assert load("mine", tmp_path).classes == ("0", "1")
    path.rename(tmp_path / "LOUD.NPZ")
    assert by_path.digest == load(str(tmp_path / "LOUD.NPZ")).digest


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 7), (7,)),
        ((20, 4, 5), (1, 4, 5)),
        ((20, 3, 4, 5), (3, 4, 5)),
        ((20, 4, 5, 3), (3, 4, 5)),
        ((20, 4, 5, 1), (1, 4, 5)),
        ((20, 1, 5, 3), (1, 5, 3)),
        ((20, 6, 5, 4), (4, 6, 5)),
        ((20, 6, 6, 4), (4, 6, 6)),
        ((20, 4, 5, 6), (4, 5, 6)),
        ((20, 4, 6, 4), (4, 6, 4)),
        ((20, 8, 6, 5), (8, 6, 5)),
        ((20, 16, 1, 1), (16, 1, 1)),  # maps of one or a few pixels, as the end of a network makes them
        ((20, 16, 3, 3), (16, 3, 3)),
        ((20, 16, 4, 4), (16, 4, 4)),
    ],
)
def test_npz_images_come_channels_first(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    dataset = load(str(write_npz(tmp_path / "a.npz", x_train=x, x_test=x[:6])))
    assert dataset.shape == expected
    if expected == (3, 4, 5) and shape[-1] == 3:
        assert np.array_equal(dataset.x_train[2, 1].numpy(), x[2, :, :, 1])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([5, -1, 9, 9] * 5, dtype=np.int8), ("-1", "5", "9")),
        (np.array(["b", "a", "c", "b"] * 5), ("a", "b", "c")),
        (np.array([b"b", b"a"] * 10), ("a", "b")),
        (np.array([True, False] * 10), ("0", "1")),
        (np.array([[1], [0]] * 10, dtype=np.uint8), ("0", "1")),
    ],
)
def test_npz_integer_and_string_labels_are_classes(tmp_path: Path, labels: np.ndarray, names: tuple[str, ...]) -> None:
    dataset = load(str(write_npz(tmp_path / "a.npz", y_train=labels, y_test=labels[:6])))
    assert dataset.classes == names
    assert dataset.y_train.max() == len(names) - 1
    original = [
        value.decode() if isinstance(value, bytes) else str(int(value) if labels.dtype.kind == "b" else value)
        for value in labels.reshape(-1).tolist()
    ]
    assert [names[index] for index in dataset.y_train.tolist()] == original


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([b"\xe9", b"\xe8"] * 10), ("\xe8", "\xe9")),  # no UTF-8
        (np.array([2**63 + 5, 2**63] * 10, dtype=np.uint64), ("9223372036854775808", "9223372036854775813")),
    ],
)
def test_labels_of_any_kind_stay_apart(tmp_path: Path, labels: np.ndarray, names: tuple[str, ...]) -> None:
    dataset = load(str(write_npz(tmp_path / "a.npz", y_train=labels, y_test=labels[:6])))
    assert dataset.classes == names
    assert dataset.y_train[:2].tolist() == [1, 0]


def test_npz_whole_floats_stay_regression(tmp_path: Path) -> None:
    targets = np.array([[0.0, 1.0], [1.0, 0.0]] * 10)
    dataset = load(str(write_npz(tmp_path / "a.npz", y_train=targets, y_test=targets[:6])))
    assert (dataset.classes, dataset.outputs) == (None, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_test": None},
            r"must hold the arrays x_train, y_train, x_test, y_test; y_test missing \(it holds x_train,",
        ),
        ({"y_train": np.array([None] * 20)}, "y_train in .* must hold numbers or strings, got an object array"),
        ({"y_train": np.arange(19) % 2}, "x_train and y_train must have the same length, got 20 and 19"),
        ({"x_test": np.zeros((5, 3))}, "x_test and y_test must have the same length, got 5 and 6"),
        (
            {"x_train": np.full((20, 3), np.nan)},
            "x_train must be finite in float32, got NaN or an infinite value in row 0",
        ),
        ({"x_test": np.full((6, 3), np.inf)}, "x_test must be finite"),
        ({"x_train": np.eye(20, 3) * 1e300}, "x_train must be finite in float32"),
        ({"y_train": np.full(20, np.inf), "y_test": np.ones(6)}, "y_train must be finite"),
        ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, r"x_train is empty \(shape \(0, 3\)\)"),
        ({"x_test": np.zeros((6, 0))}, "x_test is empty"),
        ({"y_train": np.ones(20, int)}, "y_train must hold at least two classes, got only '1'"),
        ({"y_test": np.arange(6)}, "y_test holds 4 classes that y_train lacks, such as '2'"),
        ({"x_train": np.zeros(20)}, r"inputs of one shape, got \(\) and \(3,\)"),
        ({"x_train": np.zeros(20), "x_test": np.zeros(6)}, r"x_train must be \(n, features\).* got shape \(20,\)"),
        (
            {"x_train": np.zeros((20, 1, 1, 1, 1)), "x_test": np.zeros((6, 1, 1, 1, 1))},
            r"got shape \(20, 1, 1, 1, 1\)",
        ),
        ({"x_train": np.zeros((20, 4))}, r"inputs of one shape, got \(4,\) and \(3,\)"),
        ({"x_train": np.full((20, 3), "a")}, "x_train must be numeric, got dtype <U1"),
        ({"x_train": np.zeros((20, 3), complex)}, "x_train must be numeric, got dtype complex128"),
        ({"y_train": np.zeros((20, 2), int)}, r"classes in y_train must be \(n,\), got shape \(20, 2\)"),
        ({"y_train": np.zeros((20, 2, 2))}, r"y_train must be \(n,\) or \(n, outputs\), got shape \(20, 2, 2\)"),
        ({"y_train": np.zeros(20, complex)}, "y_train must hold integers, strings or floats, got dtype complex128"),
        ({"y_train": np.zeros(20)}, "must be of one kind, got float64 and int64"),
        ({"y_train": np.array(["a", "b"] * 10)}, "must be of one kind, got <U1 and int64"),
        ({"y_train": np.zeros((20, 2)), "y_test": np.zeros(6)}, "same number of outputs, got 2 and 1"),
    ],
)
def test_npz_errors_say_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_npz(tmp_path / "a.npz", **changes)
    with pytest.raises(BrodmannError, match=message) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut short", b"\x93NUMPY"])
def test_npz_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(BrodmannError, match=r"cannot be read as a \.npz archive"):
        load(str(path))


def test_npz_with_damaged_content(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(BrodmannError, match=r"x_train in .* cannot be read"):
        load(str(path))


def test_npz_absent_says_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "absent.npz"
    with pytest.raises(
        MissingDataError, match=r"no file is there\. Put a \.npz file with x_train, .* at .*absent\.npz"
    ):
        load(str(path))


def with_header(array: Any) -> bytes:
    """A file of NumPy's whose header is no Python."""
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    return content[:10] + b"(" * 60 + content[70:]


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
def test_damaged_files_of_any_kind_are_named(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "damaged.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", with_header(np.ones((30, 3))))
    if kind == zipfile.ZIP_LZMA:
        content = bytearray(path.read_bytes())
        content[60:70] = bytes(10)
        path.write_bytes(content)
    with pytest.raises(BrodmannError, match=r"x_train in .*damaged.npz cannot be read \(.*\). Save the file again."):
        load(str(path))


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.npy").write_bytes(with_header(np.ones((3, 3))))
    preprocessing = Preprocessing.fit(torch.rand(4, 3))
    with pytest.raises(BrodmannError, match="damaged.npy cannot be read as a .npy array of numbers"):
        load_inputs(tmp_path / "damaged.npy", preprocessing)
