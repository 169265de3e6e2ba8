"""What inputs go through: statistics of the training part alone, scale, grey."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from brodmann.data import Dataset, Preprocessing
from brodmann.data.targets import TargetScale
from brodmann.errors import BrodmannError

from .sources import small_arrays


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


def test_a_constant_of_many_digits_becomes_0_and_one_that_hardly_varies_stays_small() -> None:
    """Time stamps in nanoseconds: the mean of a day's is rounded by more than such columns vary."""
    day = np.full(500, 1733011200123456789.0)
    x = torch.from_numpy(np.column_stack([day, day + 256 * (np.arange(500) == 7)]))
    found = Preprocessing.fit(x)(x)
    assert torch.equal(found[:, 0], torch.zeros(500))
    assert found[:, 1].abs().max() < 23
    assert found[:, 1].abs().median() <= 1.01
    y = TargetScale.fit(x)
    assert torch.equal(y(x)[:, 0], torch.zeros(500))


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
    with pytest.raises(BrodmannError, match=r"grey needs images of 3 channels, got inputs of shape \(3,\)"):
        Dataset.from_arrays("a", **small_arrays()).split(grey=True)


tables = numpy_strategies.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32),
)
images = numpy_strategies.arrays(
    np.uint8, st.tuples(st.integers(1, 5), st.just(3), st.integers(1, 3), st.integers(1, 3))
)


@settings(max_examples=60)
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


def test_preprocessing_says_what_it_needs(digits: Dataset) -> None:
    rows = digits.x_train[:3].flatten(1)
    fitted = Preprocessing.fit(rows)
    assert torch.equal(fitted(rows.clone().requires_grad_()), fitted(rows))
    gap = rows.clone()
    gap[1, 2] = torch.nan
    for call, message in (
        (lambda: Preprocessing.fit(gap), "NaN or infinite values, for example those of sample 1"),
        (lambda: fitted(gap), "NaN or infinite values, for example those of sample 1"),
        (lambda: fitted(rows.numpy()), "Expected x to be a tensor, got ndarray"),
        (lambda: Preprocessing.fit(rows[:, 0]), r"\(channels, height, width\), got \(\)"),
    ):
        with pytest.raises(BrodmannError, match=message):
            call()


def test_preprocessing_refuses_other_inputs(digits: Dataset) -> None:
    fitted = digits.split().preprocessing
    with pytest.raises(BrodmannError, match=r"Inputs of shape \(n, 1, 8, 8\) were expected, got \(2, 64\)"):
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
        ({"more": 1}, "must have the parts"),
    ],
)
def test_damaged_preprocessing_is_refused(digits: Dataset, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Preprocessing.from_dict({**digits.split().preprocessing.as_dict(), **changes})
