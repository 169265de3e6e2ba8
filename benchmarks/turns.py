"""Times of several things that take turns, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

BLOCK = 10


def rounds(
    repeats: int,
    *steps: Callable[[], object],
    block: int = BLOCK,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Times the steps in turns, block by block; returns the seconds of each, one list per step.

    A block begins with a step that is not timed: what ran before has emptied the caches, which costs the smallest most.
    """
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(repeats + 1):
        for own, step in zip(times, steps, strict=True):
            step()
            began = clock()
            for _ in range(block):
                step()
            if turn:  # the first warms up
                own.append((clock() - began) / block)
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Returns the median of the ratios of neighbouring blocks."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
