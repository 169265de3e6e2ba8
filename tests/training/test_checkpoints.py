"""Checkpoints: whole or none, from which trainings go on bit for bit, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from brodmann import SGD, BrodmannError, Network, mlp
from brodmann.baselines import Backpropagation
from brodmann.training import Callback, Trainer, checkpoints
from brodmann.training.checkpoints import (
    Checkpoint,
    checkpoint_names,
    drop_checkpoints_after,
    read_checkpoint,
    write_checkpoint,
)
from brodmann.training.schedule import Schedule

from .parts import blobs, network


def test_a_checkpoint_of_the_same_step_once_more_is_whole_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of an epoch whose last step had written one already."""
    for number in (1, 2):
        write_checkpoint(tmp_path, number, Checkpoint({"a": torch.zeros(number)}, {}, {}))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 2, Checkpoint({"a": torch.ones(2)}, {}, {}))
    assert len(read_checkpoint(tmp_path).tensors["a"]) == 1


def make(kind: str) -> Network | Backpropagation:
    torch.manual_seed(0)
    if kind == "network":
        return network(dropout=0.3)
    return Backpropagation(5, 3, width=8, dropout=0.3, optimiser=kind, momentum=0.9 if kind == "sgd" else 0.0)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("kind", ["network", "adam", "muon", "sgd"])
def test_going_back_to_a_checkpoint_gives_the_same_end_and_drops_what_came_after(kind: str, tmp_path: Path) -> None:
    data, schedule = blobs(), Schedule(epochs=4, batch_size=16, lr=0.02)
    straight = make(kind)
    Trainer(straight, data, None, schedule, folder=tmp_path).run()
    names = checkpoint_names(tmp_path)
    assert len(names) == 2
    resumed = make(kind)
    trainer = Trainer(resumed, data, None, schedule, folder=tmp_path)
    trainer.resume(names[0])
    assert checkpoint_names(tmp_path) == names[:1]
    assert trainer.progress.epoch == 3
    trainer.run()
    assert checkpoint_names(tmp_path) == names
    ours, theirs = straight.learning_state(), resumed.learning_state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_new_training_refuses_a_folder_that_holds_checkpoints(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1), folder=tmp_path).run()
    names = checkpoint_names(tmp_path)
    other = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path)
    with pytest.raises(BrodmannError, match=r"holds checkpoints of an earlier run: continue it with resume\(\)"):
        other.run()
    assert checkpoint_names(tmp_path) == names
    other.resume()
    other.run()


def test_checkpoints_of_a_network_whose_rule_was_replaced_say_so_and_are_resumed_under_it(tmp_path: Path) -> None:
    class Replace(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            network = trainer.network
            assert isinstance(network, Network)
            network.update_rule = SGD(momentum=0.5)

    first = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path, callbacks=[Replace()])
    first.run()
    other = network()
    again = Trainer(other, blobs(), None, Schedule(epochs=2), folder=tmp_path)
    with pytest.raises(BrodmannError, match=r"rules SGD\(.*momentum=0.5\), not Adam\(.*: build it with those"):
        again.resume()
    other.update_rule = SGD(momentum=0.5)
    again.resume()
    torch.testing.assert_close(other.state_dict(), first.network.learning_state(), rtol=0, atol=0)


@pytest.mark.parametrize("place", [0, None])
def test_checkpoints_of_another_network_are_refused_and_stay(place: int | None, tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=3), folder=str(tmp_path)).run()
    names = checkpoint_names(tmp_path)
    other = Network(mlp(5, 3, width=9, areas=4))
    state = torch.get_rng_state()
    with pytest.raises(BrodmannError, match="holds checkpoints of another network: build it as before"):
        Trainer(other, blobs(), None, Schedule(epochs=3), folder=tmp_path).resume(
            None if place is None else names[place]
        )
    assert checkpoint_names(tmp_path) == names
    assert torch.equal(torch.get_rng_state(), state)


def forget(folder: Path, *fields: str) -> None:
    """Takes from the last checkpoint what those of an earlier version did not note."""
    path = folder / f"{checkpoint_names(folder)[-1]}.json"
    record = json.loads(path.read_text())
    for field in fields:
        del record["progress"][field]
    del record["digest_of_these"]
    path.write_text(json.dumps(record))


def test_checkpoints_of_another_version_are_refused(tmp_path: Path) -> None:
    Trainer(network(), blobs(), None, Schedule(epochs=1), folder=tmp_path).run()
    forget(tmp_path, "scored")
    with pytest.raises(BrodmannError, match="holds checkpoints of another version of this package: start again"):
        Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path).resume()


def test_a_checkpoint_that_names_no_rate_goes_on_with_the_schedules(tmp_path: Path) -> None:
    """As those of earlier versions do."""
    Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path).run()
    forget(tmp_path, "lr")
    trainer = Trainer(network(), blobs(), None, Schedule(epochs=1, lr=0.1), folder=tmp_path)
    trainer.resume()
    assert (trainer.progress.epoch, trainer.lr) == (1, 0.1)


@pytest.mark.parametrize("on_disk", [True, False])
def test_going_on_after_a_stop_is_training_without_one(on_disk: bool, tmp_path: Path) -> None:
    """With patience a stop leaves the best weights, and going on begins from the last."""

    class StopAt(Callback):
        def __init__(self, *epochs: int) -> None:
            self.epochs = epochs

        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] in self.epochs:
                trainer.stop()

    histories = []
    for name, callback in (("whole", Callback()), ("parts", StopAt(2, 4, 5))):
        trainer = Trainer(
            network(lr=0.05), blobs(), blobs(30, 1), Schedule(epochs=7, batch_size=16, patience=7),
            folder=tmp_path / name if on_disk else None, callbacks=callback,
        )  # fmt: skip
        while trainer.run().epoch < 7:
            pass
        histories.append([(row["train_loss"], row["validation_loss"]) for row in trainer.progress.history])
    assert histories[0] == histories[1]


def test_what_a_killed_process_left_of_a_checkpoint_is_removed(tmp_path: Path) -> None:
    Trainer(network(), blobs(), schedule=Schedule(epochs=1), folder=tmp_path).run()
    left = [tmp_path / ".checkpoint-000000009.safetensors.ab12cd34", tmp_path / "checkpoint-000000009.safetensors"]
    for path in left:
        path.write_bytes(b"half")
    trainer = Trainer(network(), blobs(), schedule=Schedule(epochs=2), folder=tmp_path)
    trainer.resume()
    assert not any(path.exists() for path in left)
    assert trainer.run().epoch == 2


def test_checkpoints_are_in_order_beyond_the_digits_of_their_names(tmp_path: Path) -> None:
    last = 10**9 + 2
    for step in range(last - 5, last + 1):
        write_checkpoint(tmp_path, step, Checkpoint({"x": torch.ones(1)}, {"step": step}, {}))
        assert read_checkpoint(tmp_path).progress == {"step": step}
    assert len(checkpoint_names(tmp_path)) == 2
    drop_checkpoints_after(tmp_path, f"checkpoint-{last - 1}")
    assert checkpoint_names(tmp_path) == [f"checkpoint-{last - 1}"]
