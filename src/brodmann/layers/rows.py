"""Rows: inputs (..., n) as (rows, n), and back."""

from __future__ import annotations

from torch import Tensor


def as_rows(x: Tensor) -> Tensor:
    """Returns (..., n) as (rows, n); x itself if it is 2-d: even a reshape takes time that shows in a small step."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def unflatten_rows(rows: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Returns (rows, n) as (*leading, n), see `as_rows`."""
    return rows if len(leading) == 1 else rows.reshape(*leading, rows.shape[-1])
