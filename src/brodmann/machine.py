"""The machine: its memory, and the most of it that this process has held."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import psutil

    def memory() -> int:
        """Returns the bytes of memory that the machine has."""
        return int(psutil.virtual_memory().total)

    def peak_memory() -> float:
        """Returns the largest resident memory of this process so far, in MiB."""
        return float(psutil.Process().memory_info().peak_wset / 2**20)

else:
    import resource

    def memory() -> int:
        """Returns the bytes of memory that the machine has."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def peak_memory() -> float:
        """Returns the largest resident memory of this process so far, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
