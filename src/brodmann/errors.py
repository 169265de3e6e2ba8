"""Errors and warnings that a user can act on: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
import errno
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .origin import package_of_code


class BrodmannError(ValueError):
    """A one-line error for the user. The command line prints it without a traceback and exits with status 2."""


class MissingDataError(BrodmannError):
    """A data set is not on this machine; the message holds the expected path and the command that fetches it."""


class UnknownNameError(BrodmannError):
    """A name is in no registry; it may come from a file that was not imported."""


class CheckpointError(BrodmannError):
    """A checkpoint or a saved network is missing, truncated, altered or does not fit."""


class DivergenceError(BrodmannError):
    """Training cannot go on: the loss or an error is no longer finite, has vanished or has exploded."""


_BETWEEN = {"brodmann", "torch", "contextlib", "functools"}
"""Packages whose lines are none of the user's, also where they wrap or call those of this one."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns, and names the user's line that led there, however many calls lie between."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and package_of_code(frame) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def cannot_write(path: Path, error: OSError) -> BrodmannError:
    """Builds the error for a file or folder that the system does not let us write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "Make room there, or choose another folder" if full else "Choose a folder that you may write to"
    return BrodmannError(f"Cannot write {path}: {error.strerror}. {remedy}.")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, for which PyTorch has a class on GPUs alone."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def listed(names: Sequence[str], most: int = 50) -> str:
    """Returns names for a message: the first ``most``, and how many others there are. Tables have thousands."""
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} others" if others > 0 else "")


def unknown_name(
    kind: str, name: str, known: Iterable[str], registry: str = "", *, synonyms: Mapping[str, str] | None = None
) -> UnknownNameError:
    """Builds the error for a name that is not among the known ones, with the nearest one as a suggestion.

    Args:
        kind: What the name stands for, such as ``"feedback"``.
        name: The unknown name.
        known: The names that exist.
        registry: Where users register their own, if they can: mentioned unless it looks like a slip of the pen.
        synonyms: What others call the known ones: their name -> ours.

    Returns:
        An error to raise; its message lists the known names.
    """
    options = sorted(known)
    asked = str(name).lower()
    if synonym := (synonyms or {}).get(asked.replace("_", "-").replace(" ", "-")):
        asked = synonym
    near, slip = (difflib.get_close_matches(asked, options, n=1, cutoff=cutoff) for cutoff in (0.5, 0.6))
    suggestion = f" Did you mean '{near[0]}'?" if near else ""
    if any("," in option or not option for option in options):
        options = [f"'{option}'" for option in options]
    own = (
        f" To use one of your own, register it in {registry}, in a file that `brodmann --import FILE` loads. In "
        "Python, pass the object itself where that is accepted: worker processes know only the names of what they "
        "import."
    )
    return UnknownNameError(
        f"Unknown {kind} '{name}'.{suggestion} Choose one of: {listed(options)}."
        + (own if registry and not slip else "")
    )
