"""Losses from outside the package, PyTorch's and the user's own, as losses here; and what is known of a loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from ..errors import BrodmannError
from ..several import of_each, parts_in
from .builtin import (
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    MeanSquaredError,
    SumOfSquares,
    are_classes,
    hint_of_place,
    like_output,
)
from .pairing import NoPairing

_OF_LOGITS = (
    nn.CrossEntropyLoss,
    nn.BCEWithLogitsLoss,
    nn.NLLLoss,
    nn.KLDivLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
    nn.MultiMarginLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss,
)
_FUNCTIONS_OF_LOGITS: tuple[Callable[..., Tensor], ...] = (
    functional.cross_entropy,
    functional.binary_cross_entropy_with_logits,
    functional.nll_loss,
    functional.kl_div,
    functional.poisson_nll_loss,
    functional.soft_margin_loss,
    functional.multi_margin_loss,
    functional.multilabel_margin_loss,
    functional.multilabel_soft_margin_loss,
)
_OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, nn.MultiLabelMarginLoss)
_FUNCTIONS_OF_CLASSES: tuple[Callable[..., Tensor], ...] = (
    functional.cross_entropy,
    functional.nll_loss,
    functional.multi_margin_loss,
    functional.multilabel_margin_loss,
)
OURS: tuple[type, ...] = (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, SumOfSquares)
"""Losses that a network's file can restore."""


class PyTorchLoss:
    """``loss(output, target)``, a loss of PyTorch, which counts all samples alike.

    Outputs (batch, ..., classes) come to it as rows (batch ..., classes): a mean over the batch, such as the
    ``"batchmean"`` of `torch.nn.KLDivLoss`, is one over all rows. With ``reduction="sum"`` errors, and what
    `Network.learn` returns, grow with the number of samples in a batch.
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        """Wraps a module such as ``nn.CrossEntropyLoss()`` or a function of ``torch.nn.functional``.

        `Network` does this with every loss of PyTorch.
        """
        self.loss = loss
        self.left_out = _left_out(loss)
        inner = _inner(loss)
        # A subclass of your own may take what it likes.
        own = isinstance(inner, _Loss) and type(inner).__module__ != _Loss.__module__
        self.takes_classes = own or isinstance(inner, _OF_CLASSES) or inner in _FUNCTIONS_OF_CLASSES
        self.names_classes = isinstance(inner, nn.MultiLabelMarginLoss) or inner is functional.multilabel_margin_loss

    def option(self, name: str) -> Any:
        """Returns an option that the loss was given, such as its ``reduction``, or None."""
        return self.loss.keywords.get(name) if isinstance(self.loss, partial) else getattr(self.loss, name, None)

    def of_classes(self, target: Tensor) -> Tensor:
        """Returns what a mean over classes, (batch, ...), is divided by: their weights, without those left out."""
        assert self.left_out is not None
        counts, weights = target.ne(self.left_out), self.option("weight")
        if not isinstance(weights, Tensor):
            return counts.sum()
        # What is left out is no class, such as -100, and has no weight to look up.
        return (counts * weights.to(target.device)[target.where(counts, 0).long()]).sum()

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., classes or outputs) and target as our own losses take them; returns its value.

        Where no target counts, as all are padding or of a class of weight 0, a mean is 0; PyTorch's is NaN.

        Raises:
            BrodmannError: There are weights of samples, which PyTorch's losses do not take, or targets of another shape
                than the loss takes: as many numbers as the output, unless it takes classes.
        """
        if weight is not None:
            raise _takes_no_weights(self.loss)
        _follow(self.loss, output)
        shape, hint = tuple(target.shape), hint_of_place(output, target)
        if not self.takes_classes and are_classes(output, target):
            raise BrodmannError(
                f"{_name_of(self.loss)} takes a number for each of the outputs {tuple(output.shape)}, got classes of "
                f"shape {shape}: use CrossEntropy, or MeanSquaredError, which takes classes as their one-hot vectors."
            )
        # PyTorch would stretch a target of another shape over the output, and wants classes second.
        numbers = not self.takes_classes or (target.numel() == output.numel() and not self.names_classes)
        if target.is_floating_point() or numbers:
            target = like_output(target, output).reshape(-1, output.shape[-1])
        elif output.ndim > 2:
            target = target.reshape(-1, output.shape[-1]) if self.names_classes else target.reshape(-1)
        try:
            rows = output.reshape(-1, output.shape[-1])
            if self.left_out is None or target.is_floating_point() or _sums(self):
                return self.loss(rows, target)
            some = self.of_classes(target) != 0
            if target.dtype == torch.uint8:  # it holds no -100
                target = target.long()
            # PyTorch divides 0 by 0 otherwise: the error of a class of weight 0 is NaN then, that of one left out is 0.
            value = self.loss(rows, torch.where(some, target, self.left_out).to(target.dtype))
            return torch.where(some, value, torch.zeros_like(value))
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise BrodmannError(
                f"{_name_of(self.loss)} does not take an output of shape {tuple(output.shape)} with targets of shape "
                f"{shape}, {target.dtype}{hint}: {error}"
            ) from None


