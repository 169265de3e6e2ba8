"""Files that are whole or absent."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BrodmannError, cannot_write


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
            temporary.chmod(mode)  # safetensors makes files that only their owner may read
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from None


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a file atomically, see `replacing`."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def drop_temporaries(folder: Path) -> None:
    """Removes what processes that were killed in `replacing` left in a folder that nobody writes to now."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.(json|jsonl|safetensors)\.[0-9a-f]{8}", path.name):
            path.unlink(missing_ok=True)
