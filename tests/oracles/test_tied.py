"""Oracle: a layer in several places of a graph, and weights of several maps, learn as one weight under autograd."""

from __future__ import annotations

import copy
import re
from functools import partial
from pathlib import Path
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
    BatchNorm,
    BrodmannError,
    Constant,
    Graph,
    KolenPollack,
    Layer,
    Network,
    Product,
    Rates,
    Recurrent,
    Routed,
    Router,
    Sequential,
    SumOfSquares,
    TiedProduct,
    TiedWeights,
    Transpose,
    UpdateRule,
)
from brodmann.layers import LSTM
from brodmann.mirror import mirror_weights
from brodmann.telemetry import alignment, area_usage, class_conflict

from .cases import RULES
from .reference import Reference


def body(rule: UpdateRule, *, areas: int = 1, feedback: Any = Transpose, **options: Any) -> Any:
    """The middle layer maps twice, on rows of two kinds; a product, and a factor, stand in two places too."""
    common = {"areas": areas, "update": rule, "router": None, **options}
    nodes: dict[str, tuple[Any, ...]] = {
        "low": (AreaLinear(5, 6, feedback=None, **common), "input"),
        "first": (nn.Tanh(), "low"),
        "map": (AreaLinear(6, 6, feedback=feedback, **common), "first"),
        "second": (nn.Tanh(), "map"),
        "pairs": (lambda x: torch.stack((x, 2.0 * x), 1), "second"),
        "again": ("map", "pairs"),
        "third": (lambda x: torch.tanh(x).mean(1), "again"),
        "product": (Product(functional.linear, torch.randn(6, 6), feedback=feedback, update=rule), "third"),
        "fourth": (nn.Tanh(), "product"),
        "product_again": ("product", "fourth"),
        "gain": (Constant(torch.linspace(0.5, 1.5, 6), rule),),
        "scaled": (torch.mul, "product_again", "gain"),
        "gain_again": ("gain",),
        "twice": (torch.mul, "scaled", "gain_again"),
        "gain_once_more": ("gain_again",),
        "thrice": (torch.mul, "twice", "gain_once_more"),
        "readout": (AreaLinear(6, 3, feedback=feedback, **common), "thrice"),
    }
    graph = Graph(nodes)
    return graph if areas == 1 else Routed(Router(5, areas, update=rule), graph)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("areas", [1, 4])
