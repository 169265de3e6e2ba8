"""What a case can be: each task trains once and returns what goes into its row, see `row_of`."""

from __future__ import annotations

import importlib
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ..baselines import Backpropagation
from ..checks import check_registered
from ..data import Split
from ..errors import DivergenceError, unknown_name
from ..layers import Local
from ..machine import peak_memory
from ..network import Network
from ..network.hooks import watched
from ..runs.assembly import learner_for
from ..telemetry import alignment, area_usage, class_conflict
from ..training import Callback, Trainer, evaluate, outputs_of
from . import paper
from .case import Case, Row
from .cost import learning_operations
from .held_back import without_test_part
from .returned import row_of
from .rounding import significant
from .streams import stream

LAYER_SAMPLES = 256
"""Training samples by which layers are described: enough for a stable cosine, cheap at 1024 layers."""
ALPHA = 5e-4
"""scikit-learn's ``alpha`` for a decay of 1: its penalty is of another kind, and our default becomes its own, 1e-4.

The decay itself as ``alpha`` is hundreds of times too much, and left the searches without a good value.
"""


class Curve(Callback):
    """Validation accuracy by step and second: after every epoch, or every ``every`` steps."""

    def __init__(self, split: Split, every: int | None) -> None:
        """Looks at the validation part every ``every`` steps; None: after every epoch."""
        self.split, self.every = split, every
        self.points: list[list[float]] = []
        self.step_seconds: list[float] = []
        self._before = 0.0

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Takes the time of the step."""
        progress = trainer.progress
        self.step_seconds.append(progress.seconds - self._before)
        self._before = progress.seconds
        if self.every and progress.step % self.every == 0:
            accuracy = evaluate(trainer.network, self.split.x_validation, self.split.y_validation)["accuracy"]
            self.points.append([progress.step, round(progress.seconds, 4), round(accuracy, 5)])

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Notes the epoch's validation accuracy, unless steps are counted."""
        if not self.every:
            progress = trainer.progress
            self.points.append([progress.step, round(progress.seconds, 4), round(row["validation_accuracy"], 5)])


def train(case: Case) -> Row:
    """Trains, and scores validation and test part."""
    return _train(case)[1]


def train_paper(case: Case) -> Row:
    """As `train`, from the published initial values, which are the same numbers for every method."""
    return _train(case, paper.initialise)[1]


def train_deep(case: Case) -> Row:
    """As `train`, and describes every layer: cosine with the true gradient, norms, silent units."""
    learner, row, split = _train(case)
    if not isinstance(learner, Network):
        return row
    x, y = split.x_train[:LAYER_SAMPLES], split.y_train[:LAYER_SAMPLES]
    try:
        lines = alignment(learner, x, y)
    except DivergenceError:  # a network that broke down has no error to send down, and is a result too
        return row
    row["layers"] = [
        {"cosine": _in_row(line.cosine), "norm_ratio": _in_row(line.norm_ratio), "error": _in_row(line.error_norm)}
        for line in lines
    ]
    row["silent"] = [_in_row(share) for share in silent_units(learner, x)]
    return row


def measure_conflict(case: Case) -> Row:
    """As `train`, and measures how far the gradients of different classes conflict in shared maps."""
    learner, row, split = _train(case)
    assert isinstance(learner, Network)
    row["conflict"] = [asdict(line) for line in class_conflict(learner, split.x_train[:2048], split.y_train[:2048])]
    return row


def train_scikit_learn(case: Case) -> Row:
    """Trains scikit-learn's MLPClassifier with the same settings; its ``alpha`` takes the decay, as `ALPHA` says."""
    options = case.options
    split, test = without_test_part(options)
    pace = options.pace(len(split.x_train))
    size_of_batch = min(pace.batch_size, len(split.x_train))
    network: Any = importlib.import_module("sklearn.neural_network")
    model = network.MLPClassifier(
        (options.width,) * (options.layers - 1),
        solver="adam",
        learning_rate_init=options.learning_rate,
        alpha=ALPHA * options.weight_decay,
        batch_size=size_of_batch,
        max_iter=pace.epochs,
        n_iter_no_change=pace.epochs,
        random_state=options.seed,
    )
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reaching the last epoch is the plan, not a failure
        model.fit(split.x_train.numpy(), split.y_train.numpy())
    seconds = time.perf_counter() - began
    correct = torch.from_numpy(model.predict(split.x_validation.numpy())) == split.y_validation
    size = sum(part.size for part in [*model.coefs_, *model.intercepts_])
    row = {
        "digest": split.digest,
        "validation": float(correct.double().mean()),
        "seconds": round(seconds, 4),
        "steps": model.n_iter_ * math.ceil(len(split.x_train) / size_of_batch),
        "active": size,
        "total": size,
        "curve": [],
    }
    if not case.trial:
        x, y = test.read()
        row["right"] = torch.from_numpy(model.predict(x.numpy())) == y
    return row | {"test_reads": test.reads}


