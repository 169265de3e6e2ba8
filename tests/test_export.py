"""A trained network's forward under compilers, tracers, exporters, onnxruntime and the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import cross_entropy

from brodmann import AreaLinear, Graph, Layer, Network, convnet, mlp, residual_mlp


def images_of_six_pixels(features: int, outputs: int, *, width: int, areas: int, **options: Any) -> Layer:
    return convnet((1, 2, features // 2), outputs, channels=(width,), areas=areas, **options)


CASES = {
    "gated": (mlp, {"gated": True}),
    "one route": (mlp, {"routing": "network"}),
    "shared part off": (mlp, {"shared": "off"}),
    "residual": (residual_mlp, {"depth": 4}),
    "convolutional": (images_of_six_pixels, {"gated": True}),
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


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own, about jit
@pytest.mark.parametrize("trace", [torch.jit.trace, lambda network, x: make_fx(network)(x)], ids=["jit", "fx"])
def test_traced_and_not_baked_into_the_graph(network: Network, trace: Callable[..., Any]) -> None:
    traced = trace(network, torch.randn(5, 6))
    x = torch.randn(5, 6)
    torch.testing.assert_close(traced(x), network(x))


def test_every_way_to_differentiate_agrees(network: Network) -> None:
    x, direction = torch.randn(4, 6), torch.randn(4, 6)
    expected = torch.autograd.functional.jacobian(network, x)
    close = partial(torch.testing.assert_close, atol=1e-6, rtol=1e-4)
    close(torch.autograd.functional.jacobian(network, x, vectorize=True), expected)
    close(torch.func.jacrev(network)(x), expected)
    close(torch.func.jacfwd(network)(x), expected)
    along = torch.einsum("abcd,cd->ab", expected, direction)
    close(torch.func.jvp(network, (x,), (direction,)), (network(x), along))
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(network(forward_ad.make_dual(x, direction))).tangent, along)


def test_gradients_of_each_sample(network: Network) -> None:
    x, y = torch.randn(4, 6), torch.randint(3, (4,))
    weights, buffers = dict(network.named_parameters()), dict(network.named_buffers())

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(torch.func.functional_call(network, (weights, buffers), (x[None],)), y[None])

    found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(weights, x, y)
    for weight in weights.values():
        weight.requires_grad_(True)
    for row in range(4):
        network.zero_grad()
        cross_entropy(network(x[row : row + 1]), y[row : row + 1]).backward()
        for name, weight in weights.items():
            expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
            torch.testing.assert_close(found[name][row], expected, atol=1e-6, rtol=1e-4)


def test_the_same_whether_autograd_follows_or_not(network: Network) -> None:
    x = torch.randn(20, 6)
    assert not network(x).requires_grad
    torch.testing.assert_close(network(x.clone().requires_grad_()).detach(), network(x))
    with torch.inference_mode():
        torch.testing.assert_close(network(x[:0]), torch.zeros(0, 3))
        assert torch.equal(network(x), network(x.clone()))


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


def test_several_inputs_are_exported_with_a_dynamic_batch() -> None:
    torch.manual_seed(0)
    nodes = {
        "left": (AreaLinear(6, 4, areas=1, feedback=None), "a"),
        "right": (AreaLinear(5, 4, areas=1, feedback=None), "b"),
        "sum": (torch.add, "left", "right"),
    }
    network, batch = Network(Graph(nodes, inputs=("a", "b"))), torch.export.Dim("batch", min=1)
    program = torch.export.export(
        network, ((torch.randn(4, 6), torch.randn(4, 5)),), dynamic_shapes=(({0: batch}, {0: batch}),)
    )
    x = torch.randn(9, 6), torch.randn(9, 5)
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
