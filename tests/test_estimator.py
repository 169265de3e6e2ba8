"""Scikit-learn estimators as scikit-learn's users expect them."""

from __future__ import annotations

import io
import itertools
import pickle
import signal
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor, nn

from brodmann import RLS, SGD, Adam, BrodmannError, Direct, FixedRandom, Layer, Local, Sequential, UpdateRule
from brodmann.builders import BUILDERS, FEEDBACKS, Parts, mlp, stream_mlp
from brodmann.estimator import SALClassifier, SALRegressor
from brodmann.estimator.scaling import ROWS, Scaler, scaled
from brodmann.feedback import Signal
from brodmann.kernels import library
from brodmann.training import Trainer
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


@pytest.mark.parametrize(("load", "least"), [(load_wine, 0.95), (load_breast_cancer, 0.95)])
def test_raw_tables_need_no_settings(load: object, least: float) -> None:
    x, y = load(return_X_y=True)
    assert cross_val_score(SALClassifier(random_state=0), x, y, cv=3).mean() >= least


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


def test_the_random_state_decides_and_torchs_generator_is_left_alone() -> None:
    x, y = load_wine(return_X_y=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (SALClassifier(random_state=seed, epochs=3).fit(x, y).predict_proba(x) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert (one == two).all()
    assert (one != other).any()


def test_pipelines_grids_clones_and_pickles() -> None:
    x, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), SALClassifier(random_state=0, epochs=3, width=16))
    search = GridSearchCV(pipeline, {"salclassifier__feedback": ["kolen-pollack", "direct"]}, cv=2).fit(x, y)
    assert clone(search.best_estimator_).get_params()["salclassifier__width"] == 16
    file = io.BytesIO()
    joblib.dump(search.best_estimator_, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(x), search.best_estimator_.predict_proba(x))


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


IMAGES = {"builder": "convnet", "options": {"shape": (1, 8, 8), "channels": (16,)}, "areas": 2, "random_state": 0}


def test_images_are_learned_by_convolutions_flat_or_in_their_shape() -> None:
    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 1, 8, 8)
    model = SALClassifier(**IMAGES, epochs=5).fit(x[:1000], y[:1000])
    assert [layer.out_features for _, layer in model.network_.area_layers()] == [16, 10]
    assert model.score(x[1000:], y[1000:]) > 0.85
    expected = model.predict_proba(x)
    again = clone(model).fit(images[:1000], y[:1000])
    assert again.n_features_in_ == 64
    for samples in (x, images, torch.from_numpy(images)):
        np.testing.assert_array_equal(again.predict_proba(samples), expected)
    again.set_params(options=None)  # has no effect on what was fitted
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict_proba(images), expected)
    with pytest.raises(BrodmannError, match=r"Expected samples of shape \(1, 8, 8\), .* or flat, got \(8, 8, 1\)"):
        again.predict(images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(again.predict_proba(images[:9].tolist()), expected[:9])
    arrays = clone(again).set_params(options={"shape": np.array([1, 8, 8]), "channels": np.array([16])})
    arrays.fit(images[:1000], y[:1000])
    np.testing.assert_array_equal(arrays.predict_proba(images), expected)
    assert arrays.network_.design["shape"] == [1, 8, 8]
    streamed = [SALClassifier(**IMAGES) for _ in range(2)]
    for rows in np.array_split(np.arange(200), 4):
        for learner, samples in zip(streamed, (x, images), strict=True):
            learner.partial_fit(samples[rows], y[rows], classes=range(10))
    np.testing.assert_array_equal(*(learner.predict_proba(x) for learner in streamed))


def test_options_of_a_builder_are_searched_and_scale_with_a_pipeline() -> None:
    x, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), SALClassifier(**IMAGES, epochs=1, standardise=False))
    grid = {"salclassifier__options": [{"shape": [1, 8, 8], "channels": [4]}, {"shape": [1, 8, 8], "channels": [6]}]}
    found = GridSearchCV(pipeline, grid, cv=2).fit(x[:200], y[:200])
    layers = found.best_estimator_[-1].network_.area_layers()
    assert [layers[0][1].out_features] == found.best_params_["salclassifier__options"]["channels"]


def two_rows(in_features: int, outputs: int, *, hidden: int = 4, **common: Any) -> Layer:
    parts = Parts(in_features, outputs, **common)
    layers = (parts.layer(in_features, hidden, lowest=True), Local(nn.Tanh()), parts.layer(hidden, outputs))
    return parts.wrap(Sequential(*layers))


