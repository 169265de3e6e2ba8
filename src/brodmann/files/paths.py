"""Paths: homes, and the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import BrodmannError


def user_cache() -> Path:
    """Returns the package's folder in the user's cache, which need not exist.

    Raises:
        BrodmannError: There is no home.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules say to ignore a relative path there.
    return (Path(named) if os.path.isabs(named) else expanded("~/.cache")) / "brodmann"


def expanded(path: str | Path) -> Path:
    """Returns a path with the home that a leading ``~`` stands for, which shells leave alone in ``--option=~/place``.

    Raises:
        BrodmannError: There is no such home.
    """
    if not str(path).startswith("~"):
        return Path(path)  # as a path, ./~name would become ~name
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise BrodmannError(
            f"{path} begins with a home folder that does not exist: write the path in full, or set the folders with "
            "BRODMANN_DATA and BRODMANN_CACHE."
        ) from None
