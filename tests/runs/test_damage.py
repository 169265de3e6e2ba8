"""Damaged runs: what is refused and what to do, and what is made whole again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from brodmann import BrodmannError
from brodmann.cli import main
from brodmann.runs import Run
from brodmann.training.checkpoints import checkpoint_names

from .parts import SMALL, assert_same_weights, weights


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("damage", ["truncate tensors", "alter tensors", "cut json", "alter json", "remove tensors"])
def test_a_damaged_checkpoint_is_refused_and_the_good_one_offered(
    table: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        main(["train", str(table), *SMALL, "--out", str(folder)])
    good, newest = checkpoint_names(run)
    tensors = run / f"{newest}.safetensors"
    content = tensors.read_bytes()
    if damage == "truncate tensors":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "alter tensors":
        tensors.write_bytes(content[:-5] + b"\x07" + content[-4:])
    elif damage == "cut json":
        (run / f"{newest}.json").write_text('{"sha256": "0"')
    elif damage == "alter json":
        record = json.loads((run / f"{newest}.json").read_text())
        record["progress"]["seconds"] = "x"
        (run / f"{newest}.json").write_text(json.dumps(record))
    else:
        tensors.unlink()
    (run / "result.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", str(run), "--no-figures"])
    message = capsys.readouterr().err
    assert f"'{newest}' is damaged" in message
    assert f"--checkpoint {good}" in message
    main(["train", "--resume", str(run), "--checkpoint", good, "--no-figures"])
    assert_same_weights(whole, run)


def test_what_a_finished_run_lost_is_made_again(run: Path) -> None:
    before = (run / "preprocessing.json").read_bytes()
    (run / "preprocessing.json").unlink()
    (run / "result.json").write_text('{"rule": 1}')
    main(["train", "--resume", str(run), "--no-figures"])
    assert (run / "preprocessing.json").read_bytes() == before
    assert json.loads((run / "result.json").read_text())["areas"] == 4


def test_a_damaged_environment_stops_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "environment.json").write_text('{"brodmann": "0.')
    main(["evaluate", str(run)])
    assert "test_accuracy" in capsys.readouterr().out


def test_a_damaged_configuration_is_said(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    for classes, message in ((config["classes"][:1], "expected the names of 3 classes."), (None, "targets.json")):
        (run / "config.json").write_text(json.dumps({**config, "classes": classes}))
        with pytest.raises(SystemExit, match="2"):
            main(["predict", str(run), str(table)])
        assert message in capsys.readouterr().err
    (run / "config.json").write_text(json.dumps({**config, "options": {**config["options"], "dataset": None}}))
    with pytest.raises(BrodmannError, match="is damaged: expected the name of a data set, got None"):
        Run.read(run)


@pytest.mark.parametrize("damage", ["truncated", "missing", "result"])
def test_a_finished_run_that_was_damaged_is_made_whole_by_resuming(damage: str, run: Path) -> None:
    model = run / "model.safetensors"
    before = {name: tensor.clone() for name, tensor in weights(run).items()}  # they lie in the file itself
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:300])
    elif damage == "missing":
        model.unlink()
    else:
        (run / "result.json").write_text("{}")
    main(["train", "--resume", str(run), "--no-figures"])
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(run).items())
    assert json.loads((run / "result.json").read_text())["epochs"] == 3
