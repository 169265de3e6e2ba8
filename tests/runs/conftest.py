"""What the tests of runs share: a small set of blobs, and a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from brodmann.cli import main

from ..blobs import write_blobs
from .parts import SMALL


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small classification set of three blobs."""
    return write_blobs(tmp_path / "blobs.npz", 240, 6, 3)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a finished run of it, which stay as they are."""
    folder = tmp_path_factory.mktemp("finished")
    table = write_blobs(folder / "blobs.npz", 240, 6, 3)
    main(["train", str(table), *SMALL, "--out", str(folder / "run")])
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run, to be resumed, damaged or replaced."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))
