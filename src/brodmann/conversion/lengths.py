"""Whether what was made for sequences of one length holds for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_tensors
from ..errors import BrodmannError
from ..several import Several, of_each, parts_in, rows_of
from .equality import alike


class OfShape(nn.Module):
    """Passes on samples (samples, ...) of one shape only."""

    def __init__(self, shape: Sequence[int]) -> None:
        """Takes the shape of a sample."""
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the samples as they are.

        Raises:
            BrodmannError: Samples have another shape.
        """
        check_tensors(x=x)
        if x.shape[1:] != self.shape:
            raise BrodmannError(
                f"This network was converted for samples of shape {self.shape}, and computes differently for other "
                "shapes, for example by repeating a step once for each element of a sequence; got "
                f"{tuple(x.shape[1:])}: convert the model for that shape."
            )
        return x

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return ", ".join(map(str, self.shape))


@torch.no_grad()
def same_for_other_lengths(followed: nn.Module, network: nn.Module, sample: Several) -> bool:
    """Whether what was followed for a few samples does what the network does for shorter and for longer ones, too.

    Any second dimension may be that of sequences. Where the network does not take other lengths, what was followed must
    not take them either.

    Args:
        followed: What was made of the network for the samples.
        network: The network, which takes the samples as one argument.
        sample: The samples (samples, steps, ...), or several; images, of four dimensions, stay as they are.
    """
    for other in _of_other_lengths(rows_of(sample, slice(2))):
        ours, theirs = _outcome(followed, other), _outcome(network, other)
        if (ours is None) != (theirs is None) or (ours is not None and not alike(ours, theirs, 1e-3)):
            return False
    return True


def _of_other_lengths(sample: Several) -> Iterator[Several]:
    """Yields samples in which those of one length are half as long, or twice as long."""
    for length in sorted({part.shape[1] for part in parts_in(sample) if part.ndim in (2, 3)}):
        for other in (_half, _twice):
            yield of_each(partial(_where_long, length, other), sample)


def _where_long(length: int, other: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
    """Changes samples of one length, and returns all others as they are."""
    return other(part) if part.ndim in (2, 3) and part.shape[1] == length else part


def _half(part: Tensor) -> Tensor:
    return part[:, : (part.shape[1] + 1) // 2]


def _twice(part: Tensor) -> Tensor:
    return torch.cat((part, part), 1)


def _outcome(network: nn.Module, sample: Several) -> Any:
    """Returns what a copy of a network makes of samples, None where it does not take them."""
    try:
        return deepcopy(network).forward(of_each(Tensor.clone, sample))  # whose errors torch.fx does not print
    except Exception:  # from whatever the network does with samples of a shape that it is not made for
        return None
