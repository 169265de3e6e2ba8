"""PyTorch's own generator, which all threads share: one at a time draws from it what a seed says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ALONE = threading.RLock()
"""Held while a seed decides what is drawn."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from PyTorch's generator as if it began at a seed, and leaves it as it was."""
    with ALONE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
