"""Network: what users rely on beside the oracles: counting, merging for inference, steps, clipping, observers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Constant,
    Context,
    CrossEntropy,
    Direct,
    Feedback,
    Graph,
    Layer,
    Local,
    MeanSquaredError,
    Network,
    Recomputed,
    Residual,
    Sequential,
    SumOfSquares,
    from_torch,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.layers.local import Sum
from brodmann.training import Trainer

from .oracles.cases import LAYERS, PATHS
from .trained import trained


def test_parameters_are_counted_as_they_are_read_and_stored() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, router={"dimension": 2}))
    maps, router, another = (5 + 1) * 6 + (6 + 1) * 3, 5 * 2 + 4 * 2, 6 * 2 + 4 * 2
    assert network.active_parameters() == maps + router
    everywhere = Network(mlp(5, 3, width=6, areas=4, routing="layer", router={"dimension": 2}))
    assert everywhere.active_parameters() == maps + router + another
    origin_and_shared, feedback = 2 * maps, 6 * 3
    assert network.total_parameters() == origin_and_shared + feedback + router
    gated = Network(mlp(5, 3, width=6, areas=4, gated=True, router={"dimension": 2}))
    assert gated.active_parameters() == 2 * maps + router
    alone = Network(mlp(5, 3, width=6, areas=1, gated=True, feedback="random"))
    assert alone.active_parameters() == maps
    assert alone.total_parameters() == maps + 6 * 3
    grown = trained(mlp(5, 3, width=6, areas=4, shared="off", router={"dimension": 2}))
    slots = [layer.areas.existing + 1 for _, layer in grown.area_layers()]
    assert grown.total_parameters() == slots[0] * 6 * 6 + slots[1] * 7 * 3 + 6 * 3 + router


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("builder", [mlp, residual_mlp])
@pytest.mark.parametrize("layer", LAYERS)
def test_merging_for_inference_changes_no_output(layer: str, builder: object) -> None:
    torch.manual_seed(0)
    network = trained(builder(5, 3, depth=3, width=6, **LAYERS[layer]))
    merged = network.merged()
    x = torch.randn(40, 5)
    torch.testing.assert_close(merged(x), network(x), rtol=1e-12, atol=1e-13)
    assert merged.active_parameters() == network.active_parameters()
    for (_, ours), (_, old) in zip(merged.area_layers(), network.area_layers(), strict=True):
        assert (ours.shared is None or ours.areas is None) == (not old.gated or old.shared is None)
    network.learn(x, torch.zeros(40, dtype=torch.long), lr=0.1)  # the original is its own


def test_a_composed_network_learns_without_settings() -> None:
    torch.manual_seed(0)
    target = torch.arange(90) % 3
    x = torch.randn(90, 5) + 2 * torch.eye(3, 5)[target]
    network = Network(Sequential(AreaLinear(5, 16, feedback=None), Local(nn.ReLU()), AreaLinear(16, 3)))
    assert Trainer(network, (x, target)).run().history[-1]["train_accuracy"] > 0.9


def test_sample_weights_enter_the_step() -> None:
    torch.manual_seed(0)
    x, y, weight = torch.randn(6, 5), torch.randint(0, 3, (6,)), torch.tensor([1.0, 0, 1, 0, 0, 1])
    outputs = []
    for rows in (slice(None), weight.bool()):
        torch.manual_seed(1)
        network = Network(mlp(5, 3, width=6, areas=1))
        network.learn(x[rows], y[rows], weight[rows], lr=0.1)
        outputs.append(network(x))
    torch.testing.assert_close(*outputs)


def test_clipping_bounds_the_error_and_leaves_small_ones_alone() -> None:
    torch.manual_seed(0)
    x, error = torch.randn(5, 4), torch.randn(5, 3)
    error /= error.norm()
    start = AreaLinear(4, 3, areas=1)
    for clip, scale in ((0.5, 0.5), (2.0, 1.0)):
        layers = [copy.deepcopy(start) for _ in range(2)]
        belows = []
        for layer, given, e in ((layers[0], clip, error), (layers[1], None, scale * error)):
            _, trace = layer.trace(x, Context())
            belows.append(layer.learn(trace, e, Context(lr=0.1, clip=given)))
        torch.testing.assert_close(*belows)
        torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
    constant = Constant(torch.zeros(4), SGD())
    constant.learn(None, torch.full((4,), 10.0), Context(lr=1.0, clip=2.0))
    assert float(constant.value.norm()) == pytest.approx(2.0)
    for clip, moves in ((1e-9, False), (None, True)):
        network = Network(mlp(4, 3, areas=1, update=SGD()), lr=0.1, clip=clip)
        before = network(x)
        network.learn(x, torch.zeros(5, dtype=torch.long))
        assert bool((network(x) - before).abs().max() > 1e-6) == moves


def test_direct_feedback_inside_a_residual_block_is_scaled_like_the_error_that_it_stands_for() -> None:
    torch.manual_seed(0)
    inner = AreaLinear(4, 4, areas=1, feedback=lambda shape: Direct(shape, outputs=2))
    block = Residual(Sequential(inner), alpha=0.25)
    _, trace = block.trace(torch.randn(3, 4), Context())
    error, output_error = torch.randn(3, 4), torch.randn(3, 2)
    below = block.learn(trace, error, Context(output_error=output_error))
    torch.testing.assert_close(below, error + 0.25 * output_error @ inner.feedback.matrix)


@pytest.mark.parametrize("shared", ["learned", "frozen", "off"])
@pytest.mark.parametrize("areas", [1, 3])
def test_maps_without_biases_map_zero_to_zero_however_they_learn(shared: str, areas: int) -> None:
    torch.manual_seed(0)
    layer = AreaLinear(6, 3, areas=areas, shared=shared, bias=False, update=Adam())
    assert not layer.biased
    assert AreaLinear(6, 3, areas=areas, shared=shared).biased
    network = Network(layer)
    x, y = torch.randn(9, 6), torch.arange(9) % 3
    first = network.learn(x, y)
    for _ in range(20):
        last = network.learn(x, y)
    assert last < first
    assert not network(torch.zeros(2, 6)).any()
    torch.testing.assert_close(network(-x[:1]) + network(x[:1]), torch.zeros(1, 3)) if areas == 1 else None
    merged = network.merged()
    torch.testing.assert_close(merged(x), network(x))


def test_what_was_built_in_inference_mode_says_why_it_cannot_learn_and_learns_as_a_copy() -> None:
    x, y = torch.randn(9, 6), torch.arange(9) % 3
    with torch.inference_mode():
        network = Network(mlp(6, 3, width=8, areas=2))
    with pytest.raises(BrodmannError, match=r"built or copied under torch.inference_mode cannot learn: build it out"):
        network.learn(x, y)
    assert copy.deepcopy(network).learn(x, y) > 0


def test_a_local_operation_trains_and_evaluates_as_modules_do() -> None:
    local = Local(torch.nn.Dropout(0.5))
    assert local.eval().training is False
    assert local.train().training is True
    assert local.operation.training is False  # only `trace` draws masks
    for function in (functional.dropout, functional.dropout2d, partial(functional.dropout, p=0.1)):
        with pytest.raises(BrodmannError, match=r"use a module such as nn.Dropout\(0.5\)"):
            Local(function)  # would draw at inference too
    Local(partial(functional.dropout, training=False))
    Local(functional.rrelu)


def test_recursive_least_squares_warns_of_losses_that_hardly_move_it() -> None:
    body = stream_mlp(5, 3, width=6, areas=2)
    with pytest.warns(UserWarning, match="Recursive least squares needs SumOfSquares"):
        Network(body, MeanSquaredError())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Network(body)
        Network(body, SumOfSquares())


def test_areas_may_be_given_memory_at_once() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, feedback="kolen-pollack-per-area"))
    x = torch.randn(40, 5)
    before = network(x)
    network.allocate()
    assert torch.equal(network(x), before)
    held = dict(network.named_parameters())
    average = torch.optim.swa_utils.AveragedModel(network)
    for rows in torch.arange(40).split(2):
        network.learn(x[rows], rows % 3)
        average.update_parameters(network)
    assert all(parameter is held[name] for name, parameter in network.named_parameters())
    assert all(layer.areas.existing == 4 for _, layer in network.area_layers())
    assert torch.isfinite(average(x)).all()


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(class_weights=torch.ones(3)), SumOfSquares()])
def test_weights_are_those_of_targets(loss: object) -> None:
    network = Network(mlp(5, 3, width=6, areas=2), loss)
    x, y = torch.randn(4, 7, 5), torch.zeros(4, 7, dtype=torch.int64)
    network.learn(x, y, torch.ones(4, 7))
    for weight, said in ((torch.ones(4), r"\(4,\)"), (torch.ones(4, 7, 3), r"\(4, 7, 3\)")):
        with pytest.raises(
            BrodmannError, match=rf"Expected a weight for each of the \d+ targets, got weights of shape {said}"
        ):
            network.learn(x, y, weight)


@pytest.mark.parametrize("recruiting", [False, True])
def test_direct_feedback_below_several_outputs_is_refused_before_anything_moves(recruiting: bool) -> None:
    path = partial(Direct, outputs=4)
    below = stream_mlp(4, 4, feedback=path) if recruiting else mlp(4, 4, feedback=path)
    heads = {name: (AreaLinear(4, 1, areas=1, update=RLS() if recruiting else Adam()), "below") for name in "ab"}
    network = Network(
        Graph({"below": (below, "input"), **heads}, outputs=("a", "b")),
        lambda output, target: sum((one - target[:, None]).square().sum() for one in output),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        BrodmannError, match=r"needs one output, but the network has 2: .* layer 'body.nodes.below\.body"
    ):
        network.learn(torch.randn(6, 4), torch.randn(6))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_observers_must_leave_errors_as_they_are() -> None:
    network = Network(mlp(4, 3, width=5, areas=1))
    with pytest.raises(BrodmannError, match="The observer of errors changed in place what it was given"):
        network.learn(torch.randn(6, 4), torch.randint(0, 3, (6,)), observe=lambda layer, error: error.mul_(2.0))


def test_errors_are_observed_as_they_arrive() -> None:
    """A clip would else hide an explosion from who looks for one."""
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6), clip=1e-3)
    seen: list[float] = []
    network.learn(
        torch.randn(8, 5), torch.randint(0, 3, (8,)), observe=lambda _, error: seen.append(float(error.norm()))
    )
    assert seen[0] > 0.05


@pytest.mark.parametrize("make", [partial(mlp, feedback="sign"), partial(mlp, feedback="direct"), mlp, stream_mlp])
def test_learning_takes_no_notice_of_autocast(make: Any) -> None:
    networks = []
    for cast in (False, True):
        torch.manual_seed(0)
        networks.append(Network(make(5, 3, width=6, areas=3)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            networks[-1].learn(torch.randn(8, 5), torch.arange(8) % 3)
    assert all(map(torch.equal, *(network.state_dict().values() for network in networks)))
    x = torch.randn(8, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = networks[0](x)
    assert torch.equal(cast, networks[0](x))


def test_direct_feedback_of_another_width_is_refused() -> None:
    layers = (AreaLinear(5, 5, areas=1, feedback=None), AreaLinear(5, 5, areas=1, feedback=partial(Direct, outputs=7)))
    network = Network(Sequential(*layers, AreaLinear(5, 3, areas=1)))
    with pytest.raises(BrodmannError, match="was built for 7 outputs, but the output error has 3"):
        network.learn(torch.randn(4, 5), torch.arange(4) % 3)


def test_a_residual_body_that_sends_nothing_down_may_stand_lowest_alone() -> None:
    silent = partial(AreaLinear, 5, 5, areas=1, feedback=None)
    network = Network(Sequential(Residual(silent()), AreaLinear(5, 3, areas=1)))
    network.learn(torch.randn(4, 5), torch.arange(4) % 3)
    with pytest.raises(BrodmannError, match=r"Layer 1 \(Residual\) sends no error down"):
        Sequential(silent(), Residual(silent()), AreaLinear(5, 3, areas=1))
    with pytest.raises(BrodmannError, match="Expected alpha to be a finite number, got 'x'."):
        Residual(silent(), "x")


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_forward_weights_of_a_seed_are_the_same_under_all_feedback_paths(routing: str) -> None:
    def starts(path: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        network = Network(mlp(5, 3, depth=4, width=6, areas=3, routing=routing, feedback=path))
        return {name: value for name, value in network.state_dict().items() if ".feedback." not in name}

    first = starts("transpose")
    assert len(first) > 20
    for path in PATHS:
        assert all(torch.equal(value, first[name]) for name, value in starts(path).items())


class Spread(Feedback):
    """Fixed random feedback of one's own."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.register_buffer("matrix", shape.draw())

    def error(self, signal: Any) -> torch.Tensor:
        return signal.delta @ self.matrix


