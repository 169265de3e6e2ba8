"""Losses: the only global signal. A loss is any callable ``(output, target, weight) -> scalar``.

One of ``(output, target)`` alone counts all samples alike. One that also has
``value_and_error(output, target, weight)`` spares the network a pass of autograd: the losses here know their own
derivative. PyTorch's own, such as ``nn.CrossEntropyLoss()``, work too, see `PyTorchLoss`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from .checks import check_share, check_switch, check_tensors
from .errors import BrodmannError
from .kernels import native

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class CrossEntropy:
    """``sum_i w_i * -sum_c q_ic log softmax(output_i)_c / sum_i w_i``, q one-hot smoothed by ``label_smoothing``.

    ``w`` is the sample weight times the class weight of the target, 1 where there is none.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Tensor | None = None, *, normalised: bool = True
    ) -> None:
        """Stores the options.

        Args:
            label_smoothing: Share of the target that is spread over all classes. Default 0.
            class_weights: (classes,), or None for equal ones.
            normalised: Whether ``sum_i w_i`` divides, as in PyTorch's own. Default True. Else the number of targets
                does, so that a batch of heavy samples moves more than one of light ones.

        Raises:
            BrodmannError: The smoothing is not in [0, 1), or a class weight is negative or not finite. When called:
                targets are no int64 classes of the output, or there is not a weight for each of them.
        """
        check_share(label_smoothing=label_smoothing)
        check_switch(normalised=normalised)
        if class_weights is not None:
            check_tensors(class_weights=class_weights)
            if not bool(((class_weights >= 0) & (class_weights < torch.inf)).all()):
                raise BrodmannError("Expected class_weights that are finite and at least 0: below it they would climb.")
        self.label_smoothing, self.class_weights, self.normalised = label_smoothing, class_weights, normalised

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., classes), target (batch, ...) int64, weight (batch, ...); returns a scalar."""
        _, values, share = self._parts(output, target, weight)
        return (values * share).sum()

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (softmax(output_i) - q_i) / S``, shaped like the output.

        ``S = sum_i w_i``, or the number of targets where the loss is not normalised.
        """
        if weight is None and self.class_weights is None:
            found = native.cross_entropy(output, target, self.label_smoothing)
            if found is not None:
                return found
        log_probabilities, values, share = self._parts(output, target, weight)
        error = log_probabilities.exp()
        if self.label_smoothing:
            error -= self.label_smoothing / error.shape[-1]
        error.scatter_(1, target.reshape(-1, 1), self.label_smoothing - 1.0, reduce="add").mul_(share)
        return (values * share).sum(), error.reshape(output.shape)

    def _parts(self, output: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | float]:
        """Returns log-probabilities (rows, classes), the loss of each row (rows, 1), and its share of the mean."""
        _check_place(output, target)
        log_probabilities = output.reshape(-1, output.shape[-1]).log_softmax(1)
        classes = target.reshape(-1, 1)
        if len(classes) != len(log_probabilities):
            raise _no_classes(output, target)
        try:
            values = -log_probabilities.gather(1, classes)
        except RuntimeError:
            raise _no_classes(output, target) from None
        if self.label_smoothing:
            values = torch.lerp(values, -log_probabilities.mean(1, keepdim=True), self.label_smoothing)
        if self.class_weights is not None:
            if self.class_weights.shape != (output.shape[-1],):
                raise BrodmannError(
                    f"Expected class_weights of shape ({output.shape[-1]},), one for each class, got "
                    f"{tuple(self.class_weights.shape)}."
                )
            of_class = self.class_weights.to(values)[classes]
            weight = of_class if weight is None else _of_each(weight, values) * of_class
        return log_probabilities, values, _share(values, weight, self.normalised)


class MeanSquaredError:
    """``sum_i w_i * mean_k (output_ik - target_ik)^2 / 2 / sum_i w_i``: half of `torch.nn.MSELoss`.

    So the error of an output is ``output - target``, over the number of outputs and the sum of the weights, or the
    number of samples where not normalised. In units of the target squared. Raises a `BrodmannError` where targets have
    not as many numbers as the output, or weights not one for each sample.
    """

    def __init__(self, *, normalised: bool = True) -> None:
        """Stores whether ``sum_i w_i`` divides, see `CrossEntropy`. Default True."""
        check_switch(normalised=normalised)
        self.normalised = normalised

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output and target (batch, ..., outputs), weight (batch, ...) or None; returns a scalar."""
        return self.value_and_error(output, target, weight)[0]

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (output - target) / (outputs sum w)``, shaped like the output."""
        error = output - _like(target, output)
        values = error.square().mean(-1, keepdim=True) / 2
        share = _share(values, weight, self.normalised)
        return (values * share).sum(), error * (share / error.shape[-1])


