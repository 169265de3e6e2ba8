"""Weight mirrors: feedback weights that watch what layers answer to noise."""

from __future__ import annotations

import torch
from torch import Tensor

from .area_linear import AreaLinear
from .checks import check_whole
from .errors import BrodmannError
from .feedback import KolenPollack
from .network import Network, check_network

ROWS = 1024
"""Rows of noise at a time."""


@torch.no_grad()
def mirror_weights(network: Network, samples: int = 8192) -> None:
    """Sets Kolen-Pollack feedback weights by what layers answer to noise: no forward weight is read.

    Every layer gets rows x (in,) of standard normal noise, and ``B0 = 1/n sum_i y_i^T x_i``, y (out,) being what its
    map answers, without biases: ``y = x W0^T`` has the mean ``B0 = W0``, and an estimate from n rows has a cosine of
    about ``1 / sqrt(1 + in / n)`` to it. A feedback map per area watches that area alone; without a shared part that
    learns, one ``B0`` for all areas watches the mean of their answers. For networks whose forward weights know
    something that their feedback weights do not, such as a trained model that was converted with independent feedback:
    the updates of a Kolen-Pollack pair then keep both together.

    Source: Akrout et al. (2019), who do so in turns with learning, with a rate and a decay; all at once: our choice.

    Args:
        network: Its feedback weights are set in place; nothing else changes.
        samples: Rows of noise, n, drawn by PyTorch's own generator. Default 8192: a cosine of 0.95 for 784 inputs.

    Raises:
        BrodmannError: No layer has Kolen-Pollack feedback, or the number is no whole one.
    """
    check_network(network)
    check_whole(samples=samples)
    layers = [layer for _, layer in network.area_layers() if isinstance(layer.feedback, KolenPollack)]
    if not layers:
        raise BrodmannError("Expected a network with Kolen-Pollack feedback, which alone has weights to be set.")
    for layer in layers:
        _mirror(layer, samples)


def _mirror(layer: AreaLinear, samples: int) -> None:
    path, areas = layer.feedback, layer.areas
    assert isinstance(path, KolenPollack)
    common = [] if layer.shared is None else [layer.shared.value[0]]
    own = areas.weight.value if areas is not None else None  # (slots, out, in); what has no slot of its own is slot 0
    if path.shared is not None:
        others = [] if path.follows_shared or own is None else [*own[min(1, len(own) - 1) :]]
        path.shared.value[0] = _watch(common, others, samples)
    if path.areas is not None and areas is not None and own is not None:
        existing = areas.slot.nonzero()[:, 0]
        path.areas.allocate(existing)
        beside = [] if path.follows_shared else common
        for area in existing.tolist():
            watched = own[int(areas.slot[area])]
            path.areas.weight.value[int(path.areas.slot[area])] = _watch(beside, [watched], samples)


def _watch(common: list[Tensor], others: list[Tensor], samples: int) -> Tensor:
    """Returns ``1/n sum_i y_i^T x_i``, (out, in): y adds up the answers of common maps and the mean of the others'."""
    maps = [*common, *others]
    number = torch.promote_types(maps[0].dtype, torch.float32)
    found = torch.zeros_like(maps[0], dtype=number)
    for start in range(0, samples, ROWS):
        x = torch.randn(min(ROWS, samples - start), found.shape[1], dtype=number, device=found.device)
        answers = [x @ weight.to(number).t() for weight in maps]
        y = sum(answers[: len(common)], torch.zeros_like(answers[0]))
        if others:
            y = y + torch.stack(answers[len(common) :]).mean(0)
        found.addmm_(y.t(), x, alpha=1.0 / samples)
    return found