class OwnLoss:
    """A loss of your own: ``loss(output, target)``, ``loss(output, target, weight)``, or both.

    A module is held as a loss, not as a part of the network, whose files would otherwise hold its buffers.
    """

    def __init__(self, loss: Callable[..., Tensor], *, alone: bool, weighted: bool) -> None:
        """Wraps a callable. `Network` does it by itself.

        Args:
            loss: What is called.
            alone: Whether it may be called without a weight.
            weighted: Whether its third argument is the weight.
        """
        self.loss, self.alone, self.weighted = loss, alone, weighted
        self._seen = False

    def __call__(self, output: Any, target: Any, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., outputs), the loss's target, weight (batch, ...) or None; returns a scalar.

        Outputs and targets may be several tensors.

        Raises:
            BrodmannError: There are weights of samples, and the loss takes none; or it compares every output with every
                target, see `NoPairing`.
        """
        _follow(self.loss, output)
        # Several come in new tuples and dictionaries, into which a loss may put what it likes.
        output, target = of_each(_itself, output), of_each(_itself, target)
        given = (output, target) if weight is None and self.alone else (output, target, weight)
        if len(given) == 3 and not self.weighted:
            raise _takes_no_weights(self.loss)
        if self._seen:
            return self.loss(*given)
        with NoPairing(*given):
            value = self.loss(*given)
        self._seen = len(parts_in(output)[0]) > 1  # looking takes longer than the loss, so once must do
        return value


def as_loss(loss: Any) -> Loss:
    """Returns the loss that is meant: cross-entropy where there is none, and what takes no weights wrapped.

    Raises:
        BrodmannError: It cannot be called with an output and a target, is a class, or holds parameters, which nothing
            would train.
    """
    if loss is None:
        return CrossEntropy()
    if not callable(loss) or isinstance(loss, type):
        raise BrodmannError(f"Expected a loss such as CrossEntropy() or MeanSquaredError(), got {loss!r}.")
    if isinstance(loss, nn.Module) and any(parameter.requires_grad for parameter in loss.parameters()):
        raise BrodmannError(
            f"{type(loss).__name__} holds parameters, which nothing would train: make them buffers, or freeze them "
            "with requires_grad_(False)."
        )
    if isinstance(loss, _Loss) or getattr(_inner(loss), "__module__", None) == functional.__name__:
        return PyTorchLoss(loss)
    if isinstance(loss, PyTorchLoss | OwnLoss) or hasattr(loss, "value_and_error"):
        return loss  # type: ignore[no-any-return]
    two, weighted = _arguments(loss)
    if not two and not weighted:
        raise BrodmannError(f"Expected a loss that takes (output, target) or (output, target, weight), got {loss!r}.")
    return OwnLoss(loss, alone=two, weighted=weighted)


def takes_logits(loss: Loss) -> bool:
    """Whether a loss is known to take outputs as logits, or the like: then R2 says nothing about them."""
    if not isinstance(loss, PyTorchLoss):
        return isinstance(loss, CrossEntropy | BinaryCrossEntropy)
    inner = _inner(loss.loss)
    return isinstance(inner, _OF_LOGITS) or inner in _FUNCTIONS_OF_LOGITS


def left_out(loss: Loss) -> int | None:
    """Returns the class that a loss of PyTorch leaves out, such as -100 for padding; None where there is none."""
    return loss.left_out if isinstance(loss, PyTorchLoss) else None


def _left_out(loss: Callable[..., Tensor]) -> int | None:
    if isinstance(loss, nn.Module):
        return getattr(loss, "ignore_index", None)
    known = inspect.signature(loss).parameters.get("ignore_index")
    return None if known is None else known.default


def name_of_loss(loss: Loss) -> str:
    """Returns what a loss is called, as it was given."""
    return _name_of(loss.loss if isinstance(loss, PyTorchLoss | OwnLoss) else loss)


def check_single(loss: Loss, output: Any, target: Any) -> None:
    """Raises where a loss of this package or of PyTorch, which takes one output and one target, would get several."""
    if (isinstance(output, Tensor) and isinstance(target, Tensor)) or not is_known(loss):
        return
    outputs, targets = len(parts_in(output)), len(parts_in(target))
    hint = (
        "give the network a loss of your own, such as lambda output, target: cross_entropy(output[0], target[0]) + "
        "mse_loss(output[1], target[1])"
    )
    if isinstance(output, Tensor) and targets == 1:
        hint = "give the target itself, not a tuple or a dictionary of it"
    raise BrodmannError(f"{name_of_loss(loss)} takes one output and one target, got {outputs} and {targets}: {hint}.")


def is_known(loss: Loss) -> bool:
    """Whether a loss is of this package or of PyTorch: then outputs that go with classes are scores of classes."""
    return isinstance(loss, (*OURS, PyTorchLoss))


def per_sample(loss: Loss, value: float, samples: int) -> float:
    """Returns the value of a loss as reports give it: a sum over samples becomes their mean."""
    return value / samples if _sums(loss) else value


def counted(loss: Loss, target: Any, weight: Tensor | None, samples: int) -> float:
    """Returns what a batch counts for in the mean over several, so that this is the loss of all their samples at once.

    It is what the loss of a batch is divided by, or proportional to it: the weights of samples and of their classes,
    or the number of samples where neither counts. A loss of your own is taken to divide by its weights.

    Args:
        loss: Whose value is to be averaged, as `per_sample` gives it.
        target: Targets of the batch, (samples, ...), or several.
        weight: Weights, (samples, ...), or None.
        samples: Number of samples.
    """
    if _sums(loss) or not getattr(loss, "normalised", True):
        return samples
    if isinstance(loss, PyTorchLoss):
        return samples if loss.left_out is None or target.is_floating_point() else float(loss.of_classes(target))
    if isinstance(loss, CrossEntropy) and loss.class_weights is not None:
        of_target = loss.class_weights.to(target.device)[target].reshape(-1)
        return float(of_target.sum() if weight is None else of_target @ weight.reshape(-1).to(of_target))
    return samples if weight is None else float(weight.sum())


def _sums(loss: Loss) -> bool:
    return isinstance(loss, SumOfSquares) or (isinstance(loss, PyTorchLoss) and loss.option("reduction") == "sum")


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Returns what a file says of a loss: name and options of one of ours; for any other, its name as ``other``."""
    if type(loss) in OURS:
        options = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(loss).items()}
        return {"name": type(loss).__name__, **options}
    return {"other": name_of_loss(loss)}


