"""Products of any form: where one is a plain map, it is an `AreaLinear`; what is sent down holds no forward weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Direct,
    Feedback,
    FixedRandom,
    Graph,
    KolenPollack,
    LeastChange,
    Local,
    Network,
    Product,
    Rates,
    Sequential,
    SignSymmetric,
    Transpose,
)

from .cases import RULES
from .copies import assert_copies_go_on_alike

PATHS = {
    "kolen-pollack": KolenPollack,
    "kolen-pollack-equal": partial(KolenPollack, start="equal"),
    "random": FixedRandom,
    "sign": SignSymmetric,
    "transpose": Transpose,
}
"""Those of one matrix."""
DEPTHWISE = partial(torch.conv1d, padding=1, groups=3)


def body(make: Any, path: Any, rule: Any) -> tuple[Sequential, Any]:
    """Returns two maps below and above another, and that."""
    middle = make(path, rule)
    low, high = AreaLinear(5, 6, areas=1, feedback=None, update=rule), AreaLinear(4, 3, areas=1, update=rule)
    return Sequential(low, Local(nn.Tanh()), middle, Local(nn.Tanh()), high), middle


def as_areas(path: Any, rule: Any) -> AreaLinear:
    return AreaLinear(6, 4, areas=1, feedback=path, update=rule)


def as_product(path: Any, rule: Any) -> Product:
    return Product(functional.linear, torch.randn(4, 6) / 6**0.5, feedback=path, update=rule)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rule", [rule for rule in RULES if "rls" not in rule])
def test_a_product_that_is_a_plain_map_learns_as_one(path: str, rule: str) -> None:
    torch.manual_seed(0)
    plain, linear = body(as_areas, PATHS[path], RULES[rule])
    other, product = body(as_product, PATHS[path], RULES[rule])
    for theirs, ours in ((plain.layers[0], other.layers[0]), (plain.layers[4], other.layers[4])):
        ours.load_state_dict(theirs.state_dict())
    product.shared.value.copy_(linear.shared.value)
    product.feedback.load_state_dict(linear.feedback.state_dict())
    # A product has no biases: those of the map stay at zero.
    linear.shared.bias.target = lambda lr, decay: type(linear.shared.bias).target(linear.shared.bias, 0.0, decay)
    rates = Rates(shared=0.5, feedback=2.0, layers={"layers.2": 0.7})
    first, second = (Network(one, lr=0.03, rates=rates, clip=0.05) for one in (plain, other))
    for _ in range(5):
        x, y = torch.randn(9, 5), torch.randint(0, 3, (9,))
        assert float(first.learn(x, y)) == pytest.approx(float(second.learn(x, y)), abs=1e-12)
    torch.testing.assert_close(product.weight, linear.shared.value[0])
    for theirs, ours in zip(linear.feedback.parameters(), product.feedback.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("double")
def test_errors_go_down_by_the_feedback_weights_and_no_others() -> None:
    torch.manual_seed(1)
    layer = Product(DEPTHWISE, torch.randn(3, 1, 3), update=SGD())
    back = layer.feedback.shared.value[0].view(3, 1, 3).clone()
    x, e = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    for _ in range(2):
        network = Network(layer)
        below = layer.learn(layer.trace(x, context(network))[1], e, context(network))
        torch.testing.assert_close(below, functional.conv_transpose1d(e, back, padding=1, groups=3))
        with torch.no_grad():
            layer.weight.normal_()  # whatever they are


def context(network: Network, **options: Any) -> Any:
    from brodmann import Context

    return Context(rates=network.rates, **options)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_pair_keeps_its_difference_but_for_decay(decay: float) -> None:
    torch.manual_seed(2)
    layer = Product(DEPTHWISE, torch.randn(3, 1, 3), update=SGD(decay=decay))
    before = layer.weight - layer.feedback.shared.value[0].view(3, 1, 3)
    network = Network(Sequential(Local(nn.Unflatten(1, (3, 5))), layer, Local(nn.Flatten())), lr=0.1)
    for _ in range(20):
        network.learn(torch.randn(4, 15), torch.randint(0, 15, (4,)))
    after = layer.weight - layer.feedback.shared.value[0].view(3, 1, 3)
    torch.testing.assert_close(after, (1 - 0.1 * decay) ** 20 * before)


def test_weights_stay_under_recursive_least_squares_and_where_their_rate_is_zero() -> None:
    for rule, rates in ((RLS(), Rates()), (Adam(), Rates(shared=0.0)), (Adam(), Rates(layers={"layers.0": 0.0}))):
        layer = Product(functional.linear, torch.randn(4, 6), update=rule)
        top = AreaLinear(4, 3, areas=1, update=rule)
        network, before = Network(Sequential(layer, top), rates=rates), layer.weight.clone()
        network.learn(torch.randn(9, 6), torch.arange(9) % 3)
        assert torch.equal(layer.weight, before)


def test_a_product_is_counted_copied_stored_and_compiled(tmp_path: Any) -> None:
    torch.manual_seed(0)

    def make() -> Network:
        parts = Local(nn.Unflatten(1, (3, 5))), Product(DEPTHWISE, torch.randn(3, 1, 3), update=Adam())
        return Network(Sequential(*parts, Local(nn.Flatten()), AreaLinear(15, 3, areas=1, update=Adam())))

    network, x, y = make(), torch.randn(6, 15), torch.arange(6) % 3
    assert network.lr == Adam().default_lr
    assert network.active_parameters() == 9 + 16 * 3
    assert network.total_parameters() == 2 * 9 + 16 * 3 + 15 * 3
    network.learn(x, y)
    assert_copies_go_on_alike(network, make().body, x, y, tmp_path)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(network, backend="eager")(x), network(x))
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), network(x))
    assert "Product(\n" in str(network)
    assert "(3, 1, 3), Adam" in str(network)


def test_weights_of_a_product_may_be_stored_in_few_bits() -> None:
    torch.manual_seed(0)
    layer = Product(functional.linear, torch.randn(4, 6), update=Adam(), storage=torch.bfloat16)
    network = Network(Sequential(layer, AreaLinear(4, 3, areas=1, update=Adam())))
    assert layer.weight.dtype == layer.feedback.shared.value.dtype == torch.bfloat16
    x, y = torch.randn(30, 6), torch.arange(30) % 3
    losses = [float(network.learn(x, y)) for _ in range(100)]
    assert losses[-1] < 0.8 * losses[0]


class Shrinking(KolenPollack):
    """A path that follows the weights, and moves beside that: nothing else would say that its `learn` is not called."""

    def learn(self, *arguments: Any) -> None:
        super().learn(*arguments)
        assert self.shared is not None
        self.shared.value.mul_(0.9)


class Small(KolenPollack):
    """A path that begins in a way of its own, and learns as Kolen-Pollack does."""

    def __init__(self, shape: Any) -> None:
        super().__init__(shape)
        assert self.shared is not None
        self.shared.value.mul_(0.1)


def test_a_path_of_ones_own_that_follows_alone_goes_through_a_product() -> None:
    assert Product(functional.linear, torch.randn(3, 2), feedback=Small).sends_down
    assert AreaLinear(2, 3, areas=1, feedback=Small).learns_by_gradient
    for path in (Shrinking, partial(LeastChange, path=Shrinking)):
        assert not AreaLinear(2, 3, areas=1, feedback=path).learns_by_gradient


class Twice(Feedback):
    """A path of one's own that says an error alone."""

    def __init__(self, shape: Any) -> None:
        super().__init__()

    def error(self, signal: Any) -> Tensor:
        return 2 * signal.x


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operation": None}, "Expected the operation of a Product to be a function of inputs and weights"),
        ({"operation": nn.Linear(2, 2)}, "without parameters of its own, got Linear"),
        ({"weight": [1.0]}, "Expected weights (out, ...) of float32 or float64, got list."),
        ({"weight": torch.ones(3)}, "Expected weights (out, ...) of float32 or float64, got (3,) torch.float32."),
        ({"weight": torch.ones(3, 2, dtype=torch.float16)}, "got (3, 2) torch.float16."),
        (
            {"weight": torch.ones(3, 2, dtype=torch.float64), "storage": torch.bfloat16},
            "storage='bfloat16' works only with weights in float32",
        ),
        ({"update": "adam"}, "Expected update to be a rule such as Adam(), got 'adam'."),
        ({"feedback": partial(Direct, outputs=2)}, "Direct cannot send errors down through a Product"),
        ({"feedback": LeastChange}, "LeastChange cannot send errors down through a Product"),
        ({"feedback": partial(KolenPollack, noise=0.1)}, "such as KolenPollack without noise."),
        ({"feedback": Shrinking}, "Shrinking cannot send errors down through a Product"),
        ({"feedback": Twice}, "Twice cannot send errors down through a Product"),
    ],
)
def test_what_is_no_product_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        Product(**{"operation": functional.linear, "weight": torch.randn(3, 2), **options})
    assert message in str(error.value)


