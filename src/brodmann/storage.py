"""Storage: in which dtypes weights may be stored, and in which they then compute."""

from __future__ import annotations

from typing import Any

import torch

from .errors import unknown_name

STORAGES = {"bfloat16": torch.bfloat16}
"""Dtypes in which weights may be stored apart from the one in which they compute, which is then float32."""
COMPUTING = (torch.float32, torch.float64)
"""Dtypes in which layers compute."""
_COMPUTING_OF = dict.fromkeys(STORAGES.values(), torch.float32)


def storage_dtype(storage: str | torch.dtype | None) -> torch.dtype | None:
    """Returns the dtype in which weights are stored, given by its name or itself; None for that of the computation.

    Raises:
        BrodmannError: It is none of `STORAGES`.
    """
    name = storage_name(storage)
    if name is None:
        return None
    if not isinstance(name, str) or name not in STORAGES:
        raise unknown_name("storage", name, STORAGES)
    return STORAGES[name]


def storage_name(storage: Any) -> Any:
    """Returns a storage as files hold it: a dtype by its name, anything else as it is."""
    return str(storage).removeprefix("torch.") if isinstance(storage, torch.dtype) else storage


def computing(stored: torch.dtype) -> torch.dtype:
    """Returns the dtype in which a layer computes whose weights are stored in this one."""
    return _COMPUTING_OF.get(stored, stored)
