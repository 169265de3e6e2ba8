"""Settings reach the network, those that cannot be are refused at the fit, and later changes leave it as it is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.model_selection import GridSearchCV

from brodmann import RLS, Adam, BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor

from .parts import trainers_of


@pytest.mark.parametrize("optimiser", ["adam", "rls"])
def test_every_hidden_layer_may_have_a_width_of_its_own(optimiser: str) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(width=[16, 8], areas=2, epochs=2, optimiser=optimiser, random_state=0).fit(x, y)
    assert [layer.out_features for _, layer in model.network_.area_layers()] == [16, 8, 3]
    assert model.get_params()["width"] == [16, 8]
    for again in (clone(model).fit(x, y), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    array = clone(model).set_params(width=np.array([16, 8])).fit(x, y)
    np.testing.assert_array_equal(array.predict_proba(x), model.predict_proba(x))
    assert array.network_.design["width"] == [16, 8]
    grid = {"width": [16, (16, 8)]}
    found = GridSearchCV(SALClassifier(epochs=1, areas=2, random_state=0), grid, cv=2).fit(x, y)
    assert found.best_params_["width"] in grid["width"]
    with pytest.raises(
        BrodmannError, match=r"Expected 3 linear layers, .* but their number is given as 4: leave it out"
    ):
        SALClassifier(width=(8, 8), layers=4).fit(x, y)


def test_dropout_and_activation_reach_the_network() -> None:
    x, y = load_wine(return_X_y=True)
    settings = {"width": 16, "areas": 4, "epochs": 2, "random_state": 0}
    plain = SALClassifier(**settings).fit(x, y)
    for other in ({"dropout": 0.5}, {"activation": "tanh"}):
        assert not np.array_equal(SALClassifier(**settings, **other).fit(x, y).predict_proba(x), plain.predict_proba(x))
    before = torch.get_rng_state()
    noisy = [SALClassifier(**settings, dropout=0.5).fit(x, y).partial_fit(x, y).predict_proba(x) for _ in range(2)]
    assert np.array_equal(*noisy)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(BrodmannError, match="Expected dropout to be a number in"):
        SALClassifier(dropout=1.0).fit(x, y)
    with pytest.raises(BrodmannError, match="Unknown activation 'rely'. Did you mean 'relu'"):
        SALClassifier(activation="rely").fit(x, y)
    with pytest.raises(BrodmannError, match="cannot be combined with"):
        SALClassifier(optimiser="rls", dropout=0.1).fit(x, y)


def test_parts_and_routers_are_settings_too() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:200], y[:200]
    router = {"learned": False, "temperature": 0.7}
    model = SALClassifier(epochs=1, shared="off", routing="layer", router=router, random_state=0).fit(x, y)
    layers = [layer for _, layer in model.network_.area_layers()]
    assert all(layer.shared is None and layer.router.temperature == 0.7 for layer in layers)
    assert not any(layer.router.learned for layer in layers)
    assert clone(model).fit(x, y).score(x, y) == model.score(x, y)
    for given in ("none", {"partition": "growing"}):
        with pytest.raises(BrodmannError, match="Expected router to be None or a dictionary of settings, such as"):
            SALClassifier(router=given).fit(x, y)
    with pytest.raises(BrodmannError, match="Expected shared to be"):
        SALClassifier(shared="on").fit(x, y)
    with pytest.raises(BrodmannError, match="optimiser='rls' cannot be combined with shared, router: leave that out."):
        SALClassifier(optimiser="rls", shared="off", router=router).fit(x, y)


def test_a_rule_may_be_given_in_place_of_its_name() -> None:
    x, y = load_iris(return_X_y=True)
    fitted = [
        SALClassifier(epochs=3, random_state=0, **settings).fit(x, y)
        for settings in ({"optimiser": "adam"}, {"optimiser": Adam(decay=0.2)}, {"optimiser": Adam(), "decay": 0.2})
    ]
    assert len({tuple(model.loss_curve_) for model in fitted}) == 1
    own = clone(SALClassifier(epochs=3, optimiser=Adam(beta1=0.8))).fit(x, y)
    assert own.network_.area_layers()[0][1].update_rule == Adam(beta1=0.8)
    stream = SALRegressor(optimiser=RLS(ridge=2.0)).fit(x, y)
    assert stream.network_.recursive


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_settings_may_be_numbers_of_numpys_of_any_precision(kind: Callable[[float], Any]) -> None:
    x, y = load_wine(return_X_y=True)
    settings = {name: kind(0.01) for name in ("learning_rate", "decay", "pooling", "dropout")}
    model = SALClassifier(epochs=10, early_stopping=True, validation_fraction=kind(0.125), random_state=0, **settings)
    assert model.fit(x, y).score(x, y) > 0.9


def test_settings_changed_after_a_fit_change_nothing_that_was_fitted() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=3, random_state=0).fit(x, y)
    before = model.predict_proba(x)
    model.set_params(optimiser="rls")
    np.testing.assert_array_equal(model.predict_proba(x), before)
    rates = [seen.rate for seen in trainers_of(lambda: model.partial_fit(x, y))]
    assert rates == [0.003]  # goes on with the network that there is, at the rate of its rule
    assert not np.array_equal(model.predict_proba(x), before)
    model.fit(x, y)  # from scratch, with the new settings
    assert model.network_.lr == 1.0


@pytest.mark.parametrize(
    ("settings", "wording"),
    [
        ({"feedback": "kolen"}, "Unknown feedback 'kolen'. Did you mean 'kolen-pollack'"),
        ({"feedback": "Feedback_Alignment"}, "Did you mean 'random'"),
        ({"feedback": "dfa"}, "Did you mean 'direct'"),
        ({"optimiser": "adan"}, "Did you mean 'adam'"),
        ({"width": 0}, "at least 1"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": -1.0}, "learning_rate to be a number above 0, got -1.0"),
        ({"learning_rate": 0.0}, "learning_rate to be a number above 0, got 0.0"),
        ({"width": "8"}, "width to be a whole number of at least 1, got '8'"),
        ({"areas": 2.5}, "areas to be a whole number of at least 1, got 2.5"),
        ({"epochs": 2.5}, "epochs to be a whole number of at least 1, got 2.5"),
        ({"pooling": None}, "pooling to be a number of at least 0, got None"),
        ({"gated": "no"}, "gated to be True or False, got 'no'"),
        ({"early_stopping": "no"}, "early_stopping to be True or False, got 'no'"),
        ({"partition": "manual"}, "Unknown partition 'manual'"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "Cannot hold out a validation_fraction of 0.999"),
        ({"batch_size": "all"}, "'auto' or a whole number, got 'all'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"early_stopping": True, "validation_fraction": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_settings_are_refused_at_fit(settings: dict[str, object], wording: str) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(**settings)
    with pytest.raises(BrodmannError, match=wording):
        model.fit(x, y)


def test_recursive_least_squares_refuses_what_it_does_not_combine_with() -> None:
    x, y = load_digits(return_X_y=True)
    with pytest.raises(BrodmannError, match="optimiser='rls' cannot be combined with"):
        SALClassifier(optimiser="rls", early_stopping=True).fit(x, y)
