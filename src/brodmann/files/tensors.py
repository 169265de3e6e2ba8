"""Tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import BrodmannError, CheckpointError
from .atomic import replacing
from .json_files import as_number


def check_utf8(path: Path) -> None:
    """Raises if a path is not UTF-8, which safetensors needs to read a file."""
    if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
        locale = "" if sys.getfilesystemencoding() == "utf-8" else ", or set LC_ALL=C.UTF-8"
        raise BrodmannError(f"Cannot write {str(path)!r}: expected a path in UTF-8, choose another folder{locale}.")


def write_tensors(path: Path, tensors: dict[str, Tensor], options: Any) -> str:
    """Writes named tensors and JSON-safe options to a safetensors file, atomically, without a second copy in memory.

    Returns:
        The digest of both, which the file holds too.

    Raises:
        BrodmannError: It cannot be written, its path is not UTF-8, tensors share their memory, or another thread
            changed them meanwhile.
    """
    check_utf8(path)
    alone = threading.active_count() == 1  # asked before: another thread may change tensors and then end
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(options, default=as_number)
    digest = _digest(contiguous, text)
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"brodmann": text, "sha256": digest})
            if not alone and _digest(contiguous, text) != digest:
                raise BrodmannError(
                    f"Cannot write {path}: the tensors changed while they were written, as where another thread "
                    "learns. Save between two steps, such as in a callback, or under a lock that the steps take too."
                )
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
