"""Which code is running."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import brodmann

from .extensions import import_extensions


def code_version() -> str:
    """Returns the package's version and a digest of its sources and of extensions, which differ for other code."""
    digest = hashlib.sha256(_sources() + "".join(import_extensions().values()).encode())
    return f"{brodmann.__version__}+{digest.hexdigest()[:12]}"


@cache
def _sources() -> bytes:
    """Returns all sources of the package, each after its name."""
    root = Path(brodmann.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".cpp", ".h", ".html"))
    return b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files)
