"""Oracle: update rules beside torch.optim, and what the maths of each demands."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    CrossEntropy,
    Muon,
    Network,
    Product,
    Sequential,
    UpdateRule,
    from_torch,
    mlp,
    to_torch,
)
from brodmann.baselines import Backpropagation
from brodmann.kernels import Groups
from brodmann.network.files import load_whole
from brodmann.updates import Factors, RuleOptimizer, muon
from brodmann.updates.muon import orthogonal


def moved(rule: UpdateRule, weight: Tensor, gradients: list[Tensor], lr: float = 0.1) -> Tensor:
    """Returns the weight after a step along each gradient."""
    found = weight.clone()
    state = {
        name: torch.zeros(shape, dtype=torch.int64 if name == "steps" else weight.dtype)
        for name, shape in rule.state_shapes(tuple(weight.shape)).items()
    }
    for gradient in gradients:
        rule.apply(found, state, Factors(gradient[None]), lr, rule.decay)
    return found


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (Adam(decay=0.1), partial(torch.optim.AdamW, weight_decay=0.1)),
        (Adam(beta1=0.5, beta2=0.9, epsilon=1e-3), partial(torch.optim.Adam, betas=(0.5, 0.9), eps=1e-3)),
        (SGD(), torch.optim.SGD),
        (SGD(momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
    ],
)
@pytest.mark.usefixtures("double")
def test_rules_move_parameters_as_torch_optim_does(rule: UpdateRule, theirs: Any) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimisers = RuleOptimizer(models[0].parameters(), rule, lr=0.01), theirs(models[1].parameters(), lr=0.01)
    for _ in range(8):
        x, y = torch.randn(7, 6), torch.randint(0, 3, (7,))
        for model, optimiser in zip(models, optimisers, strict=True):
            optimiser.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    for ours, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-13)


class OfRows(nn.Module):
    """A table, and gains of two dimensions: no maps, although they have as many dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.out = nn.Embedding(9, 4), nn.LayerNorm((3, 4)), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.table(x)).flatten(1))


