"""Files of inputs for prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brodmann.data import Dataset, Preprocessing, load, load_inputs
from brodmann.data.inputs import process_samples
from brodmann.errors import BrodmannError

from .sources import write_npz


@pytest.fixture
def table_preprocessing() -> Preprocessing:
    return Preprocessing(mean=(1.0, 2.0), scale=(1.0, 2.0), grey=False, flat=True, shape=(2,))


@pytest.fixture
def image_preprocessing() -> Preprocessing:
    return Preprocessing(mean=(1.0,) * 3, scale=(2.0,) * 3, grey=False, flat=False, shape=(3, 2, 4))


@pytest.mark.parametrize(
    "content",
    ["1,2\n3,6\n", "first,second\n1,2\n3,6\n", "\ufefffirst,second\r\n1,2\r\n\r\n3,6", " 1, 2\n 3.0,6e0\n"],
)
def test_inputs_from_csv(tmp_path: Path, table_preprocessing: Preprocessing, content: str) -> None:
    path = tmp_path / "inputs.csv"
    path.write_bytes(content.encode())
    assert load_inputs(path, table_preprocessing).tolist() == [[0, 0], [2, 2]]


@pytest.mark.parametrize("key", ["x", "x_test"])
def test_inputs_from_arrays(tmp_path: Path, table_preprocessing: Preprocessing, key: str) -> None:
    x = np.array([[1, 2], [3, 6]])
    np.savez(tmp_path / "a.npz", **{key: x, "y_test": np.zeros(2)})
    np.save(tmp_path / "a.npy", x)
    assert load_inputs(str(tmp_path / "a.npz"), table_preprocessing).tolist() == [[0, 0], [2, 2]]
    assert load_inputs(tmp_path / "a.npy", table_preprocessing).tolist() == [[0, 0], [2, 2]]
    np.save(tmp_path / "one.npy", x[1])
    assert load_inputs(tmp_path / "one.npy", table_preprocessing).tolist() == [[2, 2]]


def test_image_inputs_in_every_layout(tmp_path: Path, image_preprocessing: Preprocessing) -> None:
    images = np.arange(48).reshape(2, 3, 2, 4)
    expected = image_preprocessing(torch.from_numpy(images))
    for index, layout in enumerate((images, np.moveaxis(images, 1, 3))):
        np.save(tmp_path / f"{index}.npy", layout)
        assert torch.equal(load_inputs(tmp_path / f"{index}.npy", image_preprocessing), expected)
        assert torch.equal(process_samples(layout[1], image_preprocessing), expected[1:])  # as Pillow gives an image
    grey = Preprocessing(mean=(0.0,), scale=(1.0,), grey=False, flat=True, shape=(1, 2, 4))
    for layout in (images[:, 0], images[:, :1], images[:, 0, :, :, None], images[:, 0].reshape(2, 8)):
        np.save(tmp_path / "grey.npy", layout)
        assert torch.equal(load_inputs(tmp_path / "grey.npy", grey), torch.from_numpy(images[:, 0]).float().flatten(1))
        assert torch.equal(process_samples(layout[1], grey)[0], torch.from_numpy(images[1, 0]).float().flatten())


@pytest.mark.parametrize("first", [True, False])
def test_flat_rows_of_several_channels_are_refused(
    tmp_path: Path, image_preprocessing: Preprocessing, first: bool
) -> None:
    images = np.arange(48).reshape(2, 3, 2, 4)
    rows = (images if first else np.moveaxis(images, 1, 3)).reshape(2, 24)
    np.savetxt(tmp_path / "rows.csv", rows, fmt="%d", delimiter=",")
    with pytest.raises(BrodmannError, match=r"give them as .* array, \(n, 3, 2, 4\) or \(n, 2, 4, 3\)"):
        load_inputs(tmp_path / "rows.csv", image_preprocessing)
    with pytest.raises(BrodmannError, match="do not tell whether channels come first or last"):
        process_samples(rows, image_preprocessing)
    with pytest.raises(BrodmannError, match="do not tell whether channels come first or last"):
        process_samples(rows[0], image_preprocessing)


def test_test_part_read_as_inputs_equals_the_split(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    split = load(str(path)).split()
    assert torch.equal(load_inputs(path, split.preprocessing), split.x_test)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "must hold at least one example; it is empty"),
        ("a.csv", b"first,second\n", "must hold at least one example; it is empty"),
        ("a.csv", b"1,2\n3\n", "line 2 must have 2 values like the first, got 1"),
        ("a.csv", b"a,b\n1,2\n3,x\n", "line 3 column 2 must be a finite number, got 'x'"),
        ("a.csv", b"1,b\n1,2\n", "line 1 column 2 must be a finite number, got 'b'"),
        ("a.csv", b"1,2\n3,\n", "line 2 column 2 must be a finite number, got nothing: fill gaps first"),
        ("a.csv", b"?,?\n1,2\n", r"line 1 column 1 must be a finite number, got '\?'"),
        ("a.csv", b"1,2\n1_0,2\n", "line 2 column 1 must be a finite number, got '1_0'"),
        ("a.csv", b"1;2\n3;x\n", "line 2 column 2 must be a finite number, got 'x'. .* by semicolons"),
        (
            "a.csv",
            b"1:2,1\n",
            "line 1 column 1 must be a finite number, got '1:2'. Write numbers only, separated by comm",
        ),
        ("a.csv", (b"1" + b":2" * 5000 + b",1\n") * 2, r"number, got '[1:2]{37}\.\.\.'"),
        ("a.csv", b"1,2\n3,nan\n", "line 2 column 2 must be a finite number, got 'nan'"),
        ("a.csv", b"1,2,3\n", "has 3 columns, but the network learned from 2: leave the targets out"),
        ("a.csv", b"1,2,3,4\n", r"must hold inputs of shape \(n, 2\), got \(1, 4\)"),
        ("a.csv", b"\xff\xfe1,2", "cannot be read as a table of text"),
        ("a.npy", b"", r"cannot be read as a \.npy array"),
        (
            "a.npy",
            b"text",
            r"cannot be read as a \.npy array of numbers \(it holds objects, or is not a NumPy file\)",
        ),
        ("a.npz", b"text", r"cannot be read as a \.npz archive \(it holds objects, or is not a NumPy file\)"),
        ("a.txt", b"1,2", r"Unknown kind of input file '\.txt'\..*Choose one of: \.csv, \.npy, \.npz, \.tsv"),
    ],
)
def test_input_files_that_are_wrong(
    tmp_path: Path, table_preprocessing: Preprocessing, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BrodmannError, match=message):
        load_inputs(tmp_path / name, table_preprocessing)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a", "b"]]), "must be numeric, got dtype <U1"),
        (np.zeros((0, 2)), "must hold at least one example; it is empty"),
        (np.zeros((1, 1, 2)), r"must hold inputs of shape \(n, 2\), got \(1, 1, 2\)"),
        (np.float64(3), r"must hold inputs of shape \(n, 2\), got \(\)"),
        (np.array([[1, None]]), r"cannot be read as a \.npy array"),
    ],
)
def test_input_arrays_that_are_wrong(
    tmp_path: Path, table_preprocessing: Preprocessing, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(BrodmannError, match=message):
        load_inputs(tmp_path / "a.npy", table_preprocessing)


def test_input_file_absent_or_without_x(tmp_path: Path, table_preprocessing: Preprocessing) -> None:
    with pytest.raises(BrodmannError, match=r"expected at .*a\.csv; no file is there"):
        load_inputs(tmp_path / "a.csv", table_preprocessing)
    np.savez(tmp_path / "a.npz", z=np.zeros(2))
    with pytest.raises(BrodmannError, match="must hold the array x or x_test; it holds z"):
        load_inputs(tmp_path / "a.npz", table_preprocessing)


@pytest.mark.parametrize("shape", [(3,), (1, 4, 5), (3, 4, 5)])
def test_a_sample_alone_is_processed_as_among_others(shape: tuple[int, ...]) -> None:
    """Times in seconds since 1970, of which float32 has one in 128: a single one does not show how they vary."""
    times = 1.7e9 + np.random.default_rng(0).uniform(0, 1000, (50, *shape))
    data = Dataset.from_arrays("times", times[:40], [0, 1] * 20, times[40:], [0, 1] * 5)
    split = data.split()
    for row in range(10):
        alone = process_samples(times[40 + row : 41 + row], split.preprocessing)
        assert torch.equal(alone[0], split.x_test[row])


def test_what_was_constant_in_training_stays_zero() -> None:
    """Float32 has one of these dates in two: the training part, which it suits otherwise, holds the nearest."""
    rng = np.random.default_rng(0)
    for offset in (0.0, 1.7e9):  # with times, the training part is kept in float64
        x = np.stack([np.full(20, 20240117.0), offset + rng.uniform(0, 1000, 20)], 1)
        split = Dataset.from_arrays("a", x[:15], [0, 1, 0] * 5, x[15:], [0, 1, 0, 1, 0]).split()
        assert split.x_train[:, 0].abs().max() == 0
        for rows in (x, x[:1]):
            assert process_samples(rows, split.preprocessing)[:, 0].abs().max() == 0
        assert abs(process_samples(x[:1] + [100, 0], split.preprocessing)[0, 0] - 100) <= 1
    with pytest.raises(BrodmannError, match="must be finite in float32"):
        process_samples(np.full((1, 2), 1e300), split.preprocessing)
