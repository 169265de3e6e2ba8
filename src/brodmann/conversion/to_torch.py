"""From a body that was made of a PyTorch network back to that network."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import accumulate, zip_longest
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..builders import Parts
from ..errors import BrodmannError
from ..generators import undisturbed
from ..layer import Layer
from ..layers import AreaLinear, BatchNorm, Constant
from ..layers.weights import Weights
from ..several import Several
from ..updates import SGD
from .building.body import body_of
from .building.choices import Choices
from .equality import answers_of, same_outputs
from .samples import shown
from .steps.computation import Computation, tensors_of
from .steps.walk import computed_by
from .tracing import exclusively

Model = TypeVar("Model", bound=nn.Module)
BITS = 20
"""Bits of each of the two digits by which numbers are counted: float32 holds whole numbers up to 2^24 exactly."""


@exclusively
@torch.inference_mode(False)
def to_torch(
    network: nn.Module, model: Model, shape: Sequence[int] | Sequence[Sequence[int]] | Several | None = None
) -> Model:
    """Returns a copy of a PyTorch network with what its body of areas has learned.

    The copy computes what the network does, and works as the model did: it takes other lengths of sequences if its
    code does, generates text by its own methods, and is saved like others of its class. Weights, biases, factors of
    norms, tables and running statistics are those learned; what no layer learns stays as it is in the model. A layer
    that has a shared part and one area gives their sum, see `AreaLinear.as_linear`. Feedback weights are left out.

    Where each number belongs is found in the way that ``from_torch`` made the body: the model's parameters are numbered
    from 1, and a body is made of those numbers. Source: our choice.

    Args:
        network: A `Network` of what ``from_torch(model, shape, areas=1)`` returned, or only that body.
        model: The network that the body was made of, or one of equal form; its own numbers may be others by now. It is
            left as it was.
        shape: As given to ``from_torch``.

    Returns:
        The copy, in the mode, on the device and in the dtype of the model.

    Raises:
        BrodmannError: The network has several areas, whose maps are not one, is of another form than the model, as
            if batch norms were folded into maps by ``batch_norms="running"``, or the copy does not return what the
            network does.
    """
    body = network if isinstance(network, Layer) else getattr(network, "body", None)
    if not isinstance(body, Layer):
        raise BrodmannError(f"Expected a Network, or a body of layers, got {type(network).__name__}.")
    learned = list(_numbers(body))
    model, sample, dtype, _ = shown(model, shape)
    copy, plain = deepcopy(model), deepcopy(model).to("cpu", dtype).eval()
    with undisturbed():  # nothing is trained here, and a training may go on
        computation = computed_by(model, sample, dtype)
        places = _places(computation, learned)
    for taking in (copy, plain):
        _write(taking, computation, places, learned)
    if not same_outputs(deepcopy(body).to("cpu", dtype), sample, answers_of(plain, sample)):
        raise BrodmannError(
            "With what the network has learned, the model does not return the same: give the model that its body was "
            "converted from, and the shape that from_torch was given."
        )
    return copy


def _numbers(body: Layer) -> Iterator[Tensor]:
    """Returns the tensors of a body that a model's numbers go to, in the order of its parts."""
    for part in body.modules():
        if isinstance(part, AreaLinear):
            if part.budget > 1:
                raise BrodmannError(
                    f"A layer of {part.budget} areas has a map for each of them, but the model has one for all: only "
                    "networks of from_torch(..., areas=1) can be converted back."
                )
            linear = part.as_linear()
            yield linear.weight
            if part.biased:
                yield linear.bias
        elif isinstance(part, Weights):
            yield part.weight
        elif isinstance(part, Constant) and part.slab is not None:
            yield part.value
        elif isinstance(part, BatchNorm):
            yield from (part.mean, part.variance, part.batches)


@torch.no_grad()
def _write(model: nn.Module, computation: Computation, places: list[Tensor], learned: list[Tensor]) -> None:
    """Puts learned numbers into their places in a model, and leaves all others as they are."""
    own = tensors_of(model)
    tensors = [own[name] for name in computation.held]
    ends = list(accumulate(tensor.numel() for tensor in tensors))
    for where, numbers in zip(places, learned, strict=True):
        if numbers.numel() and int(where.min()) >= 0:
            at = bisect(ends, int(where.min()))  # what a layer learns is of one tensor, or of a part of it
            tensor = tensors[at]
            flat = tensor.flatten().clone()
            flat[(where - ends[at] + flat.numel()).to(flat.device)] = numbers.to(flat)
            tensor.copy_(flat.view(tensor.shape))


@torch.no_grad()
def _places(computation: Computation, learned: list[Tensor]) -> list[Tensor]:
    """Returns for each learned number its place among all numbers of a model, from 0.

    The place is -1 for a norm's count of batches if the model keeps none. A body is made twice, from the lower and
    from the higher digits of the numbers by which the model's own are counted.
    """
    choices = Choices(Parts(1, 1, areas=1, feedback="transpose", update=SGD()))
    digits = []
    for shift in (0, BITS):
        first = 1
        for tensor in computation.held.values():
            count = torch.arange(first, first + tensor.numel()).view(tensor.shape)
            tensor.copy_((count >> shift) % (1 << BITS))
            first += tensor.numel()
        digits.append([tensor.long() for tensor in _numbers(body_of(computation, choices))])
    places = [low + (high << BITS) - 1 for low, high in zip(*digits, strict=True)]
    own = torch.cat([where.flatten() for where in places if where.ndim]).sort().values
    if int(own[0]) < 0 or bool((own[1:] == own[:-1]).any()):
        raise BrodmannError(
            "The model cannot take over what its body has learned: it computes with numbers that are neither "
            "parameters nor buffers of its own, or with some of them twice."
        )
    for ours, theirs in zip_longest(learned, places):
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = ["nothing more" if part is None else tuple(part.shape) for part in (ours, theirs)]
            raise BrodmannError(
                "The network's body was not made from such a model: expected one of from_torch(model, shape, areas=1), "
                f'with batch_norms="batch". Where it learned {shapes[0]}, the model has {shapes[1]}.'
            )
    return places
