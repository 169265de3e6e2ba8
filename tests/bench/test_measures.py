"""What rows hold: costs, equal initial values, silent units, conflict between classes."""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from brodmann import AreaLinear, Graph, Local, Network, Router, Sequential, convnet, mlp
from brodmann.baselines import Backpropagation
from brodmann.bench.case import Case
from brodmann.bench.cost import learning_operations
from brodmann.bench.packing import unpack
from brodmann.bench.paper import initialise
from brodmann.bench.plan import Plan
from brodmann.bench.recipes import RECIPES
from brodmann.bench.selection import cases_of
from brodmann.bench.tasks import TASKS, run_case, silent_units
from brodmann.errors import BrodmannError
from brodmann.layers import Elman, Recurrent
from brodmann.network import routers
from brodmann.runs import RunOptions
from brodmann.telemetry import class_conflict


def test_methods_are_chosen_by_the_names_that_tables_call_them() -> None:
    plan = Plan(seeds=2, protocols=("tuned",), sets=("digits",), methods=("SAL, 16 areas", "Kolen-Pollack"))
    assert [case.method for case in cases_of(["ten"], plan)] == ["SAL, 16 areas", "Kolen-Pollack"] * 2
    with pytest.raises(BrodmannError, match="Unknown method 'SAL, 15 areas'. Did you mean 'SAL, 1"):
        cases_of(["ten"], replace(plan, methods=("SAL, 15 areas",)))


def test_a_single_name_is_no_list_of_names() -> None:
    with pytest.raises(BrodmannError, match="Expected sets to be a list of names, got 'digits'"):
        Plan(sets="digits")  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="Expected recipes to be a list of names, got 'ten'"):
        cases_of("ten", Plan())


def test_streams_are_chosen_by_their_names_and_come_without_the_conflict_of_classes() -> None:
    plan = Plan(seeds=1, sets=("digits",))
    every = cases_of(["interference"], plan)
    assert {case.task for case in every} == {"conflict", "stream"}
    split = cases_of(["interference"], replace(plan, streams=("split",)))
    assert split == [case for case in every if case.detail.get("stream") == "split"]
    with pytest.raises(BrodmannError, match="Unknown stream 'spilt'. Did you mean 'split'"):
        replace(plan, streams=("spilt",))
    with pytest.raises(BrodmannError, match="Streams belong to the recipe interference, not to ten: leave them out."):
        cases_of(["ten"], replace(plan, streams=("split",)))


def test_a_recipe_that_does_not_follow_its_plan_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = cases_of(["ten"], Plan(seeds=2, protocols=("tuned",), sets=("digits",), methods=("Kolen-Pollack",)))
    monkeypatch.setitem(RECIPES, "own", lambda plan: cases)
    assert cases_of(["own"], Plan()) == cases
    for option, plan in (("sets", Plan(sets=("semeion",))), ("seeds", Plan(seeds=1))):
        with pytest.raises(BrodmannError, match=f"The recipe 'own' ignores --{option}: leave that out, or have"):
            cases_of(["own"], plan)


def test_a_task_that_returns_no_whole_row_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases_of(["ten"], Plan(seeds=1, protocols=("tuned",), sets=("digits",), methods=("Kolen-Pollack",)))
    monkeypatch.setitem(TASKS, "own", lambda case: {"test": 0.5})
    with pytest.raises(BrodmannError, match="The task 'own' must return a dictionary with 'digest', the digest of"):
        run_case(replace(case, task="own"))


def test_a_row_that_no_file_can_hold_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases_of(["ten"], Plan(seeds=1, protocols=("tuned",), sets=("digits",), methods=("Kolen-Pollack",)))
    row = {"digest": "abc", "test_reads": 1, "test": 0.5, "share": np.float32(0.5)}
    monkeypatch.setitem(TASKS, "own", lambda case: row)
    assert run_case(replace(case, task="own"))["share"] == 0.5
    row["share"] = torch.ones(2)
    with pytest.raises(
        BrodmannError, match=r"The row of the task 'own' cannot hold its 'share' \(.*got Tensor\): expected numbers"
    ):
        run_case(replace(case, task="own"))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (lambda: [], r"missing a required|too many positional arguments\)."),
        ([], r"\[\] is not a callable object"),
        (lambda plan: [1], r"but it returned \[1\]"),
        (lambda plan: None, "but it returned None"),
    ],
)
def test_what_is_no_recipe_is_told(recipe: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "own", recipe)
    with pytest.raises(BrodmannError, match=message) as told:
        cases_of(["own"], Plan())
    assert "Expected brodmann.bench.RECIPES['own'] to be a function of a Plan" in str(told.value)


