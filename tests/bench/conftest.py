"""What tests of the benchmark share: four blobs, and a small finished benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brodmann.bench.recipes import Plan
from brodmann.bench.runner import run_recipes


@pytest.fixture
def blobs(tmp_path: Path) -> str:
    """A small classification set of four blobs."""
    generator = np.random.default_rng(0)
    y = np.arange(240) % 4
    x = (generator.normal(size=(240, 9)) + 2 * y[:, None]).astype(np.float32)
    path = tmp_path / "blobs.npz"
    np.savez(path, x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    return str(path)


@pytest.fixture(scope="session")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny benchmark of two methods' worth of rows, run for real."""
    folder = tmp_path_factory.mktemp("bench")
    generator = np.random.default_rng(0)
    y = np.arange(160) % 4
    x = (generator.normal(size=(160, 9)) + 2 * y[:, None]).astype(np.float32)
    data = folder / "blobs.npz"
    np.savez(data, x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    run_recipes(["ten"], Plan(quick=True, sets=(str(data),)), folder / "out", jobs=2, trials=2, search=True)
    return folder / "out"
