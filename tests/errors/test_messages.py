"""The wording of every error that the library's parts raise: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from brodmann import SGD, Adam, AreaLinear, BrodmannError, Local, Network, Router, Sequential, mlp, residual_mlp
from brodmann.baselines import Backpropagation
from brodmann.errors import warn

from . import builders, layers, losses, networks, routing, training, updates

CASES = [case for part in (updates, routing, layers, networks, losses, builders, training) for case in part.CASES]


@pytest.mark.parametrize(("act", "message"), CASES, ids=[message[:60] for _, message in CASES])
def test_errors_say_what_was_expected_what_came_and_what_to_do(act: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as caught:
        act()
    found = str(caught.value)
    assert message in found if message.endswith(".safetensors") else found == message
    assert "\n" not in found


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp(4, 2, areas=10**12),
        lambda: mlp(4, 2, width=10**12),
        lambda: mlp(4, 2, width=(10**6, 10**6)),
        lambda: residual_mlp(4, 2, depth=10**12),
        lambda: Backpropagation(4, 2, depth=3, width=10**8),
    ],
)
def test_a_network_that_no_machine_holds_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(BrodmannError, match=r"needs at least .* GB of memory and this machine has .* GB: use fewer"):
        make()


def test_limits_that_are_allowed_raise_nothing() -> None:
    SGD(decay=0.0, momentum=0.0)
    Adam(beta1=0.0, beta2=0.0)
    AreaLinear(1, 1, areas=1, pooling=0.0)
    Router(1, 1, dimension=1, balance_rate=0.0)
    Local(nn.LayerNorm(4, elementwise_affine=False))


def test_loading_says_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Network(mlp(4, 2, width=3)).save(path)
    Network(Sequential(mlp(4, 2, width=3, routing="layer"))).save(tmp_path / "own.safetensors")
    with pytest.raises(BrodmannError, match="does not say how its body was built: pass a body built by the same code"):
        Network.load(tmp_path / "own.safetensors")
    own = tmp_path / "own.safetensors"
    with pytest.raises(BrodmannError, match="does not fit this body: size mismatch for layers.0.layers.0.shared"):
        Network.load(own, body=Sequential(mlp(4, 2, width=5, routing="layer")))
    with pytest.raises(BrodmannError, match="does not fit this body: Missing key"):
        Network.load(own, body=Sequential(mlp(4, 2, depth=3, width=3, routing="layer")))
    with pytest.raises(BrodmannError, match="of another design: its width is 3, but that of the body is 5"):
        Network.load(path, body=mlp(4, 2, width=5))


def test_a_body_that_computes_otherwise_is_not_given_the_weights(tmp_path: Path) -> None:
    """Tensors of equal shapes do not tell: an activation, a gate and a temperature have none."""
    path, built = tmp_path / "network.safetensors", {"in_features": 4, "outputs": 2, "width": 3, "areas": 2}
    Network(mlp(**built, activation="tanh", router={"temperature": 0.5})).save(path)
    same = Network.load(
        path, body=mlp(**built, activation="tanh", router={"temperature": 0.5}, depth=2, pooling=0.1, readout_scale=1.0)
    )
    x = torch.randn(5, 4)
    torch.testing.assert_close(same(x), Network.load(path)(x))
    with pytest.raises(
        BrodmannError, match="of another design: its activation is 'tanh', but that of the body is 'relu'"
    ):
        Network.load(path, body=mlp(**built, router={"temperature": 0.5}))
    with pytest.raises(
        BrodmannError, match="of another design: its router is {'temperature': 0.5}, but that of the body is "
    ):
        Network.load(path, body=mlp(**built, activation="tanh"))


def test_a_warning_names_the_line_of_the_user_also_through_wrappers() -> None:
    with pytest.warns(RuntimeWarning, match="look here") as told:
        torch.no_grad()(warn)("look here", RuntimeWarning)
    assert told[0].filename == __file__
