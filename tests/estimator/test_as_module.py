"""A fitted estimator as one PyTorch module: from samples as they are to its predictions, also exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import NotFittedError

from brodmann.estimator import SALClassifier, SALRegressor

SMALL: dict[str, Any] = {"width": 16, "areas": 4, "epochs": 2, "random_state": 0}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "unscaled": {"standardise": False},
    "recursive": {"optimiser": "rls"},
    "convolutional": {"builder": "convnet", "options": {"shape": (1, 1, 13), "channels": (4,), "pool": 1}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [False, True])
def test_it_returns_the_probabilities_of_samples_as_they_are(kind: str, labels: bool) -> None:
    x, y = load_wine(return_X_y=True)
    y = np.stack([y > 0, y == 1], 1).astype(int) if labels else y
    settings = SMALL | KINDS[kind]
    if kind == "convolutional":
        settings.pop("width")
    model = SALClassifier(**settings).fit(x, y)
    found = model.as_module()(torch.from_numpy(x))
    np.testing.assert_allclose(found, model.predict_proba(x), rtol=1e-4, atol=1e-6)
    assert found.dtype == torch.float64


def test_it_returns_targets_in_their_own_units() -> None:
    x, y = load_diabetes(return_X_y=True)
    for targets in (1e6 + y, np.stack([y, -y], 1)):
        model = SALRegressor(**SMALL).fit(x, targets)
        found = model.as_module()(torch.from_numpy(x.astype(np.float32)))
        assert found.shape == targets.shape
        np.testing.assert_allclose(found, model.predict(x), atol=0.01)


def test_later_calls_of_the_estimator_do_not_change_it() -> None:
    x, y = load_wine(return_X_y=True)
    model = SALClassifier(**SMALL).fit(x, y)
    module, samples = model.as_module(), torch.from_numpy(x)
    before = module(samples)
    model.partial_fit(x + 5, y)
    assert not np.allclose(model.predict_proba(x), before)
    assert torch.equal(module(samples), before)


def test_of_nothing_fitted_there_is_none() -> None:
    with pytest.raises(NotFittedError):
        SALRegressor().as_module()


def test_it_is_exported_and_answers_single_samples_in_onnxruntime(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x, y = load_wine(return_X_y=True)
    samples, batch = torch.from_numpy(x.astype(np.float32)), torch.export.Dim("batch", min=1)
    for model in (SALClassifier(**SMALL).fit(x, y), SALRegressor(**SMALL).fit(x, x[:, 0])):
        module = model.as_module()
        expected = module(samples).numpy()
        program = torch.export.export(module, (samples[:4],), dynamic_shapes=({0: batch},))
        np.testing.assert_allclose(program.module()(samples), expected, rtol=1e-6)
        path = tmp_path / "model.onnx"
        torch.onnx.export(module, (samples[:4],), path, dynamic_shapes=({0: batch},), input_names=["x"], verbose=False)
        session = onnxruntime.InferenceSession(str(path))
        found = np.concatenate([session.run(None, {"x": row[None].numpy()})[0] for row in samples])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