def test_what_is_no_task_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases_of(["ten"], Plan(seeds=1, protocols=("tuned",), sets=("digits",), methods=("Kolen-Pollack",)))
    monkeypatch.setitem(TASKS, "own", lambda: {})
    with pytest.raises(BrodmannError, match=r"TASKS\['own'\] to be a function of a Case that returns a row, got <func"):
        run_case(replace(case, task="own"))


@pytest.mark.parametrize("trial", [True, False])
def test_scores_of_a_task_are_numbers_from_0_to_1(monkeypatch: pytest.MonkeyPatch, trial: bool) -> None:
    case, score = Case("mine", "a", RunOptions("digits"), task="own", trial=trial), ("test", "validation")[trial]
    whole = {"digest": "x", "test_reads": np.int64(1), "shares": [np.float32(0.5), torch.tensor(2)]}
    for value in (np.float64(0.5), torch.tensor(0.5), 0.5):
        monkeypatch.setitem(TASKS, "own", lambda _, value=value: whole | {score: value})
        row = run_case(case)
        assert json.loads(json.dumps(row)) == row
        assert (row[score], row["test_reads"], row["shares"]) == (0.5, 1, [0.5, 2])
    for wrong in (97.5, math.nan, -0.1, None, True, "0.5"):
        monkeypatch.setitem(TASKS, "own", lambda _, wrong=wrong: whole | {score: wrong})
        with pytest.raises(BrodmannError, match=f"'own' must return '{score}', the accuracy, as a number from 0 to 1"):
            run_case(case)


@pytest.mark.parametrize("trial", [True, False])
def test_the_score_follows_from_the_answers_of_a_task(monkeypatch: pytest.MonkeyPatch, trial: bool) -> None:
    case, score = Case("mine", "a", RunOptions("digits"), task="own", trial=trial), ("test", "validation")[trial]
    whole, answers = {"digest": "x", "test_reads": 1}, [True, False, True]
    for right in (answers, torch.tensor(answers), np.array(answers)):
        for told in ({}, {score: np.float32(2 / 3)}):
            monkeypatch.setitem(TASKS, "own", lambda _, more=told | {"right": right}: whole | more)
            row = run_case(case)
            assert row[score] == 2 / 3
            assert "right" not in row
            assert ("correct" in row) != trial
            assert trial or unpack(row["correct"], row["tested"]).tolist() == answers
    for wrong in ([], [1, 0], [answers], torch.rand(3), "yes", None):
        monkeypatch.setitem(TASKS, "own", lambda _, wrong=wrong: whole | {"right": wrong})
        with pytest.raises(BrodmannError, match="must return 'right', which samples were right, as a boolean tensor"):
            run_case(case)
    monkeypatch.setitem(TASKS, "own", lambda _: whole | {"right": answers, score: 0.5})
    with pytest.raises(BrodmannError, match=rf"returned 0.5 as '{score}', but by its 'right' it is 0.6"):
        run_case(case)


def test_a_task_writes_over_no_field_of_the_case_or_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("mine", "a", RunOptions("digits"), task="own")
    for name in ("options", "seed", "jobs", "interrupted"):
        monkeypatch.setitem(TASKS, "own", lambda _, name=name: {"digest": "x", "test_reads": 1, "test": 1.0, name: 1})
        with pytest.raises(BrodmannError, match=f"must not return '{name}', which the benchmark itself writes: choose"):
            run_case(case)
    monkeypatch.setitem(TASKS, "own", lambda _: {"digest": "x", "test_reads": 1, "test": 1.0, "correct": [True]})
    with pytest.raises(BrodmannError, match="must not return 'correct'.*: return 'right' in its place"):
        run_case(case)


def test_a_network_that_broke_down_is_scored_and_has_no_view_of_its_layers() -> None:
    (case,) = cases_of(["depth"], Plan(seeds=1, sets=("digits",), methods=("direct, plain",)))[:1]
    row = run_case(replace(case, options=replace(case.options, lr=1e30)))
    assert row["stopped"] is not None
    assert row["tested"] > 0
    assert not {"layers", "silent"} & row.keys()


def operations(learner: Network | Backpropagation) -> int:
    return learning_operations(learner, torch.randn(1, 7))


