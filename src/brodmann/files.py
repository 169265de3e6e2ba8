"""Files that are whole or absent: atomic writes, tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .errors import BrodmannError, CheckpointError


def _umask() -> int:
    """Reads the process's mask, which the system only tells while setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part.

    Raises:
        BrodmannError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, 0o666 & ~_UMASK)  # mkstemp makes files that only their owner may read
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BrodmannError(f"Cannot write {path}: {error.strerror}. Choose a folder that you may write to.") from None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically, indented for people."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        BrodmannError: The file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BrodmannError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError:
        raise BrodmannError(f"{path} is not valid JSON: it is damaged, or was not written by brodmann.") from None


def write_tensors(path: Path, tensors: dict[str, Tensor], options: Any) -> None:
    """Writes named tensors and JSON-safe options to one safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, to_bytes(contiguous, metadata={"brodmann": json.dumps(options)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Reads what `write_tensors` wrote.

    Raises:
        CheckpointError: The file is missing, truncated or not ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: expected a file written by brodmann.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata["brodmann"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or was not written by brodmann ({type(error).__name__}).") from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object per line; a missing file has no rows."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
