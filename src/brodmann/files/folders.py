"""Folders: locked against other processes, kept in their place, emptied."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import BrodmannError, cannot_write

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

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
        file = path.open("a")
    except OSError as error:
        raise cannot_write(path, error) from None
    with file:
        try:
            _lock(file)
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

    If it cannot be locked, it does nothing: on a file system without locks, on Windows, or if the lock is another
    user's.
    """
    with ExitStack() as held:
        with suppress(OSError):
            file = held.enter_context((folder / LOCK).open("a"))
            _lock(file, wait=True)
        yield


def _lock(file: IO[str], *, wait: bool = False) -> None:
    """Locks an open file until it is closed, also by the end of its process.

    Raises:
        BlockingIOError: Another process holds it, and this one does not wait.
        OSError: Its file system has no locks, or it would have to wait for it on Windows.
    """
    if sys.platform == "win32":
        if wait:
            raise OSError("Windows gives up after ten seconds")
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def staying(folder: Path) -> Iterator[Callable[[], None]]:
    """Makes a folder if there is none, and yields a check that raises once it is no longer in its place.

    Writing there would otherwise make a new one, with only a part of what belongs in it.

    Raises:
        BrodmannError: It cannot be made or read; from the check: it was deleted, moved or replaced.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        identity = folder.stat()
        # While it is open no new folder gets its number. Windows opens no folders, and gives no number twice.
        handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise BrodmannError(f"Cannot use {folder}: {error.strerror}. Choose a folder that you may write to.") from None

    def check() -> None:
        if not folder.is_dir() or not os.path.samestat(identity, folder.stat()):
            raise BrodmannError(
                f"{folder} was deleted, moved or replaced while the training ran: if it was moved, continue it in its "
                "new place."
            )

    try:
        yield check
    finally:
        if handle is not None:
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
