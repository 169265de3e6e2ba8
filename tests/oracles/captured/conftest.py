"""Without compiled kernels no step is captured."""

from __future__ import annotations

import pytest

from brodmann.kernels import library


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Skips a test where there are no compiled kernels."""
    if not library.active():
        pytest.skip("without compiled kernels no step is captured")
