"""Weights of samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine

from brodmann import BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor


def test_zero_weights_are_left_out() -> None:
    x, y = load_wine(return_X_y=True)
    noisy = y.copy()
    noisy[::3] = (noisy[::3] + 1) % 3
    weight = np.ones(len(y))
    weight[::3] = 0
    model = SALClassifier(random_state=0, epochs=20).fit(x, noisy, sample_weight=weight)
    assert model.score(x, y) > 0.9


def test_a_weight_of_zero_is_no_sample() -> None:
    x, y = load_wine(return_X_y=True)
    weight = np.where(np.arange(len(y)) % 3 == 0, 0.0, 2.0)
    kept, other = weight > 0, np.where(weight > 0, y, 0)
    settings = {"random_state": 0, "epochs": 3, "width": 16}
    for early in (False, True):
        model = SALClassifier(**settings, early_stopping=early)
        ours = clone(model).fit(x, other, sample_weight=weight).predict_proba(x)
        np.testing.assert_array_equal(ours, clone(model).fit(x[kept], y[kept], weight[kept]).predict_proba(x))
    pair = [SALClassifier(**settings).partial_fit(x, y) for _ in range(2)]
    pair[0].partial_fit(x, other, sample_weight=weight)
    pair[1].partial_fit(x[kept], y[kept], sample_weight=weight[kept])
    np.testing.assert_array_equal(pair[0].predict_proba(x), pair[1].predict_proba(x))


def test_a_regressor_passes_samples_without_weight_over() -> None:
    x, y = load_diabetes(return_X_y=True)
    weight = np.where(np.arange(len(y)) % 4 == 0, 0.0, 1.0)
    kept, other = weight > 0, np.where(weight > 0, y, 1e300)
    settings = {"random_state": 0, "epochs": 2, "width": 16}
    for act in ("fit", "partial_fit"):
        one = getattr(SALRegressor(**settings), act)(x, other, sample_weight=weight)
        two = getattr(SALRegressor(**settings), act)(x[kept], y[kept], sample_weight=weight[kept])
        np.testing.assert_array_equal(one.predict(x), two.predict(x))
    with pytest.warns(UserWarning, match="in this one a target is the same for all"):
        SALRegressor(**settings).partial_fit(x[:3], [1.0, 1.0, 2.0], sample_weight=[1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("optimiser", "weight", "message"),
    [
        ("adam", 1e160, "Expected sample weights of 0, or from 1e-150 to 1e+150: rescale them to be closer to 1."),
        ("adam", 5e-324, "Expected sample weights of 0, or from 1e-150 to 1e+150: rescale them to be closer to 1."),
        ("rls", 1e-40, "Expected sample weights of 0, or from 1e-30 to 1e+06: rescale them to be closer to 1."),
        ("rls", 2e6, "Expected sample weights of 0, or from 1e-30 to 1e+06: rescale them to be closer to 1."),
    ],
)
def test_weights_that_cannot_be_computed_with_are_refused(optimiser: str, weight: float, message: str) -> None:
    x, y = load_wine(return_X_y=True)
    weights = np.ones(len(y))
    weights[3] = weight
    with pytest.raises(BrodmannError) as error:
        SALClassifier(epochs=1, optimiser=optimiser).fit(x, y, sample_weight=weights)
    assert message in str(error.value)


@pytest.mark.parametrize("model", [SALClassifier, SALRegressor])
def test_weights_are_judged_by_the_rule_that_learns_them_not_by_that_of_an_earlier_fit(model: type) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    weights = np.where(np.arange(40) == 3, 2e6, 1.0)
    with pytest.raises(BrodmannError, match=r"from 1e-30 to 1e\+06"):
        model(epochs=1).fit(x, y).set_params(optimiser="rls", epochs=50).fit(x, y, sample_weight=weights)
    model(optimiser="rls").fit(x, y).set_params(optimiser="adam", epochs=1).fit(x, y, sample_weight=weights)


@pytest.mark.parametrize("batch", [8, 64])
def test_the_largest_weights_that_recursive_least_squares_takes_are_learned(batch: int) -> None:
    x = np.random.default_rng(0).normal(size=(200, 5))
    y = x @ [1.0, 2.0, -1.0, 0.5, 0.0]
    model = SALRegressor(optimiser="rls", width=32, batch_size=batch, random_state=0)
    assert model.fit(x, y, sample_weight=np.full(200, 1e6)).score(x, y) > 0.95


@pytest.mark.parametrize(("batch", "epochs"), [(1, 1), (2, 2), (64, 5)])
def test_weights_count_whatever_the_batch(batch: int, epochs: int) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.5).astype(int)
    x = rng.normal(size=(400, 2)) + 0.5 * y[:, None]
    weight = np.where(y == 1, 20.0, 1.0)
    shares = [
        SALClassifier(areas=1, width=8, batch_size=batch, epochs=epochs, random_state=0)
        .fit(x, y, sample_weight=of)
        .predict(x)
        for of in (None, weight, 1e-50 * weight, 1e37 * weight)
    ]
    assert shares[1].mean() > shares[0].mean() + 0.25
    np.testing.assert_array_equal(shares[1], shares[2])
    np.testing.assert_array_equal(shares[1], shares[3])


def test_weights_count_from_call_to_call() -> None:
    rng = np.random.default_rng(0)
    y = np.r_[0, 1, (rng.random(300) < 0.5).astype(int)]
    x = rng.normal(size=(302, 2)) + 0.5 * y[:, None]
    models = [SALClassifier(areas=1, width=8, random_state=0) for _ in range(2)]
    for model, heavy in zip(models, (1.0, 20.0), strict=True):
        for row in range(100):
            weight = [heavy if y[row] else 1.0]
            model.partial_fit(x[row : row + 1], y[row : row + 1], classes=[0, 1], sample_weight=weight)
    assert models[1].predict(x).mean() > models[0].predict(x).mean() + 0.2


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_scale_of_inputs_counts_weights(method: str) -> None:
    x, y = np.array([[0.0], [1.0], [5.0]]), np.array([0.0, 1.0, 2.0])
    models = [SALRegressor(areas=1, width=4, random_state=0) for _ in range(2)]
    getattr(models[0], method)(x, y, sample_weight=[1.0, 2.0, 3.0])
    getattr(models[1], method)(x.repeat([1, 2, 3], 0), y.repeat([1, 2, 3]))
    np.testing.assert_allclose(*(model._scaler.mean_ for model in models))
    np.testing.assert_allclose(*(model._scaler.scale_ for model in models))


def test_no_weights_are_weights_of_one_and_no_schedule_the_usual_one() -> None:
    x, y = load_wine(return_X_y=True)
    outputs = []
    for later in (None, np.ones(len(y))):
        model = SALClassifier(areas=2, width=8, random_state=0)
        model.partial_fit(x, y, sample_weight=np.full(len(y), 100.0))
        outputs.append(model.partial_fit(x, y, sample_weight=later).predict_proba(x))
    np.testing.assert_allclose(outputs[0], outputs[1])
    models = [SALClassifier(areas=2, width=8, epochs=2, random_state=0, schedule=of) for of in (None, "cosine")]
    one, other = (model.fit(x, y).predict_proba(x) for model in models)
    np.testing.assert_array_equal(one, other)
