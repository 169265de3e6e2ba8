"""The bundled set, the digest of a data set and its split."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from brodmann.data import Dataset, load
from brodmann.errors import BrodmannError

from .sources import Frame, small_arrays


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


def test_they_print_their_sizes_and_no_values(digits: Dataset) -> None:
    assert repr(digits) == "Dataset('digits', 1437 train, 360 test, samples of shape (1, 8, 8), 10 classes)"
    split = "Split('digits', 1293 train, 144 validation, 360 test, samples of shape (64,), 10 classes)"
    assert repr(digits.split()) == split


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


def test_split_parts_are_disjoint_and_together_whole() -> None:
    arrays = small_arrays(x_train=np.arange(20.0)[:, None], x_test=np.arange(100.0, 106)[:, None])
    split = Dataset.from_arrays("a", **arrays).split(0.25, seed=3, normalise="none")
    for part in (split.x_train, split.x_validation):
        assert part[:, 0].tolist() == sorted(part[:, 0].tolist())  # in the order of the source
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
    data = Dataset.from_arrays("a", **small_arrays(y_train=np.array(labels), y_test=np.zeros(6, int)))
    for seed in range(30):
        split = data.split(0.1, seed)
        assert (len(split.y_train), len(split.y_validation)) == (18, 2)
        assert set(split.y_train.tolist()) == set(labels)  # one of every class stays


@pytest.mark.parametrize("validation", [-0.1, 1, 1.5, float("nan")])
def test_validation_out_of_range(digits: Dataset, validation: float) -> None:
    with pytest.raises(BrodmannError, match=r"validation must be a share of at least 0 and below 1, got .*\. Use 0\.1"):
        digits.split(validation)


def test_validation_that_leaves_nothing() -> None:
    dataset = Dataset.from_arrays("a", **small_arrays())
    with pytest.raises(BrodmannError, match="leaves none of the 20 training examples"):
        dataset.split(0.99)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_seed_out_of_range(digits: Dataset, seed: object) -> None:
    with pytest.raises(BrodmannError, match=f"seed must be from 0 to 4294967295, got {seed}"):
        digits.split(seed=seed)  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="Expected flat to be True or False, got 'no'"):
        digits.split(flat="no")  # type: ignore[arg-type]
    assert len(digits.split(np.float32(0.1)).x_train) == len(digits.split(0.1).x_train)


def test_real_targets_are_standardised_once(digits: Dataset) -> None:
    targets = np.linspace(5.0, 9.0, 20)
    split = Dataset.from_arrays("a", **small_arrays(y_train=targets, y_test=np.ones(6))).split().standardised()
    assert split.standardised().targets == split.targets
    assert split.targets is not None
    whole = torch.cat([split.y_train, split.y_validation])
    assert float(split.y_train.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(split.y_train.std(correction=0)) == pytest.approx(1.0, rel=1e-6)
    assert sorted(split.targets.undo(whole)[:, 0].tolist()) == pytest.approx(targets.tolist(), abs=1e-5)
    assert split.targets.undo(split.y_test)[:, 0].tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert split.targets.undo(split.y_test.to("meta")).is_meta  # wherever a network's answers lie
    with pytest.raises(BrodmannError, match="leave classes as they are"):
        digits.split().standardised()


def test_tensors_of_any_kind_are_taken_and_lost_masks_are_told() -> None:
    arrays = small_arrays()
    halves = torch.from_numpy(arrays["x_train"]).bfloat16().requires_grad_()
    assert Dataset.from_arrays("a", **{**arrays, "x_train": halves}).x_train.shape == (20, 3)
    for part, message in (
        (np.ma.masked_greater(arrays["x_train"], 1.0), "'a': x_train without masked values"),
        ([[1.0], [1.0, 2.0]], "Expected samples of equal length for .* x_train"),
    ):
        with pytest.raises(BrodmannError, match=message):
            Dataset.from_arrays("a", **{**arrays, "x_train": part})


def test_data_frames_hold_words_and_numbers_as_objects() -> None:
    arrays = small_arrays()
    a, b, c = arrays["x_train"].T
    words = np.array(["no", "yes"], dtype=object)
    frame = Frame("abc", a, b, (c > 0).astype(object))
    test = Frame("cab", *arrays["x_test"].T[[2, 0, 1]])  # its columns in another order
    of_words = {"y_train": words[arrays["y_train"]], "y_test": words[arrays["y_test"]]}
    data = Dataset.from_arrays("a", frame, **{**of_words, "x_test": test})
    plain = Dataset.from_arrays("a", **{**arrays, "x_train": np.stack([a, b, c > 0], 1)}, classes=["no", "yes"])
    assert (data.classes, data.columns, data.digest) == (("no", "yes"), ("a", "b", "c"), plain.digest)
    whole = Dataset.from_arrays("a", **{**arrays, "y_train": arrays["y_train"].astype(object)})
    assert whole.classes == ("0", "1")
    gap = [*arrays["y_train"][:-1].tolist(), None]
    for changes, message in (
        ({"x_train": np.array([[1.0, "red", 2.0]] * 20, dtype=object)}, "either numbers or words, got 'red'"),
        ({"x_test": Frame("abd", *arrays["x_test"].T)}, "The frame has no column 'c'"),
        ({"y_train": np.array(gap, dtype=object), "y_test": np.ones(6)}, "NaN or an infinite value in row 19"),
        ({"x_train": {"a": [1]}}, "x_train as an array, a list, a tensor or a data frame, got dict"),
    ):
        with pytest.raises(BrodmannError, match=message):
            Dataset.from_arrays("a", **{**arrays, "x_train": frame, **changes})


def test_tables_whose_columns_are_values_are_known_by_the_names_of_their_columns() -> None:
    """As pyarrow's."""

    class Table(Frame):
        def __init__(self, names: str, *values: np.ndarray[Any, Any]) -> None:
            super().__init__(names, *values)
            self.column_names, self.columns = list(names), list(values)

    arrays = small_arrays()
    tables = {"x_train": Table("abc", *arrays["x_train"].T), "x_test": Table("cab", *arrays["x_test"].T[[2, 0, 1]])}
    data = Dataset.from_arrays("a", **{**arrays, **tables})
    assert (data.columns, data.digest) == (("a", "b", "c"), Dataset.from_arrays("a", **arrays).digest)


