"""What the tests of runs share: a small set of blobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..blobs import write_blobs


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small classification set of three blobs."""
    return write_blobs(tmp_path / "blobs.npz", 240, 6, 3)
