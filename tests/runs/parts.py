"""What the tests of runs share: short options, and what two runs are compared by."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from brodmann.runs import RunOptions

SMALL = ["--width", "12", "--areas", "4", "--epochs", "3", "--no-figures"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def metrics(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def options_for(table: Path) -> RunOptions:
    return RunOptions(str(table), width=12, areas=4, epochs=30, dropout=0.2, batch_size=16, patience=30)
