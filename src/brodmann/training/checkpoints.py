"""Checkpoints: tensors in safetensors, the rest in JSON beside them with digests of both; the last two are kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import BrodmannError, CheckpointError
from ..files import as_number, drop_temporaries, read_json, read_tensors, write_json, write_tensors

KEPT = 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One moment of a training run.

    Attributes:
        tensors: Tensors by name.
        progress: Where it stands, as JSON can hold it.
        settings: What it trains on and how, likewise; empty if written by a version that did not note them.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]
    settings: dict[str, Any]


def write_checkpoint(folder: Path, number: int, checkpoint: Checkpoint) -> None:
    """Writes checkpoint ``number`` (numbers must not decrease), then removes all but the last two.

    The JSON is written last and names the digest of the tensors, so that a checkpoint cut short at any moment does
    not count.
    """
    tensors = folder / f"checkpoint-{number:09d}.safetensors"
    record = tensors.with_suffix(".json")
    record.unlink(missing_ok=True)  # the same step once more: its old digest is not that of the new tensors
    digest = write_tensors(tensors, checkpoint.tensors, {})
    rest = {"progress": checkpoint.progress, "settings": checkpoint.settings}
    write_json(record, {"digest": digest, **rest, "digest_of_these": _digest(**rest)})
    for old in checkpoint_names(folder)[:-KEPT]:
        _remove(folder, old)


def drop_halves(folder: Path) -> None:
    """Removes what a process that was killed while it wrote left behind."""
    drop_temporaries(folder)
    names = set(checkpoint_names(folder))
    for path in folder.glob("checkpoint-*.safetensors"):
        if path.stem not in names:
            path.unlink(missing_ok=True)


def checkpoint_names(folder: Path) -> list[str]:
    """Returns the names of the finished checkpoints in a folder, oldest first."""
    return sorted((path.stem for path in folder.glob("checkpoint-*.json")), key=lambda name: (len(name), name))


def drop_checkpoints_after(folder: Path, name: str) -> None:
    """Removes the checkpoints that are newer than ``name``."""
    names = checkpoint_names(folder)
    for newer in names[names.index(name) + 1 :]:
        _remove(folder, newer)


def read_checkpoint(folder: Path, name: str | None = None) -> Checkpoint:
    """Reads a checkpoint, by default the newest.

    Raises:
        CheckpointError: There is none, or it is truncated or altered; the message offers the previous good one.
    """
    names = checkpoint_names(folder)
    if not names:
        raise CheckpointError(f"{folder} holds no checkpoint: there is nothing to resume from.")
    chosen = name or names[-1]
    if chosen not in names:
        raise CheckpointError(f"{folder} holds no checkpoint '{chosen}'. It holds: {', '.join(names)}.")
    try:
        return _read(folder, chosen)
    except CheckpointError as error:
        good = next((other for other in reversed(names) if other != chosen and _is_good(folder, other)), None)
        offer = (
            f"The previous good one is '{good}': resume from it by name, or with --checkpoint {good}."
            if good
            else "No other checkpoint is good."
        )
        raise CheckpointError(f"{error} {offer}") from None


def _read(folder: Path, name: str) -> Checkpoint:
    tensors = folder / f"{name}.safetensors"
    try:
        record = read_json(folder / f"{name}.json")
        progress, settings = record["progress"], record.get("settings", {})
        digest = record.get("digest")  # an earlier version noted another one
        written, found = record.get("digest_of_these"), _digest(progress, settings)  # and this one not at all
    except (BrodmannError, KeyError, TypeError):
        raise CheckpointError(f"Checkpoint '{name}' is damaged: its JSON cannot be read.") from None
    if written not in (None, found):
        raise CheckpointError(f"Checkpoint '{name}' is damaged: its JSON is not what was written.")
    try:
        return Checkpoint(read_tensors(tensors, digest)[0], progress, settings)
    except CheckpointError:
        raise CheckpointError(
            f"Checkpoint '{name}' is damaged: its tensors are missing, truncated or altered."
        ) from None


def _digest(progress: Any, settings: Any) -> str:
    """Returns the SHA-256 of what the JSON of a checkpoint says, the same before it is written and once it is read."""
    return hashlib.sha256(json.dumps([progress, settings], default=as_number).encode()).hexdigest()


def _is_good(folder: Path, name: str) -> bool:
    try:
        _read(folder, name)
    except CheckpointError:
        return False
    return True


def _remove(folder: Path, name: str) -> None:
    for suffix in (".json", ".safetensors"):
        (folder / name).with_suffix(suffix).unlink(missing_ok=True)
