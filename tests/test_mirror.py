"""Weight mirrors: feedback weights become what noise tells of the forward weights, which nobody reads or moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from brodmann import SGD, Adam, BrodmannError, KolenPollack, LeastChange, Network, mlp, stream_mlp
from brodmann.mirror import mirror_weights
from brodmann.telemetry import alignment

PARTS: list[dict[str, Any]] = [
    {"areas": 1},
    {"areas": 3},
    {"areas": 3, "shared": "frozen"},
    {"areas": 3, "shared": "off"},
    {"areas": 3, "gated": True},
]


def trained(**options: Any) -> tuple[Network, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, depth=3, width=8, update=SGD(), **options), lr=0.1)
    x, y = torch.randn(40, 6), torch.arange(40) % 3
    for _ in range(5):
        network.learn(x, y)
    return network, x, y


@pytest.mark.parametrize("path", ["kolen-pollack", "kolen-pollack-per-area"])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_feedback_weights_become_the_forward_weights_and_nothing_else_moves(path: str, parts: dict[str, Any]) -> None:
    network, x, y = trained(feedback=path, **parts)
    before, output = network.state_dict(), network(x)
    before = {name: tensor.clone() for name, tensor in before.items()}
    mirror_weights(network, samples=400_000)
    assert torch.equal(network(x), output)
    for name, tensor in network.state_dict().items():
        if "feedback" not in name:
            assert torch.equal(tensor, before[name])
    for _, layer in network.area_layers()[1:]:
        shared = 0.0 if layer.shared is None else layer.shared.value[0]
        own = None if layer.areas is None else layer.areas.weight.value[1:]
        feedback, learned = layer.feedback, layer.shared_mode == "learned"
        if feedback.shared is not None:
            expected = shared if learned else shared + own.mean(0)
            torch.testing.assert_close(feedback.shared.value[0], expected, rtol=0.02, atol=0.01)
        if feedback.areas is not None and layer.areas is not None:
            for area, slot in enumerate(layer.areas.slot.tolist()):
                expected = layer.areas.weight.value[slot] + (0.0 if learned else shared)
                found = feedback.areas.weight.value[feedback.areas.slot[area]]
                torch.testing.assert_close(found, expected, rtol=0.02, atol=0.01)
    if path == "kolen-pollack-per-area" or parts == {"areas": 1}:
        assert all(row.cosine > 0.999 for row in alignment(network, x, y))
    network.learn(x, y)


@pytest.mark.parametrize("shared", ["off", "frozen"])
def test_areas_that_come_later_begin_with_mirrored_feedback(shared: str) -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=4, shared=shared, feedback="kolen-pollack-per-area"))
    mirror_weights(network)
    network.allocate()
    readout = network.area_layers()[1][1]
    path = readout.feedback
    assert isinstance(path, KolenPollack)
    assert path.areas is not None
    assert readout.areas is not None
    common = 0.0 if readout.shared is None else readout.shared.value[0]
    for slot in range(1, 5):
        forward = (common + readout.areas.weight.value[slot]).flatten()
        assert float(torch.cosine_similarity(path.areas.weight.value[slot].flatten(), forward, dim=0)) > 0.99


def test_the_estimate_is_as_good_as_its_rows() -> None:
    torch.manual_seed(0)
    network = Network(mlp(400, 50, width=300, areas=1, update=Adam()))
    layer = network.area_layers()[1][1]
    for samples in (100, 1000, 3000):
        mirror_weights(network, samples)
        found, weight = layer.feedback.shared.value.flatten(), layer.shared.value.flatten()
        expected = 1.0 / math.sqrt(1.0 + 301.0 / samples)  # of a product of normal rows: the mean, and its spread
        assert float(functional.cosine_similarity(found, weight, dim=0)) == pytest.approx(expected, abs=0.02)


def test_layers_may_start_with_a_mirror_and_bodies_and_scaled_paths_have_one() -> None:
    torch.manual_seed(0)
    body = mlp(40, 5, depth=3, width=30, areas=1, feedback="kolen-pollack-mirrored")
    for layer in (body.layers[2], body.layers[4]):
        found, weight = layer.feedback.shared.value.flatten(), layer.shared.value.flatten()
        assert float(functional.cosine_similarity(found, weight, dim=0)) > 0.99
    scaled = stream_mlp(40, 5, width=30, areas=2)
    paths = [part.path for part in scaled.modules() if isinstance(part, LeastChange)]
    before = [path.shared.value.clone() for path in paths]
    mirror_weights(scaled, 100)
    assert not any(torch.equal(path.shared.value, old) for path, old in zip(paths, before, strict=True))


@pytest.mark.parametrize(
    ("network", "samples", "message"),
    [
        (lambda: trained(feedback="sign", areas=1)[0], 8, "Expected a network with Kolen-Pollack feedback"),
        (lambda: trained(areas=1)[0], 0, "Expected samples to be a whole number of at least 1, got 0."),
        (lambda: "network", 8, "Expected a network with Kolen-Pollack feedback"),
    ],
)
def test_what_cannot_be_mirrored_is_named(network: Any, samples: int, message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        mirror_weights(network(), samples)
