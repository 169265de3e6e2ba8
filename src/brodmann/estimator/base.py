"""What both estimators share: settings, network, loop, scaling of inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from brodmann.builders import mlp, residual_mlp, stream_mlp
from brodmann.checks import check_real, check_switch, check_whole
from brodmann.errors import BrodmannError
from brodmann.losses import Loss, SumOfSquares
from brodmann.network import Network
from brodmann.options import check_partition, default_decay
from brodmann.schedule import Pace, Schedule, batches, learning_rate
from brodmann.updates import update_rule

Array = NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")
PART = 4096
"""Samples that are predicted at a time."""
_one_thread = threading.RLock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draws from torch's global generator as if it began at a seed, and leaves it as it was.

    Threads share that generator, so one at a time: else a random state would not say what is drawn.
    """
    with _one_thread, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def all_or_nothing(method: Callable[P, R]) -> Callable[P, R]:
    """As the method, but an estimator whose call is refused stays as it was: an earlier fit, or none.

    Only what a `partial_fit` had moved before a step diverged stays moved.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        held = vars(args[0])
        before = dict(held)
        try:
            return method(*args, **kwargs)
        except BaseException:
            held.clear()
            held.update(before)
            raise

    return call


class SALEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: the network, the loop, the scaling of inputs. The constructor only stores."""

    def __init__(
        self,
        *,
        layers: int = 2,
        width: int = 128,
        areas: int = 16,
        residual: bool = False,
        feedback: str = "kolen-pollack",
        gated: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        pooling: float = 0.0,
        partition: str = "fixed",
        optimiser: str = "adam",
        learning_rate: float | None = None,
        schedule: str = "cosine",
        decay: float | None = None,
        epochs: int = 50,
        batch_size: int | str = "auto",
        standardise: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        """Stores the settings; they are checked by `fit`.

        Args:
            layers: Linear layers, readout included. Default 2.
            width: Units of a hidden layer. Default 128: tables are small.
            areas: Budget of areas of every layer. Default 16, as in the paper.
            residual: Residual blocks (at least 3 layers). Default False.
            feedback: A name of `brodmann.builders.FEEDBACKS`. Default Kolen-Pollack.
            gated: Whether the gate multiplies the area's part. Default False.
            activation: ``"relu"`` (default), ``"gelu"``, ``"tanh"``, or any operation that `brodmann.Local` takes.
            dropout: Share of hidden units switched off while learning. Default 0: small networks seldom need it.
            pooling: Extra decay on the areas' own parts. Default 0.
            partition: ``"fixed"`` (default) or ``"growing"``, see `brodmann.Router`.
            optimiser: ``"adam"`` (default: needs no tuning to the data's scale), ``"sgd"``, or ``"rls"`` for streams
                that change: see `brodmann.stream_mlp`. It learns in one pass, whatever ``epochs`` says, has no
                learning rate, schedule or decay, keeps the scale of inputs of its first call, and does not combine
                with ``residual``, ``gated``, ``dropout``, ``pooling``, ``partition`` or ``early_stopping``.
            learning_rate: Largest learning rate. Default as on the command line: 3e-3 with Adam, 0.3 with SGD.
            schedule: ``"cosine"`` (default), ``"linear"`` or ``"constant"``, see `Schedule`; `partial_fit` is always
                constant.
            decay: Decoupled weight decay. Default as on the command line: 0.2 with Adam, 0 with SGD.
            epochs: Passes over the data. Default 50: small tables need more than images.
            batch_size: Samples of a step. Default ``"auto"``: a sixteenth of the samples of the call, at least 8 and at
                most 64. With 64 for all, a table of 150 rows makes two steps an epoch and does not get far
                (docs/log.md).
            standardise: Whether inputs are brought to mean 0 and variance 1 first. Default True: raw tables work.
            early_stopping: Whether to hold out a part and keep the weights of its best score. Default False.
            validation_fraction: Share held out for it. Default 0.1.
            patience: Epochs without a better score before stopping early. Default 10.
            random_state: Integer, `numpy.random.RandomState` or None.
            verbose: Whether to print the loss of every epoch. Default False.
        """
        self.layers = layers
        self.width = width
        self.areas = areas
        self.residual = residual
        self.feedback = feedback
        self.gated = gated
        self.activation = activation
        self.dropout = dropout
        self.pooling = pooling
        self.partition = partition
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.decay = decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.standardise = standardise
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def _start(self, features: int, outputs: int, loss: Loss) -> None:
        """Builds the network from the random state, leaving torch's global generator as it was."""
        check_whole(layers=self.layers, width=self.width, areas=self.areas)
        check_switch(residual=self.residual, gated=self.gated, standardise=self.standardise, verbose=self.verbose)
        check_partition(self.partition)
        rate, decay = self._rates
        check_real(learning_rate=rate, decay=decay, pooling=self.pooling)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._is_recursive = self.optimiser == "rls"
        sizes: dict[str, Any] = {
            "in_features": features,
            "outputs": outputs,
            "depth": self.layers,
            "width": self.width,
            "areas": self.areas,
            "feedback": self.feedback,
            "activation": self.activation,
        }
        with _seeded(self._seed):
            if self._is_recursive:
                self.network_ = Network(stream_mlp(**sizes), SumOfSquares(), lr=1.0)
            else:
                builder = residual_mlp if self.residual else mlp
                update = update_rule(self.optimiser, decay=decay)
                own: dict[str, Any] = {"gated": self.gated, "dropout": self.dropout, "pooling": self.pooling}
                body = builder(**sizes, **own, router={"partition": self.partition}, update=update)
                self.network_ = Network(body, loss, lr=rate)
        self._weights_seen = (0.0, 0)
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0
        self._scaler = StandardScaler() if self.standardise else None
        self.__dict__.pop("best_validation_score_", None)

    def _widen_scale(self, x: Array) -> None:
        """Takes the samples of a `partial_fit` into the scale of the inputs."""
        if self._scaler is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused in `_scaled`
                self._scaler = deepcopy(self._scaler).partial_fit(x)

    @property
    def _rates(self) -> tuple[float, float]:
        """Learning rate and decay."""
        decay = default_decay(self.optimiser) if self.decay is None else self.decay
        rate = update_rule(self.optimiser).default_lr if self.learning_rate is None else self.learning_rate
        return rate, decay

    @property
    def _recursive(self) -> bool:
        """Whether the fitted network learns by recursive least squares; before there is one, whether it will."""
        return self._is_recursive if hasattr(self, "network_") else self.optimiser == "rls"

    def _pace(self, samples: int) -> Pace:
        """Checks the settings of the loop, and returns what they come to for so many samples."""
        check_switch(early_stopping=self.early_stopping)
        batch = None if self.batch_size == "auto" else self.batch_size
        if isinstance(batch, str):
            raise BrodmannError(f"Expected batch_size to be 'auto' or a whole number, got {batch!r}.")
        if self._recursive:
            others = (self.residual, self.gated, self.dropout, self.pooling, self.early_stopping)
            if any(others) or self.partition != "fixed":
                raise BrodmannError(
                    "optimiser='rls' does not combine with residual, gated, dropout, pooling, partition or "
                    "early_stopping: leave them out."
                )
            return Schedule(batch_size=batch).pace(samples, recursive=True)
        if self.early_stopping:
            check_whole(patience=self.patience)
        patience = self.patience if self.early_stopping else None
        schedule = Schedule(self.epochs, batch, self._rates[0], self.schedule, patience=patience)
        check_real(validation_fraction=self.validation_fraction)
        if self.early_stopping and not 0 < self.validation_fraction < 1:
            raise BrodmannError(f"Expected a validation_fraction between 0 and 1, got {self.validation_fraction}.")
        return schedule.pace(samples)

    def _scaled(self, x: Array) -> torch.Tensor:
        scaled = x if self._scaler is None else self._scaler.transform(x)
        with np.errstate(over="ignore"):
            inputs = torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))
        if not torch.isfinite(inputs).all():
            raise BrodmannError("Expected inputs that float32 can hold, got larger ones: scale them down.")
        return inputs

    def _epoch(
        self, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None, batch: int, step: int = 0, steps: int = 0
    ) -> int:
        """Makes one pass; returns the number of steps made so far. With ``steps`` 0 the rate is constant.

        What dropout draws hangs on the random state and the epoch; torch's global generator stays as it was.
        """
        with _seeded(self._seed + self.n_iter_):
            return self._pass(x, y, weight, batch, step, steps)

    def _pass(
        self, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None, batch: int, step: int, steps: int
    ) -> int:
        total, largest = 0.0, self._rates[0]
        for rows in batches(len(x), batch, self._seed, self.n_iter_):
            part = None if weight is None else weight[rows]
            if part is not None and not bool(part.any()):
                continue  # a batch without weight teaches nothing
            if self._recursive:
                total += float(self.network_.learn(x[rows], y[rows], part))  # a sum already
                continue
            rate = learning_rate(largest, step, steps, self.schedule or "cosine") if steps else largest
            total += float(self.network_.learn(x[rows], y[rows], part, lr=rate)) * len(rows)
            step += 1
        self.loss_curve_.append(total / len(x))
        self.n_iter_ += 1
        if self.verbose:
            print(f"epoch {self.n_iter_}: loss {self.loss_curve_[-1]:.5f}")
        return step

    def _train(self, x: Array, y: torch.Tensor, weight: Array | None, stratify: Array | None) -> None:
        training: Any = np.arange(len(x))
        held_out: Any = None
        if self.early_stopping:
            self._pace(len(x))  # says what is wrong with the settings before the split does
            try:
                training, held_out = train_test_split(
                    training, test_size=self.validation_fraction, random_state=self._seed, stratify=stratify
                )
            except ValueError as error:
                raise BrodmannError(
                    f"Cannot hold out a validation_fraction of {self.validation_fraction} of {len(x)} samples: {error}"
                ) from None
        if weight is not None and not weight[training].any():
            raise BrodmannError("All samples that have a weight were held out: lower the validation_fraction.")
        pace = self._pace(len(training))
        if self._scaler is not None:
            self._scaler.fit(x[training], sample_weight=None if weight is None else weight[training])
        inputs = self._scaled(x)
        weights = self._relative(weight, len(x))
        steps = pace.epochs * -(-len(training) // pace.batch_size)
        step, best, best_epoch, kept = 0, -np.inf, 0, None
        for epoch in range(pace.epochs):
            part = None if weights is None else weights[training]
            step = self._epoch(inputs[training], y[training], part, pace.batch_size, step, steps)
            if held_out is None:
                continue
            achieved = self._held_out_score(inputs[held_out], y[held_out])
            if achieved > best:
                best, best_epoch = achieved, epoch
                kept = {name: tensor.clone() for name, tensor in self.network_.state_dict().items()}
            elif epoch - best_epoch >= self.patience:
                break
        if kept is not None:
            self.network_.load_state_dict(kept)
            self.best_validation_score_ = best

    def _held_out_score(self, x: torch.Tensor, y: torch.Tensor) -> float:
        return -float(self.network_.loss(self.network_(x), y, None))

    @torch.no_grad()
    def _outputs(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "network_")
        x = validate_data(self, X, reset=False, dtype=np.float64)
        parts = [self.network_(part) for part in torch.split(self._scaled(x), PART)]
        outputs: Array = torch.cat(parts).numpy().astype(np.float64)
        if not np.isfinite(outputs).all():
            raise BrodmannError("The outputs are not finite, as after a call that diverged: fit again.")
        return outputs

    def _relative(self, weight: Array | None, samples: int) -> torch.Tensor | None:
        """Returns weights (samples,) as multiples of their mean over all samples so far; counts remain counts."""
        total, count = self._weights_seen
        total, count = total + (samples if weight is None else weight.sum()), count + samples
        self._weights_seen = total, count
        if self._recursive:
            return None if weight is None else torch.from_numpy(weight).float()
        if weight is None and total == count:  # nobody has given any
            return None
        return torch.from_numpy((np.ones(samples) if weight is None else weight) * (count / total)).float()

    def _check_partial(self) -> None:
        if self.early_stopping:
            raise BrodmannError("partial_fit goes on as long as it is called: leave early_stopping out.")

    def _weights(self, sample_weight: ArrayLike | None, x: Array) -> Array | None:
        if sample_weight is None:
            return None
        weight: Array = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise BrodmannError("All sample weights are zero: expected at least one above 0.")
        return weight
