"""Weight mirrors: feedback weights that watch what layers answer to noise."""

from __future__ import annotations

import torch
from torch import nn

from .areas.starts import MIRROR_ROWS
from .checks import check_whole
from .errors import BrodmannError
from .feedback import KolenPollack
from .layers import AreaLinear
from .layers.weights import Weights
from .routing import Router


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
            and `TiedWeights`, are watched as the map of their weights, (out, in), whatever is done with them; the
            projection of a router that has feedback as a map, too.
        samples: Rows of noise, n, drawn by PyTorch's own generator. Default 8192: a cosine of 0.95 for 784 inputs.

    Raises:
        BrodmannError: No layer has Kolen-Pollack feedback, or the number of rows is not a positive whole number.
    """
    check_whole(samples=samples)
    parts = network.modules() if isinstance(network, nn.Module) else ()
    owners = [part for part in parts if isinstance(part, AreaLinear | Weights | Router)]
    paths = [(owner, path) for owner in owners if owner.feedback is not None for path in owner.feedback.modules()]
    pairs = [(owner, path) for owner, path in paths if isinstance(path, KolenPollack)]  # one may be inside another path
    if not pairs:
        raise BrodmannError("Expected a network with Kolen-Pollack feedback, the only kind whose weights can be set.")
    for owner, path in pairs:
        shared = owner.projection if isinstance(owner, Router) else owner.shared
        path.mirror(shared, owner.areas if isinstance(owner, AreaLinear) else None, samples)
