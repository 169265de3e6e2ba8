"""Runs that are killed, stopped or disturbed at any moment: they go on bit for bit, and leave no half behind."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from brodmann import BrodmannError
from brodmann.cli import main
from brodmann.kernels import library
from brodmann.runs import continue_run, execution, start_run
from brodmann.training import Callback, Interrupted, Trainer
from brodmann.training.checkpoints import checkpoint_names

from ..blobs import write_blobs
from .parts import SMALL, assert_same_weights, metrics, options_for


def test_a_run_killed_at_random_moments_resumes_bit_for_bit(table: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    start_run(options_for(table), whole, compare=True)
    library.active()  # compiles at a machine's first use, which would make a run look long
    began = time.monotonic()
    continue_run(whole)
    length = time.monotonic() - began
    chance = random.Random(0)
    stops = runs = 0
    while stops < 21:
        broken = tmp_path / f"broken-{runs}"
        runs += 1
        start_run(options_for(table), broken, compare=True)
        while not (broken / "result.json").is_file():
            child = os.fork()
            if child == 0:
                try:
                    continue_run(broken)
                except BaseException:
                    os._exit(1)
                os._exit(0)
            time.sleep(chance.uniform(0, length / 4))
            os.kill(child, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[stops % 3])
            _, status = os.waitpid(child, 0)
            stops += status != 0
        assert_same_weights(whole, broken)
        assert_same_weights(whole / "backpropagation", broken / "backpropagation")
        assert metrics(whole) == metrics(broken)


class Amidst(Callback):
    """Does something in the middle of the second epoch."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if (trainer.progress.epoch, trainer.progress.batch) == (1, 2):
            self.act()


def test_a_run_has_its_folder_to_itself(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    others = (
        lambda: start_run(replace(options_for(table), epochs=1), run, overwrite=True),
        lambda: continue_run(run),
    )
    refused = []

    def begin() -> None:
        for other in others:
            with pytest.raises(BrodmannError, match=f"Another process is working in {run}: wait for it"):
                other()
            refused.append(other)

    start_run(options_for(table), run)
    result = continue_run(run, callbacks=lambda *_: [Amidst(begin)])
    assert refused == list(others)
    assert (result["epochs"], len(metrics(run))) == (30, 30)
    start_run(replace(options_for(table), epochs=1), run, overwrite=True)
    assert continue_run(run)["epochs"] == 1


def test_a_folder_that_vanishes_ends_the_training_and_one_that_moved_goes_on(table: Path, tmp_path: Path) -> None:
    whole, run, moved = tmp_path / "whole", tmp_path / "run", tmp_path / "moved"
    for act in (lambda: shutil.rmtree(run), lambda: run.rename(moved)):
        start_run(options_for(table), run)
        with pytest.raises(BrodmannError, match=f"{run} was deleted, moved or replaced while the training ran"):
            continue_run(run, callbacks=lambda *_, act=act: [Amidst(act)])
        assert not run.exists()
    continue_run(moved)
    continue_run(start_run(options_for(table), whole))
    assert_same_weights(whole, moved)
    assert metrics(whole) == metrics(moved)


@pytest.mark.usefixtures("every_epoch")
def test_what_a_killed_process_left_half_written_is_removed(table: Path, tmp_path: Path) -> None:
    run = start_run(options_for(table), tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        continue_run(run, callbacks=lambda *_: [Amidst(stop)])
    halves = [".best.safetensors.0123abcd", ".checkpoint-000000036.json.ffffffff", ".metrics.jsonl.00000000"]
    others = [".notes.txt", ".mine.json.older"]
    for name in halves + others:
        (run / name).write_text("")
    continue_run(run)
    assert not [name for name in halves if (run / name).exists()]
    assert all((run / name).exists() for name in others)


def stop() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """What the command line is given for a run of some seconds, and that run, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    table = write_blobs(folder / "blobs.npz", 240, 6, 3)
    arguments = [str(table), "--width", "12", "--epochs", "120", "--no-figures", "--threads", "1"]
    main(["train", *arguments, "--out", str(folder / "run")])
    return arguments, folder / "run"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_stops_after_a_whole_step_and_resumes(
    whole: tuple[list[str], Path], tmp_path: Path, number: int
) -> None:
    arguments, undisturbed = whole
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "brodmann", "train", *arguments, "--out", str(broken)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not checkpoint_names(broken) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"brodmann train --resume {broken}" in errors
    assert "Traceback" not in errors
    main(["train", "--resume", str(broken), "--no-figures"])
    assert_same_weights(undisturbed, broken)


def test_an_interrupt_while_the_command_imports_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    command = [sys.executable, "-c", "from brodmann_command import main; main()"]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


def test_a_signal_before_the_training_leaves_no_folder(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execution, "load_data", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        main(["train", str(table), *SMALL])
    assert "stopped by SIGTERM before the training began." in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.usefixtures("every_epoch")
def test_a_run_that_goes_back_to_a_checkpoint_is_unfinished_until_it_ends(table: Path, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            raise Interrupted(signal.SIGINT)

    folder = tmp_path / "run"
    start_run(replace(options_for(table), epochs=3, patience=None), folder)
    whole = continue_run(folder)
    earlier = checkpoint_names(folder)[0]
    with pytest.raises(Interrupted):
        continue_run(folder, checkpoint=earlier, callbacks=lambda *_: [Stop()])
    assert not (folder / "result.json").exists()
    again = continue_run(folder)
    assert again["test_accuracy"] == whole["test_accuracy"]


def test_a_run_that_writes_events_goes_on_writing_them(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    main(["train", str(table), *SMALL, "--tensorboard", "--out", str(run)])
    main(["train", "--resume", str(run), "--no-figures", "--checkpoint", checkpoint_names(run)[-1]])
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_a_run_that_wrote_events_goes_on_without_tensorboard(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "tensorboard").mkdir()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.warns(UserWarning, match="events of this run are not continued: TensorBoard is not installed"):
        main(["train", "--resume", str(run), "--no-figures", "--checkpoint", checkpoint_names(run)[-1]])
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", str(run), "--tensorboard"])


@pytest.mark.parametrize(
    ("extra", "wording"),
    [
        (["--epochs", "5"], "in which --epochs is 3: leave 5 out"),
        (["--lr-areas", "0.5"], "in which --lr-areas is None: leave 0.5 out"),
        (["--areas", "16"], "in which --areas is 4: leave 16 out"),  # 16 is the default elsewhere
        (["digits"], "in which the data set is .*blobs.npz: leave digits out"),
        (["--figures"], None),  # of the command, not of the run
        (["mnist"], "in which the data set is .*blobs.npz: leave mnist out"),
        (["--compare"], "leave out --out, --overwrite and --compare"),
        (["--out", "other"], "leave out --out, --overwrite and --compare"),
    ],
)
def test_resuming_takes_no_other_options(
    extra: list[str], wording: str | None, finished: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [str(finished / "blobs.npz"), *SMALL, "--out", str(run)]
    main(["train", *own, "--resume", str(run)])  # the same ones may stand there
    capsys.readouterr()
    if wording is None:
        main(["train", "--resume", str(run), *extra])
        return
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", str(run), *extra])
    assert re.search(wording, capsys.readouterr().err)