def test_matrices_of_own_paths_are_counted_as_those_of_ours() -> None:
    own, ours = (Network(mlp(5, 3, width=6, areas=2, feedback=path)) for path in (Spread, "random"))
    assert own.total_parameters() == ours.total_parameters()


@pytest.mark.parametrize("options", [{"shared": "off"}, {"areas": 1}, {"gated": True}, {}])
def test_what_was_merged_holds_nothing_to_learn_by(options: dict[str, Any]) -> None:
    learner = Network(mlp(8, 3, width=6, **{"areas": 4, **options}, update=Adam()))
    x, y = torch.randn(9, 8), torch.randint(0, 3, (9,))
    learner.learn(x, y)
    merged = learner.merged()
    torch.testing.assert_close(merged(x), learner(x))
    layers = [name for name in merged.state_dict() if "router" not in name]
    assert not [name for name in layers if "feedback" in name or name.endswith(("first", "second"))]
    with pytest.raises(BrodmannError, match="merged for inference"):
        merged.learn(x, y)


def test_maps_without_biases_read_none() -> None:
    learner = Network(Sequential(AreaLinear(8, 4, areas=1, bias=False, feedback=None)))
    assert learner.active_parameters() == learner.total_parameters() == 32


class Greedy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.new_empty(10**15)[:4]


