"""Runs: a folder that holds everything about one training, and what can be done with it afterwards.

``config.json`` options, ``environment.json`` versions and machine, ``metrics.jsonl`` a row per epoch, checkpoints,
``model.safetensors`` the trained network, ``result.json`` the outcome, ``figures/``.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import brodmann

from .baselines import Backpropagation, matching_width
from .builders import design
from .callbacks import AreaUse, MetricsFile
from .checkpoints import checkpoint_names
from .data import Dataset, Preprocessing, Split, load
from .data.catalogue import is_own_file
from .data.targets import TargetScale
from .errors import BrodmannError, MissingDataError
from .extensions import import_extensions
from .files import empty, plain, read_json, write_json
from .layers import Rates
from .losses import CrossEntropy, Loss, MeanSquaredError
from .network import Network
from .options import BASELINES, DTYPES, RunOptions
from .scoring import evaluate
from .training import Callback, Trainer

Watchers = Callable[[Path, RunOptions], list[Callback]]


def start_run(
    options: RunOptions,
    folder: Path,
    *,
    data_dir: str | None = None,
    compare: bool = False,
    overwrite: bool = False,
) -> Path:
    """Prepares a new run folder; `continue_run` then trains.

    Raises:
        BrodmannError: The folder exists and ``overwrite`` is off, or it cannot be written, or the data is missing.
    """
    options.check()
    _check_place(folder, overwrite)
    data = load(options.dataset, data_dir, target=options.target, task=options.task)
    if is_own_file(options.dataset) and Path(options.dataset).is_file():
        options = replace(options, dataset=str(Path(options.dataset).resolve()))  # found from any folder
    _device(options.device)
    split = split_data(options, data)
    if torch.equal(split.x_train.amin(0), split.x_train.amax(0)):
        raise BrodmannError(f"All training inputs of '{options.dataset}' are equal: there is nothing to learn from.")
    if not data.is_classification and torch.equal(data.y_train.amin(0), data.y_train.amax(0)):
        raise BrodmannError(f"All training targets of '{options.dataset}' are equal: there is nothing to learn.")
    features = split.x_train.shape[1]
    sizes = features, data.outputs, data.is_classification, image_shape(options, data)
    build_learner(options, *sizes)  # fail on bad sizes before we replace a run
    if compare and options.rule not in BASELINES:
        build_learner(_twin(options), *sizes)  # and on what the twin cannot do
    config = {
        "options": asdict(options),
        "data_dir": data_dir and str(Path(data_dir).resolve()),
        "compare": compare,
        "digest": data.digest,
        "regression": not data.is_classification,
        "classes": data.classes,
        "columns": data.columns,
    }
    json.dumps(config, default=plain)  # an old run goes only where the new one can be written
    _check_place(folder, overwrite)  # again: meanwhile another command may have begun there
    if folder.exists():
        empty(folder)
    write_json(folder / "config.json", config)
    write_json(folder / "environment.json", _environment())
    return folder


def _check_place(folder: Path, overwrite: bool) -> None:
    """Raises where a new run would not have the folder to itself, or would replace what is no run."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise BrodmannError(f"{folder} is a file: choose another --out.")
    if not overwrite:
        raise BrodmannError(
            f"{folder} exists: resume it with --resume {shlex.quote(str(folder))}, replace it with --overwrite, or "
            "choose another --out."
        )
    try:
        _config(folder)
    except BrodmannError:
        raise BrodmannError(
            f"{folder} is no run folder (it has no config.json of a run): choose another --out."
        ) from None


def continue_run(
    folder: Path, *, checkpoint: str | None = None, callbacks: Watchers | None = None, data_dir: str | None = None
) -> dict[str, Any]:
    """Trains a prepared run from where it stands to its end; a finished one returns its result.

    Args:
        folder: Of the run.
        checkpoint: Name of the checkpoint to go back to. Default the newest.
        callbacks: Gives the further callbacks of a training in a folder with options, such as a progress bar.
        data_dir: Where the data lies, if not where it lay at the start.

    Returns:
        The outcome, as in ``result.json``; with a comparison the twin's under ``"backpropagation"``.

    Raises:
        BrodmannError: The folder is no run, its data changed, or a checkpoint is damaged.
        Interrupted: A signal came; a later call goes on from there.
    """
    config = _config(folder)
    options = RunOptions(**config["options"])
    if checkpoint is None and _is_whole(folder):
        return read_json(folder / "result.json")  # type: ignore[no-any-return]
    data = _data(config, data_dir)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    split = split_data(options, data)
    learner, result = _train(folder, options, data, split, checkpoint, callbacks)
    if config["compare"] and options.rule not in BASELINES:
        active = learner.active_parameters()
        twin = _twin(options)
        if options.channels is None:
            width = matching_width(active, split.x_train.shape[1], data.outputs, options.layers)
            twin = replace(twin, width=width)
        place = folder / "backpropagation"  # a run folder too
        write_json(place / "config.json", {**config, "options": asdict(twin), "compare": False})
        write_json(place / "environment.json", _environment())
        _, result["backpropagation"] = _train(place, twin, data, split, None, callbacks)
        write_json(place / "result.json", result["backpropagation"])
    write_json(folder / "result.json", result)
    return result


