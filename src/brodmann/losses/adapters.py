"""Losses from outside the package, PyTorch's and the user's, as losses here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from ..checks import binds, signature_of
from ..errors import BrodmannError
from ..several import of_each, parts_in
from .broadcasting import NoBroadcasting
from .builtin import CrossEntropy, Loss
from .facts import LossTraits, Stated, Wrapped, inner, name_of_loss
from .targets import are_classes, hint_of_place, like_output

_OF_LOGITS = (
    ("classes", nn.CrossEntropyLoss, functional.cross_entropy),
    ("classes", nn.NLLLoss, functional.nll_loss),
    ("classes", nn.MultiMarginLoss, functional.multi_margin_loss),
    ("sets of classes", nn.MultiLabelMarginLoss, functional.multilabel_margin_loss),
    ("numbers", nn.MultiLabelSoftMarginLoss, functional.multilabel_soft_margin_loss),
    ("numbers", nn.BCEWithLogitsLoss, functional.binary_cross_entropy_with_logits),
    ("numbers", nn.KLDivLoss, functional.kl_div),
    ("numbers", nn.PoissonNLLLoss, functional.poisson_nll_loss),
    ("numbers", nn.SoftMarginLoss, functional.soft_margin_loss),
)
"""Losses of PyTorch that take logits, or the like: what their targets are, module and function. Others take numbers."""


class PyTorchLoss(Wrapped):
    """``loss(output, target)``, a loss of PyTorch, which counts all samples alike.

    Outputs (batch, ..., classes) come to it as rows (batch ..., classes): a mean over the batch, such as the
    ``"batchmean"`` of `torch.nn.KLDivLoss`, is one over all rows. With ``reduction="sum"`` errors, and what
    `Network.learn` returns, grow with the number of samples in a batch.
    """

    known = True

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        """Wraps a module such as ``nn.CrossEntropyLoss()`` or a function of ``torch.nn.functional``.

        `Network` does this with every loss of PyTorch.
        """
        super().__init__(loss)
        self.ignored = _ignored(loss)
        given = inner(loss)
        of_given = (targets for targets, kind, function in _OF_LOGITS if isinstance(given, kind) or given is function)
        targets = next(of_given, None)
        self.takes_logits = targets is not None
        self.names_classes = targets == "sets of classes"
        # A subclass of your own may take what it likes.
        own = isinstance(given, _Loss) and type(given).__module__ != _Loss.__module__
        self.takes_classes = own or self.names_classes or targets == "classes"

    @property
    def sums(self) -> bool:  # type: ignore[override]
        """Whether its ``reduction`` is a sum."""
        return bool(self.option("reduction") == "sum")

    def counts_for(self, target: Any, weight: Tensor | None, samples: int) -> float:
        """As `LossTraits.counts_for`: by the weights of classes, without targets that are left out."""
        alike = self.sums or self.ignored is None or target.is_floating_point()
        return samples if alike else float(self.of_classes(target))

    def option(self, name: str) -> Any:
        """Returns an option that the loss was given, such as its ``reduction``, or None."""
        return self.loss.keywords.get(name) if isinstance(self.loss, partial) else getattr(self.loss, name, None)

    def of_classes(self, target: Tensor) -> Tensor:
        """Returns what a mean over classes, (batch, ...), is divided by: their weights, without those left out."""
        assert self.ignored is not None
        counts, weights = target.ne(self.ignored), self.option("weight")
        if not isinstance(weights, Tensor):
            return counts.sum()
        # What is left out is not a class, such as -100, and has no weight to look up.
        return (counts * weights.to(target.device)[target.where(counts, 0).long()]).sum()

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., classes or outputs) and target as our own losses take them; returns its value.

        If no target counts, as all are padding or of a class of weight 0, a mean is 0; PyTorch's is NaN.

        Raises:
            BrodmannError: There are weights of samples, which PyTorch's losses do not take, or targets of another shape
                than the loss takes: as many numbers as the output, unless it takes classes.
        """
        if weight is not None:
            raise _takes_no_weights(self)
        _follow(self.loss, output)
        of_rows = self._targets_of_rows(output, target)
        try:
            return self._value(output.reshape(-1, output.shape[-1]), of_rows)
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise BrodmannError(
                f"{name_of_loss(self)} does not take an output of shape {tuple(output.shape)} with targets of shape "
                f"{tuple(target.shape)}, {of_rows.dtype}{hint_of_place(output, target)}: {error}"
            ) from None

    def _targets_of_rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns targets as the loss takes them with rows of outputs.

        PyTorch would stretch a target of another shape over the output, and wants classes second.
        """
        if not self.takes_classes and are_classes(output, target):
            raise BrodmannError(
                f"{name_of_loss(self)} takes a number for each of the outputs {tuple(output.shape)}, got classes of "
                f"shape {tuple(target.shape)}: use CrossEntropy, or MeanSquaredError, which takes classes as their "
                "one-hot vectors."
            )
        numbers = not self.takes_classes or (target.numel() == output.numel() and not self.names_classes)
        if numbers or target.is_floating_point():
            return like_output(target, output).reshape(-1, output.shape[-1])
        if output.ndim <= 2:
            return target
        return target.reshape(-1, output.shape[-1]) if self.names_classes else target.reshape(-1)

    def _value(self, rows: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of rows of outputs; 0 if no target counts, where PyTorch divides 0 by 0."""
        if self.ignored is None or target.is_floating_point() or self.sums:
            return self.loss(rows, target)
        some = self.of_classes(target) != 0
        if target.dtype == torch.uint8:  # it holds no -100
            target = target.long()
        # The error of a class of weight 0 would be NaN then, that of one left out is 0.
        value = self.loss(rows, torch.where(some, target, self.ignored).to(target.dtype))
        return torch.where(some, value, torch.zeros_like(value))


