"""From a PyTorch network to areas that start as it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..builders import Parts
from ..checks import check_whole
from ..errors import BrodmannError, unknown_name
from ..feedback import Feedback, Shape
from ..layer import Layer
from ..layers import Images, Local, Sequential, TiedWeights
from ..layers.graph import INPUT, Graph
from ..updates import UpdateRule
from .convertible import check_convertible, tied, warn_of_frozen, warn_of_new_norms
from .counterparts import MAPS, channels_last, counterpart, tied_product
from .folding import folded
from .steps import Step, Tied, free_name, steps_of
from .tracing import exclusively

PROBES = 11
"""Samples that go through model and body, to see what comes to each layer and that both return the same: so many that
no other dimension is likely to be as long."""
BATCH_NORMS = ("batch", "running")


@exclusively
@torch.inference_mode(False)
def from_torch(
    model: nn.Module,
    shape: Sequence[int] | Tensor | None = None,
    *,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack-equal",
    update: UpdateRule | None = None,
    routing: str = "network",
    shared: str = "learned",
    gated: bool = False,
    pooling: float = 0.0,
    router: dict[str, Any] | None = None,
    storage: str | None = None,
    batch_norms: str = "batch",
) -> Layer:
    """Builds a body of areas that computes what a PyTorch network does, and learns on without backpropagation.

    It follows the network's ``forward`` by `torch.fx`, whatever its classes are: sums, concatenations and branches
    become a `Graph`, a chain of layers a `Sequential`. Every `nn.Linear`, and every function that multiplies the rows
    of samples by a matrix that is a parameter, such as ``x @ self.weight``, becomes an `AreaLinear`, every `nn.Conv1d`
    and `nn.Conv2d` of one group a `Convolution`, which start as it is, whatever the area. Other convolutions (of
    several groups, transposed, of volumes), and functions that multiply by a parameter in another way, become a
    `Product`, which is one map for all areas. A weight that several maps share, such as a table of tokens that is the
    readout too, becomes `TiedWeights`, which are one for all areas likewise. Factors and summands of norms, and tensors
    that the network holds by itself, such as positions of a sequence, become a `Constant` that learns where they are
    parameters, one for all areas. A batch norm becomes a `BatchNorm`, which learns by the statistics of each batch, or
    is left as at inference. All else must hold no parameters and becomes a `Local`.

    The model is left as it was. Images that come out have their channels last, as losses here take them. With
    ``areas=1`` and ``feedback="transpose"`` the body also learns as the model would under autograd: a
    `torch.autograd.Function` keeps its own derivative, and no error goes down through what is detached or computed
    under ``torch.no_grad()``. All parameters learn, also those with ``requires_grad=False``. A model of
    float64 stays so, others become what PyTorch's default dtype is.

    Source: our choice; for feedback paths alone, BioTorch (Sanfiz and Akrout 2021) converts networks likewise.

    Args:
        model: A network of one input and one output, whose ``forward`` does not depend on the numbers of a sample, nor
            on how many samples come. It is followed as at inference: what it does only while training is left out, but
            for what modules without parameters and `F.dropout` draw. What it asks of sizes, such as ``if x.dim() == 3``
            or ``for step in range(x.shape[1])``, is answered for the ``shape``; a body of such a network is made for
            that shape. What it keeps outside of its modules meanwhile, such as in a global dictionary, keeps values of
            `torch.fx`.
        shape: Of a sample, (features,), (steps, features), or (channels, height, width); or a few samples themselves,
            (samples, ...), where they are whole numbers, such as tokens: at least two, since one alone does not tell
            how rows lie, and a matrix outside of an `nn.Linear` becomes a `Product` then. Default None: what the
            model's first layer takes, if that is an `nn.Linear`. Images may also come flat.
        areas: As in `brodmann.mlp`; likewise ``feedback``, ``update``, ``routing``, ``shared``, ``gated``, ``pooling``,
            ``router`` and ``storage``.
        feedback: As in `brodmann.mlp`. Default ``"kolen-pollack-equal"``: feedback weights begin as copies of the
            model's, since independent ones know nothing of what it has learned and first undo it (docs/log.md).
            ``"kolen-pollack-mirrored"`` begins nearly so and copies nothing, ``"sign"`` needs no copy. Not
            ``"direct"`` where there is a `Product`, or a weight is shared.
        update: See ``areas``.
        routing: See ``areas``.
        shared: See ``areas``.
        gated: See ``areas``.
        pooling: See ``areas``.
        router: See ``areas``.
        storage: See ``areas``; weights that several maps share stay as they are.
        batch_norms: ``"batch"`` (default, as PyTorch trains): what is above a batch norm sees samples relative to the
            others of their batch while learning, those of other areas too, and running statistics follow;
            ``"running"``: they stay what they are at inference, folded into the map below, or a factor and a summand
            that learn. Every sample then stands alone, and there are fewer layers: for trained models and small
            batches. Norms that a model keeps from training mode go by running statistics in both cases.

    Returns:
        A body that takes (batch, *shape), or images flat, and returns what the model does, images with their channels
        last: ``Network(from_torch(model), loss)`` learns on.

    Raises:
        BrodmannError: The network cannot be followed, calls a map under ``torch.no_grad()``, has hooks on gradients,
            holds a layer of a kind that cannot be converted, the shape does not fit, a choice is unknown, or a gate
            without a shared part would change what the network computes.
    """
    model = getattr(model, "_orig_mod", model)  # as torch.compile wraps it
    check_convertible(model)
    if batch_norms not in BATCH_NORMS:
        raise unknown_name("batch_norms", batch_norms, BATCH_NORMS)
    if batch_norms == "running":
        warn_of_new_norms(model)
    warn_of_frozen(model)
    numbers = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    kind = torch.promote_types(numbers.dtype, torch.get_default_dtype())
    sample = _sample(model, shape, kind)
    if not sample.is_floating_point() and areas > 1 and routing == "network":
        raise BrodmannError(
            "Samples of whole numbers have no direction to route them by: choose routing='layer', where every layer "
            "looks at what comes to it, or areas=1."
        )
    steps = steps_of(model, sample, kind)
    _check_untied(steps)
    steps = folded(steps) if batch_norms == "running" else steps
    parts = Parts(
        sample[0].numel(),
        steps[-1].after.shape[1 if steps[-1].after.ndim == 4 else -1],
        areas,
        feedback,
        update=update,
        routing=routing,
        shared=shared,
        gated=gated,
        pooling=pooling,
        router=router,
        storage=storage,
    )
    maps = sum(isinstance(step.operation, MAPS) for step in steps)
    parts.check(maps, sum(parameter.numel() for parameter in model.parameters()))
    body = parts.wrap(_body_of(steps, sample.shape[1:], parts))
    if kind == torch.float64:
        body.double()  # its routers
    _check_equal(body, deepcopy(model).to("cpu", kind).eval(), sample)
    return body.to(numbers.device)


def _body_of(steps: Sequence[Step], shape: Sequence[int], parts: Parts) -> Sequential | Graph:
    """Returns the steps as layers: one after the other, or as a graph where values part."""
    nodes: dict[str, tuple[Any, ...]] = {}
    places: dict[int, list[Step]] = defaultdict(list)  # of each operation
    for step in steps:
        places[id(step.operation)].append(step)
    owners: dict[int, Step] = {}  # of those with parameters that stand in several places
    first, output_rows = INPUT, steps[-1].rows_of(parts.outputs)
    if len(shape) == 3:
        first = free_name("images", {step.name for step in steps})
        nodes[first] = (Local(Images(*shape)), INPUT)
    learning: set[str] = set()
    tied = _tied_weights(steps, parts)
    for step in steps:
        if step.name in tied:
            nodes[step.name] = (tied[step.name],)
            learning.add(step.name)
            continue
        lowest = learning.isdisjoint(step.sources)
        sources = tuple(first if source == INPUT else source for source in step.sources)
        if isinstance(step.operation, Tied):
            value, weights = step.sources
            nodes[step.name] = (tied_product(step, tied[weights], lowest=value not in learning), *sources)
            learning.add(step.name)
            continue
        several = places[id(step.operation)]
        if len(several) > 1 and _holds_parameters(step.operation):
            lowest = False  # somewhere it is not
            most = max(several, key=lambda place: place.each)
            owner = owners.setdefault(id(step.operation), replace(most, name=step.name))
            if not owner.laid_as(step, alike=parts.feedback == "direct"):
                raise BrodmannError(
                    f"The layer that returns '{step.name}' stands in several places and takes values of other shapes "
                    "there: one layer of areas needs as many rows for each sample, and images or none, in all of them; "
                    "direct feedback needs equal shapes."
                )
            if owner.name != step.name:
                nodes[step.name] = (owner.name, *sources)
                learning.add(step.name)
                continue
        layer = counterpart(owners.get(id(step.operation), step), parts, output_rows, lowest=lowest)
        if layer.learns or not lowest:
            learning.add(step.name)
        nodes[step.name] = (layer, *sources)
    if owners:
        return Graph(nodes)
    before = [INPUT, *nodes]
    if all(sources == [below] for (_, *sources), below in zip(nodes.values(), before, strict=False)):
        return Sequential(*(layer for layer, *_ in nodes.values()))
    return Graph(nodes)


def _tied_weights(steps: Sequence[Step], parts: Parts) -> dict[str, TiedWeights]:
    """Returns the weights that several products share, by their names."""
    names = {step.sources[1] for step in steps if isinstance(step.operation, Tied)}
    held = [step for step in steps if step.name in names]
    # All but products would take weights of four dimensions to lie as images do.
    others = {source for step in steps if not isinstance(step.operation, Tied) for source in step.sources}
    if any(step.after.ndim == 4 and step.name in others for step in held):
        raise tied()
    return {step.name: parts.tied_weights(step.after.detach()) for step in held}


def _holds_parameters(operation: nn.Module | Tensor) -> bool:
    return isinstance(operation, nn.Module) and any(True for _ in operation.parameters())


def _check_untied(steps: Sequence[Step]) -> None:
    """Raises where different maps share a parameter, whose copies would go apart, or steps a batch norm."""
    parts = [step.operation for step in steps if isinstance(step.operation, nn.Module | nn.Parameter)]
    norms = Counter(id(part.running_mean) for part in parts if isinstance(part, _BatchNorm))
    apart = {id(part): _held_by(part) if isinstance(part, nn.Module) else [part] for part in parts}
    count = Counter(id(tensor) for tensors in apart.values() for tensor in tensors)
    if any(number > 1 for number in (*count.values(), *norms.values())):
        raise tied()


def _held_by(part: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of a module, one that stands in two of its places twice."""
    return [held for _, held in part.named_parameters(remove_duplicate=False)]


