"""What tests of the benchmark share: four blobs, cases that run in this process, and a small finished benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brodmann.bench.case import Case, Row
from brodmann.bench.plan import Plan
from brodmann.bench.runner import run_recipes
from brodmann.bench.workers import Workers, work

from ..blobs import write_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> str:
    """A small classification set of four blobs."""
    return str(write_blobs(tmp_path / "blobs.npz", 240, 9, 4))


def rows_here(self: Workers, cases: list[Case]) -> Iterator[Row]:
    """What workers do, without them: each takes seconds to begin. Tests of kills and stops have real ones."""
    for case in cases:
        yield work(case, self.jobs)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the cases of a benchmark without processes of their own."""
    monkeypatch.setattr(Workers, "rows_of", rows_here)


@pytest.fixture(scope="session")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny benchmark of two methods' worth of rows."""
    folder = tmp_path_factory.mktemp("bench")
    data = write_blobs(folder / "blobs.npz", 160, 9, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workers, "rows_of", rows_here)
        run_recipes(["ten"], Plan(quick=True, sets=(str(data),)), folder / "out", jobs=2, trials=2, search=True)
    return folder / "out"
