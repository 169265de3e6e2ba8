"""Trains a run from its options to its result, through every interruption."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..baselines import Backpropagation, in_proportion, matching_width
from ..builders.sizes import depth_of
from ..data import Dataset, Split, data_directory
from ..data.catalogue import is_own_file
from ..errors import BrodmannError
from ..files import alone_in, as_number, check_utf8, contents, empty, expanded, write_json
from ..generators import undisturbed
from ..losses.scores import name_of_score
from ..machine import peak_memory
from ..network import Network
from ..rows import evenly_spaced
from ..telemetry import area_usage
from ..training import AlignmentRecord, AreaRecord, Callback, MetricsFile, Trainer, evaluate
from ..training.checkpoints import checkpoint_names
from .assembly import device_of, placed, placed_learner, split_data, twin_of
from .loading import load_data
from .options import BASELINES, RunOptions
from .run import Run
from .trial import try_out

SMALL = 5_000_000
"""Parameters up to which a run records its alignment at every epoch: it takes a copy of the network."""
COUNTED = 1024
"""Training samples by which a run counts the use of its areas."""
CallbackFactory = Callable[[Path, RunOptions], list[Callback]]
"""Makes callbacks of a training from its folder and options."""


def start_run(
    options: RunOptions,
    folder: str | Path,
    *,
    data_dir: str | None = None,
    compare: bool = False,
    overwrite: bool = False,
) -> Path:
    """Prepares a new run folder; `continue_run` then trains.

    Raises:
        BrodmannError: The folder exists and ``overwrite`` is off, a training runs in it, it cannot be written, or the
            data is missing.
    """
    options.check()
    if compare and options.rule in BASELINES:
        raise BrodmannError(
            f"--compare trains backpropagation beside areas, but '{options.rule}' has none: leave it out."
        )
    if compare and options.builder is not None:
        raise BrodmannError(
            f"--compare trains a twin of dense layers or convolutions, but the builder '{options.builder}' has no such "
            "twin: leave it out, and compare with --rule transpose --areas 1, which learns as backpropagation does."
        )
    folder, data_dir = expanded(folder), data_dir and str(expanded(data_dir))
    check_utf8(folder)
    _check_place(folder, overwrite)
    data = load_data(options, data_dir)
    if is_own_file(options.dataset) and (file := expanded(options.dataset)).is_file():
        options = replace(options, dataset=str(file.resolve()))  # found from any folder
    device_of(options)
    split = split_data(options, data)
    _check_learnable(options, data, split)
    if options.patience is not None and not len(split.x_validation):
        raise BrodmannError("Early stopping needs a validation part: set its share above 0, or leave patience out.")
    for tried in (options, twin_of(options)) if compare else (options,):
        try_out(tried, split)
    place = data_dir and str(Path(data_dir).resolve())
    run = Run(folder, options, place, compare, data.digest, data.classes, data.columns)
    json.dumps(run.config(), default=as_number)  # an old run is removed only if the new one can be written
    if folder.exists():
        _check_outside(folder, options.dataset, data_dir)
    with alone_in(folder):
        _check_place(folder, overwrite)  # again: meanwhile another command may have begun there
        empty(folder)
        run.write()
    return folder


def _check_learnable(options: RunOptions, data: Dataset, split: Split) -> None:
    """Raises if there is nothing to learn, or to learn from."""
    if len(split.x_train) == 1:
        raise BrodmannError(f"A validation share of {options.validation} leaves one sample to train on: lower it.")
    if torch.equal(split.x_train.amin(0), split.x_train.amax(0)):
        raise BrodmannError(f"All training inputs of '{options.dataset}' are equal: there is nothing to learn from.")
    if not data.is_classification and torch.equal(data.y_train.amin(0), data.y_train.amax(0)):
        raise BrodmannError(f"All training targets of '{options.dataset}' are equal: there is nothing to learn.")


def _check_place(folder: Path, overwrite: bool) -> None:
    """Raises if a new run would not have the folder to itself, or would replace what is not a run."""
    if not folder.exists() or (folder.is_dir() and not contents(folder)):
        return
    if not folder.is_dir():
        raise BrodmannError(f"{folder} is a file: choose another --out.")
    if not overwrite:
        raise BrodmannError(
            f"{folder} exists: resume it with --resume {shlex.quote(str(folder))}, replace it with --overwrite, or "
            "choose another --out."
        )
    try:
        Run.read(folder)
    except BrodmannError:
        raise BrodmannError(
            f"{folder} is not a run folder (it has no config.json of a run): choose another --out."
        ) from None


def _check_outside(folder: Path, dataset: str, data_dir: str | None) -> None:
    """Raises if emptying the folder would take the data along."""
    place = data_directory(data_dir)
    for data in (place, place / dataset, Path(dataset)):
        if data.exists() and data.resolve().is_relative_to(folder.resolve()):
            raise BrodmannError(f"{folder} holds the data, {data}, and would be emptied: choose another --out.")


def continue_run(
    folder: str | Path,
    *,
    checkpoint: str | None = None,
    callbacks: CallbackFactory | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Trains a prepared run from its last state to its end; a finished one returns its result.

    Args:
        folder: Folder of the run.
        checkpoint: Name of the checkpoint to go back to. Default the newest.
        callbacks: Function of a folder and options that returns further callbacks of the training there, such as a
            progress bar.
        data_dir: Folder of the data, if it was moved since the start.

    Returns:
        The outcome, as in ``result.json``; with a comparison the twin's under ``"backpropagation"``.

    Raises:
        BrodmannError: The folder is not a run, another process trains there, its data changed, or a checkpoint is
            damaged.
        Interrupted: A signal came; a later call goes on from there.
    """
    run = Run.read(folder)
    folder, options = run.folder, run.options
    if checkpoint is None and (known := run.result()) is not None:
        return known | {"run": str(folder)}  # which may have been moved
    run.warn_of_other_code("it goes on with other code than it began with")
    with alone_in(folder), threads(options.threads), run.naming_imports():
        split = run.split(data_dir)  # the raw samples are not kept beside it
        learner, result = _train(folder, options, split, checkpoint, callbacks)
        if run.compare:
            twin = twin_of(options)
            if options.channels is None:
                active, features = learner.active_parameters(), split.x_train.shape[1]
                widest = matching_width(active, features, split.outputs, options.layers, options.width)
                twin = replace(twin, width=in_proportion(options.width, widest))
            place = folder / "backpropagation"  # a run folder too
            replace(run, folder=place, options=twin, compare=False).write()
            _, result["backpropagation"] = _train(place, twin, split, None, callbacks)
            write_json(place / "result.json", result["backpropagation"])
        write_json(folder / "result.json", result)
    return result


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Runs the block with ``count`` PyTorch threads; None keeps the current number."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    folder: Path, options: RunOptions, split: Split, checkpoint: str | None, callbacks: CallbackFactory | None
) -> tuple[Network | Backpropagation, dict[str, Any]]:
    with undisturbed():
        learner = placed_learner(options, split)
    train = placed(options, split.x_train, split.y_train)
    validation = placed(options, split.x_validation, split.y_validation)
    some = train[0][evenly_spaced(len(train[0]), COUNTED)]
    own = callbacks(folder, options) if callbacks else []
    watching = [AreaRecord(some), *_alignment_record(learner, train), *own, MetricsFile(folder / "metrics.jsonl")]
    held_out = validation if len(validation[0]) else None
    trainer = Trainer(learner, train, held_out, options.training_schedule, folder=folder, callbacks=watching)
    _write_scales(folder, split)
    if checkpoint is not None or checkpoint_names(folder):
        trainer.resume(checkpoint)
    if checkpoint is not None:
        _drop_results(folder)
    trainer.run()
    learner.save(folder / "model.safetensors")
    outcome = {
        "dataset": options.dataset,
        "rule": options.rule,
        **_sizes(options),
        **_scores(options, split, learner, held_out),
        "train_seconds": round(trainer.progress.seconds, 3),
        "epochs": trainer.progress.epoch,
        "effective_areas": _effective_areas(learner, some),
        "active_parameters": learner.active_parameters(),
        "total_parameters": learner.total_parameters(),
        "peak_rss_mb": round(peak_memory(), 1),
        "digest": split.digest,
        "run": str(folder),
    }
    return learner, outcome


