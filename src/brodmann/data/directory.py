"""Where data sets lie, and the error for one that does not lie there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ..errors import BrodmannError, MissingDataError
from ..files import expanded, user_cache


def data_directory(data_dir: str | Path | None = None) -> Path:
    """Returns the folder that holds the data sets; creates nothing.

    Args:
        data_dir: The folder. Default ``None``: the environment variable ``BRODMANN_DATA``, and without it the folder
            ``brodmann`` in the user's cache (``XDG_CACHE_HOME`` or ``~/.cache``), since data can always be fetched
            again and a cache is what backups leave out.

    Returns:
        The path of the folder, which need not exist.
    """
    chosen = data_dir or os.environ.get("BRODMANN_DATA")
    return expanded(chosen) if chosen else user_cache()


def fetch_command(name: str, directory: Path) -> str:
    """Returns the command line that downloads a data set into a folder."""
    return f"brodmann data fetch {shlex.quote(name)} --data-dir {shlex.quote(str(directory))}"


def missing(name: str, expected: Path, directory: Path) -> MissingDataError:
    """Builds the error for a data set that could be fetched but is not here."""
    return MissingDataError(
        f"Data set '{name}' was expected at {expected}; nothing is there. "
        f"Fetch it with: {fetch_command(name, directory)}"
    )


def damaged(name: str, place: Path, directory: Path, reason: object) -> BrodmannError:
    """Builds the error for a data set that is here but cannot be read."""
    return BrodmannError(
        f"Data set '{name}' at {place} is incomplete or damaged ({first_line(reason)}). "
        f"Remove it and run: {fetch_command(name, directory)}"
    )


def first_line(reason: object) -> str:
    """Shortens another library's message to its first line, since ours are one line."""
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(reason).__name__
