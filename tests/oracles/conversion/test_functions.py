"""Functions that a converted model calls, and the Python around them, are followed."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import SGD, BrodmannError, Network, from_torch

from .converting import Positions, Returning, hooked


def test_long_chains_of_functions_are_followed() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(450):
            x = torch.sin(x)
        return x

    model, x = Returning(chain), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())


def test_what_works_in_place_does_not_work_on_what_is_compared() -> None:
    model = nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 3), nn.Hardswish(inplace=True))
    x = torch.randn(5, 6)
    torch.testing.assert_close(from_torch(model, (6,))(x), model(x.clone()))


def overwritten(x: Tensor) -> Tensor:
    """Writes into what is read later under its own name, twice, and asks of what kind it is."""
    y = x.sin()
    y.mul_(2.0)
    z = y.exp()
    y += x if torch.is_autocast_enabled(y.device.type) or y.dim() == 3 else 1.0
    with torch.autocast(device_type=y.device.type, enabled=False):
        y.clamp_(min=0.5)
    return y * z


def covered(x: Tensor) -> Tensor:
    """Writes into a part of a tensor, as masks of attention are made."""
    mask = x.new_zeros((x.shape[0], 4))
    mask[:, 1:3] = 2.0
    mask[:, 0] = x[:, 1]
    return mask.cos() * x


def counted(x: Tensor) -> Tensor:
    """Changes what a name stands for, not what it stood for."""
    size = more = x.shape[1]
    more += 2
    y = x * size
    y += x / more
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.relu(1.0 * functional.elu(x, 0.5, True), True),
        lambda x: torch.relu_(x),
        lambda x: x.index_fill_(1, torch.tensor([0, 2]), 0.0),
        lambda x: x.mul_(2.0) * x.size(1) + x.new_ones(4),
        lambda x: torch.where(x > 0, x, torch.zeros(())) / x.abs().max(dim=1, keepdim=True).values,
        lambda x: torch.split(x, [1, 3], 1)[1].cumsum(1) - x[:, -1:],
        lambda x: x + x,
        lambda x: (torch.add(x, x, alpha=2), x.sum())[0],
        lambda x: x.sin() if x.dim() == 2 and len(x.shape) == x.ndim and x.is_floating_point() else -x,
        lambda x: sum((x[:, index:].sum(1, keepdim=True) for index in range(x.shape[1])), x) / math.sqrt(x.size(-1)),
        lambda x: torch.cat([part.cos() for part in x.chunk(x.size(1) // 2, 1)], 1),
        lambda x: x * torch.arange(x.shape[1], device=x.device) + torch.zeros(x.shape[0], 1, dtype=x.dtype),
        lambda x: covered(x) * (len(x.shape) - 1),
        lambda x: counted(x),
        lambda x: overwritten(x),
        lambda x: x * torch.arange(4.0)[None].expand(x.shape[0], -1) + torch.ones(1, 4).repeat(x.size(0), 1),
        lambda x: x + functional.relu(x, inplace=True),
        lambda x: (x.exp() * numpy.float64(0.3)).sin() + numpy.int64(2),
        lambda x: x.reshape(x.shape[0], *(int(size / 2) for size in x.shape[1:]), 2).flatten(1),
    ],
)
def test_functions_are_followed(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Returning(function), nn.Tanh())
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    x = torch.randn(5, 4)
    y = torch.randn_like(network(x))
    torch.testing.assert_close(network(x), model(x).detach())
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    lowest = network.area_layers()[0][1].shared.value[0]
    moved = model[0].inside.weight - 0.1 * model[0].inside.weight.grad
    torch.testing.assert_close(lowest, moved.detach())


def test_bodies_that_make_masks_of_sizes_go_through_pickle() -> None:
    torch.manual_seed(0)
    for function in (covered, lambda x: x * torch.arange(x.shape[1], device=x.device) * (x.dim() - 1)):
        body = from_torch(Returning(function), areas=1)
        x = torch.randn(7, 4)
        torch.testing.assert_close(pickle.loads(pickle.dumps(body))(x), body(x))


class Numbered(nn.Module):
    """Adds to its outputs what is made of numbers alone, where its weights lie."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.map, self.function = nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        weight = self.map.weight
        return self.map(x).to(weight.dtype) + self.function((3,), 2.0, device=weight.device)


