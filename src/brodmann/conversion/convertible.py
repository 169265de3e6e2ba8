"""Which PyTorch networks `from_torch` takes: what their layers hold, and that they do what their classes say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from ..errors import BrodmannError, warn
from ..layer import Layer
from .modules import MAPS, NORMS, module_text

WHOLE = (
    *MAPS,
    *NORMS,
    _BatchNorm,
    nn.Identity,
    nn.Embedding,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.RNNBase,
    nn.RNNCellBase,
)
"""Modules that a conversion replaces by others, which would not call their hooks."""


def check_convertible(model: Any) -> None:
    """Raises if a network holds nothing to convert, or a map whose output does not follow from its weights alone."""
    if not isinstance(model, nn.Module):
        raise BrodmannError(f"Expected an nn.Module, got {type(model).__name__}.")
    if not any(parameter.is_floating_point() for parameter in model.parameters()):
        raise BrodmannError("Expected a network with weights to learn, such as those of an nn.Linear, got one without.")
    tensors = [*model.parameters(), *model.buffers()]
    if any(held.is_complex() for held in tensors):
        raise BrodmannError(
            "A network that holds complex numbers cannot be converted: hold their real and imaginary parts instead."
        )
    lazy = nn.UninitializedParameter | nn.UninitializedBuffer
    if any(isinstance(held, lazy) or held.is_meta for held in tensors):
        raise BrodmannError(
            "The network has no weights yet: call it once if it has lazy layers, and give it memory if it is on the "
            "meta device."
        )
    places = Counter(held.data_ptr() for held in model.parameters() if held.numel())
    if any(count > 1 for count in places.values()):
        raise BrodmannError(
            "Different parameters of the network share the same memory, and would be separated: let both modules hold "
            "the same parameter, as in `readout.weight = table.weight`."
        )
    if not all(bool(held.isfinite().all()) for held in model.parameters()):
        raise BrodmannError(
            "Parameters of the network hold NaN or infinity, so what it computes cannot be checked: give them finite "
            "values."
        )
    for part in model.modules():
        _check_part(part)
    owners = Counter(id(held) for part in model.modules() for held in _own(part))
    attention = (part for part in model.modules() if isinstance(part, nn.MultiheadAttention))
    if any(owners[id(held)] > 1 for part in attention for held in part.parameters()):
        raise tied_error()


def _check_part(part: nn.Module) -> None:
    """Raises if a module hides what it computes, computes with whole numbers, or has hooks that would be lost."""
    if isinstance(part, torch.jit.ScriptModule):
        raise BrodmannError(
            "A part compiled by torch.jit cannot be converted: give the module that it was compiled from."
        )
    if isinstance(part, Layer):
        raise BrodmannError(
            f"{type(part).__name__} is a layer of this package already: put it into a Network as it is, or compose it "
            "with what is converted by brodmann.Sequential."
        )
    if is_parametrized(part):
        raise BrodmannError(
            f"{type(part).__name__} cannot be converted: turn its parametrisation into an ordinary weight first, "
            "with torch.nn.utils.parametrize.remove_parametrizations."
        )
    if isinstance(part, MAPS) and not part.weight.is_floating_point():
        raise BrodmannError(f"{module_text(part)} cannot be converted: its weights are not floating-point numbers.")
    of_gradients = (part._backward_hooks, part._backward_pre_hooks)
    of_weights = [hooks for held in _own(part) for hooks in (held._backward_hooks, held._post_accumulate_grad_hooks)]
    of_values = (part._forward_hooks, part._forward_pre_hooks) if _loses_hooks(part) else ()
    if any(of_gradients) or any(of_weights) or any(of_values):
        raise BrodmannError(
            f"{module_text(part)} cannot be converted: {type(part).__name__} has hooks, which would be lost. "
            "Remove them first."
        )


def _own(part: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters that a module holds itself."""
    return [held for held in part._parameters.values() if held is not None]


def _loses_hooks(part: nn.Module) -> bool:
    """Whether a module becomes one step, or others that would not call its hooks."""
    of_torch = type(part).__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(part, nn.Sequential)
    return of_torch or isinstance(part, WHOLE)


def warn_of_new_norms(model: nn.Module) -> None:
    """Warns if batch norms would become no norms at all."""
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
    held = [(part.running_mean, part.running_var) for part in norms]
    begun = [(mean, variance) for mean, variance in held if mean is not None and variance is not None]
    # The number of batches is 0 also if statistics come from a file that does not name it.
    if any(not bool(mean.any()) and bool(variance.eq(1.0).all()) for mean, variance in begun):
        warn(
            "The model holds batch norms that have seen no samples, and these would be converted into layers that "
            "normalise nothing: call the model on a few batches in training mode first, or build it with group norms.",
        )


def tied_error() -> BrodmannError:
    """Returns the error for layers that share weights, whose copies would drift apart."""
    return BrodmannError(
        "Expected layers with weights of their own, got weights that are in the model twice. One layer may be called "
        "several times, unless it is a batch norm, and maps may share a weight. Norms, recurrent layers, attention and "
        "biases may not, and convolutions only with other convolutions."
    )
