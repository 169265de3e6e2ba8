"""RunOptions: everything that decides the outcome of a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch

from ..builders import BUILDERS, FEEDBACKS, Parts
from ..builders.parts import SYNONYMS
from ..builders.sizes import DEPTH, as_ints, check_lists, depth_of
from ..checks import check_positive, check_real, check_share, check_switch, check_whole
from ..errors import BrodmannError, unknown_name
from ..routing import check_partition
from ..storage import storage_dtype, storage_name
from ..training.schedule import Pace, Schedule
from ..updates import UpdateRule, usual_rule

BASELINES = ("backprop", "last-layer")
INSTEAD_OF_BUILDERS = {
    "convnet": "--channels 32 64 builds it",
    "stream_mlp": "it learns streams, in one pass and in Python (docs/streams.md)",
}
"""The package's builders that a run cannot name, and what to do instead."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}
T = TypeVar("T")


def _only(kind: str, default: T) -> T:
    """Declares an option that only networks of a kind have: elsewhere it would silently have no effect."""
    return field(default=default, metadata={"only": kind})


@dataclass(frozen=True)
class RunOptions:
    """Everything that decides the outcome of a run, bit for bit on one machine and thread count."""

    dataset: str = "digits"
    """Name of a data set, or path of an .npz, .csv or .tsv file; see `brodmann data list`."""
    rule: str = "kolen-pollack"
    """How errors travel down: kolen-pollack, kolen-pollack-per-area, kolen-pollack-mirrored, kolen-pollack-equal,
    kolen-pollack-noisy, random, sign, direct, transpose, or one registered in `brodmann.builders.FEEDBACKS`; or a
    baseline by PyTorch autograd: backprop, or last-layer, which leaves the hidden layers as they were drawn."""
    areas: int = 16
    """Number of areas of every layer, one of which serves each sample; the largest number with --partition growing.
    Baselines ignore it."""
    layers: int = _only("dense", DEPTH)
    """Number of linear layers, the last one included; leave it out where --width names every hidden layer."""
    width: int | tuple[int, ...] = _only("dense", 256)
    """Units of every hidden layer, or of each of them, from the lowest up, such as 512 256."""
    residual: bool = _only("dense", False)
    """Residual blocks instead of plain layers (at least 3 layers)."""
    channels: tuple[int, ...] | None = _only("builder", None)
    """For images: channels of 3 x 3 convolutions, such as 16 32, each followed by a pooling of 2, with one linear layer
    on top, in place of layers and width (default: none, a dense network)."""
    builder: str | None = _only("areas", None)
    """A builder of your own, registered in `brodmann.builders.BUILDERS`, in place of layers, width and channels: a
    function of in_features, outputs and what layers have in common, see `brodmann.builders.Parts`. It returns a
    body."""
    shared: str = _only("areas", "learned")
    """Weights that all samples use beside those of their area: learned, frozen (random, never move) or off (none)."""
    gated: bool = _only("areas", False)
    """Multiply what an area adds by the gate, the probability that the router gives to its choice."""
    gate_feedback: str | None = _only("areas", None)
    """With --gated and --routing layer: the error of gates goes down, too, by a rule such as kolen-pollack
    (default: it does not)."""
    routing: str = _only("areas", "network")
    """network: a sample has the same area in all layers; layer: every layer chooses one by its own input."""
    partition: str = _only("areas", "fixed")
    """fixed: all areas from the start; growing: one area, split if its samples pull in opposite directions."""
    cells: int | None = _only("areas", None)
    """Prototypes of a router: a sample uses the area of the nearest one (default: as many as areas; four times as many
    for growing ones)."""
    temperature: float = _only("areas", 0.3)
    """Temperature of the gate, a softmax over the similarities of a sample to the prototypes."""
    learn_projection: bool = _only("areas", True)
    """Whether the projection by which a router compares samples with prototypes learns."""
    balance: float = _only("areas", 0.0)
    """How much each step favours areas that few samples use, as a change of their similarity; 0 is off."""
    pooling: float = _only("areas", 0.0)
    """Extra weight decay of what areas have of their own, which draws them towards the weights that all share."""
    activation: str = _only("builder", "relu")
    """relu, gelu or tanh, or one registered in `brodmann.builders.ACTIVATIONS`."""
    dropout: float = _only("builder", 0.0)
    """Share of hidden units switched off while learning."""
    optimiser: str = "adam"
    """adam, muon or sgd, or a rule registered in `brodmann.updates.UPDATES`."""
    momentum: float = 0.0
    """Momentum of sgd."""
    lr: float | None = None
    """Largest learning rate (default: what suits the layers' rule, 0.003 with adam and muon, 0.3 times 1 - momentum
    with sgd)."""
    lr_shared: float = _only("areas", 1.0)
    """Multiple of the learning rate for the shared part."""
    lr_areas: float | None = _only("areas", None)
    """Multiple of the learning rate for areas (default: 0.1 with Adam or Muon beside a learned shared part, else 1)."""
    lr_projection: float = _only("areas", 1.0)
    """Multiple of the learning rate for the router's projection."""
    lr_feedback: float = _only("areas", 1.0)
    """Multiple of the learning rate for the feedback weights."""
    decay: float | None = None
    """Decoupled weight decay (default: 0.2 with adam and muon, 0 with sgd, else the rule's own)."""
    clip: float | None = _only("areas", None)
    """Largest norm of an error that a layer accepts; the twin of --compare has no such limit."""
    loss: str | None = None
    """cross-entropy, mean-squared-error or sum-of-squares, which take a class for its one-hot vector,
    binary-cross-entropy for float targets of 0 and 1, or one registered in `brodmann.losses.LOSSES` (default:
    cross-entropy for classes, else mean-squared-error)."""
    label_smoothing: float = 0.0
    """Share of a target that cross-entropy spreads evenly over all classes."""
    epochs: int | None = None
    """Passes over the training part (default: enough for 400,000 samples in all, at least 10 and at most 60)."""
    batch_size: int | None = None
    """Samples of a step (default: a sixteenth of the training part, at least 8 and at most 64)."""
    schedule: str = "cosine"
    """How the learning rate changes: cosine, linear or constant, or one registered in `brodmann.training.SCHEDULES`."""
    warmup: int = 0
    """Steps in which the learning rate first rises from 0."""
    patience: int | None = None
    """Stop after this many epochs without a better validation score, and keep the best weights."""
    validation: float = 0.1
    """Share of the training part held out for validation."""
    normalise: str = "standard"
    """Normalisation of inputs: standard, unit or none; real targets are standardised too unless none, or
    labels under binary-cross-entropy."""
    grey: bool = False
    """Turn colour images to grey."""
    target: str | None = None
    """Column of a table of text that is to be learned (default: the last)."""
    task: str | None = None
    """Task of a table of text: classification or regression (default: whole numbers and words are classes)."""
    seed: int = 0
    """Seed of the split, the initialisation and the order of samples."""
    device: str = "cpu"
    """Where to compute, such as cpu or cuda."""
    dtype: str = "float32"
    """Dtype in which to compute: float32 or float64."""
    storage: str | None = _only("areas", None)
    """Dtype in which weights are stored (default: as dtype); bfloat16 halves the bytes of a step."""
    threads: int | None = None
    """Threads of PyTorch (default: its own choice)."""

    def __post_init__(self) -> None:
        for name in ("width", "channels"):
            value = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, as_ints(tuple(value)))  # a configuration's is a list
        object.__setattr__(self, "storage", storage_name(self.storage))

    def check(self) -> None:
        """Checks the settings that no part of the network checks itself; the constructor only stores.

        Raises:
            BrodmannError: One is unknown or out of range.
        """
        if self.rule not in (*FEEDBACKS, *BASELINES):
            names, synonyms = (*FEEDBACKS, *BASELINES), SYNONYMS | dict.fromkeys(("bp", "backpropagation"), "backprop")
            raise unknown_name("rule", self.rule, names, "brodmann.builders.FEEDBACKS", synonyms=synonyms)
        check_whole(layers=self.layers, areas=self.areas)
        depth_of(self.layers, self.width)
        switches = ("residual", "gated", "learn_projection", "grey")
        check_switch(**{name: getattr(self, name) for name in switches})
        if self.gate_feedback is not None and not (self.gated and self.routing == "layer"):
            raise BrodmannError(
                "--gate-feedback works only with --gated and --routing layer: a single route for the whole network "
                "reads the input, below which nothing learns."
            )
        if self.channels is not None:
            check_lists("convolution", channels=self.channels)
            self._refuse("--channels", "dense")
        if self.builder is not None:
            check_builder(self.builder)
            self._refuse("--builder", "dense", "builder")
        if self.rule in BASELINES:
            self._refuse(f"the baseline '{self.rule}', which has no areas", "areas")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if storage_dtype(self.storage) is not None and self.dtype != "float32":
            raise BrodmannError(
                f"storage {self.storage} works only with dtype float32, got dtype {self.dtype}: leave one of them out."
            )
        if self.threads is not None:
            check_whole(threads=self.threads)
            if self.threads > 4096:
                raise BrodmannError(f"Expected at most 4096 threads, got {self.threads}.")
        if self.lr_areas is not None:
            check_real(lr_areas=self.lr_areas)
        check_real(lr_shared=self.lr_shared, lr_projection=self.lr_projection, lr_feedback=self.lr_feedback)
        if self.clip is not None:
            check_positive(clip=self.clip)
        check_share(dropout=self.dropout, label_smoothing=self.label_smoothing)
        check_partition(self.partition)
        _ = self.update_rule, self.training_schedule  # which check their settings

    def _refuse(self, what: str, *kinds: str) -> None:
        """Raises if an option was given that only networks of these kinds have."""
        for name, default in options_of(*kinds).items():
            if getattr(self, name) != default:
                option = "no-learn-projection" if name == "learn_projection" else name.replace("_", "-")
                raise BrodmannError(f"--{option} cannot be combined with {what}: leave one of them out.")

    @property
    def training_schedule(self) -> Schedule:
        """The loop's part of the options.

        Raises:
            BrodmannError: A setting is unknown or out of range.
        """
        return Schedule(self.epochs, self.batch_size, self.lr, self.schedule, self.warmup, self.seed, self.patience)

    def pace(self, samples: int) -> Pace:
        """Returns epochs, batch size and shape of the rate for ``samples`` training samples."""
        return self.training_schedule.pace(samples)

    @property
    def learning_rate(self) -> float:
        """``lr``, or what suits the optimiser: the default of whatever follows that."""
        return self.update_rule.default_lr if self.lr is None else self.lr

    @property
    def learns_labels(self) -> bool:
        """Whether real targets are labels of 0 and 1, which are never scaled, and outputs their logits."""
        return self.loss == "binary-cross-entropy"

    @property
    def scales_targets(self) -> bool:
        """Whether real targets are standardised."""
        return self.normalise != "none" and not self.learns_labels

    @property
    def weight_decay(self) -> float:
        """``decay``, or its default."""
        return self.update_rule.decay

    @property
    def update_rule(self) -> UpdateRule:
        """How weights move.

        Raises:
            BrodmannError: It is unknown, or its settings are out of range.
        """
        sgd = self.optimiser == "sgd"
        if self.momentum and not sgd:
            raise BrodmannError("Momentum works only with --optimiser sgd: leave one of them out.")
        rule = usual_rule(self.optimiser, self.decay, **({"momentum": self.momentum} if sgd else {}))
        if rule.recursive:  # it needs a loss of its own
            raise BrodmannError(
                f"The rule '{self.optimiser}' learns streams in one pass, not by epochs: use "
                f"SALClassifier(optimiser='{self.optimiser}') or stream_mlp in Python."
            )
        return rule


