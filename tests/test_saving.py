"""Files of networks, and the designs in them: what they keep, what they build, and what is refused."""

from __future__ import annotations

import copy
from collections import UserDict, UserList
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BinaryCrossEntropy,
    BrodmannError,
    Captured,
    CheckpointError,
    CrossEntropy,
    Layer,
    Local,
    MeanSquaredError,
    Network,
    Rates,
    Router,
    Sequential,
    SumOfSquares,
    convnet,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.builders import build, design
from brodmann.files import read_tensors, write_tensors
from brodmann.network.files import load_whole
from brodmann.updates import Factors, UpdateRule

from .settings import default_dtype
from .trained import trained


def test_saving_keeps_the_options_and_learning_goes_on_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    description = design("mlp", Adam(decay=0.1), in_features=5, outputs=3, width=6, areas=4, feedback="random")
    options = {"lr": 0.02, "rates": Rates(areas=0.5, layers={"body.layers.0": 0.0}), "clip": 3.0}
    network = Network.from_design(description, **options)
    x, y = torch.randn(16, 5), torch.randint(0, 3, (16,))
    network.learn(x, y)
    network.save(tmp_path / "n.safetensors")
    again = Network.load(tmp_path / "n.safetensors")
    assert (again.lr, again.rates, again.clip, again.design) == (0.02, options["rates"], 3.0, network.design)
    for _ in range(2):
        assert torch.equal(network.learn(x, y), again.learn(x, y))
    assert torch.equal(network(x), again(x))
    regression = Network.load(tmp_path / "n.safetensors", loss=MeanSquaredError())
    assert isinstance(regression.loss, MeanSquaredError)
    assert isinstance(Network.from_design(description, MeanSquaredError()).loss, MeanSquaredError)
    by_hand = Network.load(tmp_path / "n.safetensors", body=mlp(5, 3, width=6, areas=4, feedback="random"))
    assert by_hand.lr == 0.02


def test_a_file_knows_the_loss_that_is_one_of_ours(tmp_path: Path) -> None:
    path, description = tmp_path / "n.safetensors", design("mlp", Adam(), in_features=4, outputs=3)
    weights = torch.tensor([1.0, 2.0, 3.0])
    for loss in (
        CrossEntropy(0.1, weights),
        CrossEntropy(),
        BinaryCrossEntropy(),
        BinaryCrossEntropy(weights, normalised=False),
        MeanSquaredError(),
        SumOfSquares(),
    ):
        Network.from_design(description, loss).save(path)
        again = Network.load(path).loss
        assert type(again) is type(loss)
        assert repr(vars(again)) == repr(vars(loss))
    namesake = type("CrossEntropy", (CrossEntropy,), {})  # one of the user's own
    for other in (nn.MSELoss(), lambda output, target: (output - target).abs().mean(), namesake()):
        Network.from_design(description, other).save(path)
        with pytest.raises(CheckpointError, match=r"was trained with (MSELoss|<lambda>|CrossEntropy): pass that as"):
            Network.load(path)
        assert Network.load(path, loss=MeanSquaredError()).loss is not None


def test_a_file_whose_slots_do_not_exist_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = trained(mlp(5, 3, width=6, areas=4))
    network.save(tmp_path / "n.safetensors")
    tensors, options = read_tensors(tmp_path / "n.safetensors")
    name = next(name for name in tensors if name.endswith("slot"))
    for wrong in (1 << 40, -1):
        tensors[name] = torch.full_like(tensors[name], wrong)
        write_tensors(tmp_path / "bad.safetensors", tensors, options)
        with pytest.raises(CheckpointError, match=r"slot should hold slots from 0 to"):
            Network.load(tmp_path / "bad.safetensors", mlp(5, 3, width=6, areas=4))


