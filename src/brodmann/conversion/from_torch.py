"""From a PyTorch network to areas that start out computing the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from ..builders import Common, Parts
from ..builders.common import spelled_out
from ..checks import check_switch
from ..errors import BrodmannError, unknown_name
from ..feedback import Feedback, Shape
from ..layer import Layer
from ..several import Several, parts_in
from .building.body import body_of, check_untied, warn_of_frozen
from .building.choices import Choices
from .building.folding import folded
from .convertible import warn_of_new_norms
from .equality import answers_of, check_reached, check_steady, same_outputs
from .kept import check_keeps_nothing
from .modules import MAPS
from .samples import shown
from .steps.computation import Computation
from .steps.walk import computed_by
from .tracing import exclusively

BATCH_NORMS = ("batch", "running")


@spelled_out
@exclusively
@torch.inference_mode(False)
def from_torch(
    model: nn.Module,
    shape: Sequence[int] | Sequence[Sequence[int]] | Several | None = None,
    *,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack-equal",
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    batch_norms: str = "batch",
    recompute: bool = False,
    lowest: bool = True,
    **common: Unpack[Common],
) -> Layer:
    """Builds a body of areas that computes what a PyTorch network does, and goes on learning without backpropagation.

    It follows the network's ``forward`` by `torch.fx`, whatever its classes are: sums, concatenations and branches
    become a `Graph`, a chain of layers a `Sequential`. Every `nn.Linear`, and every function that multiplies the rows
    of samples by a matrix that is a parameter, such as ``x @ self.weight``, becomes an `AreaLinear`, every `nn.Conv1d`
    and `nn.Conv2d` of one group a `Convolution`, which start out computing the same, whatever the area. Other
    convolutions (of several groups, transposed, of volumes, of the frames of a sample), and functions that multiply by
    a parameter in another way, become a `Product`, which is one map for all areas. A weight that several maps share,
    such as a table of tokens that is the readout too, becomes `TiedWeights`, likewise one for all areas. Gains and
    shifts of norms, and tensors that the network holds by itself, such as positions of a sequence, become a `Constant`
    that learns if they are parameters, one for all areas. A batch norm becomes a `BatchNorm`, which learns with the
    statistics of each batch, or stays as at inference. All else must hold no parameters and becomes a `Local`.

    With gated areas and no shared part the body does not start out computing the same: the gate scales what the model's
    map returns. That is for models that have not learned yet.

    The model is left as it was. Images that come out have their channels last, as losses here take them. With
    ``areas=1`` and ``feedback="transpose"`` the body also learns as the model would under autograd: a
    `torch.autograd.Function` keeps its own derivative, and no error goes down through what is detached or computed
    under ``torch.no_grad()``. A layer none of whose parameters asks for a gradient is frozen and has one area, unless
    the whole model is like that. A float64 model stays float64; others take PyTorch's default dtype.

    Source: our choice. BioTorch (Sanfiz and Akrout 2021) converts networks likewise, for feedback paths only.

    Args:
        model: A network whose ``forward`` takes and returns tensors of samples, one or several, and does the same
            whatever the numbers in a sample and however many samples come. Several inputs are its arguments; several
            outputs are a tuple or a dictionary. It is followed as at inference: what it does only while training is
            left out, except for what modules without parameters and `F.dropout` draw. What it asks about sizes, such as
            ``if x.dim() == 3`` or ``for step in range(x.shape[1])``, is answered for the ``shape``. Samples of
            other sizes, for which an answer differs, as in that loop, are refused; if it asks only in training mode,
            they are refused only while learning. What it asserts about numbers is checked here, with the samples, and
            not again. What it stores outside of its modules meanwhile, such as in a global dictionary, still holds
            values of `torch.fx` afterwards.
        shape: Shape of a sample, (features,), (steps, features), or (channels, height, width); or a few samples
            themselves, (samples, ...), if they are whole numbers, such as tokens: at least two, since a single one
            does not show how rows lie, so that a matrix outside of an `nn.Linear` would become a `Product`. Of a shape,
            eleven go through the model: for large images, two of your own take less memory. For a
            network of several inputs, a tuple of shapes or of samples, in the order of its arguments; or a dictionary
            of samples by the names of its arguments. The body takes the same. Default None: what the model's first
            layer takes, if that is an `nn.Linear`. Images may also come flat.
        areas: As in `brodmann.mlp`.
        feedback: As in `brodmann.mlp`. Default ``"kolen-pollack-equal"``: feedback weights start as copies of the
            model's, since independent ones know nothing of what it has learned and first undo it (docs/log.md).
            ``"kolen-pollack-mirrored"`` starts close to that and copies nothing, ``"sign"`` needs no copy. Not
            ``"direct"`` if there is a `Product`, a shared weight, or several outputs.
        layers: Settings of single layers, instead of those of the network: ``{"blocks.*.mlp": {"areas": 16}}``. Keys
            are names of the model's modules, as ``model.named_modules()`` gives them, each for all that it holds; ``*``
            stands for any text. If several keys match, one decides, as in `Rates`. A function such as
            ``x @ self.weight`` belongs to the module that calls it, a parameter that is no map to its own name.
            Settings are ``areas``, ``feedback`` and all of `brodmann.builders.Common`. Layers with areas of a number
            of their own route their own rows; or, by ``"routing": "module"``, all maps of a module follow one route:
            its router reads what comes to the module, one tensor. If all of the maps read the rows of it, such as
            tokens, each row chooses, else a whole sample, such as an image. Default None.
        batch_norms: ``"batch"`` (default, as PyTorch trains): what is above a batch norm sees samples relative to the
            others of their batch while learning, those of other areas too, and running statistics follow;
            ``"running"``: they stay as at inference, folded into the map below, or as a gain and a shift that learn.
            Every sample is then independent of the others, and there are fewer layers: for trained models and small
            batches. Norms that a model keeps out of training mode use running statistics in both cases.
        recompute: Whether the body is `Recomputed`, or a `RecomputedGraph`: it holds the traces of one segment of its
            layers at a time, and computes them twice. Less memory for large networks, samples and batches, as by
            activation checkpointing (docs/results.md). Default False.
        lowest: As in `brodmann.mlp`.
        **common: As in `brodmann.mlp`, see `brodmann.builders.Common`. Weights that several maps share are stored as
            they are, whatever the ``storage``.

    Returns:
        A body that takes (batch, *shape), or images flat, and returns what the model does, images with their channels
        last: ``Network(from_torch(model), loss)`` goes on learning. Several tensors come and go as tuples or
        dictionaries.

    Raises:
        BrodmannError: The network cannot be followed, calls a map that learns under ``torch.no_grad()``, has hooks on
            gradients, holds a layer of a kind that cannot be converted, writes into its parameters, answers by what it
            keeps from call to call, the shape does not fit, a choice is unknown, or the maps of a module cannot follow
            one route.
    """
    if batch_norms not in BATCH_NORMS:
        raise unknown_name("batch_norms", batch_norms, BATCH_NORMS)
    check_switch(recompute=recompute, lowest=lowest)
    model, sample, dtype, device = shown(model, shape)
    if batch_norms == "running":
        warn_of_new_norms(model)
    in_features = sum(part[0].numel() for part in parts_in(sample))
    parts = Parts(in_features, 1, areas, feedback, **common)  # how many outputs there are is seen when it is followed
    choices = Choices(parts, {} if layers is None else layers)
    _check_routable(parts, sample)
    computation, outputs = _followed(model, sample, dtype)
    computation = folded(computation) if batch_norms == "running" else computation
    choices = _for_network(choices, computation, model)
    body = choices.common.wrap(body_of(computation, choices, lowest=lowest, recompute=recompute))
    if dtype == torch.float64:
        body.double()  # its routers
    # A copy of its own: what the other one was called with, it may keep, with a graph that cannot be copied.
    check_keeps_nothing(deepcopy(model).to("cpu", dtype).eval(), sample)
    if not same_outputs(body, sample, outputs):
        raise BrodmannError(
            "The converted network does not return what the model does: one of its layers changes samples in a way "
            "that conversion cannot see, as hooks do. Compose it with brodmann.Sequential instead."
        )
    return body.to(device)


def _check_routable(parts: Parts, sample: Any) -> None:
    """Raises if one router is to choose for all layers, but samples have no direction by which it could."""
    single = isinstance(sample, Tensor)
    if parts.routed and not (single and sample.is_floating_point()):
        raise BrodmannError(
            f"{'Samples of whole numbers have' if single else 'Several inputs have'} no direction to route them by: "
            "choose routing='layer', where every layer routes its own input, or areas=1."
        )


def _followed(model: nn.Module, sample: Several, dtype: torch.dtype) -> tuple[Computation, Any]:
    """Returns what a model computes in a dtype, and what it returns for samples, once checked."""
    computation = computed_by(model, sample, dtype)
    check_untied(computation.steps)
    plain = deepcopy(model).to("cpu", dtype).eval()
    outputs = answers_of(plain, sample)
    check_steady(plain, sample, outputs)
    check_reached(computation, plain, sample)
    warn_of_frozen(computation.steps)
    return computation, outputs


def _for_network(choices: Choices, computation: Computation, model: nn.Module) -> Choices:
    """Returns the choices with the number of outputs of a network, once checked for its layers."""
    steps, returned = computation.steps, computation.returned
    output = returned[0].output
    choices = replace(choices, common=replace(choices.common, outputs=output.shape[1 if output.ndim == 4 else -1]))
    if len(returned) > 1 and choices.from_output:
        raise BrodmannError(
            f"Direct feedback needs one output, but the model has {len(returned)}: choose another feedback path."
        )
    choices.check_names(step.origin for step in steps if step.has_parameters)
    maps = [step.origin for step in steps if isinstance(step.operation, MAPS)]
    choices.check(maps, sum(parameter.numel() for parameter in model.parameters()))
    return choices