def read_run(folder: Path) -> tuple[Network | Backpropagation, RunOptions, Preprocessing, dict[str, Any]]:
    """Returns the trained learner of a run, its options, its preprocessing and its configuration."""
    config = _config(folder)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BrodmannError(
            f"{folder} is not finished: resume it with `brodmann train --resume {shlex.quote(str(folder))}`."
        )
    options = RunOptions(**config["options"])
    preprocessing = Preprocessing.from_dict(read_json(folder / "preprocessing.json"))
    loss = _loss(options, not config["regression"])
    if options.rule in BASELINES:
        return Backpropagation.load(path, loss).to(DTYPES[options.dtype]), options, preprocessing, config
    return Network.load(path, loss=loss), options, preprocessing, config


def read_options(folder: Path) -> tuple[RunOptions, bool]:
    """Returns the options of a run, and whether it trains its twin too."""
    config = _config(folder)
    return RunOptions(**config["options"]), config["compare"]


def read_targets(folder: Path) -> TargetScale | None:
    """Returns what a run's targets were scaled by, None where they were not."""
    path = folder / "targets.json"
    return TargetScale.from_dict(read_json(path)) if path.is_file() else None


def run_data(folder: Path, data_dir: str | None = None) -> tuple[Dataset, Split]:
    """Returns the data of a run, split as it was."""
    config = _config(folder)
    options = RunOptions(**config["options"])
    data = _data(config, data_dir)
    return data, split_data(options, data)


