"""Data sets: what a user relies on when loading, splitting, preprocessing and fetching."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import os
import struct
import sys
import types
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from brodmann.data import Dataset, Preprocessing, available, data_directory, fetch, load, load_inputs
from brodmann.data.idx import read_idx
from brodmann.errors import BrodmannError, MissingDataError

REAL_DATA = os.environ.get("BRODMANN_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="BRODMANN_DATA is not set")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


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


# --- the embedded default -------------------------------------------------------------------------------------------


def test_digits_are_raw_images_with_a_fixed_stratified_test_part(digits: Dataset) -> None:
    assert digits.x_train.shape == (1437, 1, 8, 8)
    assert digits.x_test.shape == (360, 1, 8, 8)
    assert digits.x_train.dtype == torch.float32
    assert digits.y_train.dtype == torch.int64
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 16)
    assert digits.classes == tuple("0123456789")
    assert (digits.shape, digits.outputs, digits.is_classification) == ((1, 8, 8), 10, True)
    shares = torch.bincount(digits.y_test) / torch.bincount(torch.cat([digits.y_train, digits.y_test]))
    assert shares.min() > 0.18
    assert shares.max() < 0.22
    assert load("digits").digest == digits.digest


# --- digest ---------------------------------------------------------------------------------------------------------


def test_digest_is_the_same_across_versions() -> None:
    # Tables of results carry digests, so this value must never change.
    dataset = Dataset.from_arrays("small", np.array([[1.0], [2.0]]), np.array([0, 1]), np.array([[3.0]]), np.array([1]))
    parts = [
        b"float32 (2, 1)\n" + struct.pack("<2f", 1, 2),
        b"int64 (2,)\n" + struct.pack("<2q", 0, 1),
        b"float32 (1, 1)\n" + struct.pack("<f", 3),
        b"int64 (1,)\n" + struct.pack("<q", 1),
    ]
    assert dataset.digest == hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_digest_changes_with_one_value_of_any_array(key: str) -> None:
    arrays = small_arrays()
    before = Dataset.from_arrays("a", **arrays).digest
    arrays[key] = arrays[key].copy()
    arrays[key].flat[3] = 1 - arrays[key].flat[3]
    assert Dataset.from_arrays("a", **arrays).digest != before


def test_digest_depends_on_shape_and_not_on_name_or_stored_type() -> None:
    arrays = small_arrays(x_train=np.zeros((20, 1, 2, 6)), x_test=np.zeros((6, 1, 2, 6)))
    reshaped = {**arrays, "x_train": np.zeros((20, 1, 3, 4)), "x_test": np.zeros((6, 1, 3, 4))}
    narrow = {**arrays, "x_train": arrays["x_train"].astype(np.uint8), "y_train": arrays["y_train"].astype(np.uint8)}
    assert Dataset.from_arrays("a", **arrays).digest != Dataset.from_arrays("a", **reshaped).digest
    assert Dataset.from_arrays("a", **arrays).digest == Dataset.from_arrays("b", **narrow).digest


# --- split ----------------------------------------------------------------------------------------------------------


def test_split_parts_are_disjoint_and_together_whole() -> None:
    arrays = small_arrays(x_train=np.arange(20.0)[:, None], x_test=np.arange(100.0, 106)[:, None])
    split = Dataset.from_arrays("a", **arrays).split(0.25, seed=3, normalise="none")
    kept, held_out = set(split.x_train[:, 0].tolist()), set(split.x_validation[:, 0].tolist())
    assert len(held_out) == 5
    assert not kept & held_out
    assert kept | held_out == set(range(20))
    assert torch.equal(split.y_validation, (split.x_validation[:, 0] % 2).long())
    assert split.x_test[:, 0].tolist() == list(range(100, 106))


def test_validation_part_has_the_class_shares_of_the_whole() -> None:
    labels = np.repeat([0, 1, 2], [80, 60, 20])
    dataset = Dataset.from_arrays(
        "a", **small_arrays(x_train=np.zeros((160, 2)), y_train=labels, x_test=np.ones((6, 2)))
    )
    assert Counter(dataset.split(0.1).y_validation.tolist()) == {0: 8, 1: 6, 2: 2}


def test_the_seed_decides_the_validation_part(digits: Dataset) -> None:
    first, again, other = digits.split(seed=1), digits.split(seed=1), digits.split(seed=2)
    assert torch.equal(first.x_validation, again.x_validation)
    assert not torch.equal(first.y_validation, other.y_validation)
    assert torch.equal(first.y_test, other.y_test)


def test_without_validation_the_training_part_is_whole_and_in_order(digits: Dataset) -> None:
    split = digits.split(0)
    assert split.x_validation.shape == (0, 64)
    assert split.y_validation.shape == (0,)
    assert torch.equal(split.y_train, digits.y_train)
    assert digits.split(0, flat=False).x_validation.shape == (0, 1, 8, 8)


@pytest.mark.parametrize("labels", [[0] * 19 + [1], list(range(10)) * 2])
def test_classes_too_small_to_stratify_still_split(labels: list[int]) -> None:
    split = Dataset.from_arrays("a", **small_arrays(y_train=np.array(labels), y_test=np.zeros(6, int))).split(0.1)
    assert (len(split.y_train), len(split.y_validation)) == (18, 2)


@pytest.mark.parametrize("validation", [-0.1, 1, 1.5, float("nan")])
def test_validation_out_of_range(digits: Dataset, validation: float) -> None:
    with pytest.raises(
        BrodmannError, match=r"validation must be a share of at least 0 and below 1; .* came\. Use 0\.1"
    ):
        digits.split(validation)


def test_validation_that_leaves_nothing() -> None:
    dataset = Dataset.from_arrays("a", **small_arrays())
    with pytest.raises(BrodmannError, match="leaves none of the 20 training examples"):
        dataset.split(0.99)


def test_seed_out_of_range(digits: Dataset) -> None:
    with pytest.raises(BrodmannError, match="seed must be from 0 to 4294967295; -1 came"):
        digits.split(seed=-1)


def test_regression_targets_stay_as_they_are() -> None:
    targets = np.array([1.0, 2.0] * 10)
    dataset = Dataset.from_arrays("a", **small_arrays(y_train=targets, y_test=np.ones((6, 1))))
    assert (dataset.classes, dataset.outputs, dataset.is_classification) == (None, 1, False)
    split = dataset.split(0)
    assert split.y_train.dtype == torch.float32
    assert split.y_train[:, 0].tolist() == targets.tolist()


# --- normalisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["standard", "unit"])
def test_statistics_ignore_validation_and_test(normalise: str) -> None:
    arrays = small_arrays()
    before = Dataset.from_arrays("a", **arrays)
    held_out = before.split(0.2, normalise="none").x_validation[0].numpy()
    row = int(np.where((arrays["x_train"].astype(np.float32) == held_out).all(axis=1))[0][0])
    arrays["x_train"][row] = 1e6
    arrays["x_test"][0] = -1e6
    after = Dataset.from_arrays("a", **arrays).split(0.2, normalise=normalise)
    expected = before.split(0.2, normalise=normalise)
    assert after.preprocessing == expected.preprocessing
    assert torch.equal(after.x_train, expected.x_train)
    assert after.x_validation.max() > 1e4
    assert after.x_test.min() < -1e4


def test_standard_gives_each_column_of_a_table_mean_0_and_deviation_1() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=(500, 3)) * [1, 1000, 0.001] + [0, 1e5, -5]
    split = Dataset.from_arrays("a", **small_arrays(x_train=x, y_train=np.arange(500) % 2)).split()
    assert torch.allclose(split.x_train.mean(dim=0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(split.x_train.std(dim=0, correction=0), torch.ones(3), atol=1e-4)


def test_standard_gives_each_channel_of_images_one_mean_and_scale(digits: Dataset) -> None:
    split = digits.split(flat=False)
    assert len(split.preprocessing.mean) == 1
    assert split.x_train.mean().item() == pytest.approx(0, abs=1e-5)
    assert split.x_train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    colour = np.stack(
        [np.full((20, 2, 2), 7.0), np.random.default_rng(0).normal(50, 9, (20, 2, 2))]
        + [np.eye(2)[None].repeat(20, 0)],
        axis=1,
    )
    split = Dataset.from_arrays("a", **small_arrays(x_train=colour, x_test=colour[:6])).split(flat=False)
    assert torch.equal(split.x_train[:, 0], torch.zeros_like(split.x_train[:, 0]))
    assert split.preprocessing.scale[0] == 1
    assert split.x_train[:, 1].std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_unit_maps_training_extremes_to_0_and_1(digits: Dataset) -> None:
    split = digits.split(normalise="unit")
    assert (split.x_train.min(), split.x_train.max()) == (0, 1)


def test_none_keeps_raw_values(digits: Dataset) -> None:
    assert torch.equal(digits.split(0, normalise="none", flat=False).x_train, digits.x_train)


@pytest.mark.parametrize("normalise", ["standard", "unit"])
def test_constant_feature_gets_scale_1(normalise: str) -> None:
    x = np.column_stack([np.full(20, 0.1), np.arange(20)])
    test = np.column_stack([np.full(6, 1.1), np.arange(6)])
    split = Dataset.from_arrays("a", **small_arrays(x_train=x, x_test=test)).split(normalise=normalise)
    assert split.preprocessing.scale[0] == 1
    assert torch.allclose(split.x_train[:, 0], torch.zeros(len(split.x_train)))
    assert torch.allclose(split.x_test[:, 0], torch.ones(6))


def test_unknown_normalisation_has_a_suggestion(digits: Dataset) -> None:
    with pytest.raises(BrodmannError, match="Unknown normalisation 'standart'. Did you mean 'standard'"):
        digits.split(normalise="standart")


def test_grey_is_luminance_and_leaves_one_channel_alone(digits: Dataset) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (20, 3, 2, 2))
    dataset = Dataset.from_arrays("a", **small_arrays(x_train=colour, x_test=colour[:6]))
    split = dataset.split(0, normalise="none", grey=True, flat=False)
    expected = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
    assert split.x_train.shape == (20, 1, 2, 2)
    assert np.allclose(split.x_train[:, 0].numpy(), expected)
    assert split.shape == (1, 2, 2)
    assert torch.equal(digits.split(grey=True).x_train, digits.split().x_train)


def test_grey_needs_images() -> None:
    with pytest.raises(BrodmannError, match=r"grey needs images of 3 channels; inputs of shape \(3,\) came"):
        Dataset.from_arrays("a", **small_arrays()).split(grey=True)


# --- preprocessing as an object -------------------------------------------------------------------------------------

tables = numpy_strategies.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32),
)
images = numpy_strategies.arrays(
    np.uint8, st.tuples(st.integers(1, 5), st.just(3), st.integers(1, 3), st.integers(1, 3))
)


@settings(max_examples=60, deadline=None)
@given(
    x=st.one_of(tables, images),
    normalise=st.sampled_from(["standard", "unit", "none"]),
    grey=st.booleans(),
    flat=st.booleans(),
)
def test_preprocessing_holds_its_promises(x: np.ndarray, normalise: str, grey: bool, flat: bool) -> None:
    raw = torch.from_numpy(x).float()
    kept = raw.clone()
    fitted = Preprocessing.fit(raw, normalise=normalise, grey=grey and x.ndim == 4, flat=flat)
    result = fitted(raw)
    assert torch.equal(raw, kept)
    assert result.shape == (len(x), *fitted.output_shape)
    assert torch.isfinite(result).all()
    assert all(scale > 0 for scale in fitted.scale)
    # Prediction sees rows one by one and in another process, and must get the same values.
    restored = Preprocessing.from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert restored == fitted
    assert torch.equal(torch.cat([restored(row[None]) for row in raw]), result)
    if normalise == "unit":
        assert result.min() >= 0
        assert result.max() <= 1
    if normalise == "standard":
        # Float64 statistics of up to 1e6 leave errors near 1e-10; float32 results near 1e-7.
        assert result.abs().max() <= len(x) * 9 + 1


def test_preprocessing_crosses_blocks_of_rows() -> None:
    x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    fitted = Preprocessing.fit(x)
    assert torch.allclose(fitted(x), (x - x.mean(0)) / x.std(0, correction=0), atol=1e-5)


def test_preprocessing_refuses_other_inputs(digits: Dataset) -> None:
    fitted = digits.split().preprocessing
    with pytest.raises(BrodmannError, match=r"Inputs of shape \(n, 1, 8, 8\) were expected; \(2, 64\) came"):
        fitted(torch.zeros(2, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": [0.0]}, "scale positive and finite"),
        ({"mean": [float("nan")]}, "mean must be finite"),
        ({"mean": [0.0, 1.0]}, "must have 1 values"),
        ({"mean": None}, "wrong kind"),
        ({"scale": ["wide"]}, "wrong kind"),
        ({"grey": "yes"}, "wrong kind"),
        ({"grey": True}, "grey needs images of 3 channels"),
        ({"shape": [8, 8]}, "shape of an input must be"),
        ({"more": 1}, "has the parts"),
    ],
)
def test_damaged_preprocessing_is_refused(digits: Dataset, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Preprocessing.from_dict({**digits.split().preprocessing.as_dict(), **changes})


# --- .npz -----------------------------------------------------------------------------------------------------------


def test_npz_by_path_by_name_and_by_file_name_give_the_same(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz")
    by_path = load(str(path))
    assert by_path.digest == load("mine", tmp_path).digest == load("mine.npz", tmp_path).digest
    assert by_path.name == str(path)
    assert load("mine", tmp_path).classes == ("0", "1")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 7), (7,)),
        ((20, 4, 5), (1, 4, 5)),
        ((20, 3, 4, 5), (3, 4, 5)),
        ((20, 4, 5, 3), (3, 4, 5)),
        ((20, 4, 5, 1), (1, 4, 5)),
        ((20, 1, 5, 3), (1, 5, 3)),
        ((20, 6, 5, 4), (6, 5, 4)),
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
        ({"y_train": np.array([None] * 20)}, "y_train in .* must hold numbers or strings; an object array came"),
        ({"y_train": np.arange(19) % 2}, "x_train and y_train must have the same length; 20 and 19 came"),
        ({"x_test": np.zeros((5, 3))}, "x_test and y_test must have the same length; 5 and 6 came"),
        (
            {"x_train": np.full((20, 3), np.nan)},
            "x_train must be finite in float32; NaN or an infinite value came in row 0",
        ),
        ({"x_test": np.full((6, 3), np.inf)}, "x_test must be finite"),
        ({"x_train": np.eye(20, 3) * 1e300}, "x_train must be finite in float32"),
        ({"y_train": np.full(20, np.inf), "y_test": np.ones(6)}, "y_train must be finite"),
        ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, r"x_train is empty \(shape \(0, 3\)\)"),
        ({"x_test": np.zeros((6, 0))}, "x_test is empty"),
        ({"y_train": np.ones(20, int)}, "y_train must hold at least two classes; only '1' came"),
        ({"y_test": np.arange(6)}, "y_test holds 4 classes that y_train lacks, such as '2'"),
        ({"x_train": np.zeros(20)}, r"inputs of one shape; \(\) and \(3,\) came"),
        ({"x_train": np.zeros(20), "x_test": np.zeros(6)}, r"x_train must be \(n, features\).* shape \(20,\) came"),
        (
            {"x_train": np.zeros((20, 1, 1, 1, 1)), "x_test": np.zeros((6, 1, 1, 1, 1))},
            r"shape \(20, 1, 1, 1, 1\) came",
        ),
        ({"x_train": np.zeros((20, 4))}, r"inputs of one shape; \(4,\) and \(3,\) came"),
        ({"x_train": np.full((20, 3), "a")}, "x_train must be numeric; dtype <U1 came"),
        ({"x_train": np.zeros((20, 3), complex)}, "x_train must be numeric; dtype complex128 came"),
        ({"y_train": np.zeros((20, 2), int)}, r"classes in y_train must be \(n,\); shape \(20, 2\) came"),
        ({"y_train": np.zeros((20, 2, 2))}, r"y_train must be \(n,\) or \(n, outputs\); shape \(20, 2, 2\) came"),
        ({"y_train": np.zeros(20, complex)}, "y_train must hold integers, strings or floats; dtype complex128 came"),
        ({"y_train": np.zeros(20)}, "must be of one kind; float64 and int64 came"),
        ({"y_train": np.array(["a", "b"] * 10)}, "must be of one kind; <U1 and int64 came"),
        ({"y_train": np.zeros((20, 2)), "y_test": np.zeros(6)}, "same number of outputs; 2 and 1 came"),
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


# --- idx files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)


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
        (bytes((0, 0, 8, 1, 0, 0, 0, 5, 1, 2)), r"must hold 5 values for shape \(5,\); 2 came"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 1, 1, 2)), r"must hold 1 values for shape \(1,\); 2 came"),
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


@pytest.mark.parametrize("content", [b"plain", gzip.compress(b"long enough to be cut")[:-6]])
def test_damaged_compressed_idx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(BrodmannError, match=r"labels\.gz cannot be read"):
        read_idx(path, axes=1)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(BrodmannError, match=r"y_test must be \(n,\) class indices from 0 to 9; .* from 10 to 10 came"):
        load("mnist", tmp_path)


# --- torchvision ----------------------------------------------------------------------------------------------------


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


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("torchvision.datasets")
    for name in ("CIFAR10", "CIFAR100", "SVHN", "SEMEION", "USPS", "STL10", "MNIST"):
        setattr(module, name, type(name, (FakeSource,), {"calls": []}))
    parent = types.ModuleType("torchvision")
    parent.datasets = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", parent)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    return module


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b"")


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
    with pytest.raises(MissingDataError, match="incomplete or damaged .* Remove it and run: brodmann data fetch usps"):
        load("usps", tmp_path)


# --- nothing downloads unless told ----------------------------------------------------------------------------------


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
        ("own.npz", r"Nothing to fetch for 'own\.npz': it is a file of your own\. Put a \.npz file .* at .*own\.npz"),
        ("mine", r"Nothing to fetch for 'mine': .*mine\.npz is there"),
        ("cifar", "Unknown data set 'cifar'"),
    ],
)
def test_fetch_of_what_cannot_be_fetched(tmp_path: Path, name: str, message: str) -> None:
    write_npz(tmp_path / "mine.npz")
    with pytest.raises(BrodmannError, match=message):
        fetch(name, tmp_path)


def test_a_file_of_another_kind_is_no_unknown_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("1,2")
    with pytest.raises(BrodmannError, match=r"table\.csv is no data set: Put a \.npz file with .* at .*table\.npz"):
        load(str(path))


def test_unknown_name_has_a_suggestion_and_lists_own_files(tmp_path: Path) -> None:
    write_npz(tmp_path / "mine.npz")
    with pytest.raises(
        BrodmannError, match=r"Unknown data set 'fashion_mnist'\. Did you mean 'fashion-mnist'\?.* mine,"
    ):
        load("fashion_mnist", tmp_path)


# --- OpenML ---------------------------------------------------------------------------------------------------------


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
        "md5_checksum": hashlib.md5(content).hexdigest(),
    }
    documents = {
        "data/7": {"data_set_description": description},
        "data/features/7": {"data_features": {"feature": features}},
        "data/qualities/7": {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(rows))}]}},
        "data/list/data_name/small/limit/2/status/active/": {"data": {"dataset": [{"did": 7, "version": 1}]}},
    }
    files = {f"api/v1/json/{path}": json.dumps(document).encode() for path, document in documents.items()}
    for path, text in {**files, "data/v1/download/7/small.arff": content}.items():
        place = cache / f"{path}.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(text))


MIXED = [("row", "REAL"), ("size", "REAL"), ("colour", "{red,green,blue}"), ("empty", "REAL"), ("kind", "{yes,no}")]
MIXED_ROWS = [
    f"{i},{'?' if i % 5 == 0 else 100 + i},{'?' if i == 3 else ('red', 'green')[i % 2]},?,{('no', 'yes')[i % 2]}"
    for i in range(20)
]


def test_table_columns_are_filled_and_one_hot(tmp_path: Path) -> None:
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    dataset = load("openml:small", tmp_path)
    assert dataset.classes == ("no", "yes")
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((16, 6), (4, 6))
    assert Counter(dataset.y_test.tolist()) == {0: 2, 1: 2}
    median = np.median([100 + i for i in dataset.x_train[:, 0].int().tolist() if i % 5])
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        for (row, *values), label in zip(x.tolist(), y.tolist(), strict=True):
            size = median if row % 5 == 0 else 100 + row
            colour = [0, 0, 0] if row == 3 else [[1, 0, 0], [0, 1, 0]][int(row) % 2]
            assert (values, label) == ([size, *colour, 0], row % 2)
    assert load("openml:7", tmp_path).digest == dataset.digest


def test_numeric_target_is_regression(tmp_path: Path) -> None:
    write_table(tmp_path, [("a", "REAL"), ("b", "REAL")], "b", [f"{i},{i / 2}" for i in range(10)])
    dataset = load("openml:7", tmp_path)
    assert (dataset.classes, dataset.outputs, len(dataset.x_test)) == (None, 1, 2)
    assert torch.equal(dataset.y_train, dataset.x_train / 2)


@pytest.mark.parametrize(
    ("columns", "target", "rows", "message"),
    [
        ([("a", "REAL"), ("b", "REAL")], "none", ["1,2"] * 10, "has no target column"),
        ([("a", "STRING"), ("b", "REAL")], "b", ["x,2"] * 10, "cannot be used .STRING attributes"),
        ([("a", "REAL"), ("b", "{x,y}")], "b", ["1,x"] * 10, "fewer than two classes"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, columns: list[tuple[str, str]], target: str, rows: list[str], message: str
) -> None:
    write_table(tmp_path, columns, target, rows)
    with pytest.raises(BrodmannError, match=message):
        load("openml:7", tmp_path)


@pytest.mark.parametrize("absent", ["api/v1/json/data/features/7.gz", "data/v1/download/7/small.arff.gz"])
def test_half_cached_table_is_missing_and_not_downloaded(tmp_path: Path, absent: str) -> None:
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    (tmp_path / "openml/openml/openml.org" / absent).unlink()
    opener = urllib.request.build_opener()
    urllib.request.install_opener(opener)
    try:
        with pytest.raises(MissingDataError, match="incomplete or damaged.* brodmann data fetch openml:7 --data-dir"):
            load("openml:7", tmp_path)
        # The program around us keeps its own way to the network.
        assert urllib.request._opener is opener  # type: ignore[attr-defined]
    finally:
        urllib.request._opener = None  # type: ignore[attr-defined]


def test_fetch_of_a_table_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)
    with pytest.raises(BrodmannError, match=r"'openml:iris' could not be fetched \(no route\)"):
        fetch("openml:iris", tmp_path)


@pytest.mark.parametrize("name", ["openml:", "openml:..", "openml:../x", "openml:a b"])
def test_table_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrodmannError, match="A table is openml:NAME or openml:ID"):
        load(name, tmp_path)


# --- directory and list ---------------------------------------------------------------------------------------------


def test_data_directory_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path / "environment"))
    assert data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert data_directory("~/data") == tmp_path / "data"
    assert data_directory() == tmp_path / "environment"
    monkeypatch.setenv("BRODMANN_DATA", "")
    assert data_directory() == tmp_path / "cache/brodmann"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_directory() == tmp_path / ".cache/brodmann"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_directory() == tmp_path / ".cache/brodmann"


def test_available_lists_what_is_there_and_what_could_be(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_npz(tmp_path / "semeion.npz")
    write_npz(tmp_path / "mine.npz")
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    rows = {row.name: row for row in available(tmp_path)}
    assert len(rows) == len(available(tmp_path))
    assert (rows["digits"].kind, rows["digits"].present) == ("bundled", True)
    assert (rows["mnist"].kind, rows["mnist"].present) == ("images", True)
    assert (rows["cifar10"].present, rows["cifar10"].where) == (
        False,
        str(tmp_path / "cifar-10-batches-py/data_batch_1"),
    )
    assert (rows["semeion"].kind, rows["mine"].where) == ("npz", str(tmp_path / "mine.npz"))
    assert (rows["openml:small"].kind, rows["openml:7"].present) == ("table", True)
    for name, row in rows.items():
        if row.present:
            assert len(load(name, tmp_path).x_train)


def test_available_without_a_directory(tmp_path: Path) -> None:
    assert [row.name for row in available(tmp_path / "absent") if row.present] == ["digits"]


# --- inputs for prediction ------------------------------------------------------------------------------------------


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
    for index, layout in enumerate((images, np.moveaxis(images, 1, 3), images.reshape(2, 24))):
        np.save(tmp_path / f"{index}.npy", layout)
        assert torch.equal(load_inputs(tmp_path / f"{index}.npy", image_preprocessing), expected)
    grey = Preprocessing(mean=(0.0,), scale=(1.0,), grey=False, flat=True, shape=(1, 2, 4))
    np.save(tmp_path / "grey.npy", images[:, 0])
    assert torch.equal(load_inputs(tmp_path / "grey.npy", grey), torch.from_numpy(images[:, 0]).float().flatten(1))


def test_test_part_read_as_inputs_equals_the_split(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    split = load(str(path)).split()
    assert torch.equal(load_inputs(path, split.preprocessing), split.x_test)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "must hold at least one example; it is empty"),
        ("a.csv", b"first,second\n", "must hold at least one example; it is empty"),
        ("a.csv", b"1,2\n3\n", "line 2 must have 2 values like the first; 1 came"),
        ("a.csv", b"a,b\n1,2\n3,x\n", "line 3 column 2 must be a number; 'x' came"),
        ("a.csv", b"1,b\n1,2\n", "line 1 column 2 must be a number; 'b' came"),
        ("a.csv", b"1,2\n3,\n", "line 2 column 2 must be a number; '' came"),
        ("a.csv", b"1;2\n" * 2, "'1;2' came. Write numbers only, separated by commas"),
        ("a.csv", (b"1" + b";2" * 5000 + b"\n") * 2, r"number; '[1;2]{37}\.\.\.' came"),
        ("a.csv", b"1,2\n3,nan\n", "must be finite in float32; NaN or an infinite value came in row 1"),
        ("a.csv", b"1,2,3\n", r"must hold inputs of shape \(n, 2\); \(1, 3\) came"),
        ("a.csv", b"\xff\xfe1,2", "cannot be read as a table of text"),
        ("a.npy", b"", r"cannot be read as a \.npy array"),
        (
            "a.npy",
            b"text",
            r"cannot be read as a \.npy array of numbers \(it holds objects, or is no file of NumPy's\)",
        ),
        ("a.npz", b"text", r"cannot be read as a \.npz archive \(it holds objects, or is no file of NumPy's\)"),
        ("a.txt", b"1,2", r"Unknown kind of input file '\.txt'\..*Choose one of: \.csv, \.npy, \.npz"),
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
        (np.array([["a", "b"]]), "must be numeric; dtype <U1 came"),
        (np.zeros((0, 2)), "must hold at least one example; it is empty"),
        (np.zeros((1, 1, 2)), r"must hold inputs of shape \(n, 2\); \(1, 1, 2\) came"),
        (np.float64(3), r"must hold inputs of shape \(n, 2\); \(\) came"),
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


# --- real data ------------------------------------------------------------------------------------------------------


def load_real(name: str) -> Dataset:
    try:
        return load(name, REAL_DATA)
    except MissingDataError as error:
        pytest.skip(str(error))


@needs_real_data
def test_real_mnist() -> None:
    dataset = load_real("mnist")
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (dataset.x_train.max(), dataset.outputs) == (255, 10)
    # The mean and deviation that everybody uses for MNIST.
    split = dataset.split(0)
    assert split.preprocessing.mean[0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert split.preprocessing.scale[0] / 255 == pytest.approx(0.3081, abs=1e-4)


@needs_real_data
def test_real_letter() -> None:
    dataset = load_real("letter")
    assert (dataset.shape, dataset.outputs, len(dataset.x_train), len(dataset.x_test)) == ((16,), 26, 16000, 4000)
    assert len(dataset.split(0.1).x_validation) == 1600
