"""Oracles of learning from streams: recursive least squares, least change, recruiting, and what is forgotten."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from brodmann import (
    RLS,
    AreaLinear,
    BrodmannError,
    Context,
    CrossEntropy,
    DivergenceError,
    LeastChange,
    MeanSquaredError,
    Network,
    Routed,
    Router,
    Sequential,
    SumOfSquares,
    mlp,
    stream_mlp,
)
from brodmann.areas import AreaMap
from brodmann.builders import FEEDBACKS, design
from brodmann.feedback import Shape, Signal
from brodmann.kernels import Groups
from brodmann.routing import Recruiting
from brodmann.updates import Factors

few = settings(max_examples=30)


def ridge_regression(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    return torch.linalg.solve(x.t() @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.t() @ y).t()


@pytest.mark.usefixtures("double")
def test_least_squares_of_many_rows_are_those_of_a_few_at_a_time() -> None:
    torch.manual_seed(0)
    rule, x, delta = RLS(ridge=2.0), torch.randn(500, 5), torch.randn(500, 3)
    weight, state = torch.zeros(3, 5), {"explained": torch.zeros(5, 5)}
    rule.apply(weight, state, Factors(delta, x), 1.0, 0.0)
    expected = -delta.t() @ x @ torch.linalg.inv(2.0 * torch.eye(5) + x.t() @ x)
    torch.testing.assert_close(weight, expected)


@few
@given(seed=st.integers(0, 1000), ridge=st.floats(0.1, 100), cuts=st.lists(st.integers(1, 30), max_size=5))
def test_rls_is_ridge_regression_on_everything_seen_whatever_the_batches(
    seed: int, ridge: float, cuts: list[int]
) -> None:
    torch.manual_seed(seed)
    x, y = torch.randn(30, 6, dtype=torch.float64) + 1.0, torch.randn(30, 2, dtype=torch.float64)
    weight = torch.zeros(2, 6, dtype=torch.float64)
    state = {"explained": torch.zeros(6, 6, dtype=torch.float64)}
    edges = sorted({0, 30, *cuts})
    for start, stop in itertools.pairwise(edges):
        part = x[start:stop]
        RLS(ridge=ridge).apply(weight, state, Factors(part @ weight.t() - y[start:stop], part), 1.0, 0.0)
        expected = ridge_regression(x[:stop], y[:stop], ridge)
        torch.testing.assert_close(weight, expected, rtol=1e-8, atol=1e-9)


def test_rls_stays_exact_in_float32_over_a_long_stream_of_ill_conditioned_inputs() -> None:
    torch.manual_seed(0)
    x = torch.randn(20000, 20) * torch.logspace(-2, 1, 20) + 5.0
    y = x @ torch.randn(20, 2) + torch.randn(20000, 2)
    weight, state = torch.zeros(2, 20), {"explained": torch.zeros(20, 20)}
    for rows in torch.arange(20000).split(8):
        RLS().apply(weight, state, Factors(x[rows] @ weight.t() - y[rows], x[rows]), 1.0, 0.0)
    expected = ridge_regression(x.double(), y.double(), 10.0)
    assert float((weight - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.usefixtures("double")
def test_each_area_holds_the_regression_on_its_own_samples() -> None:
    torch.manual_seed(0)
    router = Router(5, 4, learned=False)
    layer = AreaLinear(5, 2, areas=4, shared="off", start_scale=0.0, update=RLS(ridge=0.5), router=None, feedback=None)
    network = Network(Routed(router, layer), SumOfSquares(), lr=1.0)
    x, y = torch.randn(120, 5), torch.randn(120, 2)
    for rows in torch.arange(120).split(7):
        network.learn(x[rows], y[rows])
    area = router(x).area
    assert len(area.unique()) > 1
    for g in area.unique().tolist():
        own = area == g
        found = layer.areas.weight.value[int(layer.areas.slot[g])]
        torch.testing.assert_close(found.detach(), ridge_regression(x[own], y[own], 0.5))


@pytest.mark.usefixtures("double")
@few
@given(seed=st.integers(0, 1000), ridge=st.floats(0.1, 100), shares=st.tuples(*[st.integers(0, 40)] * 3))
def test_areas_that_merge_are_the_regression_on_the_samples_of_both(
    seed: int, ridge: float, shares: tuple[int, int, int]
) -> None:
    """Some were seen before one became a copy of the other: these count twice."""
    torch.manual_seed(seed)
    start, rule, before = torch.randn(2, 6), RLS(ridge=ridge), shares[0]
    x, y = torch.randn(sum(shares), 6) + 1.0, torch.randn(sum(shares), 2)
    x[:, 5] = x[:, 4]  # a direction that nobody sees
    areas, alone = AreaMap(2, start, None, rule), AreaMap(1, start, None, rule)

    def learn(map_: AreaMap, x: Tensor, y: Tensor, area: int = 0) -> None:
        groups = Groups.of(torch.full((len(x),), area), len(map_.slot))
        map_.learn(map_.product(x, groups) - y, x, groups, 1.0, 0.0)

    first, one, two = zip(x.split(shares), y.split(shares), strict=True)
    learn(areas, *first)
    areas.clone(0, 1)
    for area, part in enumerate((one, two)):
        learn(areas, *part, area)
    areas.merge(0, 1)
    x, y = torch.cat([x, x[:before]]), torch.cat([y, y[:before]])
    learn(alone, x, y)
    for later in (torch.randn(5, 6), None):  # at once, and after what the state holds has mattered
        torch.testing.assert_close(_only(areas), _only(alone), rtol=1e-8, atol=1e-8)
        expected = start + ridge_regression(x, y - x @ start.t(), ridge)
        torch.testing.assert_close(_only(areas), expected, rtol=1e-8, atol=1e-8)
        if later is not None:
            x, y = torch.cat([x, later]), torch.cat([y, later[:, :2]])
            for map_ in (areas, alone):
                learn(map_, later, later[:, :2])


def _only(map_: AreaMap) -> Tensor:
    return map_.weight.value[int(map_.slot[0])].detach()


def test_areas_merge_that_have_seen_more_than_float32_can_tell() -> None:
    areas = AreaMap(2, torch.zeros(1, 2), None, RLS())
    for area in (0, 1):
        groups = Groups.of(torch.full((1,), area), 2)
        areas.learn(torch.full((1, 1), -1e6), torch.tensor([[1e6, 0.0]]), groups, 1.0, 0.0)
    areas.merge(0, 1)
    torch.testing.assert_close(_only(areas), torch.tensor([[1.0, 0.0]]))
    assert areas.weight.explained.isfinite().all()


def test_rls_says_when_inputs_are_too_large_to_be_told_apart() -> None:
    rule = RLS()
    state = {"explained": torch.zeros(4, 4)}
    with pytest.raises(DivergenceError, match=r"its inputs are too large. Standardise them \(an estimator"):
        rule.apply(torch.zeros(3, 4), state, Factors(torch.ones(8, 3), torch.full((8, 4), 1e10)), 1.0, 0.0)


def test_rls_refuses_a_ridge_of_zero() -> None:
    with pytest.raises(BrodmannError, match=r"Expected ridge to be a number above 0, got 0\."):
        RLS(ridge=0)


@pytest.mark.parametrize(("loss", "sizes"), [(SumOfSquares(), lambda w: 1.0), (MeanSquaredError(), lambda w: 5 * w)])
def test_squares_are_their_own_derivative_and_take_classes(
    loss: SumOfSquares | MeanSquaredError, sizes: Callable[[float], float]
) -> None:
    torch.manual_seed(0)
    output = torch.randn(4, 3, 5, requires_grad=True)
    target, weight = torch.randint(0, 5, (4, 3)), torch.rand(4, 3)
    squares = (output - torch.nn.functional.one_hot(target, 5)).square()
    value = (weight[..., None] * squares).sum() / 2 / sizes(float(weight.sum()))
    value.backward()
    found, error = loss.value_and_error(output.detach(), target, weight)
    torch.testing.assert_close(found, value.detach())
    torch.testing.assert_close(error, output.grad)
    value = output.detach().square().sum() / 2 / sizes(12)
    torch.testing.assert_close(loss(output, torch.zeros(4, 3, 5)).detach(), value)


def test_whole_numbers_for_one_output_each_are_values() -> None:
    output, target = torch.randn(4, 1), torch.tensor([3, 0, -2, 7])
    for loss in (SumOfSquares(), MeanSquaredError()):
        torch.testing.assert_close(loss(output, target), loss(output, target.float()[:, None]))


@pytest.mark.usefixtures("double")
def test_least_change_undoes_the_output_where_the_rows_are_orthogonal() -> None:
    torch.manual_seed(0)
    orthogonal = 3.0 * torch.linalg.qr(torch.randn(8, 8))[0][:3]
    shape = Shape(8, 3, 1, True, orthogonal, RLS())
    path = LeastChange(shape, path=FEEDBACKS["kolen-pollack-equal"])
    x, delta = torch.randn(6, 8), torch.randn(6, 3)
    delta[2] = 0.0
    below = path.error(Signal(x, delta, delta, Groups.single(6), None, None, None))
    torch.testing.assert_close(below, delta @ torch.linalg.pinv(orthogonal).t())
    torch.testing.assert_close((x - below) @ orthogonal.t(), x @ orthogonal.t() - delta)


@pytest.mark.parametrize("path", FEEDBACKS)
def test_every_path_may_be_scaled_to_the_least_change(path: str) -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(5, 3, width=6, areas=4, feedback=path), SumOfSquares(), lr=1.0)
    x = torch.randn(40, 5)
    network.learn(x, torch.randint(0, 3, (40,)))
    before = network(x)
    for _ in range(3):
        network.learn(x, torch.randint(0, 3, (40,)))
    assert network(x).isfinite().all()
    assert not torch.equal(network(x), before)
    assert network.total_parameters() >= network.active_parameters()


def greedy(directions: Tensor, novelty: float, budget: int) -> list[Tensor]:
    placed: list[Tensor] = []
    for direction in directions:
        if direction.any() and len(placed) < budget and all(direction @ p < novelty for p in placed):
            placed.append(direction)
    return placed


@few
@given(seed=st.integers(0, 1000), novelty=st.floats(-0.5, 0.9), cut=st.integers(1, 29), budget=st.integers(1, 12))
def test_new_samples_recruit_cells_one_after_another(seed: int, novelty: float, cut: int, budget: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(30, 6, dtype=torch.float64)
    x[3] = 0.0
    router = Recruiting(6, budget, novelty=novelty, dimension=4).double()
    pairs = [*router.recruit(x[:cut]), *router.recruit(x[cut:])]
    directions = torch.nn.functional.normalize(x @ router.projection.value[0].t(), dim=1)
    expected = greedy(directions, novelty, budget)
    assert [new for _, new in pairs] == list(range(1, len(expected)))
    assert [parent for parent, _ in pairs] == [
        int((torch.stack(expected[:new]) @ expected[new]).argmax()) for new in range(1, len(expected))
    ]
    torch.testing.assert_close(router.prototypes[: len(expected)], torch.stack(expected))
    assert not router.prototypes[len(expected) :].any()
    assert int(router.route(x).cell.max()) < max(1, len(expected))
    assert router.recruit(x) == []


class Numbers(TorchDispatchMode):
    """Counts the numbers that go into PyTorch's operations."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += sum(part.numel() for part in args if isinstance(part, Tensor))
        return function(*args, **kwargs or {})