def test_memory_that_ran_out_is_told_as_such() -> None:
    def on_a_gpu(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    for act, message in (
        (lambda: Local(on_a_gpu).trace(torch.randn(3, 4), Context()), "no room"),
        (lambda: Local(Greedy()).trace(torch.randn(3, 4), Context()), "can't allocate memory"),
        (lambda: from_torch(nn.Sequential(nn.Linear(4, 4), Greedy()), (4,)), "can't allocate memory"),
    ):
        with pytest.raises(RuntimeError, match=message):
            act()


def test_the_sum_of_one_tensor_is_itself_also_while_learning() -> None:
    x = torch.randn(4, 3)
    y, trace = Local(Sum()).trace(x, Context())
    assert torch.equal(y, x)
    assert torch.equal(Local(Sum()).learn(trace, 2 * x, Context()), 2 * x)


@pytest.mark.parametrize("steps", [2, 8])
def test_weights_of_targets_serve_layers_with_other_numbers_of_rows(steps: int) -> None:
    torch.manual_seed(0)
    learner = Network(
        Sequential(
            AreaLinear(4, 6, areas=3, feedback=None),  # 15 rows
            Local(lambda x: x.repeat(1, 2, 1)[:, :steps]),
            AreaLinear(6, 3, areas=1),
        )
    )
    again = copy.deepcopy(learner)
    x, y = torch.randn(3, 5, 4), torch.randint(0, 3, (3, steps))
    learner.learn(x, y, torch.ones(3, steps))
    again.learn(x, y)
    torch.testing.assert_close(learner(x), again(x))


def test_weights_that_no_row_can_be_counted_by_are_refused_before_anything_moves() -> None:
    learner = Network(
        Sequential(
            AreaLinear(4, 6, areas=1, feedback=None, update=RLS()),
            Local(lambda x: x[:, :2]),
            AreaLinear(6, 3, areas=1, update=RLS()),
        )
    )
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(BrodmannError, match="Expected a weight of at least 0 for each row.*6 weights for 15 rows"):
        learner.learn(torch.randn(3, 5, 4), torch.randint(0, 3, (3, 2)), torch.ones(3, 2))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize(
    "build",
    [
        lambda a: Sequential(Residual(a), Residual(a)),
        lambda a: Residual(a, shortcut=a),
        lambda a: Sequential(a, Recomputed(a)),
        lambda a: Graph({"x": (a, "input"), "y": (Sequential(a), "x")}),
    ],
)
def test_a_layer_that_stands_twice_is_found_wherever_it_stands(build: Callable[[Layer], Layer]) -> None:
    with pytest.raises(BrodmannError, match="are the same AreaLinear, which would be updated twice per step"):
        Network(build(AreaLinear(4, 4, areas=1)))
    Network(Sequential(*(Residual(AreaLinear(4, 4, areas=1)) for _ in range(2))))


def test_samples_without_rows_are_an_empty_batch() -> None:
    with pytest.raises(BrodmannError, match="Cannot learn from an empty batch"):
        Network(mlp(4, 3)).learn(torch.randn(3, 0, 4), torch.zeros(3, 0, dtype=torch.int64))
    with pytest.raises(BrodmannError, match="sample weights to be real numbers"):
        Network(mlp(4, 3)).learn(torch.randn(2, 4), torch.tensor([0, 1]), torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    "make", [lambda width: Network(mlp(5, 3, width=width)), lambda w: Backpropagation(5, 3, width=w)]
)
def test_what_does_not_fit_is_not_taken_in_part(make: Any) -> None:
    narrow, wide = make(4), make(6)
    before = copy.deepcopy(wide.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for"):
        wide.load_learning_state(narrow.learning_state())
    with pytest.raises(RuntimeError, match="Missing key"):
        wide.load_learning_state(dict(list(wide.learning_state().items())[:-1]))
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_a_gradient_that_autograd_waits_for_is_never_dropped_in_silence() -> None:
    network, y = Network(mlp(5, 3, width=4, areas=2, lowest=False)), torch.randint(0, 3, (8,))
    hidden = nn.Linear(6, 5)(torch.randn(8, 6))
    before = copy.deepcopy(network.state_dict())
    for learn in (network.learn, network.learn_with_output):
        with pytest.raises(BrodmannError, match=r"`loss, error = network\.learn_with_error.*x\.detach\(\)"):
            learn(hidden, y)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        network.learn(hidden, y)
    network.learn(hidden.detach(), y)


def test_the_error_of_an_input_comes_with_the_step_that_learn_makes() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=4, areas=2, lowest=False))
    twin, x, y, weight = copy.deepcopy(network), torch.randn(2, 4, 5), torch.randint(0, 3, (2, 4)), torch.rand(2, 4)
    (loss, error), plain = network.learn_with_error(x, y, weight, lr=0.1), twin.learn(x, y, weight, lr=0.1)
    assert error.shape == x.shape
    assert error.any()
    assert loss == plain
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("make", [lambda: Network(mlp(5, 3, width=6)), lambda: Backpropagation(5, 3, width=6)])
def test_a_body_is_not_replaced(make: Any) -> None:
    """Rates, learning rate and optimiser would be those of the old one."""
    learner = make()
    with pytest.raises(BrodmannError, match=f"^A {type(learner).__name__} keeps the body .* build another"):
        learner.body = make().body
    before = learner.body
    learner.body = learner.body.double()
    assert learner.body is before


def test_a_body_without_an_error_for_its_input_says_how_to_get_one() -> None:
    network, x, y = Network(mlp(5, 3, width=4, areas=2)), torch.randn(8, 5), torch.randint(0, 3, (8,))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(BrodmannError, match="build the body with lowest=False, give that layer a feedback path"):
        network.learn_with_error(x, y)
    other = Network(mlp(5, 3, areas=1, lowest=False))
    with pytest.raises(BrodmannError, match=r"there is none of whole numbers, and x is torch\.int64: call learn"):
        other.learn_with_error(torch.ones(8, 5, dtype=torch.int64), y)
    with pytest.raises(BrodmannError, match="the error of a single input, but x is a tuple: call learn"):
        other.learn_with_error((x, x), y)
    with pytest.raises(BrodmannError, match="Expected x to be a tensor, got ndarray"):
        other.learn_with_error(x.numpy(), y)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
