"""Early stopping, and the scores of the part that is held out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.metrics import accuracy_score, r2_score

from brodmann import BrodmannError
from brodmann.estimator import SALClassifier, SALRegressor

from .parts import trainers_of


def test_early_stopping_keeps_the_best() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = SALClassifier(random_state=0, epochs=200, early_stopping=True, patience=3, learning_rate=0.02).fit(x, y)
    assert model.n_iter_ < 200
    assert model.score(x, y) > 0.95


def test_the_part_held_out_has_the_class_shares_of_the_whole() -> None:
    y = (np.arange(100) % 10 == 0).astype(int)
    x = np.random.default_rng(0).normal(size=(100, 2))
    for seed in range(4):
        model = SALClassifier(width=4, areas=1, epochs=1, early_stopping=True, random_state=seed)
        (trained,) = trainers_of(lambda model=model: model.fit(x, y))
        assert trained.validation[1].bincount().tolist() == [9, 1]


def test_early_stopping_leaves_no_score_to_a_later_fit() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=3, early_stopping=True, random_state=0).fit(x, y)
    assert 0.5 < model.best_validation_score_ <= 1.0
    model.set_params(early_stopping=False).fit(x, y)
    assert not vars(model).keys() & {"best_validation_score_", "validation_scores_"}


def test_scores_of_the_part_held_out_are_kept_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = load_wine(return_X_y=True)
    settings = {"width": 16, "epochs": 3, "early_stopping": True, "random_state": 0}
    for model, weight in itertools.product((SALClassifier(**settings), SALRegressor(**settings)), (None, 1.0 + y)):
        model.set_params(verbose=2).fit(x, y, weight)
        scores = model.validation_scores_
        assert len(scores) == 3
        assert model.best_validation_score_ == max(scores)
        printed = [line.rpartition(" ")[::2] for line in capsys.readouterr().out.splitlines()]
        assert all(before.endswith(", validation score") for before, _ in printed)
        np.testing.assert_allclose([float(score) for _, score in printed], scores, atol=1e-5)
    SALClassifier(width=16, epochs=1, verbose=np.int64(1)).fit(x, y)
    assert capsys.readouterr().out.startswith("epoch 1: loss ")
    SALClassifier(width=16, epochs=1, verbose=0).fit(x, y)
    assert not capsys.readouterr().out
    with pytest.raises(BrodmannError, match="Expected verbose to be a whole number of at least 0, got 'yes'."):
        SALClassifier(verbose="yes").fit(x, y)


def test_early_stopping_counts_weights_on_the_part_that_it_holds_out() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.1).astype(int)
    x = rng.normal(size=(1000, 3)) + 0.6 * y[:, None]
    weight = np.where(y == 1, 30.0, 1.0)
    for seed in range(3):
        model = SALClassifier(areas=1, width=16, epochs=15, patience=15, early_stopping=True, random_state=seed)
        (trained,) = trainers_of(lambda model=model: model.fit(x, y, sample_weight=weight))
        inputs, targets, weights = trained.validation
        chosen = model.network_(inputs).argmax(1)
        expected = accuracy_score(targets, chosen, sample_weight=weights)
        assert model.best_validation_score_ == pytest.approx(expected)
        scores = [row["validation_score"] for row in trained.progress.history]
        assert model.best_validation_score_ == max(scores)
        assert chosen.double().mean() > 0.4  # of all alike, the best accuracy is that of the large class
    targets = np.c_[x @ [1.0, 2.0, 3.0], x[:, 0] ** 2]
    regressor = SALRegressor(areas=1, width=16, epochs=3, early_stopping=True, random_state=0)
    (trained,) = trainers_of(lambda: regressor.fit(x, targets, sample_weight=weight))
    inputs, targets, weights = trained.validation
    expected = r2_score(targets, regressor.network_(inputs), sample_weight=weights)
    assert regressor.best_validation_score_ == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "act", "message"),
    [
        (
            {"early_stopping": True, "patience": None},
            "fit",
            "Expected patience to be a whole number of at least 1, got",
        ),
        (
            {"early_stopping": True},
            "partial_fit",
            "partial_fit learns whenever it is called, and cannot stop early: leave early_stopping out",
        ),
    ],
)
def test_early_stopping_that_cannot_be(settings: dict, act: str, message: str) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, **settings)
    with pytest.raises(BrodmannError, match=message):
        getattr(model, act)(x, y)
    assert not hasattr(model, "network_")