def options_of(*kinds: str) -> dict[str, Any]:
    """Returns the options that only networks of these kinds have, with their defaults.

    Args:
        *kinds: ``"areas"``: what baselines lack, but for the number of areas, which comparisons of rules give to all;
            ``"dense"``: what convolutions lack; ``"builder"``: what only builders of this package are given.
    """
    return {option.name: option.default for option in fields(RunOptions) if option.metadata.get("only") in kinds}


def check_builder(name: str) -> None:
    """Checks that a builder takes what a run gives every builder, the fields of `Parts`.

    Raises:
        BrodmannError: The builder is unknown, or does not take them.
    """
    if name in INSTEAD_OF_BUILDERS:
        raise BrodmannError(f"The builder '{name}' cannot be used with --builder: {INSTEAD_OF_BUILDERS[name]}.")
    if name not in BUILDERS:
        known = [known for known in BUILDERS if known not in INSTEAD_OF_BUILDERS]
        raise unknown_name("builder", name, known, "brodmann.builders.BUILDERS")
    try:
        taken = inspect.signature(BUILDERS[name]).parameters
    except (TypeError, ValueError):  # no function, or one that does not say
        return
    missing = [field.name for field in fields(Parts) if field.name not in taken]
    if missing and not any(part.kind is part.VAR_KEYWORD for part in taken.values()):
        raise BrodmannError(
            f"The builder '{name}' does not take {', '.join(missing)}, which a run gives every builder: let its "
            "arguments end with **common, and pass them on."
        )
