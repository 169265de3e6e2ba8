"""Networks by other builders: images, options of a builder, builders of one's own."""

from __future__ import annotations

import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from brodmann import SGD, BrodmannError, Direct, Layer, Local, Sequential
from brodmann.builders import BUILDERS, Parts, mlp, stream_mlp
from brodmann.estimator import SALClassifier, SALRegressor

from .parts import trainers_of

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


def downhill(in_features: int, outputs: int, **common: Any) -> Layer:
    return mlp(in_features, outputs, width=8, areas=1, update=SGD())


def test_a_builder_with_a_rule_of_its_own_learns_at_the_rate_that_suits_it() -> None:
    x, y = load_wine(return_X_y=True)
    for given, expected in ((None, 0.3), (0.01, 0.01)):
        model = SALClassifier(builder=downhill, epochs=1, learning_rate=given, random_state=0)
        trained = trainers_of(lambda model=model: model.fit(x, y).partial_fit(x, y))
        assert [trainer.lr for trainer in trained] == [expected] * 2
        assert model.network_.lr == expected


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