def test_what_a_recruit_costs_does_not_grow_with_the_rows_times_the_budget() -> None:
    def counted(budget: int) -> int:
        torch.manual_seed(0)
        router = Recruiting(6, budget, novelty=0.9, dimension=4)
        with Numbers() as numbers:
            assert len(router.recruit(torch.randn(200, 6))) > 20
        return numbers.count

    assert counted(2000) - counted(1000) < 5 * 200 * 1000  # a few passes, not one for every recruit


def test_a_router_recruits_only_while_learning_and_knows_cell_0_before() -> None:
    torch.manual_seed(0)
    body = stream_mlp(5, 3, width=6, areas=4)
    network = Network(body, SumOfSquares(), lr=1.0)
    x = torch.randn(20, 5)
    area, gate = body.router(x).area, body.router(x).gate
    assert set(area.tolist()) == {0}
    assert gate.eq(1).all()
    assert body.router(torch.zeros(2, 5)).gate.isfinite().all()
    assert not body.router.prototypes.any()
    network.learn(x, torch.zeros(20, dtype=torch.long))
    prototypes = body.router.prototypes.clone()
    assert prototypes.any(1).all()
    network.learn(-x, torch.zeros(20, dtype=torch.long))
    assert torch.equal(body.router.prototypes, prototypes)


