"""Whether a body of areas and a PyTorch network return the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BrodmannError
from ..layer import Layer
from ..layers import AreaLinear
from ..several import Several, called_with, near, of_each, parts_in, rows_of
from .building.counterparts import channels_last
from .steps.computation import Computation


@torch.no_grad()
def answers_of(model: nn.Module, sample: Several) -> Any:
    """Returns a network's outputs for copies of samples, which it may write into."""
    with _without_fast_path():
        return called_with(model, of_each(Tensor.clone, sample))


def check_steady(model: nn.Module, sample: Several, outputs: Any) -> None:
    """Raises if a network returns something else for the same samples the second time."""
    if not near(outputs, answers_of(model, sample), 1e-3):
        raise BrodmannError(
            f"{type(model).__name__} cannot be converted: it answers the same samples differently the second time. "
            "Whatever it keeps from call to call, such as state in an attribute, or draws at random must come in with "
            "the samples or be removed."
        )


@torch.no_grad()
def same_outputs(body: Layer, sample: Several, outputs: Any) -> bool:
    """Whether a body returns what a network did for samples, up to rounding, and gates that scale all of a map."""
    stored = any(parameter.dtype == torch.bfloat16 for parameter in body.parameters())
    with _without_scaling_gates(body):
        return near(body(sample), of_each(channels_last, outputs), 0.1 if stored else 1e-3)


def check_reached(computation: Computation, model: nn.Module, sample: Several) -> None:
    """Raises if autograd would move a parameter of a network that no step computes with.

    A layer of zeros, such as a fresh adapter, does not show in what the network returns.
    """
    parameters = {name: held for name, held in model.named_parameters() if held.requires_grad}
    try:
        with torch.enable_grad(), _without_fast_path():
            outputs = parts_in(called_with(model, of_each(Tensor.clone, rows_of(sample, slice(2)))))
            followed = [output.sum() for output in outputs if output.requires_grad]
            if not followed:
                return
            gradients = torch.autograd.grad(followed, list(parameters.values()), allow_unused=True)
    except RuntimeError:  # from one that writes into its own parameters, say
        return
    held = [step.operation for step in computation.steps]
    parts = [part for one in held for part in ([one] if isinstance(one, Tensor) else one.parameters())]
    known = {part.untyped_storage().data_ptr() for part in parts}
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and computation.held[name].untyped_storage().data_ptr() not in known:
            raise BrodmannError(
                f"{type(model).__name__} cannot be converted: it computes with '{name}', but not when torch.fx traces "
                "it, perhaps because it decides by `type(x)` or `match`. Decide by isinstance(x, Tensor) instead."
            )


@contextmanager
def _without_scaling_gates(body: Layer) -> Iterator[None]:
    """Lets areas that have no shared part answer as if their gates were 1."""
    scaled = [part for part in body.modules() if isinstance(part, AreaLinear) and part.gated and part.shared is None]
    for part in scaled:
        part.gated = False
    try:
        yield
    finally:
        for part in scaled:
            part.gated = True


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Makes PyTorch's encoders compute at inference what they do while learning: else they return 0 for padding."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
