"""What estimators learn and predict, without settings or with few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import cross_val_score

from brodmann import BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor


@pytest.mark.parametrize(("load", "least"), [(load_wine, 0.95), (load_breast_cancer, 0.95)])
def test_raw_tables_need_no_settings(load: object, least: float) -> None:
    x, y = load(return_X_y=True)
    assert cross_val_score(SALClassifier(random_state=0), x, y, cv=3).mean() >= least


def test_gradient_descent_needs_no_settings_either() -> None:
    x, y = load_wine(return_X_y=True)
    assert cross_val_score(SALClassifier(optimiser="sgd", random_state=0), x, y, cv=3).mean() >= 0.95


def test_regression_beats_the_mean_and_takes_several_targets() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(SALRegressor(random_state=0, epochs=10), x, y, cv=3).mean() > 0.35
    both = np.stack([y, -y], axis=1)
    assert SALRegressor(random_state=0, epochs=5).fit(x, both).predict(x).shape == both.shape


def test_labels_probabilities_and_curves() -> None:
    x, y = load_wine(return_X_y=True)
    names = np.array(["red", "white", "rose"])[y]
    model = SALClassifier(random_state=0, epochs=10).fit(x, names)
    assert set(model.predict(x)) <= set(model.classes_)
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(x)).all()
    assert len(model.loss_curve_) == model.n_iter_ == 10
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("settings", [{"epochs": 10}, {"optimiser": "rls", "batch_size": 8}])
def test_a_classifier_takes_an_indicator_matrix(settings: dict[str, Any]) -> None:
    x, y = load_wine(return_X_y=True)
    labels = np.stack([y == 0, y != 1, x[:, 0] > 13], 1).astype(int)
    weight = np.arange(len(x)) % 3 + 0.5
    model = SALClassifier(random_state=0, **settings).fit(x, labels, weight)
    probabilities, found = model.predict_proba(x), model.predict(x)
    assert model.multilabel_
    assert model.classes_.tolist() == [0, 1, 2]
    assert found.shape == probabilities.shape == labels.shape
    np.testing.assert_array_equal(found, probabilities > 0.5)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (found == labels).mean() > 0.9
    assert model.score(x, labels) == (found == labels).all(1).mean()
    for same in (labels.astype(bool), csr_array(labels), labels.astype(float).tolist()):
        again = SALClassifier(random_state=0, **settings).fit(x, same, weight)
        np.testing.assert_array_equal(again.predict_proba(x), probabilities)
    assert not model.fit(x, y).multilabel_
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1.0)


def test_indicator_matrices_stop_early_and_come_in_parts() -> None:
    x, y = load_wine(return_X_y=True)
    labels = np.stack([y == 0, y != 1], 1).astype(int)
    model = SALClassifier(random_state=0, early_stopping=True, patience=2).fit(x, labels)
    assert model.best_validation_score_ > 0.8
    model = SALClassifier(random_state=0, batch_size=8)
    for _ in range(20):
        model.partial_fit(x[::2], labels[::2]).partial_fit(x[1::2], labels[1::2], classes=[0, 1])
    assert (model.predict(x) == labels).mean() > 0.95
    with pytest.raises(BrodmannError, match=r"Expected y of shape \(samples, 2\), as in the first call, got \(178,\)"):
        model.partial_fit(x, y)
    with pytest.raises(
        BrodmannError, match=r"Expected y of shape \(samples, 2\), as in the first call, got \(178, 4\)"
    ):
        model.partial_fit(x, np.hstack([labels, labels]))
    with pytest.raises(BrodmannError, match=r"Expected one class for each column, \[0, 1\]: leave classes out"):
        SALClassifier().partial_fit(x, labels, classes=[0, 1, 2])
    with pytest.raises(BrodmannError, match=r"Expected y of shape \(samples,\), as in the first call, got \(178, 2\)"):
        SALClassifier(epochs=1).partial_fit(x, y).partial_fit(x, labels)
    with pytest.raises(BrodmannError, match="Expected an indicator matrix y of 0 and 1"):
        SALClassifier().fit(x, 2 * labels)
    with pytest.raises(BrodmannError, match="Expected an indicator matrix y of 0 and 1"):
        SALClassifier().fit(x, np.stack([y, y], 1))


@pytest.mark.parametrize("act", ["fit", "partial_fit"])
def test_a_regressor_takes_no_sparse_targets(act: str) -> None:
    x, y = load_wine(return_X_y=True)
    for model in (SALRegressor(epochs=1), SALRegressor(epochs=1).fit(x, y)):
        with pytest.raises(
            BrodmannError, match=r"Expected a dense y, got a sparse matrix: make it dense with .toarray"
        ):
            getattr(model, act)(x, csr_array(y[:, None]))


def test_samples_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, random_state=0).fit(x, y)
    whole = model.predict_proba(x)
    monkeypatch.setattr("brodmann.estimator.base.PART", 50)
    np.testing.assert_allclose(model.predict_proba(x), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("optimiser", ["adam", "rls"])
def test_estimators_compute_in_float32_whatever_torchs_default(optimiser: str) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, optimiser=optimiser, random_state=0).fit(x, y).partial_fit(x, y)
    assert model.network_.dtype == torch.float32


@pytest.mark.parametrize("optimiser", ["adam", "rls"])
def test_a_default_device_of_the_users_changes_nothing(optimiser: str) -> None:
    x, y = load_wine(return_X_y=True)
    weight = np.linspace(1, 2, len(x))
    expected = SALClassifier(epochs=2, optimiser=optimiser, random_state=0).fit(x, y, weight).predict_proba(x)
    torch.set_default_device("meta")
    try:
        found = SALClassifier(epochs=2, optimiser=optimiser, random_state=0).fit(x, y, weight).predict_proba(x)
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(found, expected)
