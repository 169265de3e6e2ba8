"""Telemetry: counts add up, and the cosine of the error is 1 exactly where it is the gradient."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    AreaLinear,
    BrodmannError,
    Captured,
    Context,
    CrossEntropy,
    FixedRandom,
    Local,
    Network,
    Recurrent,
    Sequential,
    SumOfSquares,
    Transpose,
    figures,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.layer import Layer
from brodmann.layers import Elman
from brodmann.network import routers
from brodmann.network.batches import batches_of
from brodmann.runs import Inspection
from brodmann.telemetry import Alignment, alignment, area_choices, area_counts, area_usage, class_conflict, usage_of
from brodmann.telemetry.conflict_of_classes import products_of_gradients
from brodmann.training import AlignmentRecord, Schedule, Trainer

from .oracles.cases import LAYERS, PATHS


def trained(**options: object) -> Network:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, depth=3, width=8, **options))
    for _ in range(3):
        network.learn(torch.randn(16, 5), torch.randint(0, 3, (16,)), lr=0.02)
    return network


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_use_of_areas_adds_up(routing: str) -> None:
    network = trained(areas=6, routing=routing)
    x = torch.randn(50, 5)
    choices = area_choices(network, x)
    for (name, counts), row in zip(area_counts(network, x).items(), area_usage(network, x), strict=True):
        assert row.layer == name
        assert sum(row.counts) == 50
        assert row.counts == tuple(torch.bincount(choices[name], minlength=6).tolist()) == tuple(counts.tolist())
        assert row.dead == sum(count == 0 for count in row.counts)
        share = [count / 50 for count in row.counts if count]
        assert row.entropy == pytest.approx(-sum(q * math.log(q) for q in share))
        assert row.effective == pytest.approx(math.exp(row.entropy))
    assert len(area_usage(network, x)) == (3 if routing == "layer" else 1)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("layer", LAYERS)
def test_transpose_feedback_is_the_true_gradient(layer: str) -> None:
    network = trained(feedback="transpose", dropout=0.5, **LAYERS[layer])
    rows = alignment(network, torch.randn(20, 5), torch.randint(0, 3, (20,)))
    assert len(rows) > 1
    for row in rows:
        assert row.cosine == pytest.approx(1.0, abs=1e-9)
        assert row.norm_ratio == pytest.approx(1.0, rel=1e-9)
        assert row.error_norm > 0


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_a_path_of_twice_the_weights_turned_round_is_told_as_such(clip: float | None) -> None:
    torch.manual_seed(0)
    top = AreaLinear(8, 3, areas=1, feedback=FixedRandom)
    network = Network(Sequential(AreaLinear(6, 8, areas=1, feedback=None), Local(nn.Tanh()), top), clip=clip)
    weight, x, y = top.shared.value[0], torch.randn(12, 6), torch.arange(12) % 3
    top.feedback.matrix.copy_(-2 * weight)
    delta = (network(x).softmax(1) - nn.functional.one_hot(y, 3)) / 12
    true = (delta @ weight) * (1 - network.body.layers[0](x).tanh().square())
    below, above = alignment(network, x, y)
    assert (below.cosine, below.norm_ratio) == pytest.approx((-1.0, 2.0), rel=1e-5)
    assert (above.weight_cosine, above.weight_ratio) == pytest.approx((-1.0, 2.0), rel=1e-5)
    assert below.error_norm == pytest.approx(2 * float(true.norm()), rel=1e-4)
    assert above.error_norm == pytest.approx(float(delta.norm()), rel=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_looking_changes_nothing(path: str) -> None:
    torch.manual_seed(0)
    network = Network(residual_mlp(5, 3, depth=4, width=8, areas=4, feedback=path))
    before = copy.deepcopy(network.state_dict())
    rows = alignment(network, torch.randn(20, 5), torch.randint(0, 3, (20,)))
    assert rows[-1].cosine == pytest.approx(1.0, abs=1e-5)  # the output error needs no feedback
    assert all(-1.0001 <= row.cosine <= 1.0001 for row in rows)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    if path == "kolen-pollack":
        assert abs(rows[0].cosine) < 0.9  # independent starts: far from the gradient


class Drawing(FixedRandom):
    """A path whose matrix is drawn anew each time, as that of batchwise random sign-symmetry is."""

    def one_matrix(self, weight: Tensor | None) -> Tensor:
        return torch.randn_like(self.matrix)


@pytest.mark.parametrize(
    "options", [{"storage": "bfloat16"}, {"feedback": "kolen-pollack-noisy"}, {"feedback": Drawing}]
)
def test_looking_draws_nothing_from_the_generator(options: dict[str, Any]) -> None:
    network, x, y = trained(areas=4, **options), torch.randn(20, 5), torch.randint(0, 3, (20,))
    state = torch.get_rng_state()
    alignment(network, x, y)
    class_conflict(network, x, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_kind_of_dropout_is_off() -> None:
    torch.manual_seed(0)
    layers = [AreaLinear(5, 8, areas=1, feedback=None), Local(nn.AlphaDropout(0.5)), AreaLinear(8, 3, areas=1)]
    network = Network(Sequential(*layers))
    x, y = torch.randn(20, 5), torch.randint(0, 3, (20,))
    assert alignment(network, x, y) == alignment(network, x, y)


def test_choices_belong_to_their_routers_in_whatever_order_they_are_asked() -> None:
    class Upside(Sequential):
        def forward(self, x: torch.Tensor, choice: object = None) -> torch.Tensor:
            return self.layers[1](x) + self.layers[0](x)

    network = Network(Upside(AreaLinear(5, 3, areas=2), AreaLinear(5, 3, areas=8)))
    counts = area_counts(network, torch.randn(50, 5))
    assert {name: len(count) for name, count in counts.items()} == {"layers.1": 8, "layers.0": 2}


def test_measuring_recruits_nothing() -> None:
    """Else the second of two passes over a stream network would go other ways than the first."""
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=32, feedback="transpose", router={"novelty": 0.8}))
    network.learn(torch.randn(4, 6), torch.randint(0, 3, (4,)))
    rows = alignment(network, torch.randn(40, 6), torch.randint(0, 3, (40,)))
    assert [row.cosine for row in rows] == pytest.approx([1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_conflict_where_cells_are_vacant_is_that_of_a_router_that_recruits_no_more(steps: int) -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(6, 3, width=8, areas=8))
    for _ in range(steps):
        network.learn(torch.randn(2, 6), torch.randint(0, 3, (2,)))
    x, y = torch.randn(40, 6), torch.randint(0, 3, (40,))
    kept, choices = copy.deepcopy(network.state_dict()), area_choices(network, x)
    rows = class_conflict(network, x, y)
    assert rows
    assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())
    assert any(router.recruits for _, router in routers(network))
    for _, router in routers(network):
        router.novelty = -1.0
    network._recruiting = []
    assert class_conflict(network, x, y) == rows
    in_use = {name: len(area.unique()) for name, area in choices.items()}
    assert all((count > 1) == (steps > 0) for count in in_use.values()), in_use


def test_where_no_error_arrives_there_is_no_alignment(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (AreaLinear(6, 8, areas=1, feedback=None), Local(lambda h: 0 * h), AreaLinear(8, 3, areas=1))
    network, x, y = Network(Sequential(*layers)), torch.randn(12, 6), torch.arange(12) % 3
    below, above = alignment(network, x, y)
    assert math.isnan(below.cosine)
    assert math.isnan(below.norm_ratio)
    assert above.cosine == pytest.approx(1.0)
    row = Trainer(network, (x, y), schedule=Schedule(epochs=1), callbacks=AlignmentRecord(x, y)).run().history[0]
    assert row["alignment"] == {"layers.0": None, "layers.2": 1.0}
    figures.alignment_by_epoch(tmp_path / "alignment.png", [row])
    assert (tmp_path / "alignment.png").stat().st_size > 0


@pytest.mark.parametrize("loss", [CrossEntropy(), SumOfSquares()])
def test_samples_may_come_from_an_encoder_or_be_made_in_inference_mode(loss: Any) -> None:
    network, x, y = Network(mlp(6, 3, width=8, areas=4), loss, lr=0.1), torch.randn(12, 6), torch.arange(12) % 3
    for measure in (alignment, class_conflict):
        expected = measure(network, x, y)
        with torch.inference_mode():
            given = x.clone(), y.clone()
            assert measure(network, *given) == expected
        assert measure(network, *given) == measure(network, x.clone().requires_grad_(), y) == expected


def test_what_a_run_looks_like_is_data_for_json(tmp_path: Path) -> None:
    silent = Alignment("layers.0", math.nan, math.inf, 0.0)
    data = Inspection(tmp_path, [{"epoch": 1, "train_loss": 0.5}], alignment=[silent]).as_dict()
    row = json.loads(json.dumps(data, allow_nan=False))["alignment"][0]
    assert (row["cosine"], row["norm_ratio"], row["error_norm"]) == (None, None, 0.0)


def test_choices_of_another_network_are_told() -> None:
    one, other = (Network(mlp(6, 3, width=8, areas=4, routing=routing)) for routing in ("layer", "network"))
    with pytest.raises(BrodmannError, match=r"Unknown layer with a router 'layers\.0'.*: router"):
        usage_of(other, area_choices(one, torch.randn(5, 6)))


def test_what_is_no_network_is_told_what_to_give() -> None:
    network = Network(mlp(6, 3, width=8, areas=4))
    for other, message in (
        (Captured(network), "got Captured: give the network that it holds"),
        (network.body, "got Routed: put the body into one"),
        (Backpropagation(6, 3), "got Backpropagation.$"),
    ):
        with pytest.raises(BrodmannError, match=message):
            area_usage(other, torch.randn(2, 6))  # type: ignore[arg-type]


def test_alignment_draws_nothing() -> None:
    """Whatever an operation does in training mode: with transpose feedback every error is the gradient."""
    torch.manual_seed(0)
    layers = (
        AreaLinear(6, 8, areas=1, feedback=None),
        Local(nn.RReLU()),
        AreaLinear(8, 3, areas=1, feedback=Transpose),
    )
    network = Network(Sequential(*layers))
    rows = alignment(network, torch.randn(12, 6), torch.arange(12) % 3)
    assert [row.cosine for row in rows] == pytest.approx([1.0, 1.0])
    assert [row.norm_ratio for row in rows] == pytest.approx([1.0, 1.0], rel=1e-4)


class Gain(Layer):
    """A factor for each unit: a layer of one's own that tells of its error, or of something else, or of nothing."""

    def __init__(self, size: int, telling: str) -> None:
        super().__init__()
        self.gain, self.telling = nn.Parameter(torch.rand(size) + 0.5, requires_grad=False), telling

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.gain

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return self(x), x

    def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
        if self.telling == "its error":
            error = context.received(self, error)
        elif self.telling == "another error":
            context.received(self, error[:, :2])
        return error * self.gain