class SumOfSquares:
    """``sum_i w_i * sum_k (output_ik - target_ik)^2 / 2``: of all samples together, not their mean.

    So that a sample's error does not depend on the batch it comes in: what `RLS` asks for. A target of classes stands
    for its one-hot vector.
    """

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., outputs), target of that shape or (batch, ...) int64; returns a scalar."""
        return self.value_and_error(output, target, weight)[0]

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (output - target)``, shaped like the output."""
        if target.is_floating_point():
            error = output - _like(target, output)
        else:
            _check_place(output, target)
            rows = output.reshape(-1, output.shape[-1])
            minus_one = rows.new_full((len(rows), 1), -1.0)
            if target.numel() != len(rows):
                raise _no_classes(output, target)
            try:
                error = rows.scatter_add(1, target.reshape(-1, 1), minus_one).reshape(output.shape)
            except RuntimeError:
                raise _no_classes(output, target) from None
        weighted = error if weight is None else error * _of_each(weight, error[..., :1])
        return (weighted * error).sum() / 2, weighted


def _check_place(output: Tensor, target: Tensor) -> None:
    if target.device != output.device:
        raise BrodmannError(f"Expected targets on {output.device}, where the output is, got some on {target.device}.")


_OF_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.NLLLoss, nn.KLDivLoss, nn.PoissonNLLLoss, nn.SoftMarginLoss)
_FUNCTIONS_OF_LOGITS: tuple[Callable[..., Tensor], ...] = (
    functional.cross_entropy,
    functional.binary_cross_entropy_with_logits,
    functional.nll_loss,
    functional.kl_div,
    functional.poisson_nll_loss,
    functional.soft_margin_loss,
)
OURS: tuple[type, ...] = (CrossEntropy, MeanSquaredError, SumOfSquares)
"""What a network's file can make again."""


class PyTorchLoss:
    """``loss(output, target)``, a loss of PyTorch, which counts all samples alike.

    With ``reduction="sum"`` errors, and what `Network.learn` returns, grow with the number of samples in a batch.
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        """Wraps a module such as ``nn.CrossEntropyLoss()`` or a function of ``torch.nn.functional``.

        `Network` does it with every loss of PyTorch.
        """
        self.loss = loss

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., classes or outputs) and target as our own losses take them; returns its value.

        Raises:
            BrodmannError: There are weights of samples, which PyTorch's losses do not take.
        """
        if weight is not None:
            raise _takes_no_weights(self.loss)
        _follow(self.loss, output)
        # PyTorch would stretch a target of another shape over the output, and wants classes second.
        names_classes = isinstance(self.loss, nn.MultiLabelMarginLoss) or self.loss is functional.multilabel_margin_loss
        if target.is_floating_point() or (target.numel() == output.numel() and not names_classes):
            target = _like(target, output).reshape(-1, output.shape[-1])
        elif output.ndim > 2:
            target = target.reshape(-1)
        try:
            return self.loss(output.reshape(-1, output.shape[-1]), target)
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise BrodmannError(
                f"{_name_of(self.loss)} does not take an output of shape {tuple(output.shape)} with targets of shape "
                f"{tuple(target.shape)}, {target.dtype}: {error}"
            ) from None


class OwnLoss:
    """A loss of your own that may be called without weights of samples: ``loss(output, target)``."""

    def __init__(self, loss: Callable[..., Tensor], *, weighted: bool) -> None:
        """Wraps a callable; ``weighted`` says whether its third argument is the weight. `Network` does it by itself."""
        self.loss, self.weighted = loss, weighted

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., outputs), the loss's target, weight (batch, ...) or None; returns a scalar.

        Raises:
            BrodmannError: There are weights of samples, and the loss takes none.
        """
        _follow(self.loss, output)
        if weight is None:
            return self.loss(output, target)
        if not self.weighted:
            raise _takes_no_weights(self.loss)
        return self.loss(output, target, weight)


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
            f"{type(loss).__name__} holds parameters, which nothing would train: make them buffers, or freeze them by "
            "requires_grad_(False)."
        )
    function = loss.func if isinstance(loss, partial) else loss
    if isinstance(loss, _Loss) or getattr(function, "__module__", None) == functional.__name__:
        return PyTorchLoss(loss)
    if hasattr(loss, "value_and_error"):
        return loss  # type: ignore[no-any-return]
    two, weighted = _arguments(loss)
    if not two and not weighted:
        raise BrodmannError(f"Expected a loss of (output, target) or of (output, target, weight), got {loss!r}.")
    return OwnLoss(loss, weighted=weighted) if two else loss


def takes_logits(loss: Loss) -> bool:
    """Whether a loss is known to take outputs for logits, or their like: then R2 says nothing about them."""
    if not isinstance(loss, PyTorchLoss):
        return isinstance(loss, CrossEntropy)
    inner = loss.loss.func if isinstance(loss.loss, partial) else loss.loss
    return isinstance(inner, _OF_LOGITS) or inner in _FUNCTIONS_OF_LOGITS


def is_known(loss: Loss) -> bool:
    """Whether a loss is of this package or of PyTorch: then outputs that go with classes are scores of classes."""
    return isinstance(loss, (*OURS, PyTorchLoss))


def per_sample(loss: Loss, value: float, samples: int) -> float:
    """Returns the value of a loss as reports give it: a sum over samples becomes their mean."""
    inner = loss.loss if isinstance(loss, PyTorchLoss) else None
    reduction = inner.keywords.get("reduction") if isinstance(inner, partial) else getattr(inner, "reduction", "mean")
    return value / samples if isinstance(loss, SumOfSquares) or reduction == "sum" else value


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Returns what a file says of a loss: name and options of one of ours, of any other its name as ``other``."""
    if type(loss) in OURS:
        options = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(loss).items()}
        return {"name": type(loss).__name__, **options}
    if isinstance(loss, PyTorchLoss | OwnLoss):
        loss = loss.loss
    return {"other": _name_of(loss)}


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


