"""A trained network's forward under torch.compile, torch.export and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brodmann import Network, mlp, residual_mlp

CASES = {
    "plain": (mlp, {}),
    "gated": (mlp, {"gated": True}),
    "one route": (mlp, {"routing": "network"}),
    "shared part off": (mlp, {"shared": "off"}),
    "residual": (residual_mlp, {"depth": 4}),
}


@pytest.fixture(params=CASES)
def network(request: pytest.FixtureRequest) -> Network:
    builder, options = CASES[request.param]
    torch.manual_seed(0)
    network = Network(builder(6, 3, width=8, areas=4, **options))
    for _ in range(10):
        network.learn(torch.randn(16, 6), torch.randint(0, 3, (16,)), lr=0.01)
    return network


def test_compiled_without_graph_breaks(network: Network) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (1, 7, 16):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.slow
def test_compiled_by_inductor(network: Network) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, dynamic=True)
    for rows in (1, 7):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(compiled(x), network(x))


def test_exported_with_a_dynamic_batch(network: Network) -> None:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (torch.randn(4, 6),), dynamic_shapes=({0: batch},))
    for rows in (1, 9):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(program.module()(x), network(x))


def test_the_same_in_onnxruntime(network: Network, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "network.onnx"
    batch = torch.export.Dim("batch", min=1)
    network.eval()
    torch.onnx.export(
        network, (torch.randn(4, 6),), path, dynamo=True, dynamic_shapes=({0: batch},), input_names=["x"], verbose=False
    )
    session = onnxruntime.InferenceSession(str(path))
    for rows in (1, 9):
        x = torch.randn(rows, 6)
        (found,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, network(x).numpy(), rtol=1e-4, atol=1e-5)