class OwnLoss(Stated):
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
        super().__init__(loss)
        self.alone, self.weighted = alone, weighted
        self._seen = False

    def __call__(self, output: Any, target: Any, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., outputs), the loss's target, weight (batch, ...) or None; returns a scalar.

        Outputs and targets may be several tensors.

        Raises:
            BrodmannError: There are weights of samples, and the loss takes none; or it compares every output with every
                target, see `NoBroadcasting`.
        """
        _follow(self.loss, output)
        # Several come in new tuples and dictionaries, into which a loss may put what it likes.
        output, target = (of_each(lambda part: part, several) for several in (output, target))
        given = (output, target) if weight is None and self.alone else (output, target, weight)
        if len(given) == 3 and not self.weighted:
            raise _takes_no_weights(self)
        if self._seen:
            return self.loss(*given)
        with NoBroadcasting(*given):
            value = self.loss(*given)
        self._seen = len(parts_in(output)[0]) > 1  # looking takes longer than the loss, so once must do
        return value


def as_loss(loss: Any) -> Loss:
    """Returns a loss as this package takes it: cross-entropy if there is none; losses without weights are wrapped.

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
    if isinstance(loss, _Loss) or getattr(inner(loss), "__module__", None) == functional.__name__:
        return PyTorchLoss(loss)
    if isinstance(loss, LossTraits) or hasattr(loss, "value_and_error"):
        return loss
    two, weighted = _arguments(loss)
    if not two and not weighted:
        raise BrodmannError(f"Expected a loss that takes (output, target) or (output, target, weight), got {loss!r}.")
    return OwnLoss(loss, alone=two, weighted=weighted)


def _ignored(loss: Callable[..., Tensor]) -> int | None:
    if isinstance(loss, nn.Module):
        return getattr(loss, "ignore_index", None)
    known = inspect.signature(loss).parameters.get("ignore_index")
    return None if known is None else known.default


_WEIGHTS = {"w", "weight", "weights", "sample_weight", "sample_weights"}


def _arguments(loss: Callable[..., Any]) -> tuple[bool, bool]:
    """Returns whether a loss can be called without a weight, and whether it takes one as its third argument.

    A third argument that may be left out is a weight if its name says so: else it is an option, such as the
    ``class_weights`` of a focal loss.
    """
    signature = signature_of(loss)
    if signature is None:
        return True, True
    placed = [known for known in signature.parameters.values() if known.kind != inspect.Parameter.KEYWORD_ONLY]
    two, three = binds(signature, 2), binds(signature, 3)
    if not two or any(known.kind == inspect.Parameter.VAR_POSITIONAL for known in placed):
        return two, three
    return True, three and placed[2].name in _WEIGHTS


def _takes_no_weights(loss: Any) -> BrodmannError:
    return BrodmannError(
        f"{name_of_loss(loss)} takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight)."
    )


def _follow(loss: Any, output: Any) -> None:
    """Moves a module's buffers, such as class weights, to the device of the network."""
    if isinstance(loss, nn.Module):
        with torch.inference_mode(False):
            loss.to(parts_in(output)[0])
