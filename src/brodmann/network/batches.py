"""Outputs of a network for many samples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..checks import check_whole
from ..several import Several, in_form_of, parts_in, rows_of, sample_count

ROWS = 1024
"""Samples that go through a network at a time: enough for efficient products, in little memory."""


def batches_of(x: Several, rows: int = ROWS) -> Iterator[Any]:
    """Yields all samples, x (n, ...), or several such tensors, at most ``rows`` at a time; one empty batch if none."""
    for begin in range(0, max(1, sample_count(x)), rows):
        yield rows_of(x, slice(begin, begin + rows))


@torch.no_grad()
def outputs_of(network: Callable[[Any], Any], x: Several, rows: int = ROWS) -> Any:
    """Returns the outputs of a network for all samples, x (n, ...), or several such tensors, ``rows`` at a time.

    Raises:
        BrodmannError: ``rows`` is not a positive whole number, or tensors hold different numbers of samples.
    """
    check_whole(rows=rows)
    made = list(map(network, batches_of(x, rows)))
    return in_form_of(made[0], map(torch.cat, zip(*map(parts_in, made), strict=True)))
