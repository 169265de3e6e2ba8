"""Files that are whole or absent: atomic writes, tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import BrodmannError, CheckpointError

LOCK = ".lock"
"""File with which `alone_in` and `in_turn` lock a folder."""


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


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and puts it in its place at the end: readers never see part of a file.

    A link stays one, and what it points to is replaced. Unless it is ``durable``, a power cut may leave it empty, but
    writing takes a tenth of the time.

    Raises:
        BrodmannError: The folder cannot be written, the disk is full, or what lies there is no file, such as a device.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise BrodmannError(f"Cannot write {path}: what is there is not a file. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fchmod(file.fileno(), mode)  # safetensors makes files that only their owner may read
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BrodmannError(f"Cannot write {path}: {error.strerror}. Choose a folder that you may write to.") from None


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

    Where it cannot be locked, it does nothing: on a file system without locks, or where the lock is another user's.
    """
    with ExitStack() as held:
        with suppress(OSError):
            file = held.enter_context((folder / LOCK).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def staying(folder: Path) -> Iterator[Callable[[], None]]:
    """Makes a folder where there is none, and yields a check that raises once it is no longer in its place.

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


def as_json(value: Any) -> Any:
    """Returns a value as a JSON file gives it back, NumPy's numbers as Python's, tuples as lists.

    Raises:
        TypeError: It holds what JSON cannot.
    """
    return json.loads(json.dumps(value, default=as_number))


def as_number(value: Any) -> Any:
    """Returns a number of NumPy's or PyTorch's as one of Python's, for JSON, which knows no others.

    Raises:
        TypeError: It is anything else, as `json.dumps` expects of what it calls.
    """
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        raise TypeError(f"expected data that JSON can hold, got {type(value).__name__}")
    return value.item()


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


def drop_temporaries(folder: Path) -> None:
    """Removes what processes that were killed in `replacing` left in a folder that nobody writes to now."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.(json|jsonl|safetensors)\.[0-9a-f]{8}", path.name):
            path.unlink(missing_ok=True)


def check_utf8(path: Path) -> None:
    """Raises where a path is not UTF-8, which safetensors needs to read a file."""
    if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
        locale = "" if sys.getfilesystemencoding() == "utf-8" else ", or set LC_ALL=C.UTF-8"
        raise BrodmannError(f"Cannot write {str(path)!r}: expected a path in UTF-8, choose another folder{locale}.")


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a file atomically, see `replacing`."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically, indented for people."""
    write_bytes(path, (json.dumps(content, indent=2, default=as_number) + "\n").encode())


def read_json(path: Path, remedy: str = "") -> Any:
    """Reads JSON.

    Args:
        path: The file.
        remedy: What to do where it is damaged, a sentence for the message. Default: none, where nothing can be done.

    Raises:
        BrodmannError: The file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BrodmannError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        message = f"{path} is not valid JSON: it is damaged, or was not written by brodmann. {remedy}"
        raise BrodmannError(message.rstrip()) from None


def write_tensors(path: Path, tensors: dict[str, Tensor], options: Any) -> str:
    """Writes named tensors and JSON-safe options to a safetensors file, atomically, without a second copy in memory.

    Returns:
        The digest of both, which the file holds too.

    Raises:
        BrodmannError: It cannot be written, its path is not UTF-8, or tensors share their memory.
    """
    check_utf8(path)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(options, default=as_number)
    digest = _digest(contiguous, text)
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"brodmann": text, "sha256": digest})
        except SafetensorError as error:
            raise BrodmannError(f"Cannot write {path}: {error}. Is there room on the disk?") from None
        except RuntimeError as error:  # tensors that lie in the same memory
            raise BrodmannError(
                f"Cannot write {path}: parts that share their weights cannot be saved, so give each its own ({error})."
            ) from None
    return digest


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Returns the SHA-256 of all that a file says: names, shapes, dtypes and bytes of tensors, and a text."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path, digest: str | None = None) -> tuple[dict[str, Tensor], Any]:
    """Reads what `write_tensors` wrote.

    Args:
        path: The file.
        digest: What that returned. Default None: what the file says, if it is not one of an earlier version.

    Raises:
        CheckpointError: The file is missing, unreadable, truncated, altered or not ours.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: expected a file written by brodmann.")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: expected a file written by brodmann.")
    try:
        path.open("rb").close()  # the library below says less about why it cannot
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        options = json.loads(metadata["brodmann"])
        if not isinstance(options, dict):
            raise TypeError
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or was not written by brodmann ({error!r}).") from None
    digest = digest or metadata.get("sha256")
    if digest is not None and digest != _digest(tensors, metadata["brodmann"]):
        raise CheckpointError(f"{path} is damaged: what it holds is not what was written.")
    return tensors, options