def test_operations_are_counted_as_by_hand() -> None:
    dense = Backpropagation(7, 3, width=5)
    assert operations(dense) == 2 * (2 * 35 + 3 * 15)
    assert operations(Backpropagation(7, 3, width=5, readout_only=True)) == 2 * (35 + 2 * 15)
    assert operations(Network(mlp(7, 3, width=5, areas=1, feedback="transpose"))) == 2 * (2 * 35 + 3 * 15)
    # Kolen-Pollack moves its feedback weights by the gradient of the shared part; noisy ones need their own.
    assert operations(Network(mlp(7, 3, width=5, areas=1))) == 2 * (2 * 35 + 3 * 15)
    noisy = Network(mlp(7, 3, width=5, areas=1, feedback="kolen-pollack-noisy"))
    assert operations(noisy) == 2 * (2 * 35 + 4 * 15)
    # Direct feedback's matrix is (outputs, units), whatever lies above.
    assert operations(Network(mlp(7, 3, width=5, areas=1, feedback="direct"))) == 2 * (2 * 35 + 2 * 15 + 15)
    first, second = 2 * 2 * (2 * 7 + 4 * 2), 2 * 2 * (2 * 5 + 4 * 2)
    for routing, of_routers in (("network", first), ("layer", first + second)):
        areas = operations(Network(mlp(7, 3, width=5, areas=4, routing=routing, router={"dimension": 2})))
        assert areas == 2 * (4 * 35 + (4 + 1) * 15) + of_routers
    options = {"width": 5, "areas": 4, "routing": "layer", "router": {"dimension": 2}}
    per_area = operations(Network(mlp(7, 3, feedback="kolen-pollack-per-area", **options)))
    assert per_area == 2 * (4 * 35 + (4 + 3) * 15) + first + second
    apart = operations(Network(mlp(7, 3, shared="off", **options)))
    assert apart == 2 * (2 * 35 + (2 + 2) * 15) + first + second
    transposed = operations(Network(mlp(7, 3, feedback="transpose", **options)))
    assert transposed == 2 * (4 * 35 + (4 + 2) * 15) + first + second


def test_operations_of_convolutions_are_counted_for_every_patch() -> None:
    x = torch.randn(1, 64)
    by_hand = 2 * 2 * (9 * 4) * 64 + 3 * 2 * (4 * 16) * 10  # of 8 x 8 patches, and of what a pooling of 2 leaves
    twin = Backpropagation(64, 10, shape=(1, 8, 8), channels=(4,))
    assert learning_operations(Network(convnet((1, 8, 8), 10, channels=(4,), areas=1)), x) == by_hand
    assert learning_operations(twin, x) == by_hand


def test_operations_of_direct_feedback_are_counted_for_every_patch() -> None:
    body = convnet((1, 8, 8), 10, channels=(4, 6), areas=1, feedback="direct")
    maps = (64, 9 * 4), (16, 36 * 6), (1, 24 * 10)  # patches, and numbers of one map
    up_and_moved = sum(2 * 2 * rows * numbers for rows, numbers in maps)
    down = 2 * 10 * (16 * 36 + 24)  # from ten outputs to all that comes to the two maps above the lowest
    assert learning_operations(Network(body), torch.randn(1, 64)) == up_and_moved + down


def test_operations_are_counted_at_every_step_and_in_every_place() -> None:
    readout = AreaLinear(8, 2, areas=1)
    steps = Recurrent(AreaLinear(3, 8, areas=1, feedback=None), AreaLinear(8, 8, areas=1), Elman())
    body = Sequential(steps, Local(lambda h: h[:, -1]), readout)
    by_hand = 5 * (2 * 2 * 24 + 3 * 2 * 64) + 3 * 2 * 16
    assert learning_operations(Network(body), torch.randn(1, 5, 3)) == by_hand
    router = partial(Router, dimension=2)
    twice = AreaLinear(8, 8, areas=4, router=router)
    body = Graph({"a": (twice, "input"), "b": ("a", "a"), "o": (readout, "b")})
    by_hand = 2 * (2 * (4 + 1) * 64 + 2 * 2 * (2 * 8 + 4 * 2)) + 3 * 2 * 16
    assert learning_operations(Network(body), torch.randn(1, 8)) == by_hand


@pytest.mark.parametrize("changes", [{}, {"shared": "off", "areas": 4}, {"areas": 4}])
def test_the_published_protocol_starts_every_method_from_the_same_function(changes: dict) -> None:
    twin, network = Backpropagation(70, 3, width=50), Network(mlp(70, 3, width=50, **{"areas": 1, **changes}))
    initialise(twin, 3)
    initialise(network, 3)
    x = torch.randn(20, 70)
    assert torch.allclose(twin(x), network(x), atol=1e-5)
    weight = next(twin.parameters()).detach()
    assert float(weight.std()) == pytest.approx((2 / 70) ** 0.5, rel=0.06)


