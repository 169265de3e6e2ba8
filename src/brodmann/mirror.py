"""Weight mirrors: feedback weights that watch what layers answer to noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .areas.starts import MIRROR_ROWS, mirrored
from .checks import check_whole
from .errors import BrodmannError
from .feedback import Feedback, KolenPollack, LeastChange
from .layers import AreaLinear
from .layers.weights import Weights


@torch.no_grad()
def mirror_weights(network: nn.Module, samples: int = MIRROR_ROWS) -> None:
    """Sets Kolen-Pollack feedback weights by what layers answer to noise: no forward weight is read.

    Every layer gets rows x (in,) of standard normal noise, and ``B0 = 1/n sum_i y_i^T x_i``, y (out,) being what its
    map answers, without biases: for ``y = x W0^T`` the mean of ``B0`` is ``W0``, and an estimate from n rows has a
    cosine of about ``1 / sqrt(1 + in / n)`` with it. A feedback map per area watches that area alone; without a shared
    part that learns, one ``B0`` for all areas watches the mean of their answers. The updates of a Kolen-Pollack pair
    then keep both together. ``feedback="kolen-pollack-mirrored"`` does the same when a layer is built; this is for
    weights that were loaded, or trained, since.

    Source: Akrout et al. (2019), who alternate it with learning, with a rate and a decay; doing it all at once is our
    choice.

    Args:
        network: A `Network` or a body. Its feedback weights are set in place; nothing else changes. A `Product`,
            and `TiedWeights`, are watched as the map of their weights, (out, in), whatever is done with them.
        samples: Rows of noise, n, drawn by PyTorch's own generator. Default 8192: a cosine of 0.95 for 784 inputs.

    Raises:
        BrodmannError: No layer has Kolen-Pollack feedback, or the number of rows is not a positive whole number.
    """
    check_whole(samples=samples)
    parts = network.modules() if isinstance(network, nn.Module) else ()
    paths = [(part, _innermost(part.feedback)) for part in parts if isinstance(part, AreaLinear | Weights)]
    pairs = [(layer, path) for layer, path in paths if isinstance(path, KolenPollack)]
    if not pairs:
        raise BrodmannError("Expected a network with Kolen-Pollack feedback, the only kind whose weights can be set.")
    for layer, path in pairs:
        _mirror(layer, path, samples)


def _innermost(path: Feedback | None) -> Feedback | None:
    return path.path if isinstance(path, LeastChange) else path


def _mirror(layer: AreaLinear | Weights, path: KolenPollack, samples: int) -> None:
    areas = layer.areas if isinstance(layer, AreaLinear) else None
    common = [] if layer.shared is None else [layer.shared.value[0]]
    own = areas.weight.value if areas is not None else None  # (slots, out, in); what has no slot of its own is slot 0
    if path.shared is not None:
        others = [] if path.follows_shared or own is None else [*(own[1:] if len(own) > 1 else own)]
        path.shared.value[0] = _watched(common, others, samples)
    if path.areas is not None and areas is not None and own is not None:
        existing = areas.slot.nonzero()[:, 0]
        path.areas.allocate(existing)
        beside = [] if path.follows_shared else common
        if not path.follows_shared:  # what areas begin with that do not exist yet
            path.areas.weight.value[0] = _watched(common, [own[0]], samples)
        for area in existing.tolist():
            watched = own[int(areas.slot[area])]
            path.areas.weight.value[int(path.areas.slot[area])] = _watched(beside, [watched], samples)


def _watched(common: list[Tensor], others: list[Tensor], samples: int) -> Tensor:
    """Estimates from answers to noise the sum of the common maps, (out, in) each, and of the mean of the others."""

    def answer(x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), like.shape[0])
        for weight in common:
            y += x @ weight.to(x.dtype).t()
        for weight in others:
            y += x @ weight.to(x.dtype).t() / len(others)
        return y

    like = [*common, *others][0]
    return mirrored(answer, like, samples)