def test_a_buffer_of_float64_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    def body() -> Sequential:
        counting = Local(torch.tanh)
        counting.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        return Sequential(AreaLinear(5, 4, areas=1, feedback=None), counting, AreaLinear(4, 3, areas=1))

    for number in (torch.float32, torch.float64):
        network = Network(body()).to(number)
        network.save(tmp_path / "n.safetensors")
        assert Network.load(tmp_path / "n.safetensors", body()).dtype == number
    write_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(1)}, {"backpropagation": {}})
    with pytest.raises(
        CheckpointError, match="does not hold a Network: load files of the baseline with `Backpropagation.load`"
    ):
        Network.load(tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError,
        match="does not hold a network trained by backpropagation: load other networks with `Network.load`",
    ):
        Backpropagation.load(tmp_path / "n.safetensors")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (lambda: mlp(5, 3, width=6), None),
        (lambda: mlp(5, 3, width=6), SGD(momentum=0.5)),
        (lambda: residual_mlp(5, 3, depth=3, width=6, update=Adam(decay=0.1), feedback="random"), None),
        (lambda: residual_mlp(5, 3, depth=3, width=6, update=Adam(decay=0.1), feedback="random"), Adam(beta1=0.8)),
        (lambda: stream_mlp(5, 3, width=6, areas=2), None),
        (lambda: stream_mlp(5, 3, width=6, areas=2), RLS(ridge=3.0)),
        (lambda: mlp(5, outputs=3, width=6, areas=1, router=None, storage="bfloat16"), None),
        (lambda: mlp(5, outputs=3, width=6, areas=1, router=None, storage="bfloat16"), SGD()),
    ],
)
def test_what_a_builder_built_is_loaded_without_it(
    body: Callable[[], Layer], rule: UpdateRule | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = trained(body())
    if rule is not None:
        network.update_rule = rule
        network.learn(torch.randn(9, 5), torch.arange(9) % 3)
    network.save(tmp_path / "n.safetensors")
    again = Network.load(tmp_path / "n.safetensors")
    assert again.update_rule == network.update_rule
    x, y = torch.randn(9, 5), torch.arange(9) % 3
    assert torch.equal(again(x), network(x))
    for one in (again, network):
        torch.manual_seed(1)  # bfloat16 rounds by chance
        one.learn(x, y)
    assert torch.equal(again(x), network(x))


def test_a_network_whose_layers_follow_several_rules_is_loaded_into_a_body_with_them(tmp_path: Path) -> None:
    def body() -> Layer:
        made = mlp(5, 3, width=6)
        next(part for part in made.modules() if isinstance(part, AreaLinear)).update_rule = SGD(momentum=0.5)
        return made

    network = Network(body(), lr=0.1)
    assert network.design is None
    network.save(tmp_path / "n.safetensors")
    with pytest.raises(CheckpointError, match="by the same code, with the same update rules"):
        Network.load(tmp_path / "n.safetensors")
    assert torch.equal(Network.load(tmp_path / "n.safetensors", body())(torch.ones(2, 5)), network(torch.ones(2, 5)))


def test_a_body_that_is_no_data_must_be_given_to_load(tmp_path: Path) -> None:
    network = Network(mlp(5, 3, width=6, activation=nn.SiLU()))
    network.save(tmp_path / "n.safetensors")
    with pytest.raises(
        CheckpointError, match="does not say how its body was built: pass a body built by the same code"
    ):
        Network.load(tmp_path / "n.safetensors")
    x = torch.randn(9, 5)
    assert torch.equal(
        Network.load(tmp_path / "n.safetensors", mlp(5, 3, width=6, activation=nn.SiLU()))(x), network(x)
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Network(mlp(5, 3, width=6)), "Expected body to be the layers of a network, got a Network: give its body."),
        (nn.Linear(5, 3), "Expected body to be the layers of a network, got a Linear: build it as the saved one."),
    ],
)
def test_a_body_to_load_is_made_of_layers(body: Any, message: str, tmp_path: Path) -> None:
    Network(mlp(5, 3, width=6)).save(tmp_path / "n.safetensors")
    with pytest.raises(BrodmannError, match=message):
        Network.load(tmp_path / "n.safetensors", body)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.layers.append(Local(nn.Tanh())),
        lambda body: setattr(body.layers, "1", Local(nn.Tanh())),
        lambda body: setattr(body.layers[1], "alpha", 0.1),
    ],
)
def test_a_body_that_was_changed_is_not_described_by_its_builder(
    change: Callable[[Layer], None], tmp_path: Path
) -> None:
    body = residual_mlp(5, 3, depth=3, width=6, areas=1)
    assert Network(body).design is not None
    change(body)
    network = Network(body)
    assert network.design is None
    network.save(tmp_path / "n.safetensors")
    with pytest.raises(CheckpointError, match="does not say how its body was built"):
        Network.load(tmp_path / "n.safetensors")


