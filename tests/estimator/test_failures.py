"""Inputs that cannot be learned, and calls that are refused, diverge or are stopped."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_wine

from brodmann import BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor
from brodmann.training import Trainer


@pytest.mark.parametrize("model", [SALClassifier(epochs=1), SALRegressor(epochs=1, standardise=False)])
def test_inputs_that_say_nothing_are_told_as_what_they_are(model: Any) -> None:
    with pytest.warns(UserWarning, match="The inputs of all samples are the same: nothing can be learned from them"):
        model.fit(np.ones((30, 3)), np.arange(30) % 3)


@pytest.mark.parametrize("width", [1, 128])
def test_samples_that_are_all_alike_are_no_divergence(width: int) -> None:
    y = np.arange(96) % 3
    for seed in range(4):
        settings = {"random_state": seed, "epochs": 2, "width": width}
        for x in (np.ones((96, 1)), np.zeros((96, 3)), (np.arange(96)[:, None] == 7).astype(float)):
            assert np.isfinite(SALClassifier(**settings).fit(x, y).partial_fit(x[:9], y[:9]).predict_proba(x)).all()
            assert np.isfinite(SALRegressor(**settings).partial_fit(x[:10], y[:10]).fit(x, y).predict(x)).all()


def test_masked_values_are_refused() -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    for given in ((np.ma.masked_greater(x, 1.0), y), (x, np.ma.masked_equal(y, 1))):
        with pytest.raises(BrodmannError, match="without masked values, whose mask would be lost: fill them first"):
            SALClassifier(epochs=1).fit(*given)


def test_what_float32_cannot_hold_is_refused() -> None:
    x, y = load_wine(return_X_y=True)
    for model in (SALClassifier(epochs=1, random_state=0), SALRegressor(epochs=1, random_state=0)):
        with pytest.raises(BrodmannError, match="Expected inputs that float32 can hold"):
            model.fit(x, y).predict(x * 1e300)


@pytest.mark.parametrize("missing", [np.nan, np.inf])
@pytest.mark.parametrize("standardise", [True, False])
def test_what_is_missing_is_said_to_be_missing_where_scikit_learn_does_not_look(
    missing: float, standardise: bool
) -> None:
    x, y = load_wine(return_X_y=True)
    gaps, real = x.copy(), y.astype(float)
    gaps[3, 2] = real[3] = missing
    fitted = SALClassifier(epochs=1, random_state=0, standardise=standardise, learning_rate=1e-6).fit(x, y)
    new = clone(fitted)
    with sklearn.config_context(assume_finite=True):
        for call in (
            lambda: new.fit(gaps, y),
            lambda: new.partial_fit(gaps, y, classes=[0, 1, 2]),
            lambda: fitted.predict(gaps),
            lambda: SALRegressor(epochs=1).fit(gaps, y),
        ):
            with pytest.raises(BrodmannError, match="Expected finite inputs, got NaN or infinity: fill in what is"):
                call()
        with pytest.raises(BrodmannError, match="Expected finite targets, got NaN or infinity"):
            SALRegressor(epochs=1).fit(x, real)


def test_a_refused_call_leaves_an_estimator_as_it_was() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(width=16, areas=4, epochs=5, random_state=0)
    with pytest.raises(BrodmannError):
        model.set_params(learning_rate=1e9).fit(x, y)
    assert not hasattr(model, "network_")
    model.set_params(learning_rate=None).fit(x, y)
    before = model.predict_proba(x)
    for refused in (
        lambda: model.partial_fit(np.r_[x[:5], np.full((4, 13), 1e300)], y[:9]),
        lambda: model.fit(x, np.zeros(len(y), int)),
        lambda: model.set_params(learning_rate=1e9).fit(x[:, :4], y),
    ):
        with pytest.raises(BrodmannError):
            refused()
        np.testing.assert_array_equal(model.predict_proba(x), before)
    regressor = SALRegressor(epochs=1, random_state=0).fit(x, y.astype(float))
    with pytest.raises(BrodmannError, match="Expected targets that float32 can hold, got larger ones: scale them down"):
        regressor.fit(x, np.where(y == 0, 1e300, 0.0))


def test_what_diverged_predicts_nothing() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, random_state=0).fit(x, y)
    with pytest.raises(BrodmannError):
        model.set_params(learning_rate=1e30).partial_fit(x, y)
    with pytest.raises(
        BrodmannError, match="The outputs are not finite, probably because an earlier call diverged: fit again"
    ):
        model.predict(x)
    model.set_params(learning_rate=None).fit(x, y)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(x)), model.predict_proba(x))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_that_is_stopped_stops_as_any_other_code(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, random_state=0).fit(x, y)
    before = model.predict_proba(x)

    def come(self: object, trainer: object, row: object) -> None:
        signal.raise_signal(number)

    def terminated(*_: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr("brodmann.estimator.base.Epochs.on_epoch", come)
    held = signal.signal(signal.SIGTERM, terminated)
    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            model.set_params(epochs=50).fit(x, y)
    finally:
        signal.signal(signal.SIGTERM, held)
    np.testing.assert_array_equal(model.predict_proba(x), before)


def test_a_signal_that_nobody_minds_does_not_end_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_wine(return_X_y=True)
    expected = SALClassifier(epochs=6, random_state=0, dropout=0.2).fit(x, y)
    came: list[int] = []

    def come(self: object, trainer: Trainer, loss: float) -> None:
        if trainer.progress.step % 8 == 3:
            signal.raise_signal(signal.SIGINT)  # ignored, as in the workers of many pools
            signal.raise_signal(signal.SIGTERM)  # its handler takes note and returns

    held = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda n, _: came.append(n))
    monkeypatch.setattr("brodmann.estimator.base.Epochs.on_step", come)
    try:
        model = SALClassifier(epochs=6, random_state=0, dropout=0.2).fit(x, y)
    finally:
        signal.signal(signal.SIGINT, held[0])
        signal.signal(signal.SIGTERM, held[1])
    assert model.n_iter_ == 6
    assert signal.SIGTERM in came
    np.testing.assert_array_equal(model.predict_proba(x), expected.predict_proba(x))
