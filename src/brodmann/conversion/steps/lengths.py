"""Whether what was made for sequences of one length holds for others."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...several import Several, near, of_each, parts_in, rows_of
from ..following.questions import Questions
from .stirring import stir


@torch.no_grad()
def same_for_other_lengths(
    followed: nn.Module, network: nn.Module, sample: Several, asked: Questions | None = None
) -> bool:
    """Whether what was followed for a few samples does what the network does for shorter and for longer ones, too.

    Any second dimension may be that of sequences. If the network does not take other lengths, what was followed must
    not take them either. Lengths for which the network answers its own questions otherwise do not count; those for
    which it does the same all the same are noted.

    Args:
        followed: What was made of the network for the samples, of the same parameters.
        network: The network, which takes the samples as one argument.
        sample: The samples (samples, steps, ...), or several; images, of four dimensions, stay as they are.
        asked: What the network asked about sizes.
    """
    others = [*_of_other_lengths(rows_of(sample, slice(2)))]
    zeros = stir(network)
    try:
        for other, counts in others:
            shapes = tuple(tuple(part.shape) for part in parts_in(other))
            known = asked is None or asked.have_same_answers(shapes)
            if known and not counts:
                continue
            # A network may keep something for samples of a size.
            ours, theirs = _outcome(followed, other), _outcome(deepcopy(network), other)
            same = (ours is None) == (theirs is None) and (ours is None or near(ours, theirs, 1e-3))
            if known and not same:
                return False
            if asked is not None and not known and same and ours is not None:
                asked.note(shapes)
    finally:
        for parameter in zeros:
            parameter.zero_()
    return True


def _of_other_lengths(sample: Several) -> Iterator[tuple[Several, bool]]:
    """Yields samples in which those of one length are half as long, twice as long, of two steps or of one.

    Beside each, whether every network must do the same for such a length as for others; half and twice are enough.
    """
    for length in sorted({part.shape[1] for part in parts_in(sample) if part.ndim in (2, 3)}):
        for steps, counts in ((length + 1) // 2, True), (2 * length, True), (2, False), (1, False):
            yield of_each(partial(_of_length, length, steps), sample), counts


def _of_length(length: int, steps: int, part: Tensor) -> Tensor:
    """Cuts or repeats samples of one length, and returns all others as they are."""
    if part.ndim not in (2, 3) or part.shape[1] != length:
        return part
    return torch.cat([part] * -(-steps // max(1, length)), 1)[:, :steps]


def _outcome(network: nn.Module, sample: Several) -> Any:
    """Returns what a network makes of samples, None if it does not take them."""
    try:
        return network.forward(of_each(Tensor.clone, sample))  # whose errors torch.fx does not print
    except Exception:  # from whatever the network does with samples of a shape that it is not made for
        return None
