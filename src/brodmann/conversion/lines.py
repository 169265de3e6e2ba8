"""Lines of the user's own code, outside of PyTorch and this package, which messages name."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import torch


def place_of(error: Exception) -> str:
    """Returns the last line of the user's own that an error came through; empty if there is none."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def place_now() -> str:
    """Returns the innermost line of the user's own that is being run; empty if there is none."""
    return _innermost(traceback.extract_stack())


def _innermost(frames: traceback.StackSummary) -> str:
    roots = Path(torch.__file__).parent, Path(__file__).parents[1]
    packages = tuple(str(root) + os.sep for root in roots)
    own = [frame for frame in frames if not frame.filename.startswith((*packages, "<"))]
    return f"{own[-1].filename}, line {own[-1].lineno}: `{own[-1].line}`" if own else ""