def test_a_builder_of_ones_own_is_given_itself_or_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_diabetes(return_X_y=True)
    settings = {"areas": 3, "shared": "off", "feedback": "direct", "optimiser": "sgd", "decay": 0.125, "epochs": 2}
    model = SALRegressor(builder=two_rows, options={"hidden": 5}, **settings, random_state=0).fit(x, y)
    layers = [layer for _, layer in model.network_.area_layers()]
    assert [layer.out_features for layer in layers] == [5, 1]
    assert all((layer.budget, layer.shared, layer.update_rule) == (3, None, SGD(decay=0.125)) for layer in layers)
    assert isinstance(layers[1].feedback, Direct)
    monkeypatch.setitem(BUILDERS, "two rows", two_rows)
    named = clone(model).set_params(builder="two rows").fit(x, y)
    np.testing.assert_array_equal(named.predict(x), model.predict(x))
    assert named.network_.design["builder"] == "two rows"


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


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (lambda **_: 3, "Expected the builder '.*' to return a layer, got int."),
        (lambda **_: nn.Linear(10, 2), "to return a layer, got Linear: convert it with from_torch."),
        (
            lambda outputs, **common: mlp(outputs=outputs + 1, width=4, **common),
            r"Expected the builder '.*' to return a body whose outputs for one sample have the shape \(1, 3\), got "
            r"\(1, 4\): its argument outputs says",
        ),
        (
            lambda in_features, outputs: mlp(in_features, outputs),
            "The builder '.*' cannot use this design: got an unexpected keyword argument 'update'. Let its arguments "
            r"end with \*\*common, and pass them on.",
        ),
        (lambda size, outputs, **common: mlp(size, outputs), "Call its arguments for the two sizes in_features and"),
        (
            lambda in_features, outputs, **common: stream_mlp(in_features, outputs, width=4),
            "returned a body that learns streams by recursive least squares, in one pass.*: write optimiser='rls' and "
            "leave the builder out, or learn with brodmann.Network",
        ),
        (Sequential(Local(nn.ReLU())), "Expected a function that builds a body, got a .*, which is built already"),
    ],
)
def test_a_builder_that_does_not_build_what_it_was_asked_for(
    builder: Any, message: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = load_wine(return_X_y=True)
    monkeypatch.setitem(BUILDERS, "own", builder)
    with pytest.raises(BrodmannError, match=message):
        SALClassifier(builder="own" if named else builder, epochs=1).fit(x, y)


def test_dense_networks_take_further_options_too() -> None:
    x, y = load_wine(return_X_y=True)
    for settings in (
        {"options": MappingProxyType({"storage": "bfloat16"})},
        {"options": {"dimension": 16}, "optimiser": "rls"},
    ):
        design = SALClassifier(width=8, areas=2, epochs=1, **settings).fit(x, y).network_.design
        assert design.items() >= settings["options"].items()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"builder": "convnt"}, "Unknown builder 'convnt'. Did you mean 'convnet'"),
        ({"builder": "stream_mlp"}, "Expected another builder than stream_mlp: optimiser='rls' builds that by itself."),
        ({"builder": stream_mlp}, "Expected another builder than stream_mlp: optimiser='rls' builds that by itself."),
        ({"builder": "convnet"}, "The builder 'convnet' cannot use this design: missing a required argument: 'shape'"),
        ({"options": {"shape": (1, 4, 4)}}, r"Expected an input of shape \(..., 16\), got \(1, 13\)"),
        ({"options": {"shape": (1, 13, 1), "kernel": 3}}, "got an unexpected keyword argument 'kernel'"),
        ({"options": {"shape": (13,)}}, r"Expected the shape of an image, \(channels, height, width\), got \(13,\)"),
        ({"width": np.array([8, 8])}, "builder='convnet' cannot be combined with width: leave that out"),
        ({"width": 8}, "builder='convnet' cannot be combined with width: leave that out, or put what this"),
        ({"dropout": 0.5, "layers": 3}, "builder='convnet' cannot be combined with layers, dropout"),
        ({"optimiser": "rls", "options": {"shape": (1, 13, 1), "pool": 1}}, "cannot be combined with builder"),
        ({"options": 3}, "Expected options to be None or a dictionary of further arguments of the builder"),
        ({"options": {"areas": 3, "builder": "mlp"}}, "but the estimator itself gives areas, builder: leave that out"),
        ({"builder": None, "options": {"width": 3}}, "but the estimator itself gives width"),
    ],
)
def test_what_a_builder_does_not_take_is_refused(settings: dict[str, Any], message: str) -> None:
    x, y = load_wine(return_X_y=True)
    with pytest.raises(BrodmannError, match=message):
        SALClassifier(**{"builder": "convnet"} | settings).fit(x, y)


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


