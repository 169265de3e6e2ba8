"""Storage: in which dtypes weights may be stored, and in which they then compute."""

from __future__ import annotations

import torch

STORAGES = {"bfloat16": torch.bfloat16}
"""Dtypes in which weights may be stored apart from the one in which they compute, which is then float32."""
COMPUTING = (torch.float32, torch.float64)
"""Dtypes in which layers compute."""


def computing(stored: torch.dtype) -> torch.dtype:
    """Returns the dtype in which a layer computes whose weights are stored in this one."""
    return torch.float32 if stored in STORAGES.values() else stored