class InBetween(UpdateRule):
    """Moves nothing, but calls what it is told to, in the middle of a step."""

    call: ClassVar[Callable[[], object]]

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        weight.sub_(lr)
        self.call()


@pytest.mark.parametrize("captured", [False, True])
def test_a_step_of_another_thread_is_saved_as_a_whole(captured: bool, tmp_path: Path) -> None:
    network, x, y = Network(mlp(5, 3, areas=1, update=InBetween())), torch.randn(8, 5), torch.randint(3, (8,))
    learner = Captured(network, own_parts=True) if captured else network
    InBetween.call = staticmethod(lambda: None)
    for _ in range(3):
        learner.learn(x, y)
    saving = Thread(target=network.save, args=(tmp_path / "n.safetensors",))

    def save_in_another_thread() -> None:
        if saving.ident is None:
            saving.start()
            saving.join(0.05)
            assert saving.is_alive()

    InBetween.call = staticmethod(save_in_another_thread)
    learner.learn(x, y)
    saving.join()
    saved = read_tensors(tmp_path / "n.safetensors")[0]
    assert all(torch.equal(value, saved[name]) for name, value in network.body.state_dict().items())


def test_a_copy_waits_for_a_step_of_another_thread() -> None:
    network, x, y = Network(mlp(5, 3, areas=1, update=InBetween())), torch.randn(8, 5), torch.randint(3, (8,))
    copies: list[Network] = []
    copying = Thread(target=lambda: copies.append(copy.deepcopy(network)))

    def copy_in_another_thread() -> None:
        if copying.ident is None:
            copying.start()
            copying.join(0.05)
            assert copying.is_alive()

    InBetween.call = staticmethod(copy_in_another_thread)
    network.learn(x, y)
    copying.join()
    InBetween.call = staticmethod(lambda: None)
    assert all(torch.equal(value, copies[0].state_dict()[name]) for name, value in network.state_dict().items())
    assert torch.equal(network.learn(x, y), copies[0].learn(x, y))
    assert torch.equal(network(x), copies[0](x))


@pytest.mark.parametrize("body", [partial(mlp, 5, 3, width=6), partial(stream_mlp, 5, 3, width=6)])
def test_a_network_without_memory_takes_tensors_that_are_assigned(body: Callable[[], Layer]) -> None:
    network, x, y = Network(body()), torch.randn(8, 5), torch.arange(8) % 3
    for _ in range(3):
        network.learn(x, y)
    with torch.device("meta"):
        again = Network(body())
    again.load_state_dict(copy.deepcopy(network.state_dict()), assign=True)
    x = torch.randn(40, 5)  # which takes other areas, too
    for one in (network, again):
        torch.manual_seed(0)
        one.learn(x, torch.arange(40) % 3)
    assert torch.equal(again(x), network(x))


def test_settings_may_be_numbers_of_numpy(tmp_path: Path) -> None:
    rates = Rates(areas=np.float32(0.5))  # type: ignore[arg-type]
    loss = CrossEntropy(np.float64(0.1), normalised=np.bool_(True))  # type: ignore[arg-type]
    network = Network(mlp(5, 3, width=6), loss, lr=np.float32(0.25), rates=rates, clip=np.float64(2))  # type: ignore[arg-type]
    network.save(tmp_path / "n.safetensors")
    again = Network.load(tmp_path / "n.safetensors")
    assert (again.lr, again.rates.areas, again.clip, again.loss.label_smoothing) == (0.25, 0.5, 2, 0.1)  # type: ignore[attr-defined]