TASKS: dict[str, Callable[[Case], Row]] = {
    "train": train,
    "paper": train_paper,
    "deep": train_deep,
    "conflict": measure_conflict,
    "stream": stream,
    "scikit-learn": train_scikit_learn,
}


def run_case(case: Case) -> Row:
    """Carries out a case; returns its whole row, as JSON gives it back: numbers of NumPy and PyTorch as Python's.

    Raises:
        BrodmannError: There is no such task, or it takes no case, or `row_of` refuses what it returned.
    """
    return row_of(case, task_of(case)(case))


def task_of(case: Case) -> Callable[[Case], Row]:
    """Returns what carries out a case.

    Raises:
        BrodmannError: There is no such task, or it takes no case.
    """
    if case.task not in TASKS:
        raise unknown_name("task", case.task, TASKS, "brodmann.bench.tasks.TASKS")
    place = f"brodmann.bench.tasks.TASKS['{case.task}']"
    check_registered(place, TASKS[case.task], "a function of a Case that returns a row", "case")
    return TASKS[case.task]


def _train(
    case: Case, initialise: Callable[[Network | Backpropagation, int], None] | None = None
) -> tuple[Network | Backpropagation, Row, Split]:
    options = case.options
    split, test = without_test_part(options)
    learner = learner_for(options, split)
    if initialise is not None:
        initialise(learner, options.seed)
    curve = Curve(split, case.detail.get("every"))
    train_part, validation = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
    trainer = Trainer(learner, train_part, validation, options.training_schedule, callbacks=[curve])
    stopped = None
    try:
        trainer.run()
    except DivergenceError as error:
        stopped = str(error)  # scored as it stands: a network that broke down is a result too
    progress = trainer.progress
    later = curve.step_seconds[len(curve.step_seconds) // 2 :] or [0.0]
    row: Row = {
        "digest": split.digest,
        "validation": evaluate(learner, *validation)["accuracy"],
        "train_loss": progress.history[-1]["train_loss"] if progress.history else None,
        "curve": curve.points,
        "steps": progress.step,
        "seconds": round(progress.seconds, 4),
        "step_seconds": round(statistics.median(later), 7),
        "peak_rss_mb": round(peak_memory(), 1) if case.alone else None,
        "active": learner.active_parameters(),
        "total": learner.total_parameters(),
        "operations": learning_operations(learner, split.x_train[:1]),
        "stopped": stopped,
    }
    if isinstance(learner, Network):
        use = area_usage(learner, split.x_validation)
        row["effective_areas"] = [round(line.effective, 2) for line in use]
    if not case.trial:
        x, y = test.read()
        row["right"] = outputs_of(learner, x).argmax(-1) == y
    return learner, row | {"test_reads": test.reads}, split


@torch.no_grad()
def silent_units(network: Network, x: Tensor) -> list[float]:
    """Returns, for each activation from input to output, the share of its values that are exactly zero."""
    shares: list[float] = []

    def look(_: str, __: Any, ___: Any, output: Tensor) -> None:
        shares.append(float((output == 0).double().mean()))

    parts = [(name, part) for name, part in network.named_modules() if isinstance(part, Local)]
    with watched([(name, part) for name, part in parts if isinstance(part.operation, nn.ReLU)], look):
        network(x)
    return shares


def _in_row(value: float) -> float | None:
    """Returns a number as a row holds it: four significant digits, and None for what is not a number."""
    return None if math.isnan(value) else significant(value, 4)
