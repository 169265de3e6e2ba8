"""What both estimators share: settings, network, training, scaling of inputs."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from ..builders import mlp, stream_mlp
from ..builders.sizes import DEPTH, as_ints
from ..checks import check_real, check_switch, check_whole
from ..data.arrays import check_unmasked
from ..errors import BrodmannError, warn
from ..feedback import Feedback, Shape
from ..generators import Draws
from ..layer import Layer
from ..losses import Loss
from ..network import Captured
from ..routing import check_partition
from ..training import Interrupted, Schedule, Trainer, outputs_of
from ..updates import UpdateRule, usual_rule
from .described import given, network_of
from .epochs import Epochs, Part, metric_of
from .modules import Scaled
from .scaling import Scaler, scaled
from .weights import Array, Samples, Weighing

P = ParamSpec("P")
R = TypeVar("R")
NOT_RECURSIVE = {"builder", "residual", "partition", "early_stopping"}.union(
    signature(mlp).parameters.keys() - signature(stream_mlp).parameters.keys()
)
"""Settings that networks for streams do not have."""
PART = 4096
"""Samples that are predicted at a time."""


def all_or_nothing(method: Callable[P, R]) -> Callable[P, R]:
    """As the method, but if a call is refused the estimator stays as it was, whether fitted earlier or not.

    Only steps that a `partial_fit` made before one diverged, or before it was interrupted, are kept.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        attributes = vars(args[0])
        before = dict(attributes)
        try:
            return method(*args, **kwargs)
        except BaseException:
            attributes.clear()
            attributes.update(before)
            raise

    return call


class SALEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """What both estimators share: the network, its training, the scaling of inputs. The constructor only stores."""

    _captured: Captured | None = None

    def __init__(
        self,
        *,
        layers: int = DEPTH,
        width: int | Sequence[int] = 128,
        areas: int = 16,
        residual: bool = False,
        builder: str | Callable[..., Layer] | None = None,
        options: Mapping[str, Any] | None = None,
        feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
        shared: str = "learned",
        gated: bool = False,
        activation: str | Callable[[torch.Tensor], torch.Tensor] = "relu",
        dropout: float = 0.0,
        pooling: float = 0.0,
        partition: str = "fixed",
        routing: str = "network",
        router: dict[str, Any] | None = None,
        optimiser: str | UpdateRule = "adam",
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
        verbose: bool | int = False,
    ) -> None:
        """Stores the settings; they are checked by `fit`.

        Args:
            layers: Linear layers, readout included. Default 2; or what a list of widths says.
            width: Units of every hidden layer, or a list of those of each, from below: ``(128, 64)``. Default 128:
                tables are small.
            areas: Largest number of areas of every layer. Default 16, the number named for the paper (docs/method.md
                says by whom).
            residual: Residual blocks (at least 3 layers). Default False.
            builder: Builds another kind of network, in place of ``layers``, ``width``, ``residual``,
                ``activation`` and ``dropout``: a name of `brodmann.builders.BUILDERS`, such as ``"convnet"``, or a
                function of ``in_features``, ``outputs`` and what layers have in common, see `brodmann.builders.Parts`.
                It returns a body. Default None: a dense network.
            options: Further arguments of the builder, for a dense network too, such as ``{"readout_scale": 1.0}``. For
                ``"convnet"`` they are ``{"shape": (1, 28, 28), "channels": (16, 32)}`` or the like: a ``shape`` stands
                in for ``in_features``, and samples may then come in it, (samples, 1, 28, 28), or flat. Default None.
            feedback: A name of `brodmann.builders.FEEDBACKS`, or a path itself: a class, or a `functools.partial` of
                one. Default Kolen-Pollack.
            shared: Part beside the areas that computes for every sample: ``"learned"`` (default: areas alone over-fit
                small tables), ``"frozen"`` or ``"off"``, see `brodmann.AreaLinear`.
            gated: Whether the gate multiplies the area's part. Default False.
            activation: ``"relu"`` (default), ``"gelu"``, ``"tanh"``, or any operation that `brodmann.Local` takes.
            dropout: Share of hidden units switched off while learning. Default 0: small networks seldom need it.
            pooling: Extra decay on the areas' own parts. Default 0.
            partition: ``"fixed"`` (default) or ``"growing"``, see `brodmann.Router`.
            routing: ``"network"`` (default): one area for a sample in all layers; ``"layer"``: every layer chooses.
            router: Further settings of every `brodmann.Router`, such as ``{"learned": False, "temperature": 0.5}``.
                Default None: its own defaults.
            optimiser: ``"adam"`` (default: needs no tuning to the data's scale), ``"muon"`` (fewer steps, which take
                longer), ``"sgd"``, or ``"rls"`` for streams that change: see `brodmann.stream_mlp`. That learns in one
                pass, whatever ``epochs`` says, has no learning rate, schedule or decay, keeps the scale that an input
                had in the first call in which it varied, and does not combine with ``builder``, ``residual``,
                ``shared``, ``gated``, ``dropout``, ``pooling``, ``partition``, ``routing``, ``router`` or
                ``early_stopping``. Or a rule, such as ``brodmann.Adam(beta1=0.8)``, which keeps its own decay if
                none is given here.
            learning_rate: Largest learning rate. Default by the layers' rule: 3e-3 with Adam and Muon, 0.3 with SGD,
                which suits classes; for one target take 0.03 there, since regressions diverged at 0.3 (docs/log.md).
            schedule: ``"cosine"`` (default), ``"linear"`` or ``"constant"``, see `Schedule`; `partial_fit` is always
                constant.
            decay: Decoupled weight decay. Default as on the command line: 0.2 with Adam and Muon, 0 with SGD.
            epochs: Passes over the data. Default 50: small tables need more than images.
            batch_size: Samples of a step. Default ``"auto"``: a sixteenth of the samples of the call, at least 8 and at
                most 64. With 64 for all, a table of 150 rows makes two steps an epoch and does not get far
                (docs/log.md).
            standardise: Whether inputs are brought to mean 0 and variance 1 first. Default True: raw tables work.
            early_stopping: Whether to hold out a part and keep the weights of the best accuracy on it (ties go to the
                lower loss), or of the lowest loss if targets are labels or real values. Samples count by their weights
                there, too. Default False.
            validation_fraction: Share held out for it. Default 0.1.
            patience: Epochs without a better score before stopping early. Default 10.
            random_state: Integer, `numpy.random.RandomState` or None.
            verbose: Whether to print the loss of every epoch, and the score of a part held out; or 0 for no, and any
                larger whole number for yes. Default False.
        """
        self.layers = layers
        self.width = width
        self.areas = areas
        self.residual = residual
        self.builder = builder
        self.options = options
        self.feedback = feedback
        self.shared = shared
        self.gated = gated
        self.activation = activation
        self.dropout = dropout
        self.pooling = pooling
        self.partition = partition
        self.routing = routing
        self.router = router
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

    def as_module(self) -> nn.Module:
        """Returns what was fitted as one PyTorch module, for `torch.export`, ONNX or a program without scikit-learn.

        It takes samples as the estimator does, unscaled, (samples, features) in float32 or float64, scales them by the
        statistics of the fit, and returns what `predict_proba` (of a regressor `predict`) returns, in float64. Its
        network is a `merged` copy: it cannot learn, and later calls of the estimator do not change it.

        Raises:
            NotFittedError: Nothing was fitted.
        """
        check_is_fitted(self, "network_")
        return nn.Sequential(Scaled(self._scaler), self.network_.merged(), self._answer()).eval()

    @abstractmethod
    def _answer(self) -> nn.Module:
        """Returns what makes predictions of the network's outputs, (samples, outputs)."""

    def _start(self, features: int, outputs: int, loss: Loss) -> None:
        """Builds the network from the random state, leaving torch's global generator as it was."""
        check_whole(layers=self.layers, areas=self.areas)
        check_switch(residual=self.residual, gated=self.gated, standardise=self.standardise)
        if not isinstance(self.verbose, bool | np.bool_):
            check_whole(0, verbose=self.verbose)
        check_partition(self.partition)
        check_real(pooling=self.pooling, decay=0.0 if self.decay is None else self.decay)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with Draws(self._seed).going_on(), torch.device("cpu"):  # where arrays lie, whatever PyTorch's default
            self.network_ = network_of(self, features, outputs, loss)
        self._weighing = Weighing(counts=self.network_.recursive)
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0
        self._scaler = Scaler() if self.standardise else None
        for name in ("best_validation_score_", "validation_scores_"):
            self.__dict__.pop(name, None)

    @property
    def _recursive(self) -> bool:
        """Whether the fitted network learns by recursive least squares; before there is one, whether it will."""
        return self.network_.recursive if hasattr(self, "network_") else usual_rule(self.optimiser).recursive

    def _schedule(self) -> Schedule:
        """Checks the settings of the loop and returns it."""
        check_switch(early_stopping=self.early_stopping)
        batch = None if self.batch_size == "auto" else self.batch_size
        if isinstance(batch, str):
            raise BrodmannError(f"Expected batch_size to be 'auto' or a whole number, got {batch!r}.")
        if self._recursive:
            if unused := given(self, NOT_RECURSIVE):
                raise BrodmannError(
                    f"optimiser={self.optimiser!r} cannot be combined with {', '.join(unused)}: leave that out."
                )
            return Schedule(batch_size=batch)
        if self.early_stopping:
            check_whole(patience=self.patience)
        patience = self.patience if self.early_stopping else None
        schedule = Schedule(self.epochs, batch, self.learning_rate, self.schedule, patience=patience)
        check_real(validation_fraction=self.validation_fraction)
        if self.early_stopping and not 0 < self.validation_fraction < 1:
            raise BrodmannError(f"Expected a validation_fraction between 0 and 1, got {self.validation_fraction}.")
        return schedule

    def _validated(self, X: ArrayLike, *y: Any, reset: bool = True, **settings: Any) -> Any:
        """As scikit-learn's `validate_data`, in float64 or float32; samples in the shape of the options become flat."""
        if reset:
            shape = as_ints(self.options.get("shape")) if isinstance(self.options, Mapping) else None
            self._shape = tuple(shape) if isinstance(shape, Sequence) else ()
        if len(self._shape) > 1:
            X = self._flat(X if hasattr(X, "shape") else np.asarray(X))
        for name, values in zip("Xy", (X, *y), strict=False):
            check_unmasked(values, name)
        return validate_data(self, X, *y, dtype=(np.float64, np.float32), reset=reset, **settings)

    def _flat(self, X: Any) -> Any:
        """Returns samples that come in the shape of the options as rows, and others as they are."""
        shape = tuple(X.shape[1:])
        if shape == self._shape:
            return np.reshape(X, (len(X), -1))
        if len(shape) > 1:
            raise BrodmannError(f"Expected samples of shape {self._shape}, as the options say, or flat, got {shape}.")
        return X

    def _train(self, samples: Samples, y: torch.Tensor, stratify: Array | None) -> None:
        """Trains from scratch; ``stratify`` are the classes by which a part is held out."""
        schedule = replace(self._schedule(), seed=self._seed)
        training, held_out = self._divided(len(samples.x), stratify) if self.early_stopping else (slice(None), None)
        if self._scaler is not None:
            weight = samples.weight
            self._scaler.fit(samples.x[training], sample_weight=None if weight is None else weight[training])
        inputs, weights = scaled(samples.x, self._scaler), self._weighed(samples)
        if len(inputs) > 1 and bool((inputs[-1] == inputs[0]).all() and (inputs == inputs[0]).all()):
            warn("The inputs of all samples are the same: nothing can be learned from them at any learning rate.")

        def part(rows: Any) -> Part:
            return inputs[rows], y[rows], None if weights is None else weights[rows]

        if held_out is None:
            self._learn(part(training), schedule)
        else:
            kept = part(held_out)
            self._learn(part(training), replace(schedule, metric=metric_of(kept)), kept)

    def _divided(self, count: int, stratify: Array | None) -> Any:
        """Returns the row numbers of what is trained on, and of the part that is held out."""
        try:
            return train_test_split(
                np.arange(count),
                test_size=float(self.validation_fraction),
                random_state=self._seed,
                stratify=stratify,
            )
        except ValueError as error:
            raise BrodmannError(
                f"Cannot hold out a validation_fraction of {self.validation_fraction} of {count} samples: {error}"
            ) from None

    def _train_on(self, samples: Samples, y: torch.Tensor, schedule: Schedule) -> None:
        """Makes one pass over further samples at a constant rate."""
        schedule = replace(schedule, epochs=1, shape="constant", seed=self._seed + self.n_iter_)
        if self._scaler is not None:
            if self._recursive and self.n_iter_:
                with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused in `scaled`
                    self._scaler = self._scaler.with_scales_of(samples.x, samples.weight)
            else:
                self._scaler = deepcopy(self._scaler).partial_fit(samples.x, samples.weight)
        self._learn((scaled(samples.x, self._scaler), y, self._weighed(samples)), schedule)

    def _weighed(self, samples: Samples) -> torch.Tensor | None:
        """Returns the weights by which samples are learned; this call counts in those of later ones."""
        self._weighing = self._weighing.after(samples)
        return self._weighing.of(samples)

    def _learn(self, part: Part, schedule: Schedule, held_out: Part | None = None) -> None:
        if self._captured is None or self._captured.network is not self.network_:
            self._captured = Captured(self.network_)  # kept, so that calls of `partial_fit` share what it records
        trainer = Trainer(self._captured, part, held_out, schedule, callbacks=Epochs(self, held_out))
        trainer.earlier = self.n_iter_
        while True:
            try:
                trainer.run()
                break
            except Interrupted as stop:
                number = stop.number
            signal.raise_signal(number)  # what it does is the caller's decision; if nothing, we go on
        if schedule.patience is not None:
            self.best_validation_score_ = self.validation_scores_[trainer.progress.best_epoch]

    def _outputs(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "network_")
        x = self._validated(X, reset=False)
        outputs: Array = outputs_of(self.network_, scaled(x, self._scaler), PART).numpy().astype(np.float64)
        if not np.isfinite(outputs).all():
            raise BrodmannError("The outputs are not finite, probably because an earlier call diverged: fit again.")
        return outputs

    def _check_partial(self) -> None:
        if self.early_stopping:
            raise BrodmannError(
                "partial_fit learns whenever it is called, and cannot stop early: leave early_stopping out."
            )
