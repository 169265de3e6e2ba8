"""Layers that stay as they are, in models that are converted and in bodies that are composed."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BatchNorm,
    BrodmannError,
    Local,
    Network,
    Rates,
    Routed,
    Router,
    Sequential,
    Transpose,
    from_torch,
    mlp,
    to_torch,
)
from brodmann.layer import Context, Layer
from brodmann.layers import Graph
from brodmann.routing import Recruiting
from brodmann.telemetry import alignment
from brodmann.training import Schedule, Trainer

from .models import CLASSES, MODELS, batches, described, learn_beside, samples

FROZEN = {
    "dense": ["0", "2"],
    "images": ["0"],
    "residual": ["first", "second"],
    "attending": ["attention"],
    "encoding, norm first": ["encoder.layers.0"],
    "grouped": ["0"],
    "language": ["table"],
    "batched": ["conv", "above"],
    "translating": ["read"],
    "paired": ["pairs"],
    "steps first": ["map", "encoder.layers.1.norm1"],
}
"""Parts of models that ask for no gradient, those that are there."""


def frozen(name: str) -> nn.Module:
    """Returns a model of which some parts ask for no gradient."""
    model = MODELS[name][0]()
    known = dict(model.named_modules())
    parts = [part for part in FROZEN[name] if part in known] or [next(key for key in known if key)]
    for part in parts:
        known[part].requires_grad_(False)
    assert 0 < sum(not parameter.requires_grad for parameter in model.parameters()) < len(list(model.parameters()))
    return model


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", FROZEN)
def test_what_asks_for_no_gradient_stays_and_the_rest_learns_as_under_autograd(name: str) -> None:
    torch.manual_seed(0)
    model = frozen(name)
    body = from_torch(model, described(name), areas=1, feedback="transpose", update=SGD(momentum=0.9))
    network, trained = Network(body, lr=0.05), copy.deepcopy(model)
    learning = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
    learn_beside(network, trained, optimiser, batches(name, 4))
    found = to_torch(network, model, described(name))
    for (key, ours), theirs in zip(found.named_parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9, msg=key)
        assert ours.requires_grad == theirs.requires_grad


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_layers_have_one_area_and_stand_still_under_any_feedback(name: str) -> None:
    torch.manual_seed(0)
    model = frozen(name)
    network = Network(from_torch(model, described(name), areas=3, routing="layer", feedback="kolen-pollack"), lr=0.1)
    layers = {key: part for key, part in network.named_modules() if getattr(part, "frozen", False)}
    before = {key: copy.deepcopy(part.state_dict()) for key, part in layers.items()}
    for batch in batches(name, 3):
        network.learn(*batch)
    assert layers
    for key, part in layers.items():
        assert all(torch.equal(value, before[key][name]) for name, value in part.state_dict().items()), key
        assert not isinstance(part, AreaLinear) or part.budget == 1


class Adapted(nn.Module):
    """A map of low rank beside one that stays, as LoRA has it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.down, self.up = nn.Linear(inner.in_features, 2, bias=False), nn.Linear(2, inner.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.up(self.down(x))  # type: ignore[no-any-return]


def test_adapters_learn_beside_a_model_that_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Adapted(nn.Linear(6, 16)), nn.ReLU(), Adapted(nn.Linear(16, 3)))
    network, x = Network(from_torch(model, (6,), areas=1, update=Adam()), lr=0.05), torch.randn(64, 6)
    y = (x @ torch.randn(6, 3)).argmax(1)
    losses = [float(network.learn(x, y)) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    found = to_torch(network, model, (6,))
    for ours, theirs in zip(found.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs) is not theirs.requires_grad


def test_below_frozen_layers_alone_no_errors_go_down() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    network = Network(from_torch(model, areas=2))
    assert [layer.sends_down for _, layer in network.area_layers()] == [False, False, False]
    assert network.frozen_layers == ["body.layers.0", "body.layers.2"]


def test_a_model_that_is_frozen_as_a_whole_learns_as_a_whole() -> None:
    torch.manual_seed(0)
    model = MODELS["dense"][0]().requires_grad_(False)
    network = Network(from_torch(model, areas=1))
    x, y = samples("dense", 16), torch.randint(0, CLASSES, (16,))
    network.learn(x, y)
    found = to_torch(network, model)
    assert not any(torch.equal(*pair) for pair in zip(found.parameters(), model.parameters(), strict=True))


def test_half_a_layer_is_not_frozen_and_said_to_be_none() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    model[2].bias.requires_grad_(False)
    with pytest.warns(UserWarning, match="Only some parameters of '2' require gradients, but it learns as a whole"):
        network = Network(from_torch(model, areas=1))
    assert not any(layer.frozen for _, layer in network.area_layers())


@pytest.mark.parametrize("make", [partial(AreaLinear, areas=3), partial(AreaLinear, areas=1)])
def test_a_layer_of_a_body_may_be_frozen_by_hand_whatever_the_rates_are(make: Any) -> None:
    torch.manual_seed(0)
    lowest, frozen, norm = make(4, 6, feedback=None), make(6, 5), BatchNorm(5, update=SGD())
    network = Network(Sequential(lowest, frozen, norm, Local(torch.relu), make(5, 3)), lr=0.1)
    frozen.frozen = True
    network.rates = Rates(layers={"*": 2.0})
    before, other = copy.deepcopy(frozen.state_dict()), copy.deepcopy(lowest.state_dict())
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    for _ in range(3):
        network.learn(x, y)
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())
    assert not all(torch.equal(value, other[key]) for key, value in lowest.state_dict().items())
    frozen.frozen = False
    network.learn(x, y)
    assert not all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())


