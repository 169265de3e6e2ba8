"""Estimators beside the rest of scikit-learn: its checks, pipelines, searches, clones, pickles, threads."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor, nn

from brodmann import BrodmannError, FixedRandom, UpdateRule
from brodmann.builders import FEEDBACKS
from brodmann.estimator import SALClassifier, SALRegressor
from brodmann.feedback import Signal
from brodmann.updates import UPDATES, Factors

EXCUSED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "mini-batches: a weight of two is a larger step, not two samples in different batches; the same holds for "
        "scikit-learn's own MLPs"
    ),
}


@parametrize_with_checks(
    [
        SALClassifier(width=16, areas=4, epochs=20, batch_size=16),
        SALRegressor(width=16, areas=4, epochs=20, batch_size=16),
        SALClassifier(width=16, areas=4, optimiser="rls", batch_size=16),
        SALRegressor(width=16, areas=4, optimiser="rls", batch_size=16),
    ],
    expected_failed_checks=lambda estimator: EXCUSED,
)
def test_scikit_learns_own_checks(estimator: object, check: object) -> None:
    check(estimator)


def test_pipelines_grids_clones_and_pickles() -> None:
    x, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), SALClassifier(random_state=0, epochs=3, width=16))
    search = GridSearchCV(pipeline, {"salclassifier__feedback": ["kolen-pollack", "direct"]}, cv=2).fit(x, y)
    assert clone(search.best_estimator_).get_params()["salclassifier__width"] == 16
    file = io.BytesIO()
    joblib.dump(search.best_estimator_, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(x), search.best_estimator_.predict_proba(x))


@dataclass(frozen=True)
class Downhill(UpdateRule):
    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        weight.mul_(1.0 - lr * decay).sub_(factors.dense(), alpha=lr)


class Halved(FixedRandom):
    def error(self, signal: Signal) -> Tensor:
        return super().error(signal) / 2


def test_searches_take_rules_and_paths_of_ones_own_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes know no names but the package's own."""
    x, y = load_iris(return_X_y=True)
    model = SALClassifier(width=8, areas=1, epochs=2, decay=0.1, random_state=0)
    grid = {"optimiser": [Downhill(), "adam"], "feedback": [Halved, partial(Halved), "random"]}
    search = pickle.loads(pickle.dumps(GridSearchCV(model, grid, cv=2, error_score="raise"))).fit(x, y)
    assert pickle.loads(pickle.dumps(search)).score(x, y) == search.score(x, y)
    monkeypatch.setitem(UPDATES, "downhill", Downhill)
    monkeypatch.setitem(FEEDBACKS, "halved", Halved)
    named = clone(model).set_params(optimiser="downhill", feedback="halved").fit(x, y)
    given = clone(model).set_params(optimiser=Downhill(), feedback=Halved).fit(x, y)
    np.testing.assert_array_equal(given.predict_proba(x), named.predict_proba(x))
    with pytest.raises(BrodmannError, match="Expected feedback to build a Feedback, got Tanh"):
        clone(model).set_params(feedback=lambda shape: nn.Tanh()).fit(x, y)


def test_the_random_state_decides_and_torchs_generator_is_left_alone() -> None:
    x, y = load_wine(return_X_y=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (SALClassifier(random_state=seed, epochs=3).fit(x, y).predict_proba(x) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert (one == two).all()
    assert (one != other).any()


def test_threads_draw_what_the_random_state_says() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(width=16, areas=4, epochs=3, dropout=0.2, random_state=0)
    expected = clone(model).fit(x, y).predict_proba(x)
    torch.manual_seed(3)
    following = torch.rand(2)
    torch.manual_seed(3)
    found = joblib.Parallel(n_jobs=4, backend="threading")(
        joblib.delayed(lambda: clone(model).fit(x, y).predict_proba(x))() for _ in range(8)
    )
    assert all(np.array_equal(one, expected) for one in found)
    assert torch.equal(torch.rand(2), following)