@pytest.mark.parametrize("rule", [Adam(decay=0.3), SGD(momentum=0.5, decay=0.3)])
@pytest.mark.usefixtures("double")
def test_a_control_decays_what_layers_decay(rule: UpdateRule) -> None:
    """With transpose feedback both are backpropagation, so that all that could differ is what decays."""
    torch.manual_seed(0)
    perceptron = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))
    samples = torch.randn(10, 8, 6), torch.randint(0, 9, (10, 8, 3))
    for model, batches in zip((perceptron, OfRows()), samples, strict=True):
        network = Network(from_torch(model, batches[0], areas=1, feedback="transpose", update=rule), lr=0.1)
        optimiser = RuleOptimizer.of(model, rule, lr=0.1)
        for x in batches:
            y = torch.randint(0, 3, (8,))
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
            torch.testing.assert_close(network.learn(x, y), loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(network(batches[0]), model(batches[0]).detach(), rtol=1e-11, atol=1e-12)


def test_muon_moves_matrices_as_torch_optim_does_to_the_digits_of_bfloat16() -> None:
    """In which PyTorch makes singular values equal, whatever the weights are."""
    torch.manual_seed(0)
    weight = torch.randn(24, 40)
    gradients = [torch.randn(24, 40) @ torch.diag(torch.logspace(0, -2, 40)) for _ in range(6)]
    theirs = nn.Parameter(weight.clone())
    optimiser = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        theirs.grad = gradient
        optimiser.step()
    change = (theirs - weight).detach()
    ours = moved(Muon(decay=0.3, momentum=0.9), weight, gradients) - weight
    assert float((ours - change).norm() / change.norm()) < 0.02


def test_muon_makes_the_singular_values_equal() -> None:
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(size, 20, dtype=torch.float64))[0] for size in (20, 50))
    found = orthogonal(u @ torch.diag(torch.logspace(0, -2, 20, dtype=torch.float64)) @ v.t(), 1e-7)
    values = torch.diagonal(u.t() @ found @ v)
    torch.testing.assert_close(u @ torch.diag(values) @ v.t(), found)  # the same directions
    assert 0.68 <= float(values.min()) <= float(values.max()) <= 1.21


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**16), st.sampled_from([1e-3, 1.0, 1e3]))
def test_equal_singular_values_turn_with_the_matrix_and_know_no_size(
    rows: int, columns: int, seed: int, size: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))[0] for n in (rows, columns))
    found = orthogonal(matrix, 1e-7)
    torch.testing.assert_close(orthogonal(left @ matrix @ right, 1e-7), left @ found @ right, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(orthogonal(size * matrix, 1e-7), found, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(orthogonal(matrix.t(), 1e-7), found.t(), rtol=1e-8, atol=1e-9)


def test_a_step_of_muon_is_as_large_as_one_of_adam() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.zeros(64, 200), torch.randn(64, 200)
    steps = [moved(rule, weight, [gradient]).pow(2).mean().sqrt() for rule in (Adam(), Muon())]
    assert 0.68 <= float(steps[1] / (0.2 * steps[0])) <= 1.21  # 0.2: what those of Adam are while learning


@pytest.mark.parametrize("alike", [True, False])
def test_a_map_and_its_feedback_are_made_equal_once_where_their_velocities_are(
    alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Mock(side_effect=orthogonal)
    monkeypatch.setattr(muon, "orthogonal", counted)
    torch.manual_seed(0)
    layer = AreaLinear(9, 5, areas=1, update=Muon())
    slabs = layer.shared, layer.feedback.shared
    if not alike:  # as where one was loaded, or has learned alone
        slabs[1].velocity.normal_()
    before = [(slab.value[0].clone(), slab.velocity[0].clone()) for slab in slabs]
    x, delta = torch.randn(7, 9), torch.randn(7, 5)
    slabs[0].learn(delta, x, Groups.single(7), 0.1, 0.3, follower=slabs[1].target(0.2, 0.0))
    assert counted.call_count == (1 if alike else 2)
    for slab, (weight, velocity), (lr, decay) in zip(slabs, before, ((0.1, 0.3), (0.2, 0.0)), strict=True):
        Muon().apply(weight, {"velocity": velocity}, Factors(delta, x), lr, decay)  # alone
        assert torch.equal(slab.value[0], weight)
        assert torch.equal(slab.velocity[0], velocity)


def test_muon_moves_biases_as_adam_does_and_stays_where_nothing_pulls() -> None:
    torch.manual_seed(0)
    bias, gradients = torch.randn(7), [torch.randn(7) for _ in range(3)]
    assert torch.equal(moved(Muon(), bias, gradients), moved(Adam(), bias, gradients))
    weight = torch.randn(3, 4)
    assert torch.equal(moved(Muon(), weight, [torch.zeros(3, 4)] * 2), weight)


def test_a_weight_of_more_dimensions_counts_as_a_matrix() -> None:
    torch.manual_seed(0)
    weight, gradients = torch.randn(3, 2, 5), [torch.randn(3, 2, 5) for _ in range(3)]
    as_matrix = moved(Muon(), weight.flatten(1), [gradient.flatten(1) for gradient in gradients])
    assert torch.equal(moved(Muon(), weight, gradients), as_matrix.reshape(3, 2, 5))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("optimiser", ["adam", "muon", "sgd"])
def test_a_twin_learns_as_one_area_does_by_transpose_feedback(optimiser: str) -> None:
    torch.manual_seed(0)
    rule = {"adam": Adam(), "muon": Muon(), "sgd": SGD()}[optimiser]
    ours = Network(mlp(6, 3, width=8, areas=1, feedback="transpose", update=rule))
    theirs = Backpropagation(6, 3, width=8, optimiser=optimiser)
    maps = [part for part in theirs.body if isinstance(part, nn.Linear)]
    for (_, layer), linear in zip(ours.learning_layers(), maps, strict=True):
        linear.weight.data.copy_(layer.shared.value[0])
        linear.bias.data.copy_(layer.shared.bias.value[0])
    assert ours.lr == theirs.lr
    for _ in range(6):
        x, y = torch.randn(9, 6), torch.randint(0, 3, (9,))
        one, other = ours.learn(x, y, lr=0.02), theirs.learn_with_output(x, y, lr=0.02)[0]
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


CONVOLUTIONS = {
    "grouped": (partial(nn.Conv2d, 4, 8, 3, groups=4), (4, 5, 5)),
    "reflecting": (partial(nn.Conv2d, 4, 8, 3, padding=1, padding_mode="reflect"), (4, 5, 5)),
    "transposed, of sequences": (partial(nn.ConvTranspose1d, 4, 8, 3), (4, 6)),
}
"""Those that become products, whose biases are constants."""


def convolving(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[kind]
    convolution = make()
    features = convolution(torch.zeros(1, *shape)).numel()
    return nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(features, 3)), shape


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_biases_of_any_convolution_move_under_muon_as_an_optimiser_moves_them(kind: str) -> None:
    model, shape = convolving(kind)
    network = Network(from_torch(model, shape, areas=1, feedback="transpose", update=Muon(decay=0.1)), lr=0.01)
    optimiser = RuleOptimizer.of(model, Muon(decay=0.1), lr=0.01)
    for _ in range(3):
        x, y = torch.randn(8, *shape), torch.randint(0, 3, (8,))
        loss = functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        torch.testing.assert_close(network.learn(x, y), loss.detach())
    back = to_torch(network, model, shape)
    for ours, theirs in zip(back.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rule", [Adam(), Muon()])
@pytest.mark.parametrize("kind", ["grouped", "transposed, of sequences"])
def test_biases_of_an_earlier_version_are_loaded(kind: str, rule: UpdateRule) -> None:
    """They lay in the shape in which they are added, and so did what Muon, which took them for a matrix, remembers."""
    model, shape = convolving(kind)
    made = [Network(from_torch(model, shape, areas=1, update=rule), lr=0.01) for _ in range(2)]
    x, y = torch.randn(8, *shape), torch.randint(0, 3, (8,))
    made[0].learn(x, y)
    state = made[0].state_dict()
    (bias,) = (name for name, tensor in state.items() if name.endswith("slab.value") and tensor.shape == (1, 8))
    earlier = (1, 1, 1, 8) if len(shape) == 3 else (1, 8, 1)
    place = bias.removesuffix("value")
    parts = {name: state.pop(name) for name in list(state) if name.startswith(place)}
    if isinstance(rule, Muon):
        parts = {bias: parts[bias], f"{place}velocity": torch.zeros(8)}
    state |= {name: tensor.view(earlier) if tensor.numel() == 8 else tensor for name, tensor in parts.items()}
    load_whole(made[1], state)
    assert torch.equal(made[1](x), made[0](x))
    if isinstance(rule, Adam):
        for network in made:
            network.learn(x, y)
        assert torch.equal(made[1](x), made[0](x))


@dataclass(frozen=True, kw_only=True)
class Centred(UpdateRule):
    """A rule of a user's own whose steps are of inputs less their mean; of gradients alone it can do nothing."""

    needs_inputs: ClassVar[bool] = True

    def apply(self, weight: Tensor, state: Any, factors: Factors, lr: float, decay: float) -> None:
        assert factors.x is not None
        weight.sub_(lr * factors.delta.t() @ (factors.x - factors.x.mean(0)))


def test_a_rule_that_needs_inputs_asks_for_no_other_loss_and_moves_no_product() -> None:
    layer = Product(nn.functional.linear, torch.randn(4, 6), update=Centred())
    network = Network(Sequential(layer, AreaLinear(4, 3, areas=1, bias=False, update=Centred())))
    before, x, y = layer.weight.clone(), torch.randn(9, 6), torch.arange(9) % 3
    assert isinstance(network.loss, CrossEntropy)
    assert network.learn(x, y, lr=0.1) > network(x).log_softmax(1)[range(9), y].neg().mean()
    assert torch.equal(layer.weight, before)
    with pytest.raises(BrodmannError, match="Centred needs the inputs of its weights"):
        RuleOptimizer(nn.Linear(3, 2).parameters(), Centred())


def test_a_rule_that_needs_inputs_is_no_optimiser() -> None:
    with pytest.raises(BrodmannError, match="RLS needs the inputs of its weights, which no gradient holds"):
        RuleOptimizer(nn.Linear(3, 2).parameters(), RLS())
    with pytest.raises(BrodmannError, match="Expected update to be a rule such as Adam"):
        RuleOptimizer(nn.Linear(3, 2).parameters(), Adam)  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="The optimiser 'rls' needs more than gradients"):
        Backpropagation(3, 2, optimiser="rls")


@pytest.mark.parametrize("rule", [Adam, SGD, Muon, RLS])
@pytest.mark.parametrize(("unnamed", "named"), [([1e-3], {}), ([], {"lr": 1e-3})], ids=["by place", "by name"])
def test_settings_of_rules_are_given_by_name(rule: Any, unnamed: list[float], named: dict[str, float]) -> None:
    """`Adam(1e-3)` would set a decay of the first moment, where torch.optim has the learning rate."""
    with pytest.raises(BrodmannError, match=f"{rule.__name__} takes its settings by name, and the learning rate is"):
        rule(*unnamed, **named)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda twin: pickle.loads(pickle.dumps(twin))])
def test_copies_of_a_control_go_on_as_it_does(again: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(9, 6), torch.randint(0, 3, (9,))
    twin = Backpropagation(6, 3, width=8, optimiser="muon")
    twin.learn_with_output(x, y, lr=0.02)
    other = again(twin)
    for _ in range(2):
        assert torch.equal(other.learn_with_output(x, y, lr=0.02)[0], twin.learn_with_output(x, y, lr=0.02)[0])


def test_counts_of_steps_stay_whole_numbers() -> None:
    bias = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    first, second = (RuleOptimizer([bias], Muon()) for _ in range(2))
    bias.grad = torch.ones_like(bias)
    for _ in range(300):
        first.step()
    second.load_state_dict(first.state_dict())
    second.step()
    assert second.state[bias]["steps"] == 301
    with pytest.raises(BrodmannError, match="Expected lr to be"):
        RuleOptimizer([bias], Muon(), lr=-1.0)


def test_an_optimiser_computes_what_its_closure_does() -> None:
    linear = nn.Linear(3, 2)
    optimiser = RuleOptimizer([{"params": linear.weight, "lr": 0.5}, {"params": [linear.bias]}], SGD(decay=0.5))
    before = linear.weight.detach().clone()

    def closure() -> float:
        optimiser.zero_grad()
        loss = linear(torch.ones(1, 3)).sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) is not None
    torch.testing.assert_close(linear.weight.detach(), 0.75 * before - 0.5)