def _write_scales(folder: Path, split: Split) -> None:
    """Writes how inputs, and targets perhaps, were scaled: what is predicted from later is scaled likewise."""
    write_json(folder / "preprocessing.json", split.preprocessing.as_dict())
    if split.targets is not None:
        write_json(folder / "targets.json", split.targets.as_dict())


def _drop_results(folder: Path) -> None:
    """Removes what came of the part of a run that is given up."""
    for name in ("result.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)


def _scores(
    options: RunOptions, split: Split, learner: Network | Backpropagation, held_out: tuple[Tensor, Tensor] | None
) -> dict[str, float | None]:
    """Returns how good a learner is on the test part and, if there is one, the validation part."""
    test = evaluate(learner, *placed(options, split.x_test, split.y_test))
    validated = {} if held_out is None else evaluate(learner, *held_out)
    metric = name_of_score(learner.loss) if split.is_classification or options.learns_labels else "r2"
    return {
        f"test_{metric}": test.get(metric),
        "test_loss": test["loss"],
        f"validation_{metric}": validated.get(metric),
    }


def _alignment_record(learner: Network | Backpropagation, train: tuple[Tensor, Tensor]) -> list[Callback]:
    """Returns a callback that records the alignment of errors, if a copy of the network is cheap."""
    if learner.total_parameters() > SMALL:
        return []
    x, y = train
    some = evenly_spaced(len(x), 256)
    return [AlignmentRecord(x[some], y[some])]


def _effective_areas(learner: Network | Backpropagation, x: Tensor) -> list[float]:
    """Returns how many areas samples (n, ...) use in each routed layer of what was learned, the best weights maybe."""
    used = area_usage(learner, x) if isinstance(learner, Network) else []
    return [round(layer.effective, 3) for layer in used]


def _sizes(options: RunOptions) -> dict[str, Any]:
    """Returns the sizes of a run's network, as its options name them; those of a user's builder are unknown."""
    dense = options.channels is None and options.builder is None
    convolutions = None if options.channels is None else len(options.channels) + 1
    return {
        "areas": 1 if options.rule in BASELINES else options.areas,
        "layers": depth_of(options.layers, options.width) if dense else convolutions,
        "width": options.width if dense else None,
        "channels": options.channels,
        "builder": options.builder,
    }