def test_gradient_descent_needs_no_settings_either() -> None:
    x, y = load_wine(return_X_y=True)
    assert cross_val_score(SALClassifier(optimiser="sgd", random_state=0), x, y, cv=3).mean() >= 0.95


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


@pytest.mark.parametrize("model", [SALClassifier(epochs=1), SALRegressor(epochs=1, standardise=False)])
def test_inputs_that_say_nothing_are_told_as_what_they_are(model: Any) -> None:
    with pytest.warns(UserWarning, match="The inputs of all samples are the same: nothing can be learned from them"):
        model.fit(np.ones((30, 3)), np.arange(30) % 3)


@pytest.mark.filterwarnings("error")
def test_targets_may_be_large() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert SALRegressor(epochs=10, random_state=0).fit(x, 1e20 * y).score(x, 1e20 * y) > 0.4


@pytest.mark.parametrize("width", [1, 128])
def test_samples_that_are_all_alike_are_no_divergence(width: int) -> None:
    y = np.arange(96) % 3
    for seed in range(4):
        settings = {"random_state": seed, "epochs": 2, "width": width}
        for x in (np.ones((96, 1)), np.zeros((96, 3)), (np.arange(96)[:, None] == 7).astype(float)):
            assert np.isfinite(SALClassifier(**settings).fit(x, y).partial_fit(x[:9], y[:9]).predict_proba(x)).all()
            assert np.isfinite(SALRegressor(**settings).partial_fit(x[:10], y[:10]).fit(x, y).predict(x)).all()


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


def test_early_stopping_keeps_the_best() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = SALClassifier(random_state=0, epochs=200, early_stopping=True, patience=3, learning_rate=0.02).fit(x, y)
    assert model.n_iter_ < 200
    assert model.score(x, y) > 0.95


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


def test_recursive_least_squares_refuses_what_it_does_not_combine_with() -> None:
    x, y = load_digits(return_X_y=True)
    with pytest.raises(BrodmannError, match="optimiser='rls' cannot be combined with"):
        SALClassifier(optimiser="rls", early_stopping=True).fit(x, y)


def test_a_regressor_learns_a_stream() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 2000))[:, None]  # drifts from left to right
    y = np.sin(2 * x[:, 0])
    model = SALRegressor(optimiser="rls", random_state=0, areas=4, standardise=False)
    for rows in np.array_split(np.arange(2000), 50):
        model.partial_fit(x[rows], y[rows])
    assert model.score(x, y) > 0.9


def test_what_float32_cannot_hold_is_refused() -> None:
    x, y = load_wine(return_X_y=True)
    for model in (SALClassifier(epochs=1, random_state=0), SALRegressor(epochs=1, random_state=0)):
        with pytest.raises(BrodmannError, match="Expected inputs that float32 can hold"):
            model.fit(x, y).predict(x * 1e300)


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


def test_samples_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, random_state=0).fit(x, y)
    whole = model.predict_proba(x)
    monkeypatch.setattr("brodmann.estimator.base.PART", 50)
    np.testing.assert_allclose(model.predict_proba(x), whole, rtol=1e-4, atol=1e-6)


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


def downhill(in_features: int, outputs: int, **common: Any) -> Layer:
    return mlp(in_features, outputs, width=8, areas=1, update=SGD())


def test_a_builder_with_a_rule_of_its_own_learns_at_the_rate_that_suits_it() -> None:
    x, y = load_wine(return_X_y=True)
    for given, expected in ((None, 0.3), (0.01, 0.01)):
        model = SALClassifier(builder=downhill, epochs=1, learning_rate=given, random_state=0)
        trained = trainers_of(lambda model=model: model.fit(x, y).partial_fit(x, y))
        assert [trainer.lr for trainer in trained] == [expected] * 2
        assert model.network_.lr == expected