@pytest.mark.parametrize("telling", ["its error", "another error", "nothing"])
def test_a_layer_of_ones_own_that_tells_of_its_error_has_a_row(telling: str) -> None:
    torch.manual_seed(0)
    top = AreaLinear(8, 3, areas=1, feedback=Transpose)
    network = Network(Sequential(AreaLinear(6, 8, areas=1, feedback=None), Gain(8, telling), Local(nn.Tanh()), top))
    rows = {row.layer: row for row in alignment(network, torch.randn(12, 6), torch.arange(12) % 3)}
    told = telling == "its error"
    assert list(rows) == (["layers.0", "layers.1", "layers.3"] if told else ["layers.0", "layers.3"])
    for row in rows.values():
        assert row.cosine == pytest.approx(1.0)
        assert row.norm_ratio == pytest.approx(1.0, rel=1e-4)
    assert not told or rows["layers.1"].weight_cosine is None


@pytest.mark.parametrize("steps", [None, 3])
def test_samples_go_through_in_parts_and_choices_come_in_the_same_order(
    steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    if steps is None:
        body: Layer = mlp(5, 3, width=8, areas=6, routing="layer")
    else:
        parts = AreaLinear(5, 4, areas=6), AreaLinear(4, 4, areas=6)
        body = Sequential(Recurrent(*parts, Elman()), AreaLinear(4, 3, areas=6))
    network, x = Network(body), torch.randn(50, *(() if steps is None else (steps,)), 5)
    whole, seen = area_choices(network, x), []
    network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    monkeypatch.setattr(batches_of, "__defaults__", (16,))
    parts_of = area_choices(network, x)
    assert seen == [16, 16, 16, 2]
    assert whole.keys() == parts_of.keys()
    assert all(torch.equal(whole[name], parts_of[name]) for name in whole)
    assert {area.shape for area in whole.values()} == {(50,) if steps is None else (50, 3)}
    one = area_choices(network, x[7:8])  # the rows of a sample lie together, and those of a single one are such, too
    assert all(torch.equal(one[name][0], whole[name][7]) for name in one)
    area_usage(network, x)


def test_conflict_of_classes_is_measured_where_areas_are_still_vacant() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 8), torch.arange(60) % 3
    network = Network(stream_mlp(8, 3, width=16, areas=6))
    network.learn(x[:3], y[:3])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = class_conflict(network, x, y)
    assert rows
    assert all(0 <= row.inside_areas <= 1 for row in rows)
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("classes", [2, 40])
def test_products_of_the_gradients_of_classes_are_those_of_the_gradients(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    delta, x = (torch.randn(60, size, generator=generator, dtype=torch.float64) for size in (5, 7))
    target = torch.arange(60) % classes
    gradients = torch.stack([(delta[target == one].t() @ x[target == one]).flatten() for one in range(classes)])
    torch.testing.assert_close(products_of_gradients(delta, x, target), gradients @ gradients.t())
