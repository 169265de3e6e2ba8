"""What tests of the benchmark share: four blobs, and a small finished benchmark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brodmann.bench.plan import Plan
from brodmann.bench.runner import run_recipes

from ..blobs import write_blobs

SEARCHES_OF_SEVERAL_VERSIONS = {
    "ten": "digits|semeion|optdigits|pendigits|segment|texture|satimage|letter|mnist|cifar10-jpeg",
    "interference-mnist": "mnist",
    "interference-split": "mnist",
}
"""Folder of docs/bench -> the sets on which its search was extended by later versions of the code (docs/results.md)."""


def unexplained(problems: list[str], name: str) -> list[str]:
    """Returns what the audit of a folder of docs/bench found that docs/results.md does not say.

    It says that scikit-learn's rows in ``ten`` are by a later version, and trials of some searches by several.
    """
    known = [rf"search, ({SEARCHES_OF_SEVERAL_VERSIONS.get(name, '')}): trials come from the versions .*"]
    if name == "ten":
        known.append(r"ten, [\w-]+: rows come from 2 versions of the code \([^)]*0\.1\.0\+505cca11ca87[^)]*\)\.")
    return [problem for problem in problems if not any(re.fullmatch(form, problem) for form in known)]


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
