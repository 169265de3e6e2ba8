"""How inputs and targets are scaled."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine

from brodmann.estimator import SALClassifier, SALRegressor
from brodmann.estimator.scaling import ROWS, Scaler, scaled

from .parts import trainers_of


@pytest.mark.parametrize("offset", [0.0, 1.7e9])
def test_columns_and_targets_that_vary_little_beside_their_mean_are_no_constants(offset: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    y = x @ [1.0, -1.0, 0.5]
    model = SALRegressor(epochs=5, width=16, areas=1, random_state=0).fit(offset + 1e-3 * x, offset + 1e-3 * y)
    assert model.score(offset + 1e-3 * x, offset + 1e-3 * y) > 0.98
    tiny = SALRegressor(epochs=5, width=16, areas=1, random_state=0).fit(x, 1e-300 * y)
    assert np.corrcoef(1e300 * tiny.predict(x), y)[0, 1] > 0.99


def test_constants_of_many_digits_become_0_also_in_parts_and_by_weights() -> None:
    """Time stamps in nanoseconds: the mean of a day's is rounded by more than such columns vary."""
    day = np.full(1500, 1733011200123456789.0)
    x = np.column_stack([day, day + 256 * (np.arange(1500) == 7)])
    weight = np.linspace(0, 1, len(x))
    for scaler in (Scaler().fit(x), Scaler().partial_fit(x[:300]).partial_fit(x[300:]), Scaler().fit(x, weight)):
        found = scaled(x, scaler)
        assert torch.equal(found[:, 0], torch.zeros(len(x)))
        assert found[:, 1].abs().median() <= 1.01


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_inputs_of_single_precision_are_scaled_in_double(kind: type) -> None:
    rows = np.random.default_rng(0).normal(size=(2 * ROWS + 500, 3)) + [0, 1e3, 1e6]
    rows = np.asarray(rows, dtype=kind)
    weight = np.linspace(1, 3, len(rows))
    wide = rows.astype(np.float64)
    for of in (None, weight):
        mean = np.average(wide, axis=0, weights=of)
        deviation = np.sqrt(np.average(np.square(wide - mean), axis=0, weights=of))
        found = scaled(rows, Scaler().fit(rows, sample_weight=of))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, (wide - mean) / deviation, rtol=1e-6, atol=1e-6)
    assert not np.shares_memory(scaled(rows, None).numpy(), rows)


def test_inputs_of_both_precisions_are_learned_alike() -> None:
    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    for settings in ({}, {"early_stopping": True}, {"optimiser": "rls"}):
        model = SALClassifier(epochs=2, width=16, random_state=0, **settings)
        expected = model.fit(x.astype(np.float64), y).predict_proba(x.astype(np.float64))
        np.testing.assert_array_equal(model.fit(x, y).predict_proba(x), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_held_out_gives_inputs_no_scale(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    weight = rng.uniform(1.0, 3.0, 40) if weighted else None
    model = SALClassifier(width=4, areas=1, epochs=1, early_stopping=True, validation_fraction=0.4, random_state=0)
    (trained,) = trainers_of(lambda: model.fit(x, y, sample_weight=weight))
    inputs, _, *weights = trained.samples.tensors
    mean = np.average(inputs, axis=0, weights=weights[0] if weighted else None)
    np.testing.assert_allclose(mean, 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_fit_copies_little_of_its_inputs_beside_the_scaled_ones(kind: type) -> None:
    x = np.random.default_rng(0).normal(size=(20 * ROWS, 20)).astype(kind)
    model = SALClassifier(width=4, areas=1, epochs=1, batch_size=4096, random_state=0)
    tracemalloc.start()
    model.fit(x, x[:, 0] > 0)
    _, peak = tracemalloc.get_traced_memory()  # of NumPy's arrays
    tracemalloc.stop()
    assert peak < 12 * x.size  # bytes: 4 of the scaled number, up to 8 of scikit-learn's in float64


@pytest.mark.filterwarnings("error")
def test_targets_may_be_large() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert SALRegressor(epochs=10, random_state=0).fit(x, 1e20 * y).score(x, 1e20 * y) > 0.4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_stream_takes_the_scale_of_a_column_once_it_varies(scale: float) -> None:
    x = 0.1 + scale * np.random.default_rng(0).normal(size=(60, 3))
    y = (x[:, 0] > 0.1).astype(int)
    x[:20, 1:] = 0.1  # no scale is known yet
    x[:40, 2] = 0.1
    model = SALClassifier(optimiser="rls", width=16, areas=2, random_state=0)
    model.partial_fit(x[:20], y[:20], classes=[0, 1])
    for begin, end in ((20, 40), (40, 50), (50, 60)):
        before = scaled(x[:20], model._scaler)
        model.partial_fit(x[begin:end], y[begin:end])
        np.testing.assert_allclose(scaled(x[:20], model._scaler), before, atol=1e-9)  # what was learned from them stays
    first = np.sqrt(np.mean(np.square(x[20:40, 1] - 0.1)))
    second = np.sqrt(np.mean(np.square(x[40:50, 2] - 0.1)))
    np.testing.assert_allclose(model._scaler.scale_, [x[:20, 0].std(), first, second])


def test_a_stream_of_single_samples_is_learned_whatever_its_scale() -> None:
    x = np.random.default_rng(0).normal(size=(600, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    found = []
    for scale in (1.0, np.array([1e-3, 1e3, 1e-3, 1e3])):
        model = SALClassifier(optimiser="rls", width=16, areas=2, random_state=0)
        for row in range(100):
            model.partial_fit(scale * x[row : row + 1], y[row : row + 1], classes=[0, 1])
        found.append(model.score(scale * x[300:], y[300:]))
    assert found[1] == pytest.approx(found[0], abs=0.02)
    assert found[0] > 0.85