def test_vacant_cells_are_in_no_gate_even_of_a_sample_without_direction() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(5, 3, areas=16, gated=True, router=functools.partial(Recruiting, novelty=0.4))
    for new in (torch.ones(1, 5), -torch.ones(1, 5)):
        layer.trace(new, Context(lr=1.0))
        taken = int((~layer.router.vacant).sum())
        x = torch.cat((torch.zeros(1, 5), 1e-3 * torch.randn(4, 5)))
        route = layer.router(x)
        cosines = torch.nn.functional.normalize(route.u, dim=1) @ layer.router.prototypes[:taken].t()
        gates = (cosines / 0.3).softmax(1).gather(1, route.cell[:, None])[:, 0]
        torch.testing.assert_close(route.gate, gates)
        assert float(route.gate[0]) == pytest.approx(1 / taken)
        followed = x.clone().requires_grad_()
        with torch.enable_grad():
            out = layer(followed)
        torch.testing.assert_close(out, layer(x))
        assert torch.autograd.grad(out.sum(), followed)[0].isfinite().all()
        torch.testing.assert_close(layer.trace(x, Context())[0], layer(x))
        torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))
    assert taken == 2


@pytest.mark.parametrize("kind", ["routed", "own router"])
def test_a_recruited_area_starts_as_its_parent(kind: str) -> None:
    torch.manual_seed(0)
    own = AreaLinear(5, 3, areas=8, router=_recruiting, update=RLS())
    body = own if kind == "own router" else stream_mlp(5, 3, width=6, areas=8, novelty=0.9)
    router = body.router
    network = Network(body, SumOfSquares(), lr=1.0)
    network.learn(torch.randn(40, 5)[:3], torch.randint(0, 3, (3,)))
    placed = int((~router.vacant).sum())
    assert placed < 8
    new = next(x for x in torch.randn(50, 1, 5) if float(router.route(x).scores.max()) < 0.9)
    before = network(new)
    body.trace(new, Context())  # at a rate of 0 nothing learns
    assert int((~router.vacant).sum()) == placed
    body.trace(new, Context(lr=1.0))
    assert int((~router.vacant).sum()) == placed + 1
    assert int(router(new).area) == placed
    torch.testing.assert_close(network(new), before)