def described_loss(description: dict[str, Any]) -> Loss | None:
    """Returns the loss that `describe_loss` described, None where it is none of ours."""
    options = dict(description)
    kind = {loss.__name__: loss for loss in OURS}.get(options.pop("name", ""))
    if kind is None:
        return None
    loss: Loss = kind(
        **{name: _as_tensor(value) if isinstance(value, list) else value for name, value in options.items()}
    )
    return loss


def _as_tensor(values: list[float]) -> Tensor:
    """Returns numbers as float32, if they were such, else as float64."""
    wide = torch.tensor(values, dtype=torch.float64)
    return wide.float() if torch.equal(wide.float().double(), wide) else wide


_WEIGHTS = {"w", "weight", "weights", "sample_weight", "sample_weights"}


def _arguments(loss: Callable[..., Any]) -> tuple[bool, bool]:
    """Returns whether a loss can be called without a weight, and whether it takes one as its third argument.

    A third argument that may be left out is a weight where its name says so: else it is an option, such as the
    ``class_weights`` of a focal loss.
    """
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except ValueError:  # some built-in functions do not say
        return True, True
    placed = [known for known in signature.parameters.values() if known.kind != inspect.Parameter.KEYWORD_ONLY]
    two, three = _binds(signature, 2), _binds(signature, 3)
    if not two or any(known.kind == inspect.Parameter.VAR_POSITIONAL for known in placed):
        return two, three
    return True, three and placed[2].name in _WEIGHTS


def _binds(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _inner(loss: Any) -> Any:
    """Returns the loss to which a `functools.partial` gives options, or the loss itself."""
    return loss.func if isinstance(loss, partial) else loss


def _name_of(loss: Any) -> str:
    inner = _inner(loss)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _takes_no_weights(loss: Any) -> BrodmannError:
    return BrodmannError(
        f"{_name_of(loss)} takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight)."
    )


def _itself(part: Any) -> Any:
    return part


def _follow(loss: Any, output: Any) -> None:
    """Moves a module's buffers, such as class weights, to where the network is."""
    if isinstance(loss, nn.Module):
        with torch.inference_mode(False):
            loss.to(parts_in(output)[0])