def _train(
    folder: Path, options: RunOptions, data: Dataset, split: Split, checkpoint: str | None, callbacks: Watchers | None
) -> tuple[Network | Backpropagation, dict[str, Any]]:
    sizes = split.x_train.shape[1], data.outputs, data.is_classification, image_shape(options, data)
    learner = build_learner(options, *sizes)
    device = _device(options.device)
    learner.to(device)
    if DTYPES[options.dtype] == torch.float64:
        learner.double()

    def place(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        dtype = DTYPES[options.dtype]
        return x.to(device, dtype), (y.to(device, dtype) if y.is_floating_point() else y.to(device))

    train = place(split.x_train, split.y_train)
    validation = place(split.x_validation, split.y_validation)
    watchers: list[Callback] = [AreaUse(train[0][:1024]), *(callbacks(folder, options) if callbacks else [])]
    watchers.append(MetricsFile(folder / "metrics.jsonl"))  # last: it writes what the others put into the row
    trainer = Trainer(learner, train, validation, options.training_schedule(), folder=folder, callbacks=watchers)
    write_json(folder / "preprocessing.json", split.preprocessing.as_dict())
    if split.targets is not None:
        write_json(folder / "targets.json", split.targets.as_dict())
    if checkpoint is not None or checkpoint_names(folder):
        trainer.resume(checkpoint)
    if checkpoint is not None:
        for name in ("result.json", "model.safetensors"):  # what came of the part that is given up
            (folder / name).unlink(missing_ok=True)
    progress = trainer.run()
    learner.save(folder / "model.safetensors")
    test = evaluate(learner, *place(split.x_test, split.y_test))
    held_out = evaluate(learner, *validation) if len(validation[0]) else {}
    metric = "accuracy" if data.is_classification else "r2"
    return learner, {
        "dataset": options.dataset,
        "rule": options.rule,
        "areas": 1 if options.rule in BASELINES else options.areas,
        "layers": options.layers if options.channels is None else len(options.channels) + 1,
        "width": options.width if options.channels is None else None,
        "channels": options.channels,
        f"test_{metric}": test.get(metric),
        "test_loss": test["loss"],
        f"validation_{metric}": held_out.get(metric),
        "train_seconds": round(progress.seconds, 3),
        "epochs": progress.epoch,
        "effective_areas": progress.history[-1].get("effective_areas", []) if progress.history else [],
        "active_parameters": learner.active_parameters(),
        "total_parameters": learner.total_parameters(),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "digest": data.digest,
        "run": str(folder),
    }


def build_learner(
    options: RunOptions,
    features: int,
    outputs: int,
    classification: bool = True,
    shape: tuple[int, ...] | None = None,
) -> Network | Backpropagation:
    """Returns the untrained learner that the options describe; their seed decides its weights.

    Args:
        options: Of the training.
        features: Size of a sample (flat).
        outputs: Classes, or targets.
        classification: Whether targets are classes. Default True.
        shape: Of an image, (channels, height, width): for convolutions alone. Default None.
    """
    torch.manual_seed(options.seed)
    loss = _loss(options, classification)
    if options.rule in BASELINES:
        return Backpropagation(
            features,
            outputs,
            depth=options.layers,
            width=options.width,
            residual=options.residual,
            activation=options.activation,
            dropout=options.dropout,
            optimiser=options.optimiser,
            momentum=options.momentum,
            decay=options.weight_decay,
            readout_only=options.rule == "last-layer",
            shape=shape,
            channels=options.channels,
            loss=loss,
        )
    sizes: dict[str, Any] = {"in_features": features, "depth": options.layers, "width": options.width}
    builder = "residual_mlp" if options.residual else "mlp"
    if options.channels is not None:
        sizes, builder = {"shape": shape, "channels": options.channels}, "convnet"
    description = design(
        builder,
        options.update(),
        **sizes,
        outputs=outputs,
        areas=options.areas,
        feedback=options.rule,
        activation=options.activation,
        dropout=options.dropout,
        routing=options.routing,
        shared=options.shared,
        gated=options.gated,
        pooling=options.pooling,
        storage=options.storage,
        router={
            "partition": options.partition,
            "cells": options.cells,
            "temperature": options.temperature,
            "learned": options.learn_projection,
            "balance_rate": options.balance,
        },
    )
    rates = Rates(options.lr_shared, options.lr_areas, options.lr_projection, options.lr_feedback)
    return Network.from_design(description, loss, lr=options.learning_rate, rates=rates, clip=options.clip)


def image_shape(options: RunOptions, data: Dataset) -> tuple[int, ...] | None:
    """Returns the shape of an image as the options ask for it, None where they ask for no convolutions."""
    if options.channels is None:
        return None
    if len(data.shape) != 3:
        raise BrodmannError(
            f"--channels asks for images, and a sample of '{options.dataset}' has the shape {data.shape}: leave it out."
        )
    return (1, *data.shape[1:]) if options.grey else data.shape


def _twin(options: RunOptions) -> RunOptions:
    """Returns the options of the dense network by backpropagation that `--compare` trains beside a run."""
    return replace(options, rule="backprop", areas=1, clip=None)


def _loss(options: RunOptions, classification: bool) -> Loss:
    if options.label_smoothing and not classification:
        raise BrodmannError("A label smoothing goes with classes, and these targets are real numbers: leave it out.")
    return CrossEntropy(options.label_smoothing) if classification else MeanSquaredError()


def split_data(options: RunOptions, data: Dataset) -> Split:
    """Returns the parts of a data set as the options ask for them; where inputs are normalised, so are real targets."""
    split = data.split(options.validation, options.seed, normalise=options.normalise, grey=options.grey)
    return split if data.is_classification or options.normalise == "none" else split.standardised()


def _is_whole(folder: Path) -> bool:
    """Whether a run has its result and its network: what is damaged is made again from the last checkpoint."""
    try:
        with safe_open(folder / "model.safetensors", framework="pt"):
            result = read_json(folder / "result.json")
            return {"rule", "areas", "width"} <= set(result) and (folder / "preprocessing.json").is_file()
    except (BrodmannError, SafetensorError, OSError, TypeError):
        return False


def _data(config: dict[str, Any], data_dir: str | None) -> Dataset:
    """Loads the data of a run."""
    options = RunOptions(**config["options"])
    try:
        data = load(options.dataset, data_dir or config["data_dir"], target=options.target, task=options.task)
    except MissingDataError as error:
        raise MissingDataError(f"{error} If it has moved, name its folder with --data-dir.") from None
    if data.digest != config["digest"]:
        raise BrodmannError(
            f"The data set '{data.name}' has changed since this run began (digest {data.digest[:12]}, expected "
            f"{config['digest'][:12]}): restore it, or start a new run."
        )
    return data


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise BrodmannError(f"{folder} is no run folder: expected {folder / 'config.json'}.")
    config = read_json(folder / "config.json")
    known = {field.name for field in fields(RunOptions)}
    keys = {"options", "data_dir", "compare", "digest", "regression", "classes"}
    options = config.get("options") if isinstance(config, dict) else None
    if not isinstance(options, dict) or not keys <= set(config) or not set(options) <= known:
        raise BrodmannError(f"{folder / 'config.json'} is damaged, or not that of a run by this version.")
    return config  # type: ignore[no-any-return]


def _device(name: str) -> torch.device:
    try:
        device = torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type == "meta":
        raise BrodmannError(f"The device '{name}' is not available here: use cpu, or check the installation.")
    return device


def _environment() -> dict[str, Any]:
    return {
        "brodmann": brodmann.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scikit_learn": version("scikit-learn"),  # importing it takes a second
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "imported": import_extensions(),
    }


def peak_rss_mb() -> float:
    """Returns the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
