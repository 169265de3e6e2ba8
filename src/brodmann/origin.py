"""Where code comes from: this package, what it builds on, or a user."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import torch

KNOWN = {"brodmann", "torch", "numpy", *sys.stdlib_module_names}
"""Packages of which is known what they do."""


def package_of(value: Any) -> str:
    """Returns the package that a function or class comes from; of any other object, the one that its class does."""
    module: str = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0]


def package_of_code(frame: FrameType) -> str:
    """Returns the package whose code runs in a frame."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def is_ours(part: object) -> bool:
    """Whether the class of a part is of this package: what such parts do need not be looked at every time."""
    return type(part).__module__.startswith("brodmann.")  # asked many times a step, and so no `package_of`


def is_foreign(value: Any) -> bool:
    """Whether something, which may be a function, is of none of the packages that are `KNOWN`: it may do anything."""
    return package_of(value) not in KNOWN


def line_of(error: Exception) -> str:
    """Returns the last line of a user's code that an error came through; empty if there is none."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def line_now() -> str:
    """Returns the innermost line of a user's code that is being run; empty if there is none."""
    return _innermost(traceback.extract_stack())


def _innermost(frames: traceback.StackSummary) -> str:
    roots = Path(torch.__file__).parent, Path(__file__).parent
    packages = tuple(str(root) + os.sep for root in roots)
    own = [frame for frame in frames if not frame.filename.startswith((*packages, "<"))]
    return f"{own[-1].filename}, line {own[-1].lineno}: `{own[-1].line}`" if own else ""
