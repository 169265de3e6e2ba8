"""Slabs and areas hold what they hold: no room in files and copies, nobody else's memory, all of a state or nothing."""

from __future__ import annotations

import copy
import io
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from brodmann import SGD, Adam, AreaLinear, BrodmannError, CheckpointError, Network, Router, UpdateRule, kernels, mlp
from brodmann.areas import AreaMap, Slab, room, slab
from brodmann.areas.area_map import COPIED
from brodmann.kernels import Groups, Operations, library
from brodmann.recording import Recorder
from brodmann.training import Schedule, Trainer


def trained(areas: int = 64, width: int = 16, steps: int = 3) -> Network:
    torch.manual_seed(0)
    network = Network(mlp(8, 3, width=width, areas=areas, shared="off"))
    for _ in range(steps):
        network.learn(torch.randn(16, 8), torch.randint(0, 3, (16,)))
    return network


def numbers(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_files_and_copies_of_a_state_hold_no_room_for_more() -> None:
    network = trained(areas=4096)
    state = network.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    assert file.tell() < 2 * numbers(state) + 10_000
    for tensor in copy.deepcopy(state).values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_growing_moves_nothing_where_there_is_room_and_keeps_what_was_learned() -> None:
    torch.manual_seed(0)
    slab = Slab(torch.randn(2, 3, 4), Adam(), reserve=16)
    before = {name: tensor.clone() for name, tensor in slab.tensors().items()}
    slab.resize(3)
    place = slab.value.data_ptr()
    slab.resize(16)
    assert slab.value.data_ptr() == place
    slab.resize(2)
    for name, tensor in slab.tensors().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_growing_leaves_other_parameters_alone_where_all_lie_in_one_vector() -> None:
    network, twin = trained(steps=0), trained(steps=0)
    before = {name: len(tensor) for name, tensor in network.named_parameters()}
    vector = nn.utils.parameters_to_vector(network.parameters())
    nn.utils.vector_to_parameters(vector, network.parameters())
    x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
    for one in (network, twin):
        one.learn(x, y)  # gives memory to areas
    expected = dict(twin.named_parameters())
    for name, tensor in network.named_parameters():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert any(len(tensor) > before[name] for name, tensor in network.named_parameters())


def test_areas_that_another_thread_adds_while_a_layer_computes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their slots lay past the end of the weights at hand: now and then a prediction was NaN, or of huge numbers."""
    layer, x = AreaLinear(5, 3, areas=4, feedback=None), torch.randn(20, 5)
    before = layer(x)

    def operations(weight: Tensor, rows: Tensor) -> Operations:  # asked for once the weights were read
        assert layer.areas is not None
        if weight is layer.areas.weight.value:
            layer.areas.allocate(torch.arange(4))
            layer.areas.weight.value[1:] += 1
        return kernels.operations(weight, rows)

    with monkeypatch.context() as patched:
        patched.setattr(slab, "operations", operations)
        assert torch.equal(layer(x), before)
    assert not torch.equal(layer(x), before)


def test_inference_of_few_rows_copies_no_table_of_all_areas() -> None:
    layer, recorder = AreaLinear(5, 3, areas=4000, feedback=None, router=partial(Router, learned=False)), Recorder(())
    x = torch.randn(2, 5)
    with torch.no_grad(), recorder.listening():
        out = layer(x)
    assert recorder.refusal is None
    assert all(view.size != (4000,) for call in recorder.calls for view in call.made or ())
    assert torch.equal(out, layer(x))


def test_slots_are_copied_for_inference_only_while_areas_may_be_added() -> None:
    areas, rows = trained(areas=4).area_layers()[0][1].areas, torch.arange(4)
    assert areas is not None
    areas.allocate(torch.arange(4))
    assert areas.slots_of_now(rows) is areas.slot
    for budget in (4, COPIED + 1):
        areas = AreaMap(budget, torch.ones(3, 5), None, SGD())
        areas.allocate(torch.tensor([1, 3]))
        for number in (2, 4):
            copied = areas.slots_of_now(rows[:number])
            assert copied.data_ptr() != areas.slot.data_ptr()
            assert torch.equal(copied[:number], areas.slot[:number])


def test_areas_that_another_thread_adds_while_autograd_follows_have_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = AreaLinear(5, 3, areas=4, feedback=None), torch.randn(20, 5, requires_grad=True)
    before = layer(x)

    def grown(areas: AreaMap) -> Tensor:
        if not areas.existing:
            for part in areas.weight.slabs():
                part.resize(5)
            areas._buffers["slot"] = torch.arange(1, 5)
        slot = areas._buffers["slot"]
        assert slot is not None
        return slot

    monkeypatch.setattr(AreaMap, "slot", property(grown))  # grows at the moment when the slots are read
    assert torch.equal(layer(x), before)


def test_weights_that_ask_for_gradients_still_do_after_growing() -> None:
    network = trained(steps=0).requires_grad_()
    network.learn(torch.randn(16, 8), torch.randint(0, 3, (16,)))
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in copy.deepcopy(network).parameters())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("width", [16, 24])
def test_areas_take_all_of_a_state_or_nothing(strict: bool, width: int) -> None:
    """Slots without their weights would let the kernels read past the end."""
    network, other = trained(steps=0), trained(width=width)
    own = network.state_dict()
    fitting = {name: value for name, value in other.state_dict().items() if value.shape == own[name].shape}
    with pytest.raises(RuntimeError, match=r"areas\.\* should hold slot, weight\.value, weight\.bias\.value, got only"):
        network.load_state_dict(fitting, strict=strict)
    x = torch.randn(5, 8)
    with library.switched_off():
        expected = network(x)
    torch.testing.assert_close(network(x), expected)
    for _, layer in network.area_layers():
        assert layer.areas is not None
        assert int(layer.areas.slot.max()) <= layer.areas.existing


def test_a_resume_from_another_network_is_refused_and_leaves_no_slot_without_weights(tmp_path: Path) -> None:
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
    Trainer(trained(width=24), (x, y), schedule=Schedule(epochs=1), folder=tmp_path).run()
    network = trained(steps=0)
    with pytest.raises(CheckpointError, match="another network"):
        Trainer(network, (x, y), schedule=Schedule(epochs=1), folder=tmp_path).resume()
    assert torch.isfinite(network(x)).all()


@pytest.mark.parametrize(
    "rules", [(Adam(), SGD()), (Adam(), SGD(momentum=0.9)), (SGD(momentum=0.9), Adam()), (SGD(), Adam())]
)
def test_a_follower_under_another_rule_is_refused(rules: tuple[UpdateRule, UpdateRule]) -> None:
    slab, follower = (Slab(torch.zeros(1, 3, 4), rule) for rule in rules)
    with pytest.raises(BrodmannError, match="Expected a follower with the update rule"):
        slab.learn(torch.ones(2, 3), torch.ones(2, 4), Groups.single(2), 0.1, 0.0, follower=follower.target(0.1, 0.0))


def test_rows_of_two_kinds_of_number_are_refused() -> None:
    slab = Slab(torch.zeros(1, 3, 4), SGD())
    with pytest.raises(BrodmannError, match="of the same dtype"):
        slab.learn(torch.ones(2, 3), torch.ones(2, 4, dtype=torch.float64), Groups.single(2), 0.1, 0.0)
    with pytest.raises(BrodmannError, match="of the same dtype"):
        slab.add_error(torch.zeros(2, 4, dtype=torch.float64), torch.ones(2, 3), Groups.single(2), None)


def test_weights_that_are_views_are_read_as_they_lie() -> None:
    network = trained()
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    strided = {
        name: tensor.transpose(-1, -2).contiguous().transpose(-1, -2) if tensor.ndim > 2 else tensor
        for name, tensor in state.items()
    }
    assert not all(tensor.is_contiguous() for tensor in strided.values())
    x = torch.randn(7, 8)
    expected = network(x)
    torch.testing.assert_close(torch.func.functional_call(network, strided, x), expected)
    network.load_state_dict(strided, assign=True)
    torch.testing.assert_close(network(x), expected)
    network.learn(x, torch.zeros(7, dtype=torch.int64))


def test_running_out_of_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = AreaLinear(4, 3, areas=4, router=partial(Router, partition="manual"))
    network = Network(layer, lr=0.1)
    network.learn(torch.randn(16, 4), torch.randint(0, 3, (16,)))
    assert layer.router is not None
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}

    def refuse(self: Slab, slots: int) -> None:
        raise BrodmannError("There is not enough memory.")

    monkeypatch.setattr(Slab, "make_room", refuse)
    with pytest.raises(BrodmannError, match="not enough memory"):
        layer.split(0)
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_where_the_system_grants_no_room_for_all_areas_it_doubles_as_it_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def sparing(like: Tensor, slots: int) -> Tensor:
        asked.append(slots)
        if slots > 16:
            raise RuntimeError("not so much")
        return granted(like, slots)

    granted = room._unwritten
    monkeypatch.setattr(room, "_unwritten", sparing)
    map_ = AreaMap(100, torch.randn(3, 5), None, SGD())
    for count in (3, 7):
        map_.allocate(torch.arange(count))
        assert torch.equal(map_.weight.value, map_.weight.value[:1].expand(count + 1, 3, 5))
    assert asked == [101, 8]  # which still had room for the second


def test_float_leaves_weights_stored_as_bfloat16_and_double_is_refused() -> None:
    network = Network(mlp(8, 3, width=8, areas=4, storage="bfloat16"))
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert torch.bfloat16 in kinds.values()
    before = network(torch.ones(2, 8))
    network.float()
    assert {name: tensor.dtype for name, tensor in network.state_dict().items()} == kinds
    torch.testing.assert_close(network(torch.ones(2, 8)), before, rtol=0, atol=0)
    with pytest.raises(BrodmannError, match="bfloat16 work only with float32"):
        network.double()


def test_a_merged_network_keeps_no_state_of_its_rule() -> None:
    network = trained()
    merged = Network(mlp(8, 3, width=16, areas=4, update=Adam())).merged()
    assert not any("first" in name or "steps" in name for name in merged.state_dict() if ".areas." in name)
    assert any("first" in name for name in network.state_dict())


def test_bfloat16_weights_learn_beside_another_default_device() -> None:
    torch.manual_seed(0)
    network = Network(mlp(8, 3, width=8, areas=4, storage="bfloat16"))
    x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
    torch.set_default_device("meta")
    try:
        network.learn(x, y)
    finally:
        torch.set_default_device("cpu")


def _outputs(_: int, network: Network, outputs: Tensor) -> None:
    outputs.copy_(network(torch.ones(2, 8)).detach())


def test_a_network_can_be_handed_to_another_process() -> None:
    network, outputs = trained(), torch.zeros(2, 3).share_memory_()
    torch.multiprocessing.spawn(_outputs, args=(network, outputs))
    torch.testing.assert_close(outputs, network(torch.ones(2, 8)))