def small() -> Network:
    """A network of layers of all kinds, with a container inside."""
    torch.manual_seed(0)
    inner = Sequential(AreaLinear(6, 6, areas=1, update=Adam()), BatchNorm(6, update=Adam()))
    lowest = AreaLinear(4, 6, areas=3, feedback=None, update=Adam())
    return Network(Sequential(lowest, inner, Local(torch.relu), AreaLinear(6, 3, areas=3, update=Adam())))


def moved(network: Network) -> set[str]:
    """Returns which layers of `small` a step moves."""
    before = copy.deepcopy(network.body.state_dict())
    network.learn(torch.randn(20, 4), torch.randint(0, 3, (20,)))
    changed = [name for name, value in network.body.state_dict().items() if not torch.equal(value, before[name])]
    return {name.removeprefix("layers.").partition(".layers")[0].split(".")[0] for name in changed}


def test_a_layer_of_layers_passes_it_on_and_rates_name_what_is_frozen() -> None:
    network = small()
    inner = network.body.layers[1]
    inner.frozen = True
    assert moved(network) == {"0", "3"}
    inside = [f"layers.1.{name}" for name in ("layers.0", "layers.1", "layers.1.gain", "layers.1.shift")]
    assert network.frozen_layers == inside
    network.rates = Rates(layers={"*": 0.0, "layers.3": 1.0})
    inner.frozen = False
    assert moved(network) == {"3"}
    with pytest.raises(BrodmannError, match="Unknown layer 'layers.9'"):
        network.frozen_layers = ["layers.9"]
    with pytest.raises(BrodmannError, match="Expected frozen_layers to be a list of names, got 'layers.3'"):
        network.frozen_layers = "layers.3"
    network.frozen_layers = ["body.layers.1.*"]
    assert network.frozen_layers == inside


def test_the_router_of_one_route_is_frozen_by_its_name_alone() -> None:
    torch.manual_seed(0)
    network = Network(mlp(4, 3, width=6, areas=3, update=Adam()))
    network.frozen_layers = ["router"]
    before = copy.deepcopy(network.state_dict())
    network.learn(torch.randn(20, 4), torch.randint(0, 3, (20,)))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any("router" in name for name in changed)
    dict(network.learning_layers())["router"].frozen = False
    assert network.frozen_layers == []


def test_files_and_checkpoints_know_what_is_frozen(tmp_path: Path) -> None:
    network = Network(mlp(4, 3, width=6, areas=2, update=Adam()), rates=Rates(layers={"body.layers.0": 0.5}))
    network.frozen_layers = ["body.layers.0"]
    network.save(tmp_path / "network.safetensors")
    again = Network.load(tmp_path / "network.safetensors")
    assert again.frozen_layers == ["body.layers.0"]
    data = torch.randn(40, 4), torch.randint(0, 3, (40,))
    Trainer(network, data, schedule=Schedule(epochs=2), folder=tmp_path / "run").run()
    other = Trainer(
        Network(mlp(4, 3, width=6, areas=2, update=Adam())), data, schedule=Schedule(epochs=2), folder=tmp_path / "run"
    )
    other.resume()
    assert other.network.frozen_layers == ["body.layers.0"]


