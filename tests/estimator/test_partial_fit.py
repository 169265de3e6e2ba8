"""Streams: what `partial_fit` learns, call after call."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.utils import get_tags

from brodmann import BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor
from brodmann.kernels import library
from brodmann.training.schedule import rows_of_batches

from .parts import trainers_of


def test_partial_fit_learns_from_a_stream() -> None:
    x, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    model = SALClassifier(random_state=0, batch_size=8)
    for _ in range(8):
        for part in np.array_split(order, 5):
            model.partial_fit(x[part], y[part], classes=[0, 1, 2])
    assert model.score(x, y) > 0.95
    with pytest.raises(BrodmannError, match="Unknown class"):
        model.partial_fit(x[:2], [7, 7])


@pytest.mark.filterwarnings("error")
def test_few_samples_of_many_known_classes_are_no_regression() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), np.arange(30)
    model = SALClassifier(width=4, areas=1, random_state=0).partial_fit(x, y, classes=range(100))
    model.partial_fit(x, y.astype(object))
    for wrong in (y + 0.5, np.array([*y[1:], None], dtype=object)):
        with pytest.raises(BrodmannError, match=r"Unknown class (0.5|None): name all classes"):
            model.partial_fit(x, wrong)
    with pytest.raises(UserWarning, match="could represent a regression problem"):
        SALClassifier(width=4, areas=1).fit(x, y)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        SALClassifier(width=4, areas=1).partial_fit(x, y + 0.5)


def test_a_stream_of_new_classes_is_learned_by_partial_fit_without_settings() -> None:
    x, y = load_digits(return_X_y=True)
    train, test, of_train, of_test = train_test_split(x, y, random_state=0)
    model = SALClassifier(optimiser="rls", random_state=0)
    for rows in np.array_split(np.argsort(of_train, kind="stable"), 40):  # class after class
        model.partial_fit(train[rows], of_train[rows], classes=range(10))
    assert model.score(test, of_test) > 0.85
    probabilities = model.predict_proba(test)
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    assert model.fit(train, of_train).n_iter_ == 1  # one pass, whatever epochs says


def test_calls_of_partial_fit_on_the_same_samples_go_through_them_in_other_orders() -> None:
    x, y = load_iris(return_X_y=True)
    model = SALClassifier(width=4, areas=1, random_state=0)
    trained = trainers_of(lambda: [model.partial_fit(x, y) for _ in range(3)])
    orders = [torch.cat(rows_of_batches(len(x), 8, trainer.schedule.seed, 0)) for trainer in trained]
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_a_regressor_learns_a_stream() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 2000))[:, None]  # drifts from left to right
    y = np.sin(2 * x[:, 0])
    model = SALRegressor(optimiser="rls", random_state=0, areas=4, standardise=False)
    for rows in np.array_split(np.arange(2000), 50):
        model.partial_fit(x[rows], y[rows])
    assert model.score(x, y) > 0.9


def test_a_call_of_partial_fit_that_is_refused_changes_nothing() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(random_state=0)
    with pytest.raises(BrodmannError, match="Unknown class 2"):
        model.partial_fit(x, y, classes=[0, 1])
    model.partial_fit(x, y, classes=[0, 1, 2])
    before = model.predict_proba(x)
    with pytest.raises(ValueError, match="sample_weight"):
        model.partial_fit(x * 100, y, sample_weight=np.ones(3))
    with pytest.raises(BrodmannError, match=r"Expected the classes of the first call, \[0, 1, 2\]"):
        model.partial_fit(x * 100, y, classes=[0, 1, 2, 3])
    np.testing.assert_array_equal(model.predict_proba(x), before)
    regressor = SALRegressor(random_state=0).partial_fit(x, y)
    before = regressor.predict(x)
    with pytest.raises(BrodmannError, match="Expected 1 targets per sample, as in the first call, got 2"):
        regressor.partial_fit(x * 100, np.stack([y, y], 1))
    np.testing.assert_array_equal(regressor.predict(x), before)


def test_a_scale_that_one_sample_cannot_give_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="takes the scale of targets from its first call, but in this one a target is"):
        SALRegressor().partial_fit([[1.0, 2.0]], [3.0])


def test_a_first_call_in_which_one_target_of_several_is_constant_is_told() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.warns(UserWarning, match="in this one a target is the same for all samples"):
        SALRegressor(width=8, areas=1).partial_fit(x, np.c_[x[:, 0], np.zeros(40)])
    assert get_tags(SALRegressor()).target_tags.multi_output


@pytest.mark.skipif(not library.active(), reason="without compiled kernels no step is captured")
def test_calls_of_partial_fit_with_one_batch_are_captured() -> None:
    x, y = load_iris(return_X_y=True)
    model = SALClassifier(random_state=0, batch_size=16)
    for call in range(5):
        model.partial_fit(x[call : call + 144 : 9], y[call : call + 144 : 9], classes=np.unique(y))
    assert model._captured.is_captured


@pytest.mark.skipif(not library.active(), reason="without compiled kernels no step is captured")
def test_further_calls_of_partial_fit_record_nothing_new() -> None:
    x, y = load_iris(return_X_y=True)
    rows = np.arange(0, 150, 2)[:64]
    model = SALClassifier(random_state=0, batch_size=16)
    for _ in range(4):
        model.partial_fit(x[rows], y[rows], classes=np.unique(y))
    assert model._captured.recordings == 1
    assert model._captured.is_captured
    again = pickle.loads(pickle.dumps(model)).partial_fit(x[rows], y[rows])
    assert np.array_equal(model.partial_fit(x[rows], y[rows]).predict_proba(x), again.predict_proba(x))
