"""Graphs and constants: exact identities with the containers they generalise, and what they refuse."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

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
    Constant,
    Context,
    Graph,
    Layer,
    Local,
    Network,
    Rates,
    Residual,
    Sequential,
    SumOfSquares,
    Transpose,
    affine,
)
from brodmann.layers.local import Sum


def layer(inputs: int, size: int, **options: Any) -> AreaLinear:
    return AreaLinear(inputs, size, areas=2, **{"update": Adam(), **options})


def learned_alike(first: Network, second: Network, x: Tensor, y: Tensor) -> None:
    for _ in range(4):
        assert torch.equal(first.learn(x, y), second.learn(x, y))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_chain_is_a_sequential_and_a_sum_around_a_layer_is_a_residual() -> None:
    torch.manual_seed(0)
    lowest, inner, readout = layer(5, 6, feedback=None), layer(6, 6), layer(6, 3)
    x, y = torch.randn(9, 5), torch.arange(9) % 3
    chain = Sequential(lowest, Residual(Sequential(Local(nn.ReLU()), inner)), readout)
    for join in (torch.add, Sum()):
        nodes = {
            "lowest": (lowest, "input"),
            "active": (Local(nn.ReLU()), "lowest"),
            "inner": (inner, "active"),
            "sum": (join, "lowest", "inner"),
            "readout": (readout, "sum"),
        }
        learned_alike(Network(copy.deepcopy(Graph(nodes))), Network(copy.deepcopy(chain)), x, y)


@pytest.mark.usefixtures("double")
@settings(max_examples=30)
@given(st.data())
def test_errors_of_random_graphs_are_those_of_autograd(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    nodes: dict[str, tuple[Any, ...]] = {}
    known, joins = ["input"], {"sum": torch.add, "product": torch.mul, "largest": torch.maximum}
    for index in range(data.draw(st.integers(1, 8))):
        read = data.draw(st.sampled_from(known))
        kind = data.draw(st.sampled_from(["map", "active", "constant", *joins]))
        if kind == "map":
            nodes[f"n{index}"] = (AreaLinear(3, 3, areas=1, feedback=Transpose, update=SGD()), read)
        elif kind == "active":
            nodes[f"n{index}"] = (Local(nn.Tanh()), read)
        elif kind == "constant":
            nodes[f"n{index}"] = (Constant(torch.randn(3), SGD()),)
        else:
            nodes[f"n{index}"] = (joins[kind], read, data.draw(st.sampled_from(known)))
        known.append(f"n{index}")
    read = {source for _, *sources in nodes.values() for source in sources}
    loose = [name for name in nodes if name not in read] + (["input"] if "input" not in read else [])
    nodes["end"] = (lambda *x: sum(torch.broadcast_tensors(*x)), *loose) if len(loose) > 1 else (torch.tanh, *loose)
    graph = Graph(nodes)
    x, error = torch.randn(4, 3), torch.randn(4, 3)
    followed, parameters = x.clone().requires_grad_(), list(graph.parameters())
    for parameter in parameters:
        parameter.requires_grad_()
    expected = torch.autograd.grad(graph(followed), [followed, *parameters], error, allow_unused=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in parameters]
    y, trace = graph.trace(x, Context())
    torch.testing.assert_close(y, graph(x))
    below = graph.learn(trace, error, Context(lr=1.0))
    assert not trace
    torch.testing.assert_close(below, expected[0])
    for parameter, old, gradient in zip(parameters, before, expected[1:], strict=True):
        torch.testing.assert_close(old - parameter, torch.zeros_like(old) if gradient is None else gradient)


def test_a_value_is_let_go_when_its_last_reader_is_done() -> None:
    alive: list[int] = []

    class Counting(Layer):
        def forward(self, x: Tensor, choice: Any = None) -> Tensor:
            alive.append(sum(1 for name in ("a", "b", "c") if name in self.values()))
            return x.clone()

        def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
            return self(x), None

        def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
            return error

    graph = Graph({name: (Counting(), read) for name, read in zip("abcd", ["input", "a", "b", "c"], strict=True)})
    read = graph._read
    seen: dict[str, Any] = {}

    def watched(name: str, values: dict[str, Any]) -> Any:
        seen["values"] = values
        return read(name, values)

    graph._read = watched  # type: ignore[method-assign]
    for part in graph.nodes.values():
        part.values = lambda: seen["values"]  # type: ignore[assignment]
    graph(torch.ones(2))
    assert alive == [0, 0, 0, 0]  # what a node reads is held by that node alone


def test_operations_of_several_tensors_take_whole_numbers_too() -> None:
    torch.manual_seed(0)
    table = torch.randn(7, 4)
    network = Network(
        Graph(
            {
                "table": (Constant(table, SGD()),),
                "rows": (functional.embedding, "input", "table"),
                "readout": (layer(4, 3, feedback=Transpose, update=SGD()), "rows"),
            }
        ),
        lr=0.5,
    )
    assert network.total_parameters() == 7 * 4 + Network(network.body.nodes["readout"]).total_parameters()
    tokens, y = torch.tensor([[1, 2], [1, 5]]), torch.tensor([[0, 1], [0, 2]])
    moved = network.body.nodes["table"]
    first = network.learn(tokens, y)
    assert ((moved.value != table).any(1)).tolist() == [False, True, True, False, False, True, False]
    for _ in range(60):
        last = network.learn(tokens, y)
    assert last < 0.2 * first


@pytest.mark.parametrize("rule", [SGD(momentum=0.9), Adam(decay=0.5)])
def test_a_constant_moves_by_its_error_without_decay(rule: Any) -> None:
    torch.manual_seed(0)
    gain, shift = torch.randn(6), torch.randn(6)
    network = Network(Sequential(affine(gain, shift, rule), Local(nn.Flatten())), lr=0.1)
    theirs = [gain.clone().requires_grad_(), shift.clone().requires_grad_()]
    optimiser = torch.optim.SGD(theirs, 0.1, momentum=0.9) if isinstance(rule, SGD) else torch.optim.Adam(theirs, 0.1)
    for _ in range(5):
        x, y = torch.randn(8, 6), torch.randint(0, 6, (8,))
        optimiser.zero_grad()
        functional.cross_entropy(x * theirs[0] + theirs[1], y).backward()
        optimiser.step()
        network.learn(x, y)
    found = [part.value for part in network.modules() if isinstance(part, Constant)]
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-4, atol=1e-5)


def test_a_constant_stays_where_its_rate_is_zero_under_least_squares_and_without_a_rule() -> None:
    x, y = torch.randn(8, 6), torch.randint(0, 6, (8,))
    frozen = Network(affine(torch.ones(6), torch.zeros(6), SGD()), lr=0.1, rates=Rates(layers={"nodes.gain": 0.0}))
    shared = Network(affine(torch.ones(6), torch.zeros(6), SGD()), lr=0.1, rates=Rates(shared=0.0))
    squares = Network(affine(torch.ones(6), torch.zeros(6), RLS()), SumOfSquares(), lr=1.0)
    fixed = Network(affine(torch.ones(6), torch.zeros(6)), lr=0.1)
    assert not fixed.body.learns
    for network in (frozen, shared, squares, fixed):
        network.learn(x, functional.one_hot(y).float() if network is squares else y)
        assert torch.equal(network.body.nodes["gain"].value, torch.ones(6))
    assert not torch.equal(frozen.body.nodes["shift"].value, torch.zeros(6))
    assert torch.equal(shared.body.nodes["shift"].value, torch.zeros(6))
    whole = Constant(torch.tensor([1, 2])).double()
    assert whole.value.dtype == torch.int64
    with pytest.raises(BrodmannError, match="Unknown layer 'nodes.gian'"):
        frozen.rates = Rates(layers={"nodes.gian": 0.0})


def test_a_graph_sends_down_only_a_whole_error() -> None:
    silent = layer(4, 4, feedback=None)
    partly = Graph({"map": (silent, "input"), "sum": (torch.add, "map", "input")})
    assert not partly.sends_down
    y, trace = partly.trace(torch.randn(3, 4), Context())
    assert partly.learn(trace, torch.ones_like(y), Context(lr=0.1)) is None
    whole = Graph({"map": (layer(4, 4), "input"), "sum": (torch.add, "map", "input")})
    assert whole.sends_down
    with pytest.raises(BrodmannError, match="sends no error down, but layers below it learn"):
        Sequential(layer(4, 4), partly)


TWICE = AreaLinear(4, 4, areas=1)


class Quiet(Layer):
    """A layer of one's own that says it sends errors down, and does not."""

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        return x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> None:
        return None


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({}, "Expected nodes of a Graph to be a dictionary with at least one node, got {}."),
        ([], "Expected nodes of a Graph to be a dictionary with at least one node, got []."),
        (
            {"a": nn.ReLU()},
            "Expected node 'a' to be a tuple of a layer or operation and the names that it reads, got ReLU().",
        ),
        ({"a": ()}, "Expected node 'a' to be a tuple of a layer or operation and the names that it reads, got ()."),
        ({"input": (nn.ReLU(), "input")}, "A node of a Graph cannot be called 'input': choose another name."),
        ({"a.b": (nn.ReLU(), "input")}, "A node of a Graph cannot be called 'a.b': choose another name."),
        ({"keys": (nn.ReLU(), "input")}, "A node of a Graph cannot be called 'keys': choose another name."),
        (
            {"a": (nn.ReLU(), "b"), "b": (nn.ReLU(), "a")},
            "Node 'a' reads 'b', which is not an input or an earlier node: choose among input.",
        ),
        ({"a": (nn.ReLU(), "input"), "b": (nn.ReLU(), "input")}, "Nothing reads a in this Graph"),
        ({"a": (nn.ReLU(),)}, "Node 'a' names nothing to read: add a name after the layer, such as 'input'."),
        ({"a": (AreaLinear(4, 4),)}, "Node 'a' names nothing to read: add a name after the layer, such as 'input'."),
        (
            {"a": (nn.ReLU(), ["input"])},
            "Node 'a' reads '['input']', which is not an input or an earlier node: choose among input.",
        ),
        (
            {"a": (TWICE, "input"), "b": (nn.ReLU(), "a"), "c": (TWICE, "b")},
            "The layer of node 'c' is in another node too, and would be updated twice: put that node's name",
        ),
        (
            {"a": (AreaLinear(4, 4), "input", "input")},
            "Node 'a' is a layer, which reads one value, but it names 2: join them first with an operation",
        ),
        ({"a": (nn.Linear(4, 4), "input")}, "Local takes operations without parameters or buffers; Linear holds 2."),
        (
            {"a": (AreaLinear(4, 4), "input"), "b": (AreaLinear(4, 4, feedback=None), "a")},
            "Node 'b' (AreaLinear) receives no error, or sends none down, but nodes that learn need it",
        ),
    ],
)
def test_what_is_no_graph_is_named(nodes: Any, message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        Graph(nodes)
    assert message in str(error.value)


def test_a_layer_of_ones_own_that_keeps_the_error_is_named() -> None:
    network = Network(Graph({"low": (layer(4, 4), "input"), "quiet": (Quiet(), "low")}))
    with pytest.raises(BrodmannError, match=r"Node 'low' \(AreaLinear\) receives no error"):
        network.learn(torch.randn(3, 4), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Constant, 1.0), "Expected the value of a Constant to be a tensor, got float."),
        (
            partial(Constant, torch.tensor([1]), SGD()),
            "Expected a Constant that learns to be float32 or float64, got torch.int64.",
        ),
        (partial(Constant, torch.ones(2), "adam"), "Expected update to be a rule such as Adam(), got 'adam'."),
    ],
)
def test_what_is_no_constant_is_named(make: Any, message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        make()
    assert message in str(error.value)


def test_a_layer_stands_once_in_a_sequence() -> None:
    with pytest.raises(
        BrodmannError, match="Layer 2 of Sequential is in it twice, and would be updated twice per step: give each"
    ):
        Sequential(TWICE, Local(nn.ReLU()), TWICE)


def test_what_is_built_in_inference_mode_learns_outside() -> None:
    with torch.inference_mode():
        network = Network(affine(torch.ones(3), torch.zeros(3), SGD()), lr=0.1)
    network.learn(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    assert not torch.equal(network.body.nodes["gain"].value, torch.ones(3))


def test_a_graph_prints_what_its_nodes_read() -> None:
    said = str(Graph({"c": (Constant(torch.ones(2)),), "sum": (torch.add, "input", "c")}))
    assert "sum <- input, c" in said
    assert "c <- nothing" in said
    assert "Local(add)" in said
