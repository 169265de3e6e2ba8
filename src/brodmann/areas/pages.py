"""Large pages: fewer page look-ups when areas are scattered over gigabytes."""

from __future__ import annotations

import ctypes
import mmap
import sys

from torch import Tensor

LARGE = 2**21
"""Bytes of a large page on x86-64 and most of ARM."""


def ask_for_large_pages(tensor: Tensor) -> bool:
    """Asks the system to back a tensor's memory with large pages, if it is big enough and the system is Linux.

    The system is free to refuse: only speed depends on it. Memory that was never written still takes up none.

    Returns:
        Whether the system agreed.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or sys.platform != "linux" or tensor.device.type != "cpu":
        return False
    begin = -(-tensor.data_ptr() // LARGE) * LARGE
    end = (tensor.data_ptr() + tensor.nbytes) // LARGE * LARGE
    if end <= begin:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice) == 0)
