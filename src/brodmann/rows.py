"""Rows: inputs (..., n) as (rows, n), and back, and what belongs to samples, for each of their rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def as_rows(x: Tensor) -> Tensor:
    """Returns (..., n) as (rows, n); x itself if it is 2-d: even a reshape takes time that shows in a small step."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def unflatten_rows(rows: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Returns (rows, n) as (*leading, n), see `as_rows`."""
    return rows if len(leading) == 1 else rows.reshape(*leading, rows.shape[-1])


def repeat_rows(of_samples: Tensor, rows: int) -> Tensor:
    """Repeats values of samples, (samples,), for each row of a sample, (rows,); rows of a sample are adjacent."""
    samples = of_samples.shape[0]  # len() would fix the batch of an exported graph
    return of_samples if rows == samples else of_samples[:, None].expand(-1, rows // samples).reshape(-1)


def stack_steps(steps: Sequence[Tensor]) -> Tensor:
    """Stacks values of steps, (samples, ...) each, into rows (samples * steps, ...): those of a sample are adjacent."""
    return torch.stack(list(steps), 1).flatten(0, 1)


def weights_of_rows(weight: Tensor, rows: int) -> Tensor:
    """Returns the weight of each row, (rows,), from weights of samples or of their targets, (samples, ...).

    Rows that share a weight all have it; a row with several weights has their sum. If weights cannot be assigned to
    rows in this way, as after a pooling of steps, each row has the sum of its sample's weights.
    """
    if weight.numel() and rows % weight.numel() == 0:
        return repeat_rows(weight.reshape(-1), rows)
    if rows and weight.numel() % rows == 0:
        return weight.reshape(rows, -1).sum(1)
    return repeat_rows(weight.reshape(len(weight), -1).sum(1), rows)


def summed_by_sample(of_rows: Tensor, samples: int) -> Tensor:
    """Returns the sum of values of rows, (rows, ...), over the rows of each sample, (samples, ...)."""
    return of_rows if len(of_rows) == samples else of_rows.reshape(samples, -1, *of_rows.shape[1:]).sum(1)


def evenly_spaced(count: int, most: int) -> Tensor:
    """Returns at most ``most`` of the row numbers 0 to count - 1, with the first and the last.

    The first rows alone would all be of one class if a file is sorted by class.
    """
    return torch.linspace(0, count - 1, min(count, most)).long().clamp(max=count - 1)  # float32 rounds beyond 2**24
