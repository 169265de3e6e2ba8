"""Folders: locked against other processes, kept in their place, emptied."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import BrodmannError

LOCK = ".lock"
"""File with which `alone_in` and `in_turn` lock a folder."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder, which is made if it is not there, against other processes that lock it in the same way.

    On a file system without locks it does nothing.

    Raises:
        BrodmannError: Another process holds it, or it cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise BrodmannError(f"Cannot write {path}: {error.strerror}. Choose a folder that you may write to.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrodmannError(
                f"Another process is working in {folder}: wait for it, or choose another folder."
            ) from None
        except OSError:  # no locks there
            pass
        yield  # the system lets go of it with the file, however the process ends


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Locks a folder as `alone_in` does, but waits while another process holds it.

    If it cannot be locked, it does nothing: on a file system without locks, or if the lock is another user's.
    """
    with ExitStack() as held:
        with suppress(OSError):
            file = held.enter_context((folder / LOCK).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def staying(folder: Path) -> Iterator[Callable[[], None]]:
    """Makes a folder if there is none, and yields a check that raises once it is no longer in its place.

    Writing there would otherwise make a new one, with only a part of what belongs in it.

    Raises:
        BrodmannError: It cannot be made or read; from the check: it was deleted, moved or replaced.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)  # while it is open no new folder can pass for it
    except OSError as error:
        raise BrodmannError(f"Cannot use {folder}: {error.strerror}. Choose a folder that you may write to.") from None

    def check() -> None:
        if not folder.is_dir() or not os.path.samestat(os.fstat(handle), folder.stat()):
            raise BrodmannError(
                f"{folder} was deleted, moved or replaced while the training ran: if it was moved, continue it in its "
                "new place."
            )

    try:
        yield check
    finally:
        os.close(handle)


def contents(folder: Path) -> list[Path]:
    """Returns what is inside a folder, its lock left out."""
    return [path for path in folder.iterdir() if path.name != LOCK]


def empty(folder: Path) -> None:
    """Removes everything inside a folder except its lock.

    The folder stays itself: somebody may stand in it, or reach it through a link.
    """
    for path in contents(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