def test_settings_may_be_sequences_and_mappings_of_a_configuration(tmp_path: Path) -> None:
    settings = UserDict(in_features=5, outputs=3, width=UserList([6, 4]), router=UserDict(cells=20))
    plain = {"in_features": 5, "outputs": 3, "width": [6, 4], "router": {"cells": 20}}
    for body in (mlp(**settings), build(UserDict(builder="mlp", update=UserDict(name="sgd"), **settings))):
        network = Network(body)
        assert network.design is not None
        assert network.design.items() >= plain.items()
        network.save(tmp_path / "n.safetensors")
        assert Network.load(tmp_path / "n.safetensors").design == network.design
    images = Network(convnet(UserList([1, 8, 8]), 3, channels=UserList([4]), areas=1))
    assert images.design is not None
    assert (images.design["shape"], images.design["channels"]) == ([1, 8, 8], [4])
    with pytest.raises(BrodmannError, match="Expected router to be a dictionary of settings, or a class .*, got int"):
        mlp(5, 3, router=3)


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: setattr(layers, "2", AreaLinear(6, 3, areas=4, update=SGD(), start_scale=0.1)),
        lambda layers: setattr(layers, "2", AreaLinear(6, 3, areas=4, update=Adam(), pooling=2.0, start_scale=0.1)),
        lambda layers: setattr(layers[2], "router", Router(6, 4, temperature=0.7, update=Adam())),
    ],
)
def test_a_design_does_not_outlive_a_part_of_other_settings(change: Callable[[nn.ModuleList], None]) -> None:
    body = mlp(5, 3, width=6, areas=4, update=Adam(), routing="layer")
    assert Network(body).design is not None
    change(body.layers)
    assert Network(body).design is None


def test_a_file_is_loaded_in_its_own_kind_of_number_wherever(tmp_path: Path) -> None:
    x, y = torch.randn(8, 5), torch.arange(8) % 3
    for number in (torch.float32, torch.float64):
        Network(stream_mlp(5, 3, width=6, areas=3)).to(number).save(tmp_path / "network")
        other = torch.float64 if number == torch.float32 else torch.float32
        with default_dtype(other), torch.inference_mode():
            network = Network.load(tmp_path / "network")
        assert network.dtype == number
        network.learn(x.to(number), y)


def test_a_design_is_a_copy() -> None:
    network = Network(mlp(5, 3, width=6))
    assert network.design is not None
    network.design["width"] = 9
    assert network.design["width"] == 6


@pytest.mark.parametrize(
    ("part", "number"),
    [
        ("router.conflict", "evidence"),
        ("router.conflict", "opposition"),
        ("router.conflict", "certainty"),
        ("router", "temperature"),
        ("router", "balance_rate"),
        ("body.layers.0", "pooling"),
    ],
)
def test_a_network_whose_numbers_were_changed_has_no_design(part: str, number: str) -> None:
    network = Network(mlp(5, 3, width=6, areas=4, router={"partition": "growing"}))
    assert network.design is not None
    setattr(network.body.get_submodule(part), number, 0.25)
    assert network.design is None


def test_a_file_of_a_loss_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Network(mlp(5, 3)).save(path)
    tensors, options = read_tensors(path)
    options["loss"]["smoothing"] = 0.1
    write_tensors(path, tensors, options)
    with pytest.raises(CheckpointError, match="names a loss of another version"):
        Network.load(path)


def test_a_file_of_a_body_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Network(mlp(5, 3)).save(path)
    tensors, options = read_tensors(path)
    name, tensor = tensors.popitem()
    write_tensors(path, {**tensors, f"{name}_before": tensor}, options)
    with pytest.raises(CheckpointError, match=r"another version of this package.*: train it again, or use"):
        Network.load(path)


class Name(str):
    """A name of a tensor that counts how often it is compared."""

    __slots__ = ()
    asked = 0

    def startswith(self, *given: Any) -> bool:
        Name.asked += 1
        return super().startswith(*given)


def test_the_time_to_load_grows_with_the_number_of_layers_not_with_its_square() -> None:
    deep, other = (mlp(3, 2, depth=40, width=2, areas=1) for _ in range(2))
    state = {Name(name): tensor for name, tensor in deep.state_dict().items()}
    load_whole(other, state)
    assert Name.asked <= 2 * len(state)
    assert all(torch.equal(tensor, deep.state_dict()[name]) for name, tensor in other.state_dict().items())


def test_what_a_layer_asks_to_be_called_after_loading_is_called(tmp_path: Path) -> None:
    called: list[str] = []
    network, body = Network(mlp(3, 2)), mlp(3, 2)
    network.save(tmp_path / "n.safetensors")
    for name, part in (("inner", body.body), ("outer", body)):
        part.register_load_state_dict_post_hook(lambda _, __, name=name: called.append(name))
    Network.load(tmp_path / "n.safetensors", body=body)
    assert called == ["inner", "outer"]