@torch.no_grad()
def _check_equal(body: Layer, model: nn.Module, sample: Tensor) -> None:
    """Raises where the body does not return what the model does for samples, or that returns something else later."""
    theirs, later = (channels_last(model(sample.clone())) for _ in range(2))
    if not _alike(theirs, later, 1e-3):
        raise BrodmannError(
            f"{type(model).__name__} cannot be converted: it answers the same samples otherwise the second time. What "
            "it keeps from call to call, such as a state in an attribute, or draws at random, has to come with the "
            "samples, or go."
        )
    stored = any(parameter.dtype == torch.bfloat16 for parameter in body.parameters())
    if not _alike(body(sample), theirs, 0.1 if stored else 1e-3):
        raise BrodmannError(
            "The converted network does not return what the model does: one of its layers treats samples in a way that "
            "does not show, such as by hooks. Compose it by brodmann.Sequential."
        )


def _alike(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    size = float(theirs.abs().max()) + 1e-6
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= tolerance * size


def _sample(model: nn.Module, shape: Sequence[int] | Tensor | None, kind: torch.dtype) -> Tensor:
    """Returns a few samples: those given, or random ones of the shape, or of what a model's first layer takes."""
    if isinstance(shape, Tensor):
        if shape.ndim < 2 or not len(shape):
            raise BrodmannError(f"Expected a few samples, (samples, ...), got a tensor of shape {tuple(shape.shape)}.")
        sample = shape[:PROBES].detach().cpu()
        return sample.to(kind) if sample.is_floating_point() else sample
    if shape is None:
        first = next(part for part in model.modules() if not any(True for _ in part.children()))
        if not isinstance(first, nn.Linear):
            raise BrodmannError(
                f"The model begins with {first}: name the shape of a sample, such as shape=(3, 32, 32)."
            )
        shape = (first.in_features,)
    try:
        sizes = tuple(shape)
    except TypeError:
        raise BrodmannError(f"Expected the shape of a sample, such as (784,) or (3, 32, 32), got {shape!r}.") from None
    for size in sizes:
        check_whole(shape=size)
    return torch.randn(PROBES, *sizes, generator=torch.Generator().manual_seed(0)).to(kind)
