"""What tests of the benchmark share: four blobs, and a small finished benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from brodmann.bench.plan import Plan
from brodmann.bench.runner import run_recipes

from ..blobs import write_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> str:
    """A small classification set of four blobs."""
    return str(write_blobs(tmp_path / "blobs.npz", 240, 9, 4))


@pytest.fixture(scope="session")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny benchmark of two methods' worth of rows, run for real."""
    folder = tmp_path_factory.mktemp("bench")
    data = write_blobs(folder / "blobs.npz", 160, 9, 4)
    run_recipes(["ten"], Plan(quick=True, sets=(str(data),)), folder / "out", jobs=2, trials=2, search=True)
    return folder / "out"