def test_what_is_made_of_numbers_alone_is_no_state_of_an_unpickled_network() -> None:
    x = torch.randn(5, 4)
    for function in (torch.full, lambda shape, number, device: number * torch.arange(*shape, device=device)):
        network = Network(from_torch(Numbered(function), areas=1))
        copy = pickle.loads(pickle.dumps(network))
        copy.load_learning_state(network.learning_state())  # as `Trainer.resume` does
        assert copy.state_dict().keys() == network.state_dict().keys()
        torch.testing.assert_close(pickle.loads(pickle.dumps(copy))(x), network(x))


def test_what_is_made_of_buffers_alone_may_be_read_by_functions_and_layers() -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.bend = nn.Linear(4, 4), nn.Linear(4, 4)
            self.register_buffer("places", torch.randn(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            places = self.places[: x.shape[1]] if x.dim() < 3 else self.places * 2
            return self.map(x) * places + x.tanh() * places + self.bend(places)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Bent(), torch.randn(5, 3, 4)
    torch.testing.assert_close(from_torch(model, (3, 4), areas=1)(x), model(x).detach())


ACTIVATION = nn.Sequential(nn.GELU(), nn.Tanh())


ELSEWHERE = nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False, track_running_stats=False)
"""No parts of the networks that call them."""


def test_activations_that_a_package_holds_are_followed() -> None:
    torch.manual_seed(0)
    model, x = Returning(lambda x: ACTIVATION(x)), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())
    for part in ELSEWHERE:
        with pytest.raises(BrodmannError, match="torch.fx cannot trace its forward"):
            from_torch(Returning(lambda x, part=part: part(x)), areas=1)


class Odd(nn.ReLU):
    """An activation with a forward of its own, which is no operation on each number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_an_activation_of_ones_own_is_followed_where_it_looks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Odd(), nn.Softmax(1), nn.Flatten(2), nn.Linear(36, 2), nn.Flatten())
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(from_torch(model, (1, 8, 8), areas=2)(x), model(x).detach())


def test_hooks_on_what_holds_layers_are_followed() -> None:
    model, x = hooked(2), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=2)(x), model(x).detach())


def test_the_line_that_cannot_be_followed_is_named() -> None:
    for function, line in ((lambda x: x[{}["missing"]], "missing"), (lambda x: -x if x[0, 0] > 2 else x, r"x\[0, 0\]")):
        with pytest.raises(BrodmannError, match=rf"test_functions.py, line \d+: `.*{line}.*`\)"):
            from_torch(Returning(function))


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


def test_no_error_goes_down_through_a_map_that_detaches_its_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Detached(4, 3))
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()))
    before = copy.deepcopy(network.state_dict())
    network.learn(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64), lr=0.1)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert not any(name.startswith("body.nodes.0.") for name in changed)


def test_a_model_whose_outputs_have_no_derivative_is_converted_as_it_is() -> None:
    model, x = Returning(lambda x: (2.0 * x).detach()), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())


def test_whole_numbers_may_be_written_into_without_gradients() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)
            self.register_buffer("table", torch.randn(12, 4))

        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(x.shape[1])
            with torch.no_grad():
                places += 2
            return self.map(x + self.table[places])

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            spectrum = torch.fft.rfft(self.map(x))
            with torch.no_grad():
                spectrum.mul_(2)
            return torch.fft.irfft(spectrum, n=4)

    model, x = Offset(), torch.randn(3, 5, 4)
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(x), model(x).detach())
    with pytest.raises(BrodmannError, match=r"writes under torch.no_grad\(\) into a value that errors go down through"):
        from_torch(Spectral(), (4,), areas=1)  # complex numbers carry errors


def test_networks_are_converted_in_threads_one_after_the_other() -> None:
    before = torch.arange, nn.Module.__call__
    models = [Positions() for _ in range(6)]
    with ThreadPoolExecutor(3) as pool:
        bodies = list(pool.map(lambda model: from_torch(model, (5, 4), areas=1), models))
    assert before == (torch.arange, nn.Module.__call__)
    x = torch.randn(3, 5, 4)
    for model, body in zip(models, bodies, strict=True):
        torch.testing.assert_close(body(x), model.eval()(x).detach())


def test_what_torch_fx_lends_is_given_back() -> None:
    before = torch.arange, nn.Module.__call__, nn.Module.__getattr__
    with pytest.raises(BrodmannError):
        from_torch(Returning(lambda x: x if x.ndim == 2 and x.max() > 0 else -x))
    assert before == (torch.arange, nn.Module.__call__, nn.Module.__getattr__)