@pytest.mark.parametrize("gated", [False, True])
def test_the_conflict_inside_areas_is_that_of_the_gradients_of_their_maps(gated: bool) -> None:
    torch.manual_seed(0)
    body = mlp(6, 3, width=5, areas=3, gated=gated, shared="off", feedback="transpose", readout_scale=1.0)
    network = Network(body).double()
    x, y = torch.randn(60, 6, dtype=torch.float64), torch.randint(0, 3, (60,))
    rows = class_conflict(network, x, y)
    network.allocate()
    for row, (_, layer) in zip(rows, network.area_layers(), strict=True):
        assert layer.areas is not None
        weights = [slab.value for slab in layer.areas.weight.slabs()]
        pulls = []  # of each class, (areas, numbers)
        for kind in range(3):
            with torch.enable_grad():
                for weight in weights:
                    weight.requires_grad_()
                loss = torch.nn.functional.cross_entropy(network(x[y == kind]), y[y == kind], reduction="sum")
                pulls.append(torch.cat([g.flatten(1) for g in torch.autograd.grad(loss, weights)], 1)[1:])
        apart = sum(float(pull.norm(dim=1).sum()) for pull in pulls)
        assert row.inside_areas == pytest.approx(1 - float(sum(pulls).norm(dim=1).sum()) / apart)


def test_last_layer_only_moves_the_last_layer_alone() -> None:
    torch.manual_seed(0)
    learner = Backpropagation(7, 3, width=5, readout_only=True)
    before = copy.deepcopy(learner.state_dict())
    learner.learn_with_output(torch.randn(9, 7), torch.randint(3, (9,)), lr=0.1)
    moved = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"body.3.weight", "body.3.bias"}


def test_silent_units_are_counted() -> None:
    network = Network(mlp(4, 2, width=6, areas=1))
    layer = network.area_layers()[0][1]
    layer.shared.value.data.zero_()
    layer.shared.bias.value.data.copy_(torch.tensor([[1.0, 1.0, -1.0, -1.0, -1.0, 1.0]]))
    assert silent_units(network, torch.randn(5, 4)) == [0.5]


def test_conflict_between_classes_is_that_of_the_formed_gradients() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=5, areas=3, feedback="transpose", shared="off", routing="network"))
    x, y = torch.randn(40, 6), torch.randint(3, (40,))
    for _ in range(5):
        network.learn(x, y, lr=0.05)
    row = class_conflict(network, x, y)[-1]
    # The readout's gradient, formed for every class in one map: softmax minus target over the hidden activations.
    with torch.no_grad():
        error = (network(x).softmax(1) - torch.nn.functional.one_hot(y, 3)).double() / 40
        hidden = torch.relu(network.area_layers()[0][1](x, network.body.router(x))).double()
    hidden = torch.cat([hidden, torch.ones(40, 1)], 1)
    area = network.body.router(x).area

    def cancelled(groups: list[torch.Tensor]) -> float:
        kept = total = 0.0
        for rows in groups:
            pulls = [(error * (rows & (y == c))[:, None]).t() @ hidden for c in range(3)]
            kept += float(sum(pulls).norm())
            total += sum(float(pull.norm()) for pull in pulls)
        return 1 - kept / total

    assert row.pooled == pytest.approx(cancelled([torch.ones(40, dtype=torch.bool)]), abs=1e-5)
    assert row.inside_areas == pytest.approx(cancelled([area == index for index in range(3)]), abs=1e-5)

    def opposed(groups: list[torch.Tensor]) -> float:
        products = []
        for rows in groups:
            kinds = y[rows].unique().tolist()
            pulls = [(error * (rows & (y == c))[:, None]).t() @ hidden for c in kinds]
            products += [float((one * other).sum()) for one, other in itertools.combinations(pulls, 2)]
        return sum(product < 0 for product in products) / len(products)

    assert row.opposed_pooled == opposed([torch.ones(40, dtype=torch.bool)])
    assert row.opposed_inside == opposed([area == index for index in area.unique().tolist()])
    assert row.opposed_pooled > 0


def test_one_class_is_in_no_conflict() -> None:
    network = Network(mlp(6, 3, width=5, areas=3))
    rows = class_conflict(network, torch.randn(10, 6), torch.zeros(10, dtype=torch.int64))
    assert len(rows) == 2
    for row in rows:
        assert row.pooled == pytest.approx(0.0, abs=1e-6)
        assert row.opposed_pooled == row.opposed_inside == 0.0


def test_operations_of_routers_are_counted_for_every_row_that_they_route() -> None:
    one, each = (Network(convnet((1, 8, 8), 3, channels=(4,), areas=4, routing=name)) for name in ("network", "layer"))
    x = torch.zeros(1, 64)
    numbers = [[r.projection.value.numel() + r.prototypes.numel() for _, r in routers(n)] for n in (one, each)]
    of_routers = 4 * (64 * numbers[1][0] + numbers[1][1]), 4 * numbers[0][0]
    assert learning_operations(each, x) - learning_operations(one, x) == of_routers[0] - of_routers[1]