def test_named_classes_are_those_of_the_indices() -> None:
    arrays = small_arrays()
    column = {part: arrays[part][:, None].astype(bool) for part in ("y_train", "y_test")}
    assert Dataset.from_arrays("a", **{**arrays, **column}, classes=["no", "yes"]).y_train.tolist() == [0, 1] * 10
    real = {part: arrays[part].astype(float) for part in ("y_train", "y_test")}
    with pytest.raises(BrodmannError, match="indices from 0 to 1, got float64"):
        Dataset.from_arrays("a", **{**arrays, **real}, classes=["no", "yes"])
    with pytest.raises(BrodmannError, match="at least two"):
        Dataset.from_arrays("a", **{**arrays, "y_train": [0] * 20, "y_test": [0] * 6}, classes=["no"])


def test_numbers_that_float32_would_round_away_are_kept() -> None:
    """Such as times in seconds, of which float32 has one in 128."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(26, 3)), rng.normal(size=(26, 1))
    parts = {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]}
    far = {name: array + 1.7e9 for name, array in parts.items()}
    near, distant = (
        Dataset.from_arrays("a", **arrays).split(0.2, normalise="standard").standardised() for arrays in (parts, far)
    )
    for name in ("x_train", "y_train", "x_validation", "y_validation"):
        assert getattr(distant, name).dtype == torch.float32
        torch.testing.assert_close(getattr(distant, name), getattr(near, name), rtol=0, atol=1e-5)
    assert distant.targets is not None
    torch.testing.assert_close(
        distant.targets.undo(distant.y_train), torch.from_numpy(far["y_train"])[_kept(parts)], rtol=0, atol=1e-5
    )


def test_a_test_part_of_one_row_keeps_its_digits() -> None:
    """It varies in nothing, so that its own variation cannot say what may be rounded away."""
    rng = np.random.default_rng(0)
    x, y = 1.7e9 + rng.normal(size=(21, 3)), 1.7e9 + rng.normal(size=21)
    data = Dataset.from_arrays("a", x[:20], y[:20], x[20:], y[20:])
    assert data.x_test.tolist() == x[20:].tolist()
    assert data.y_test[:, 0].tolist() == y[20:].tolist()


def _kept(parts: dict[str, np.ndarray]) -> torch.Tensor:
    return Dataset.from_arrays("a", **parts)._validation_rows(0.2, 0)[0]


def test_regression_targets_stay_as_they_are() -> None:
    targets = np.array([1.0, 2.0] * 10)
    dataset = Dataset.from_arrays("a", **small_arrays(y_train=targets, y_test=np.ones((6, 1))))
    assert (dataset.classes, dataset.outputs, dataset.is_classification) == (None, 1, False)
    split = dataset.split(0)
    assert split.y_train.dtype == torch.float32
    assert split.y_train[:, 0].tolist() == targets.tolist()
