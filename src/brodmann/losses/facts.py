"""What a loss says of itself beside its value: the targets it takes, and whether it sums or averages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import BrodmannError
from ..several import parts_in


class LossTraits:
    """Facts about a loss; each class states only those in which it differs from a loss of your own.

    Attributes:
        known: Whether it is of this package or of PyTorch: it takes one output and one target, and outputs that go with
            classes are scores of classes.
        takes_logits: Whether outputs are logits, or the like: then R2 says nothing about them.
        takes_labels: Whether targets are labels of 0 and 1, any number of them at once.
        sums: Whether its value is a sum over samples, not their mean.
        normalised: Whether the weights of samples divide a mean, not their number.
        ignored: The class that it leaves out, such as -100 for padding; None if there is none.
    """

    known = takes_logits = takes_labels = False
    sums: bool = False
    normalised: bool = True
    ignored: int | None = None

    def __repr__(self) -> str:
        """Shown by print(network.loss): the options."""
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"

    def counts_for(self, target: Any, weight: Tensor | None, samples: int) -> float:
        """Returns what a batch counts for in the mean over several, so that it is the loss of all their samples.

        It is what the loss of a batch is divided by, or proportional to it: the weights of samples and of their
        classes, or the number of samples if neither counts. A loss of your own is taken to divide by its weights.
        For a loss that ``sums`` it is what `per_sample` divides by: a sample counts for the mean weight of its targets.

        Args:
            target: Targets of the batch, (samples, ...), or several.
            weight: Weights, (samples, ...), or None.
            samples: Number of samples.
        """
        if weight is None or not (self.sums or self.normalised):
            return samples
        total = float(weight.sum())  # of whole numbers, or of true and false, there is no mean
        return samples * total / weight.numel() if self.sums else total


class Wrapped(LossTraits):
    """A loss from outside the package, held as ``loss``."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        """Holds a loss."""
        self.loss = loss

    def __repr__(self) -> str:
        """Shown by print(network.loss): the loss as it was given; a function by its name."""
        return f"{type(self).__name__}({getattr(self.loss, '__qualname__', repr(self.loss))})"


class Stated(Wrapped):
    """What a user's loss states of itself by its attributes ``sums``, ``normalised`` and ``counts_for``."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        """Reads the attributes."""
        super().__init__(loss)
        self.sums, self.normalised = getattr(loss, "sums", False), getattr(loss, "normalised", True)

    def counts_for(self, target: Any, weight: Tensor | None, samples: int) -> float:
        """As `LossTraits.counts_for`, or as the loss itself says."""
        own = getattr(self.loss, "counts_for", super().counts_for)
        return float(own(target, weight, samples))


def facts_of(loss: Any) -> LossTraits:
    """Returns what a loss says of itself."""
    return loss if isinstance(loss, LossTraits) else Stated(loss)


def per_sample(loss: Any, value: float, counts: float) -> float:
    """Returns the value of a loss as reports give it: a sum over samples becomes their mean, by what they count for.

    Args:
        loss: The loss.
        value: What it returned.
        counts: What the samples count for, see `LossTraits.counts_for`; 0 if none counts, nor adds to a sum.
    """
    return value / counts if counts and facts_of(loss).sums else value


def check_single(loss: Any, output: Any, target: Any) -> None:
    """Raises if a loss of this package or of PyTorch, which takes one output and one target, would get several."""
    if (isinstance(output, Tensor) and isinstance(target, Tensor)) or not facts_of(loss).known:
        return
    outputs, targets = len(parts_in(output)), len(parts_in(target))
    hint = (
        "give the network a loss of your own, such as lambda output, target: cross_entropy(output[0], target[0]) + "
        "mse_loss(output[1], target[1])"
    )
    if isinstance(output, Tensor) and targets == 1:
        hint = "give the target itself, not a tuple or a dictionary of it"
    raise BrodmannError(f"{name_of_loss(loss)} takes one output and one target, got {outputs} and {targets}: {hint}.")


def name_of_loss(loss: Any) -> str:
    """Returns what a loss is called, as it was given."""
    given = inner(loss.loss if isinstance(loss, Wrapped) else loss)
    return str(getattr(given, "__name__", type(given).__name__))


def inner(loss: Any) -> Any:
    """Returns the loss to which a `functools.partial` gives options, or the loss itself."""
    return loss.func if isinstance(loss, partial) else loss


def one_number(loss: Any) -> Tensor:
    """Returns what a loss returned, as a scalar.

    Raises:
        BrodmannError: It is not a tensor of one number.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise BrodmannError(f"Expected a loss that returns a tensor with one number, got {got}.")
    return loss.reshape(())