def _recruiting(in_features: int, areas: int, *, update: RLS) -> Router:
    return Recruiting(in_features, areas, novelty=0.9, update=update)


@pytest.mark.parametrize("novelty", [-1.0, 1.0])
def test_a_recruiting_router_refuses_what_it_cannot_do(novelty: float) -> None:
    with pytest.raises(BrodmannError, match="Expected novelty to be a number between -1 and 1"):
        Recruiting(5, 4, novelty=novelty)


def test_a_stream_network_is_exclusive() -> None:
    torch.manual_seed(0)
    body = stream_mlp(5, 3, width=8, areas=5, feedback="kolen-pollack", depth=3)
    network = Network(body, SumOfSquares(), lr=1.0)
    x = torch.randn(200, 5)
    network.learn(x, torch.randint(0, 3, (200,)))
    area = body.router(x).area
    before = [network(x[area == g]) for g in range(5)]
    network.learn(x[area == 0], torch.zeros(int((area == 0).sum()), dtype=torch.long))
    for g in range(1, 5):
        assert torch.equal(network(x[area == g]), before[g])
    assert not torch.equal(network(x[area == 0]), before[0])


def test_a_stream_network_is_saved_loaded_and_copied_with_all_it_has_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    description = design("stream_mlp", RLS(), in_features=5, outputs=3, width=6, areas=4)
    network = Network.from_design(description, SumOfSquares(), lr=1.0)
    x, y = torch.randn(60, 5), torch.randint(0, 3, (60,))
    network.learn(x[:20], y[:20])
    network.save(tmp_path / "network.safetensors")
    others = [copy.deepcopy(network), Network.load(tmp_path / "network.safetensors")]
    for other in [network, *others]:
        other.learn(x[20:], y[20:])
    for other in others:
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("depth", [1, 3])
def test_a_sample_of_weight_w_counts_as_w_samples(depth: int) -> None:
    torch.manual_seed(0)
    weighted = Network(stream_mlp(5, 3, depth=depth, width=6, areas=4)).double()
    repeated = copy.deepcopy(weighted)
    for _ in range(4):
        x, y, weight = torch.randn(20, 5), torch.randint(3, (20,)), torch.randint(4, (20,))
        counts = torch.arange(20).repeat_interleave(weight)
        recruiting = x[weight > 0]
        weighted.body.router.recruit(recruiting)
        repeated.body.router.recruit(recruiting)
        weighted.learn(x, y, weight.double())
        repeated.learn(x[counts], y[counts])
    torch.testing.assert_close(weighted(x), repeated(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("routing", ["network", "layer"])
def test_a_sample_of_weight_0_recruits_nothing(routing: str) -> None:
    torch.manual_seed(0)
    padded = Network(stream_mlp(6, 3, width=8, areas=4) if routing == "network" else own_routers())
    alone = copy.deepcopy(padded)
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    padded.learn(x, y, (torch.arange(20) < 2).float())
    alone.learn(x[:2], y[:2])
    assert int((alone.area_layers()[0][1].areas.slot > 0).sum()) < 4  # type: ignore[union-attr]
    padded.learn(x, y)
    alone.learn(x, y)
    torch.testing.assert_close(padded(x), alone(x))


def own_routers() -> Sequential:
    recruiting = functools.partial(Recruiting, novelty=0.2)
    return Sequential(AreaLinear(6, 3, areas=4, update=RLS(), feedback=None, router=recruiting))


def test_weights_that_cannot_be_counts_are_refused() -> None:
    network = Network(stream_mlp(5, 3, width=6, areas=2))
    with pytest.raises(BrodmannError, match="Expected sample weights that are finite and at least 0"):
        network.learn(torch.randn(3, 5), torch.zeros(3, dtype=torch.int64), torch.tensor([1.0, -1.0, 1.0]))


def test_the_loss_and_the_rate_of_recursive_least_squares_need_no_naming(tmp_path: Path) -> None:
    network = Network(stream_mlp(5, 3, width=6, areas=2))
    assert isinstance(network.loss, SumOfSquares)
    assert network.lr == 1.0
    given = Network(stream_mlp(5, 3, width=6, areas=2), CrossEntropy(), lr=0.5)
    assert isinstance(given.loss, CrossEntropy)
    assert given.lr == 0.5
    assert Network(mlp(5, 3)).lr == 3e-3
    assert isinstance(Network(mlp(5, 3)).loss, CrossEntropy)


@pytest.mark.parametrize("flaw", ["a sample", "a target", "a shape"])
def test_a_refused_step_recruits_nothing(flaw: str) -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(6, 3, width=8, areas=4))
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    network.learn(x[:1], y[:1])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if flaw == "a sample":
        x[3, 2] = torch.nan
    elif flaw == "a target":
        y[5] = 7
    else:
        y = torch.zeros(16, 4)
    with pytest.raises(BrodmannError):
        network.learn(x, y)
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("known", [False, True], ids=["none is known", "another one is full"])
def test_a_router_put_in_later_recruits_in_no_step_that_is_refused(known: bool) -> None:
    torch.manual_seed(0)
    router = functools.partial(Recruiting, novelty=0.9)
    body = Sequential(AreaLinear(6, 6, areas=2, router=router if known else Router), AreaLinear(6, 3, areas=4))
    network, (x, y) = Network(body), (torch.randn(16, 6), torch.randint(3, (16,)))
    network.learn(x, y)  # fills the router that is known
    body.layers[1] = AreaLinear(6, 3, areas=4, router=router)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BrodmannError):
        network.learn(x, y + 7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    network.learn(x, y)
    assert not bool(body.layers[1].router.vacant.all())


def test_digits_by_groups_of_classes_are_learned_in_one_pass_and_kept() -> None:
    """What users rely on: a stream of two new classes at a time, once, without being told; the rest of MNIST's story
    is in docs/results.md."""
    x, y = load_digits(return_X_y=True)
    inputs = torch.from_numpy(StandardScaler().fit_transform(x)).float()
    classes = torch.from_numpy(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    scores = {}
    for name in ("recursive", "plain"):
        torch.manual_seed(0)
        if name == "recursive":
            network = Network(stream_mlp(64, 10, areas=4), SumOfSquares(), lr=1.0)
        else:
            network = Network(mlp(64, 10, areas=4, routing="layer"), lr=1e-3)
        for pair in torch.arange(10).split(2):
            for rows in train[torch.isin(classes[train], pair)].split(16):
                network.learn(inputs[rows], classes[rows])
        scores[name] = float((network(inputs[test]).argmax(1) == classes[test]).double().mean())
    assert scores["recursive"] > 0.9 > 0.8 > scores["plain"]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("routing", ["network", "layer"])
def test_projections_under_least_squares_count_samples_by_their_weights(routing: str) -> None:
    torch.manual_seed(0)
    weighted = Network(mlp(8, 3, width=6, areas=4, update=RLS(), routing=routing)).double()
    repeated = copy.deepcopy(weighted)
    for _ in range(3):
        x, y, weight = torch.randn(6, 8), torch.randint(3, (6,)), torch.tensor([2, 1, 1, 3, 1, 1])
        counts = torch.arange(6).repeat_interleave(weight)
        weighted.learn(x, y, weight.double())
        repeated.learn(x[counts], y[counts])
    for name, value in weighted.state_dict().items():
        torch.testing.assert_close(value, repeated.state_dict()[name], rtol=1e-7, atol=1e-9, msg=name)