def test_what_tells_a_product_what_to_do_has_no_error() -> None:
    """Which of two maps each row goes through comes from another layer, which learns by nothing else here."""
    torch.manual_seed(0)

    def switched(x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen[:, :1] > 0, x @ weight[0].t(), x @ weight[1].t())

    weight = torch.randn(2, 3, 5)
    nodes = {
        "value": (AreaLinear(4, 5, areas=1, feedback=None, update=SGD()), "input"),
        "choice": (lambda x: x[:, 1:] - x[:, :-1], "input"),
        "product": (Product(switched, weight, feedback=Transpose, update=SGD()), "value", "choice"),
    }
    network = Network(Graph(nodes), lr=0.1)
    below = network.body.nodes["value"]
    leaves = [below.shared.value[0].clone(), below.shared.bias.value[0].clone(), weight.clone()]
    for _ in range(4):
        x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
        for leaf in leaves:
            leaf.requires_grad_()
        loss = functional.cross_entropy(switched(functional.linear(x, *leaves[:2]), leaves[2], x[:, 1:] - x[:, :-1]), y)
        gradients = torch.autograd.grad(loss, leaves)
        leaves = [(leaf - 0.1 * gradient).detach() for leaf, gradient in zip(leaves, gradients, strict=True)]
        torch.testing.assert_close(network.learn(x, y), loss.detach())
    torch.testing.assert_close(below.shared.value[0], leaves[0])
    torch.testing.assert_close(network.body.nodes["product"].weight, leaves[2])


def test_a_rule_that_asks_for_inputs_moves_nothing_and_keeps_nothing() -> None:
    product = Product(partial(torch.conv2d, padding=1), torch.randn(4, 6, 3, 3), update=RLS())
    assert {tuple(tensor.shape) for tensor in product.state_dict().values()} == {(1, 4, 54)}
    network = Network(
        Sequential(AreaLinear(5, 5, areas=1, feedback=None, update=RLS()), Local(grown), product, Local(flat))
    )
    before = product.weight.clone()
    network.learn(torch.randn(8, 5), torch.randint(0, 4, (8,)))
    assert torch.equal(product.weight, before)


def grown(x: Tensor) -> Tensor:
    return x[:, None, None, :].expand(-1, 6, 5, -1)


def flat(x: Tensor) -> Tensor:
    return x.mean((2, 3))