def _arguments(loss: Callable[..., Any]) -> tuple[bool, bool]:
    """Returns whether a loss can be called without a weight, and whether it takes one as its third argument.

    A third argument that may be left out is a weight where its name says so: else it is an option, as of a focal loss.
    """
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except ValueError:  # some built-in functions do not say
        return True, True
    placed = [known for known in signature.parameters.values() if known.kind != inspect.Parameter.KEYWORD_ONLY]
    two, three = _binds(signature, 2), _binds(signature, 3)
    if not two or any(known.kind == inspect.Parameter.VAR_POSITIONAL for known in placed):
        return two, three
    return True, three and ("weight" in placed[2].name or placed[2].name == "w")


def _binds(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _name_of(loss: Any) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


def _takes_no_weights(loss: Any) -> BrodmannError:
    return BrodmannError(
        f"{_name_of(loss)} takes no weights of samples: use CrossEntropy, MeanSquaredError, or a callable of (output, "
        "target, weight)."
    )


def _follow(loss: Any, output: Tensor) -> None:
    """Takes a module's buffers, such as class weights, to where the network is."""
    if isinstance(loss, nn.Module):
        with torch.inference_mode(False):
            loss.to(output)


def one_number(loss: Any) -> Tensor:
    """Returns what a loss returned, as a scalar.

    Raises:
        BrodmannError: It is no tensor of one number.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        came = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise BrodmannError(f"Expected a loss that returns one number, a tensor, got {came}.")
    return loss.reshape(())


def _like(target: Tensor, output: Tensor) -> Tensor:
    """Returns real targets in the shape and the kind of number of the output: NumPy's are float64."""
    if target.numel() != output.numel():
        raise BrodmannError(
            f"Expected targets of shape {tuple(output.shape)}, as the output, got {tuple(target.shape)}."
        )
    return target.reshape(output.shape).to(output.dtype)


def _no_classes(output: Tensor, target: Tensor) -> BrodmannError:
    """Returns the error that says why targets are no classes of the output."""
    *leading, classes = output.shape
    if target.dtype != torch.int64:
        problem = (
            f"{target.dtype}: convert class numbers with .long(), give probabilities nn.CrossEntropyLoss(), and real "
            "targets a MeanSquaredError"
        )
    elif target.numel() != output.numel() // classes:
        problem = f"shape {tuple(target.shape)}"
    else:
        problem = f"{int(target.min())} to {int(target.max())}"
    return BrodmannError(
        f"Expected targets of shape {tuple(leading)}, torch.int64, from 0 to {classes - 1}, got {problem}."
    )


def _share(values: Tensor, weight: Tensor | None, normalised: bool) -> Tensor | float:
    """Returns each value's share of the weighted mean, one number where all are equal; 0 where all weights are."""
    if weight is None:
        return 1 / values.numel()
    weight = _of_each(weight, values)
    return weight / (weight.sum().clamp_min(torch.finfo(values.dtype).tiny) if normalised else weight.numel())


def _of_each(weight: Tensor, values: Tensor) -> Tensor:
    """Returns the weights of samples in the shape of a value of each."""
    if weight.numel() != values.numel():
        raise BrodmannError(
            f"Expected a weight for each of the {values.numel()} targets, got weights of shape {tuple(weight.shape)}."
        )
    return weight.to(values).reshape(values.shape)
