"""Designs, builders of one's own, and what a run can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brodmann import Adam, BrodmannError, FixedRandom, Network, mlp
from brodmann.builders import BUILDERS, build, design
from brodmann.runs import RunOptions

from .parts import each_of, message_of

CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: design("mlp", Adam(), in_features=6, outputs=3, feedback=FixedRandom),
        "A design holds only numbers, strings, lists and dictionaries, got feedback=<class "
        "'brodmann.feedback.fixed.FixedRandom'>. Register a feedback path or an activation of your own in "
        "brodmann.builders.FEEDBACKS or ACTIVATIONS, and give its name; or register a builder that uses what you give "
        "here, in BUILDERS.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


def test_a_design_is_told_in_data_and_keeps_to_itself(tmp_path: Path) -> None:
    given: dict[str, Any] = {"builder": "mlp", "in_features": 6, "outputs": 3, "update": Adam(decay=0.1), "router": {}}
    network = Network(build(given))
    network.save(tmp_path / "network")
    assert Network.load(tmp_path / "network").design == network.design
    given["router"]["cells"] = 7
    assert network.design is not None
    assert network.design["router"] == {}
    assert Network(build({**given, "router": None, "feedback": FixedRandom})).design is None


def test_numbers_of_numpy_in_a_design() -> None:
    description = design("mlp", Adam(decay=np.float32(0.5)), in_features=np.int64(6), outputs=3)
    assert description == design("mlp", Adam(decay=0.5), in_features=6, outputs=3)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (None, "Expected a design such as {'builder': 'mlp', ...}, got None."),
        ("mlp", "Expected a design such as {'builder': 'mlp', ...}, got 'mlp'."),
        ({"builder": ["mlp"]}, "Unknown builder"),
        (
            {"builder": "mlp", "update": {"rule": "adam"}},
            "Expected an update such as {'name': 'adam', ...} in a design",
        ),
    ],
)
def test_what_is_no_design_is_named(design: Any, message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        Network.from_design(design)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"builder": "mpl"}, r"Unknown builder 'mpl'. Did you mean 'mlp'\? Choose one of: lone, mlp, residual_mlp."),
        ({"builder": "convnet"}, "The builder 'convnet' cannot be used with --builder: --channels 32 64 builds it."),
        (
            {"builder": "stream_mlp"},
            "The builder 'stream_mlp' cannot be used with --builder: it learns streams, in one pass",
        ),
        (
            {"builder": "lone"},
            "The builder 'lone' does not take areas, update, routing, shared, gated, pooling, router",
        ),
        ({"optimiser": "rls"}, "The rule 'rls' learns streams in one pass, not by epochs: use SALClassifier"),
    ],
)
def test_what_a_run_cannot_name_is_told(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "lone", lambda in_features, outputs, feedback: mlp(in_features, outputs))
    with pytest.raises(BrodmannError, match=message):
        RunOptions(**options).check()


def test_designs_name_rules_by_their_names_alone_too() -> None:
    network = Network.from_design({"builder": "mlp", "in_features": 6, "outputs": 3, "update": "adam"})
    assert network.area_layers()[0][1].update_rule == Adam()


def test_a_builder_that_fails_says_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "own", lambda outputs: len(outputs))
    with pytest.raises(TypeError, match="object of type 'int' has no len"):  # with its line: it is the user's own
        build({"builder": "own", "outputs": 2})
    with pytest.raises(BrodmannError, match="Expected the builder 'own' to return a layer, got int."):
        build({"builder": "own", "outputs": "two"})
    with pytest.raises(BrodmannError, match="The builder 'own' cannot use this design: missing a required argument"):
        build({"builder": "own"})
    monkeypatch.setitem(BUILDERS, "short", lambda i, o, **common: mlp(i, o, **common))
    with pytest.raises(BrodmannError, match="Call its arguments for the two sizes in_features and outputs."):
        build({"builder": "short", "in_features": 6, "outputs": 3})