def test_a_container_freezes_what_lies_under_a_router_too() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(4, 3, areas=2, router=None, feedback=None)
    routed = Routed(Router(4, 2), Sequential(layer))
    body = Sequential(routed)
    body.frozen = True
    assert layer.frozen
    assert routed.frozen
    assert body.frozen
    assert not body.learns
    network = Network(body)
    before = copy.deepcopy(network.state_dict())
    network.learn(torch.randn(9, 4), torch.randint(0, 3, (9,)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    layer.frozen = False
    assert not routed.frozen
    assert not body.frozen
    assert body.learns
    routed.frozen, layer.frozen = False, True
    assert not body.frozen
    body.frozen = False
    assert not layer.frozen
    fixed = Sequential(Routed(Router(4, 2, learned=False), AreaLinear(4, 3, areas=2, router=None)))
    fixed.layers[0].body.frozen = True
    assert fixed.frozen  # its router never changes


CHANGING: dict[str, dict[str, Any]] = {
    "learned": {},
    "balancing": {"learned": False, "balance_rate": 0.1},
    "recruiting": {"novelty": 0.9},
    "growing": {
        "learned": False,
        "partition": "growing",
        "conflict": {"evidence": 8, "opposition": 1e-6, "certainty": 1e-6},
    },
}
"""Routers that change in ways of their own."""


def routed_norms(**router: Any) -> Network:
    """A network of one route, with a norm that learns, one without gain, and one of fixed statistics."""
    torch.manual_seed(0)
    norms = BatchNorm(6, update=SGD()), BatchNorm(6), BatchNorm(6, update=SGD(), fixed=True)
    low, high = AreaLinear(4, 6, areas=4, router=None, feedback=None), AreaLinear(6, 3, areas=4, router=None)
    return Network(
        Routed((Recruiting if "novelty" in router else Router)(4, 4, **router), Sequential(low, *norms, high)), lr=0.3
    )


def freeze_all(network: Network, way: str) -> None:
    """Freezes a whole network."""
    if way == "names":
        network.frozen_layers = ["*"]
    elif way == "all names":
        network.frozen_layers = [name for name, _ in network.learning_layers()]
    elif way == "rates":
        network.rates = Rates(layers={"*": 0.0})
    else:
        network.body.frozen = True


@pytest.mark.parametrize("way", ["names", "all names", "rates", "body"])
@pytest.mark.parametrize("router", CHANGING)
def test_a_whole_network_is_frozen_in_any_way_and_stays_so_in_files(router: str, way: str, tmp_path: Path) -> None:
    network, x, y = routed_norms(**CHANGING[router]), torch.randn(64, 4), torch.randint(0, 3, (64,))
    state = copy.deepcopy(network.state_dict())
    for _ in range(3):
        network.learn(x, y)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, state[name])}
    assert any("router" in name for name in changed)  # else there would be nothing to freeze
    freeze_all(network, way)
    network.save(tmp_path / "network.safetensors")
    again = Network.load(tmp_path / "network.safetensors", body=routed_norms(**CHANGING[router]).body)
    for learner in (network, again):
        before = copy.deepcopy(learner.state_dict())
        learner.learn(x, y)
        assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
        assert learner.body.frozen is not (way == "rates")
        assert learner.body.learns is (way == "rates")
    assert again.frozen_layers == network.frozen_layers


def test_files_and_checkpoints_freeze_no_more_than_was_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = torch.randn(40, 4), torch.randint(0, 3, (40,))

    def made() -> Network:
        return Network(Sequential(AreaLinear(4, 6, areas=1), BatchNorm(6, update=SGD()), AreaLinear(6, 3, areas=1)))

    network = made()
    norm = network.body.layers[1]
    norm.frozen = True
    norm.gain.frozen = False  # its statistics stay, and its gain learns
    assert network.frozen_layers == ["layers.1", "layers.1.shift"]
    network.save(tmp_path / "network.safetensors")
    assert Network.load(tmp_path / "network.safetensors", made().body).frozen_layers == network.frozen_layers
    Trainer(network, data, schedule=Schedule(epochs=1), folder=tmp_path / "run").run()
    other = Trainer(made(), data, schedule=Schedule(epochs=1), folder=tmp_path / "run")
    other.resume()
    assert other.network.frozen_layers == network.frozen_layers


def test_names_of_frozen_layers_may_come_from_anything_but_a_text_or_a_dictionary() -> None:
    network = small()
    network.frozen_layers = (name for name in ("layers.0", "layers.3"))
    assert network.frozen_layers == ["layers.0", "layers.3"]
    for wrong in (None, {"layers.0": False}, [0]):
        with pytest.raises(BrodmannError, match="Expected frozen_layers to be a list of names, got"):
            network.frozen_layers = wrong  # type: ignore[assignment]
    assert network.frozen_layers == ["layers.0", "layers.3"]