def trainers_of(call: Callable[[], Any]) -> list[Trainer]:
    """Returns what trained while a function ran."""
    seen: list[Trainer] = []
    with pytest.MonkeyPatch.context() as patch:
        run = Trainer.run
        patch.setattr(Trainer, "run", lambda trainer: (seen.append(trainer), run(trainer))[1])
        call()
    return seen


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("optimiser", ["adam", "rls"])
def test_estimators_compute_in_float32_whatever_torchs_default(optimiser: str) -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(epochs=2, optimiser=optimiser, random_state=0).fit(x, y).partial_fit(x, y)
    assert model.network_.dtype == torch.float32


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


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_weights_count_whatever_the_batch(batch: int) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.5).astype(int)
    x = rng.normal(size=(400, 2)) + 0.5 * y[:, None]
    weight = np.where(y == 1, 20.0, 1.0)
    shares = [
        SALClassifier(areas=1, width=8, batch_size=batch, epochs=5, random_state=0)
        .fit(x, y, sample_weight=of)
        .predict(x)
        for of in (None, weight, 1e-50 * weight, 1e37 * weight)
    ]
    assert shares[1].mean() > shares[0].mean() + 0.25
    np.testing.assert_array_equal(shares[1], shares[2])
    np.testing.assert_array_equal(shares[1], shares[3])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_scale_of_inputs_counts_weights(method: str) -> None:
    x, y = np.array([[0.0], [1.0], [5.0]]), np.array([0.0, 1.0, 2.0])
    models = [SALRegressor(areas=1, width=4, random_state=0) for _ in range(2)]
    getattr(models[0], method)(x, y, sample_weight=[1.0, 2.0, 3.0])
    getattr(models[1], method)(x.repeat([1, 2, 3], 0), y.repeat([1, 2, 3]))
    np.testing.assert_allclose(*(model._scaler.mean_ for model in models))
    np.testing.assert_allclose(*(model._scaler.scale_ for model in models))


def test_weights_count_from_call_to_call() -> None:
    rng = np.random.default_rng(0)
    y = np.r_[0, 1, (rng.random(300) < 0.5).astype(int)]
    x = rng.normal(size=(302, 2)) + 0.5 * y[:, None]
    models = [SALClassifier(areas=1, width=8, random_state=0) for _ in range(2)]
    for model, heavy in zip(models, (1.0, 20.0), strict=True):
        for row in range(302):
            weight = [heavy if y[row] else 1.0]
            model.partial_fit(x[row : row + 1], y[row : row + 1], classes=[0, 1], sample_weight=weight)
    assert models[1].predict(x).mean() > models[0].predict(x).mean() + 0.2


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


def test_a_scale_that_one_sample_cannot_give_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="takes the scale of targets from its first call, but in this one a target is"):
        SALRegressor().partial_fit([[1.0, 2.0]], [3.0])


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


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_fit_copies_little_of_its_inputs_beside_the_scaled_ones(kind: type) -> None:
    x = np.random.default_rng(0).normal(size=(20 * ROWS, 20)).astype(kind)
    model = SALClassifier(width=4, areas=1, epochs=1, batch_size=4096, random_state=0)
    tracemalloc.start()
    model.fit(x, x[:, 0] > 0)
    _, peak = tracemalloc.get_traced_memory()  # of NumPy's arrays
    tracemalloc.stop()
    assert peak < 12 * x.size  # bytes: 4 of the scaled number, up to 8 of scikit-learn's in float64


def test_inputs_of_both_precisions_are_learned_alike() -> None:
    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    for settings in ({}, {"early_stopping": True}, {"optimiser": "rls"}):
        model = SALClassifier(epochs=2, width=16, random_state=0, **settings)
        expected = model.fit(x.astype(np.float64), y).predict_proba(x.astype(np.float64))
        np.testing.assert_array_equal(model.fit(x, y).predict_proba(x), expected)


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
        for row in range(300):
            model.partial_fit(scale * x[row : row + 1], y[row : row + 1], classes=[0, 1])
        found.append(model.score(scale * x[300:], y[300:]))
    assert found[1] == pytest.approx(found[0], abs=0.02)
    assert found[0] > 0.85


def test_a_first_call_in_which_one_target_of_several_is_constant_is_told() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.warns(UserWarning, match="in this one a target is the same for all samples"):
        SALRegressor(width=8, areas=1).partial_fit(x, np.c_[x[:, 0], np.zeros(40)])
    assert get_tags(SALRegressor()).target_tags.multi_output


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


def test_masked_values_are_refused() -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    for given in ((np.ma.masked_greater(x, 1.0), y), (x, np.ma.masked_equal(y, 1))):
        with pytest.raises(BrodmannError, match="without masked values, whose mask would be lost: fill them first"):
            SALClassifier(epochs=1).fit(*given)


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