def test_a_layer_in_several_places_learns_as_under_autograd(rule: str, areas: int) -> None:
    torch.manual_seed(0)
    network = Network(body(RULES[rule], areas=areas))
    reference = Reference(network)
    for step in range(6):
        x, target, lr = torch.randn(12, 5), torch.randint(0, 3, (12,)), 0.05 / (1 + step)
        ours = network.learn(x, target, lr=lr)
        torch.testing.assert_close(ours, reference.step(x, target, lr), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("areas", [1, 4])
def test_feedback_that_starts_equal_stays_so_in_several_places(areas: int) -> None:
    torch.manual_seed(0)
    paths = (partial(KolenPollack, start="equal"), Transpose)
    bodies = [body(Adam(), areas=areas, feedback=path) for path in paths]
    missing, unexpected = bodies[0].load_state_dict(bodies[1].state_dict(), strict=False)
    assert not unexpected
    assert all("feedback" in name for name in missing)
    rates = Rates(areas=0.0, projection=0.0)  # one matrix knows nothing of the areas' own parts
    ours, theirs = (Network(part, rates=rates) for part in bodies)
    for _, layer in ours.learning_layers():
        if isinstance(layer, AreaLinear | Product) and layer.feedback is not None:
            layer.feedback.shared.value.data.copy_(layer.shared.value)
    for _ in range(4):
        x, target = torch.randn(9, 5), torch.randint(0, 3, (9,))
        torch.testing.assert_close(ours.learn(x, target, lr=0.1), theirs.learn(x, target, lr=0.1))


@pytest.mark.usefixtures("double")
def test_errors_of_several_places_are_compared_with_the_true_ones() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(9, 5), torch.randint(0, 3, (9,))
    for row in alignment(Network(body(SGD())), x, target):
        assert (row.cosine, row.norm_ratio) == (pytest.approx(1.0), pytest.approx(1.0))
    rows = alignment(Network(body(SGD(), feedback=KolenPollack)), x, target)
    assert [row.layer for row in rows] == [f"nodes.{name}" for name in ("low", "map", "product", "readout")]
    assert all(-1.0 <= row.cosine < 0.999 for row in rows[:3])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("areas", [1, 4])
def test_conflict_counts_the_rows_of_all_places(areas: int) -> None:
    """As of a layer that sees them as rows of one batch: the gradient is the same, and so is the share that cancels."""
    torch.manual_seed(0)
    common: dict[str, Any] = {"areas": areas, "router": None}
    seen, readout = AreaLinear(4, 6, feedback=None, **common), AreaLinear(6, 3, feedback=Transpose, **common)
    nodes: dict[str, tuple[Any, ...]] = {
        "left": (lambda x: x[:, :4], "input"),
        "right": (lambda x: x[:, 4:], "input"),
        "seen": (seen, "left"),
        "again": ("seen", "right"),
        "sum": (lambda x, y: torch.tanh(x) + torch.tanh(y), "seen", "again"),
        "readout": (readout, "sum"),
    }
    x, target = torch.randn(30, 8), torch.randint(0, 3, (30,))
    body: Layer = Graph(nodes) if areas == 1 else Routed(Router(8, areas), Graph(nodes))
    first, _ = class_conflict(Network(body), x, target)
    of_classes = []
    for label in range(3):
        weights = Network(copy.deepcopy(body))
        held = weights.body.nodes["seen"] if areas == 1 else weights.body.body.nodes["seen"]
        before = torch.cat((held.shared.value[0], held.shared.bias.value[0][:, None]), 1)
        weights.rates = Rates(areas=0.0, projection=0.0, layers={"*readout": 0.0})
        chosen = target == label
        weights.learn(x, target, chosen.double(), lr=1.0)
        after = torch.cat((held.shared.value[0], held.shared.bias.value[0][:, None]), 1)
        of_classes.append((before - after) * float(chosen.sum()))
    total = sum(of_classes)
    expected = 1 - total.norm() / sum(part.norm() for part in of_classes)
    assert first.layer.endswith("seen")
    assert first.pooled == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.usefixtures("double")
def test_errors_of_sequences_of_several_lengths_are_compared_with_the_true_ones() -> None:
    torch.manual_seed(0)
    recurrent = Recurrent(
        AreaLinear(2, 8, areas=1, feedback=Transpose), AreaLinear(2, 8, areas=1, feedback=Transpose), LSTM()
    )
    nodes: dict[str, tuple[Any, ...]] = {
        "all": (recurrent, "input"),
        "two": (lambda x: x[:, :2], "all"),
        "again": ("all", "two"),
        "last": (lambda x: x[:, -1], "again"),
    }
    rows = alignment(Network(Graph(nodes)), torch.randn(7, 5, 2), torch.randint(0, 2, (7,)))
    assert len(rows) > 1
    for row in rows:
        assert (row.cosine, row.norm_ratio) == (pytest.approx(1.0), pytest.approx(1.0))


def test_areas_of_all_places_and_of_all_steps_are_counted() -> None:
    torch.manual_seed(0)
    routed = partial(AreaLinear, areas=4)
    tied = Graph({"first": (routed(5, 5), "input"), "again": ("first", "first")})
    assert [sum(row.counts) for row in area_usage(Network(tied), torch.randn(7, 5))] == [14]
    steps = Recurrent(routed(3, 8, feedback=None), routed(2, 8), LSTM())
    usage = area_usage(Network(steps), torch.randn(7, 6, 3))
    assert [(row.layer, sum(row.counts)) for row in usage] == [("inputs", 42), ("states", 42)]


def test_a_layer_in_several_places_is_held_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, target = torch.randn(9, 5), torch.randint(0, 3, (9,))
    network = Network(body(Adam(), areas=4, feedback=KolenPollack))
    assert [name for name, _ in network.learning_layers()].count("body.nodes.map") == 1
    assert "again (map again) <- pairs" in str(network)
    network.learn(x, target)
    network.save(tmp_path / "network.safetensors")
    torch.manual_seed(1)
    loaded = Network.load(tmp_path / "network.safetensors", body=body(Adam(), areas=4, feedback=KolenPollack))
    assert torch.equal(loaded.learn(x, target), network.learn(x, target))
    torch.testing.assert_close(network.merged()(x), network(x))
    still = copy.deepcopy(network)
    still.rates = Rates(layers={"nodes.map": 0.0, "nodes.gain": 0.0})
    before = still.body.body.nodes["map"].shared.value.clone(), still.body.body.nodes["gain"].value.clone()
    still.learn(x, target)
    after = still.body.body.nodes["map"].shared.value, still.body.body.nodes["gain"].value
    assert all(map(torch.equal, before, after))


def test_the_error_is_clipped_in_each_place_and_weights_count_there() -> None:
    """A sample of weight 2 is a sample seen twice, under a rule that counts."""
    torch.manual_seed(0)
    plain = Network(body(RLS()), SumOfSquares())
    weighted = Network(copy.deepcopy(plain.body), SumOfSquares())
    x, target = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    plain.learn(torch.cat((x, x[:1])), torch.cat((target, target[:1])))
    weighted.learn(x, target, torch.tensor([2.0, 1.0, 1.0, 1.0]))
    for one, other in zip(plain.body.parameters(), weighted.body.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    clipped = Network(body(SGD()), clip=1e-9)
    before = [part.detach().clone() for part in clipped.parameters()]
    clipped.learn(x, target, lr=1.0)
    assert all(float((part - old).abs().max()) < 1e-7 for part, old in zip(clipped.parameters(), before, strict=True))


class Own(Layer):
    """Moves at every error."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return self.scale * x

    def trace(self, x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        return self(x), x

    def learn(self, trace: Tensor, error: Tensor, context: Any) -> Tensor:
        return self.scale * error


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"a": (nn.ReLU(), "input"), "b": ("c", "a")}, "Node 'b' takes the layer of 'c', which is not an earlier node"),
        ({"a": ("a", "input")}, "which is not an earlier node that has a layer: there are none."),
        ({"a": (BatchNorm(5), "input"), "b": ("a", "a")}, "Node 'b' reuses a layer in which a BatchNorm learns"),
        ({"a": (Own(), "input"), "b": ("a", "a")}, "Node 'b' reuses a layer in which a Own learns"),
        ({"a": (nn.ReLU(), "input"), "b": ("a",)}, "Node 'b' names nothing to read"),
    ],
)
def test_what_cannot_stand_in_several_places_is_told(nodes: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Graph(nodes)


def test_operations_may_stand_in_several_places_too() -> None:
    graph = Graph({"a": (nn.Tanh(), "input"), "b": (torch.add, "a", "input"), "c": ("a", "b"), "d": ("b", "c", "a")})
    x = torch.randn(3, 5)
    first = torch.tanh(x)
    torch.testing.assert_close(graph(x), torch.tanh(first + x) + first)


def tied(rule: UpdateRule, feedback: Any = Transpose) -> Network:
    """Rows of a table, a map and its transpose, and the table again as the readout; a mean of it, too."""
    table = TiedWeights(torch.randn(7, 4) / 2, feedback=feedback, update=rule)
    map_ = TiedWeights(torch.randn(6, 4) / 2, feedback=feedback, update=rule)
    nodes: dict[str, tuple[Any, ...]] = {
        "table": (table,),
        "rows": (functional.embedding, "input", "table"),
        "mean": (lambda rows: rows.mean(1), "rows"),
        "map": (map_,),
        "wide": (TiedProduct(functional.linear, map_), "mean", "map"),
        "bent": (nn.Tanh(), "wide"),
        "back": (TiedProduct(torch.matmul, map_), "bent", "map"),
        "turned": (lambda x, table: torch.tanh(x) * table.mean(0), "back", "table"),
        "scores": (TiedProduct(functional.linear, table), "turned", "table"),
    }
    return Network(Graph(nodes), lr=0.05)


def words() -> tuple[Tensor, Tensor]:
    return torch.randint(0, 7, (12, 3)), torch.randint(0, 7, (12,))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rule", RULES)
def test_weights_of_several_maps_learn_as_one_under_autograd(rule: str) -> None:
    torch.manual_seed(0)
    network = tied(RULES[rule])
    reference = Reference(network)
    for step in range(6):
        (x, target), lr = words(), 0.05 / (1 + step)
        ours = network.learn(x, target, lr=lr)
        torch.testing.assert_close(ours, reference.step(x, target, lr), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("double")
def test_a_limit_holds_for_the_errors_of_tied_maps_and_not_once_more_for_their_gradient() -> None:
    torch.manual_seed(0)
    weight, x, target = torch.randn(4, 5), 3 * torch.randn(16, 5), torch.randn(16, 4)
    steps = []
    table = TiedWeights(weight, feedback=None, update=SGD())
    nodes = {"table": (table,), "y": (TiedProduct(functional.linear, table, lowest=True), "input", "table")}
    for single in (Graph(nodes), Product(functional.linear, weight, feedback=None, update=SGD())):
        Network(single, SumOfSquares(), lr=0.1, clip=1.0).learn(x, target)
        (after,) = single.parameters()
        steps.append(after.reshape(4, 5) - weight)
    error = x @ weight.t() - target
    torch.testing.assert_close(steps[0], -0.1 * (error / error.norm()).t() @ x)
    torch.testing.assert_close(steps[0], steps[1])


@pytest.mark.usefixtures("double")
def test_tied_feedback_that_starts_equal_stays_so_and_other_comes_near() -> None:
    torch.manual_seed(0)
    ours = tied(Adam(decay=0.1), partial(KolenPollack, start="equal"))
    torch.manual_seed(0)
    theirs = tied(Adam(decay=0.1))
    for _ in range(5):
        x, target = words()
        torch.testing.assert_close(ours.learn(x, target), theirs.learn(x, target))
    independent = tied(SGD(decay=0.5), KolenPollack)
    x, target = words()
    for _ in range(60):
        independent.learn(x, target, lr=0.2)
    for name in ("table", "map"):
        weights = independent.body.nodes[name]
        torch.testing.assert_close(weights.feedback.shared.value, weights.shared.value, rtol=0.0, atol=5e-3)


@pytest.mark.usefixtures("double")
def test_errors_through_tied_weights_are_known_and_mirrored() -> None:
    torch.manual_seed(0)
    x, target = words()
    rows = alignment(tied(SGD()), x, target)
    assert [row.layer for row in rows] == ["nodes.wide", "nodes.back", "nodes.scores"]
    for row in rows:
        assert (row.cosine, row.norm_ratio, row.weight_cosine) == pytest.approx((1.0, 1.0, 1.0))
    network = tied(SGD(), KolenPollack)
    assert min(row.cosine for row in alignment(network, x, target)) < 0.9
    mirror_weights(network)
    assert min(row.cosine for row in alignment(network, x, target)) > 0.99


def test_tied_weights_are_held_once_in_copies_and_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = tied(Adam(), KolenPollack)
    assert [name for name, _ in network.learning_layers()] == ["nodes.table", "nodes.map"]
    assert network.total_parameters() == 2 * (7 * 4 + 6 * 4)  # feedback weights, too
    other = copy.deepcopy(network)
    assert other.body.nodes["scores"].weights is other.body.nodes["table"]
    x, target = words()
    network.learn(x, target)
    network.save(tmp_path / "network.safetensors")
    torch.manual_seed(1)
    loaded = Network.load(tmp_path / "network.safetensors", body=tied(Adam(), KolenPollack).body)
    for _ in range(2):
        assert torch.equal(loaded.learn(x, target, lr=0.05), network.learn(x, target, lr=0.05))
    network.rates = Rates(layers={"nodes.table": 0.0})
    before = [network.body.nodes[name].weight.clone() for name in ("table", "map")]
    network.learn(x, target)
    same = [
        torch.equal(network.body.nodes[name].weight, was) for name, was in zip(("table", "map"), before, strict=True)
    ]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: TiedProduct(torch.matmul, nn.Linear(2, 2)), "to be a TiedWeights layer, got Linear."),
        (lambda w: TiedProduct(nn.Linear(2, 2), w), "without parameters of its own"),
        (lambda w: TiedWeights(torch.ones(3)), "Expected weights (out, ...) of float32 or float64, got (3,)"),
        (
            lambda w: TiedWeights(torch.ones(3, 3), feedback=partial(KolenPollack, noise=0.1)),
            "cannot send errors down through a",
        ),
        (
            lambda w: Network(Sequential(TiedProduct(torch.matmul, w), AreaLinear(2, 2))).learn(
                torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)
            ),
            "make it a node of the Graph in which those weights are a node, and let it read both.",
        ),
        (
            lambda w: Graph({"y": (TiedProduct(torch.matmul, w), "input")}),
            "Node 'y' is a TiedProduct: expected it to read a value and the node of its TiedWeights, got input.",
        ),
        (
            lambda w: Graph(
                {"w": (w,), "v": (TiedWeights(torch.ones(2, 2)),), "y": (TiedProduct(torch.matmul, w), "input", "v")}
            ),
            "expected it to read a value and the node of its TiedWeights, got input, v.",
        ),
        (
            lambda w: Graph(
                {
                    "low": (AreaLinear(2, 2, feedback=None), "input"),
                    "w": (w,),
                    "y": (TiedProduct(torch.matmul, w, lowest=True), "low", "w"),
                }
            ),
            "Node 'y' (TiedProduct) receives no error, or sends none down",
        ),
    ],
)
def test_what_cannot_be_tied_is_named(make: Any, message: str) -> None:
    with pytest.raises(BrodmannError, match=re.escape(message)):
        make(TiedWeights(torch.eye(2)))