def test_what_is_frozen_when_it_is_built_counts_as_it_will_once_it_learns() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(4, 4, areas=1, update=SGD())
    layer.frozen = True
    with pytest.raises(BrodmannError, match="would be updated twice per step"):
        Sequential(layer, layer)
    with pytest.raises(BrodmannError, match="would be updated twice: put that node"):
        Graph({"one": (layer, "input"), "two": (layer, "one")})
    assert Network(Sequential(layer)).lr == 0.3
    body = mlp(4, 3, width=6, areas=1, update=RLS())
    body.frozen = True
    network = Network(body)
    assert network.recursive
    assert (network.lr, type(network.loss).__name__) == (1.0, "SumOfSquares")


class Counting(Layer):
    """A layer of one's own that moves a buffer alone."""

    moves = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        return x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        if context.lr_of(self):
            self.count += 1
        return error


def test_a_layer_that_moves_a_buffer_is_frozen_by_its_name() -> None:
    torch.manual_seed(0)
    network = Network(Sequential(AreaLinear(4, 4, areas=1), Counting(), AreaLinear(4, 3, areas=1)), lr=0.1)
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    network.learn(x, y)
    network.frozen_layers = ["layers.1"]
    network.learn(x, y)
    assert network.body.layers[1].count == 1


def test_a_norm_reads_as_it_was_set_and_so_do_its_parts() -> None:
    for update, fixed in itertools.product((SGD(), None), (True, False)):
        norm = BatchNorm(6, update=update, fixed=fixed)
        body = Sequential(norm)
        for flag in (True, False):
            body.frozen = flag
            assert norm.frozen is body.frozen is flag
            assert all(part.frozen is flag for part in (norm.gain, norm.shift) if part is not None)


@pytest.mark.parametrize("way", ["frozen", "rate 0"])
def test_a_frozen_norm_is_that_of_inference_while_others_learn(way: str) -> None:
    torch.manual_seed(0)
    norm = BatchNorm(6, update=SGD())
    network = Network(
        Sequential(AreaLinear(4, 6, areas=1), norm, AreaLinear(6, 3, areas=1, feedback=Transpose)), lr=0.1
    )
    x, y = torch.randn(32, 4), torch.randint(0, 3, (32,))
    network.learn(x, y)
    if way == "frozen":
        norm.frozen = True
    else:
        network.rates = Rates(layers={"layers.1": 0.0})
    before = copy.deepcopy(norm.state_dict())
    expected = network.loss(network(x), y, None)
    torch.testing.assert_close(network.learn(x, y), expected)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    for line in alignment(network, x, y):  # autograd goes by the same statistics
        assert line.cosine == pytest.approx(1.0, abs=1e-5)


class Composite(Layer):
    """A layer of one's own that holds parameters, a layer, and modules of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.inner = nn.ModuleList([AreaLinear(4, 5, areas=1, feedback=Transpose), nn.Identity()])

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return self.inner[0](self.gain * x, choice)  # type: ignore[no-any-return]

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        y, trace = self.inner[0].trace(self.gain * x, context)
        return y, (x, trace)

    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor:
        x, inner = trace
        below = self.inner[0].learn(inner, error, context)
        down = below * self.gain
        with torch.no_grad():
            self.gain -= context.lr_of(self) * (below * x).sum(0)
        return down  # type: ignore[no-any-return]


def test_a_layer_of_ones_own_is_frozen_with_all_that_it_holds() -> None:
    torch.manual_seed(0)
    own = Composite()
    network = Network(Sequential(own, AreaLinear(5, 3, areas=1)), lr=0.1)
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    own.frozen = True
    before = copy.deepcopy(own.state_dict())
    network.learn(x, y)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert network.frozen_layers == ["layers.0", "layers.0.inner.0"]
    network.frozen_layers = ["layers.0.inner"]
    assert not own.frozen
    network.learn(x, y)
    changed = {name for name, value in own.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"gain"}
    with pytest.raises(BrodmannError, match="Expected frozen to be True or False, got 'yes'"):
        own.frozen = "yes"  # type: ignore[assignment]


@pytest.mark.parametrize("routing", ["network", "layer"])
def test_areas_of_a_frozen_layer_are_not_merged(routing: str) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, routing=routing, router={"partition": "manual"}))
    x, y = torch.randn(40, 5), torch.arange(40) % 3
    (_, lowest), (_, above) = network.area_layers()
    holder = network.body if routing == "network" else above
    new = holder.split(0)
    network.learn(x, y)
    for part in [network.body, above] if routing == "network" else [above]:
        part.frozen = True
        before = {name: value.clone() for name, value in network.learning_state().items()}
        with pytest.raises(BrodmannError, match=f"Cannot merge areas 0 and {new}: a layer that would change is frozen"):
            holder.merge(0, new)
        assert all(torch.equal(value, before[name]) for name, value in network.learning_state().items())
        part.frozen = False
    if routing == "layer":
        lowest.frozen = True  # which has a router of its own
    holder.merge(0, new)
