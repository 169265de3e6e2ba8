"""Blobs: a small classification set that every method solves."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_blobs(path: Path, samples: int, features: int, classes: int) -> Path:
    """Writes a blob of equally many samples per class, three quarters of them for training."""
    generator = np.random.default_rng(0)
    y = np.arange(samples) % classes
    x = (generator.normal(size=(samples, features)) + 2 * y[:, None]).astype(np.float32)
    train = 3 * samples // 4
    np.savez(path, x_train=x[:train], y_train=y[:train], x_test=x[train:], y_test=y[train:])
    return path
