"""Scikit-learn estimators: `SALClassifier` and `SALRegressor`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .builders import mlp, residual_mlp, stream_mlp
from .checks import check_real, check_switch, check_whole
from .errors import BrodmannError
from .losses import CrossEntropy, Loss, MeanSquaredError, SumOfSquares
from .network import Network
from .options import check_partition, default_rates
from .schedule import Schedule, batches, learning_rate
from .updates import update_rule

Array = NDArray[Any]
BATCHES = (8, 64)
"""Smallest and largest batch of ``batch_size="auto"``."""


class _SALEstimator(BaseEstimator):  # type: ignore[misc]
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
            schedule: ``"cosine"`` (default) or ``"constant"``; `partial_fit` is always constant.
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
        sizes: dict[str, Any] = {
            "in_features": features,
            "outputs": outputs,
            "depth": self.layers,
            "width": self.width,
            "areas": self.areas,
            "feedback": self.feedback,
            "activation": self.activation,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            if self._recursive:
                self.network_ = Network(stream_mlp(**sizes), SumOfSquares(), lr=1.0)
            else:
                builder = residual_mlp if self.residual else mlp
                update = update_rule(self.optimiser, decay=decay)
                own: dict[str, Any] = {"gated": self.gated, "dropout": self.dropout, "pooling": self.pooling}
                body = builder(**sizes, **own, router={"partition": self.partition}, update=update)
                self.network_ = Network(body, loss, lr=rate)
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0
        self._scaler = StandardScaler() if self.standardise else None

    @property
    def _rates(self) -> tuple[float, float]:
        """Learning rate and decay."""
        rate, decay = default_rates(self.optimiser)
        return rate if self.learning_rate is None else self.learning_rate, decay if self.decay is None else self.decay

    @property
    def _recursive(self) -> bool:
        return self.optimiser == "rls"

    def _schedule(self, samples: int) -> Schedule:
        """Returns the plan for so many samples."""
        check_switch(early_stopping=self.early_stopping)
        smallest, largest = BATCHES
        batch = self.batch_size
        if batch == "auto":
            batch = min(largest, max(smallest, samples // 16))
        if isinstance(batch, str):
            raise BrodmannError(f"Expected batch_size to be 'auto' or a whole number, got {batch!r}.")
        if self._recursive:
            others = (self.residual, self.gated, self.dropout, self.pooling, self.early_stopping)
            if any(others) or self.partition != "fixed":
                raise BrodmannError(
                    "optimiser='rls' does not combine with residual, gated, dropout, pooling, partition or "
                    "early_stopping: leave them out."
                )
            return Schedule(1, batch, 1.0, "constant")
        patience = self.patience if self.early_stopping else None
        schedule = Schedule(self.epochs, batch, self._rates[0], self.schedule, patience=patience)
        check_real(validation_fraction=self.validation_fraction)
        if self.early_stopping and not 0 < self.validation_fraction < 1:
            raise BrodmannError(f"Expected a validation_fraction between 0 and 1, got {self.validation_fraction}.")
        return schedule

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
        """Makes one pass; returns the number of steps made so far. With ``steps`` 0 the rate is constant."""
        total, largest = 0.0, self._rates[0]
        for rows in batches(len(x), batch, self._seed, self.n_iter_):
            part = None if weight is None else weight[rows]
            if part is not None and not bool(part.any()):
                continue  # a batch without weight teaches nothing
            if self._recursive:
                total += float(self.network_.learn(x[rows], y[rows], part))  # a sum already
                continue
            rate = learning_rate(largest, step, steps, self.schedule) if steps else largest
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
            self._schedule(len(x))  # says what is wrong with the settings before the split does
            try:
                training, held_out = train_test_split(
                    training, test_size=self.validation_fraction, random_state=self._seed, stratify=stratify
                )
            except ValueError as error:
                raise BrodmannError(
                    f"Cannot hold out a validation_fraction of {self.validation_fraction} of {len(x)} samples: {error}"
                ) from None
        schedule = self._schedule(len(training))
        if self._scaler is not None:
            self._scaler.fit(x[training], sample_weight=None if weight is None else weight[training])
        inputs = self._scaled(x)
        weights = None if weight is None else torch.from_numpy(weight.astype(np.float32))
        steps = schedule.epochs * -(-len(training) // schedule.batch_size)
        step, best, best_epoch, kept = 0, -np.inf, 0, None
        for epoch in range(schedule.epochs):
            part = None if weights is None else weights[training]
            step = self._epoch(inputs[training], y[training], part, schedule.batch_size, step, steps)
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
        outputs: Array = self.network_(self._scaled(x)).numpy().astype(np.float64)
        return outputs

    def _weights(self, sample_weight: ArrayLike | None, x: Array) -> Array | None:
        if sample_weight is None:
            return None
        weight: Array = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise BrodmannError("All sample weights are zero: expected at least one above 0.")
        return weight


class SALClassifier(ClassifierMixin, _SALEstimator):  # type: ignore[misc]
    """Classifier of areas, trained without backpropagation. See `_SALEstimator` for the settings.

    Attributes:
        classes_: Class labels.
        network_: The trained `Network`.
        loss_curve_: Mean loss of every epoch.
        n_iter_: Epochs made.
        n_features_in_: Number of features.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Trains from scratch.

        Args:
            X: (samples, features).
            y: (samples,) labels of any kind.
            sample_weight: (samples,), not negative, or None.

        Raises:
            BrodmannError: A setting is out of range or unknown, or there is one class alone.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise BrodmannError(f"Expected at least 2 classes, got one class: {self.classes_[0]}.")
        weight = self._weights(sample_weight, x)
        self._start(x.shape[1], len(self.classes_), CrossEntropy())
        self._train(x, torch.from_numpy(indices.astype(np.int64)), weight, indices)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Makes one pass over the given samples at a constant rate, going on from where the network stands.

        Args:
            X: (samples, features).
            y: (samples,) labels.
            classes: All labels that will ever come; needed at the first call unless ``y`` holds them all.
            sample_weight: (samples,), or None.

        Raises:
            BrodmannError: A label is not among the classes of the first call. Nothing has changed then.
        """
        first = not hasattr(self, "network_")
        x, labels = validate_data(self, X, y, dtype=np.float64, reset=first)
        check_classification_targets(labels)
        weight = self._weights(sample_weight, x)
        batch = self._schedule(len(x)).batch_size
        known = unique_labels(labels if classes is None else classes) if first else self.classes_
        if len(known) < 2:
            raise BrodmannError("Expected at least 2 classes: name all of them with classes=... at the first call.")
        if classes is not None and not np.array_equal(unique_labels(classes), known):
            raise BrodmannError(f"Expected the classes of the first call, {known.tolist()}: leave classes out.")
        unknown = np.setdiff1d(labels, known)
        if len(unknown):
            raise BrodmannError(f"Unknown class {unknown[0]}: name all classes with classes=... at the first call.")
        if first:
            self._start(x.shape[1], len(known), CrossEntropy())
            self.classes_ = known
        if self._scaler is not None and (first or not self._recursive):
            self._scaler.partial_fit(x)
        indices = torch.from_numpy(np.searchsorted(self.classes_, labels).astype(np.int64))
        weights = None if weight is None else torch.from_numpy(weight).float()
        self._epoch(self._scaled(x), indices, weights, batch)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Returns the probability of each class, (samples, classes); every row sums to one.

        The softmax of the outputs; with ``"rls"``, whose outputs estimate probabilities, their positive part.
        """
        outputs = self._outputs(X)
        if self._recursive:
            positive = np.clip(outputs, 1e-6, None)
            shares: Array = positive / positive.sum(axis=1, keepdims=True)
            return shares
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: ArrayLike) -> Array:
        """Returns the most probable label of each sample, (samples,)."""
        check_is_fitted(self, "network_")
        labels: Array = self.classes_[self._outputs(X).argmax(axis=1)]
        return labels

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Returns the accuracy."""
        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))


class SALRegressor(RegressorMixin, _SALEstimator):  # type: ignore[misc]
    """Regressor of areas, trained without backpropagation; targets are standardised inside. See `_SALEstimator`.

    Attributes:
        network_: The trained `Network`.
        loss_curve_: Mean loss of every epoch, of standardised targets.
        n_iter_: Epochs made.
        n_features_in_: Number of features.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Trains from scratch.

        Args:
            X: (samples, features).
            y: (samples,) or (samples, targets).
            sample_weight: (samples,), not negative, or None.

        Raises:
            BrodmannError: A setting is out of range or unknown.
        """
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = self._begin(x, y)
        weight = self._weights(sample_weight, x)
        self._targets.fit(targets, sample_weight=weight)
        self._train(x, self._target_tensor(targets), weight, None)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Makes one pass over the given samples at a constant rate; the targets' scale is that of the first call."""
        first = not hasattr(self, "network_")
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, reset=first)
        weight = self._weights(sample_weight, x)
        batch = self._schedule(len(x)).batch_size
        targets = np.asarray(y, dtype=np.float64).reshape(len(x), -1)
        if first:
            begun = self._begin(x, y)
            self._targets.fit(begun)
        elif targets.shape[1] != self._targets.n_features_in_:
            expected = self._targets.n_features_in_
            raise BrodmannError(f"Expected {expected} targets a sample, as at the first call, got {targets.shape[1]}.")
        if self._scaler is not None and (first or not self._recursive):
            self._scaler.partial_fit(x)
        weights = None if weight is None else torch.from_numpy(weight).float()
        self._epoch(self._scaled(x), self._target_tensor(targets), weights, batch)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Returns the predicted target of each sample, (samples,) or (samples, targets)."""
        check_is_fitted(self, "network_")
        values: Array = self._targets.inverse_transform(self._outputs(X))
        return values[:, 0] if self._one_target else values

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Returns the coefficient of determination, R^2."""
        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))

    def _begin(self, x: Array, y: Any) -> Array:
        targets: Array = np.asarray(y, dtype=np.float64)
        if type_of_target(targets) == "unknown":
            raise BrodmannError("Expected real targets of shape (samples,) or (samples, targets).")
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        self._one_target = targets.ndim == 1
        targets = targets.reshape(len(x), -1)
        self._targets = StandardScaler()
        self._start(x.shape[1], targets.shape[1], MeanSquaredError())
        return targets

    def _target_tensor(self, targets: Array) -> torch.Tensor:
        return torch.from_numpy(self._targets.transform(targets).astype(np.float32))
