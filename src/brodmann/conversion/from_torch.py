"""From a PyTorch network to areas that start as it is."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy
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
from ..several import Several, called_with, of_each, parts_in, rows_of, sample_count
from ..updates import UpdateRule
from .computation import Computation, Step, Tied, Weighted, free_name
from .convertible import check_convertible, tied, warn_of_frozen, warn_of_new_norms
from .counterparts import MAPS, channels_last, counterpart, tied_product
from .folding import folded
from .steps import computed_by
from .tracing import exclusively

PROBES = 11
"""Samples that go through model and body, to see what comes to each layer and that both return the same: so many that
no other dimension is likely to be as long."""
BATCH_NORMS = ("batch", "running")


@exclusively
@torch.inference_mode(False)
def from_torch(
    model: nn.Module,
    shape: Sequence[int] | Sequence[Sequence[int]] | Several | None = None,
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
        model: A network whose ``forward`` takes and returns tensors of samples, one or several, and does not depend on
            the numbers of a sample, nor on how many samples come. Several come as its arguments, and go as a tuple or a
            dictionary. It is followed as at inference: what it does only while training is left out, but for what
            modules without parameters and `F.dropout` draw. What it asks of sizes, such as ``if x.dim() == 3`` or
            ``for step in range(x.shape[1])``, is answered for the ``shape``; a body of such a network is made for that
            shape. What it keeps outside of its modules meanwhile, such as in a global dictionary, keeps values of
            `torch.fx`.
        shape: Of a sample, (features,), (steps, features), or (channels, height, width); or a few samples themselves,
            (samples, ...), where they are whole numbers, such as tokens: at least two, since one alone does not tell
            how rows lie, and a matrix outside of an `nn.Linear` becomes a `Product` then. Of a network of several
            inputs a tuple of shapes or of samples, for its arguments in their order; or a dictionary of samples, whose
            names are those of its arguments. The body takes the same. Default None: what the model's first layer
            takes, if that is an `nn.Linear`. Images may also come flat.
        areas: As in `brodmann.mlp`; likewise ``feedback``, ``update``, ``routing``, ``shared``, ``gated``, ``pooling``,
            ``router`` and ``storage``.
        feedback: As in `brodmann.mlp`. Default ``"kolen-pollack-equal"``: feedback weights begin as copies of the
            model's, since independent ones know nothing of what it has learned and first undo it (docs/log.md).
            ``"kolen-pollack-mirrored"`` begins nearly so and copies nothing, ``"sign"`` needs no copy. Not
            ``"direct"`` where there is a `Product`, a weight is shared, or several outputs go.
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
        last: ``Network(from_torch(model), loss)`` learns on. Several tensors come and go as tuples or dictionaries.

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
    single = isinstance(sample, Tensor)
    if areas > 1 and routing == "network" and not (single and sample.is_floating_point()):
        raise BrodmannError(
            f"{'Samples of whole numbers have' if single else 'Several inputs have'} no direction to route them by: "
            "choose routing='layer', where every layer looks at what comes to it, or areas=1."
        )
    _check_arguments(model, sample)
    computation = computed_by(model, sample, kind)
    _check_untied(computation.steps)
    computation = folded(computation) if batch_norms == "running" else computation
    steps, returned = computation.steps, computation.returned
    if feedback == "direct" and len(returned) > 1:
        raise BrodmannError(f"Direct feedback needs one output, and the model has {len(returned)}: choose another one.")
    parts = Parts(
        sum(part[0].numel() for part in parts_in(sample)),
        returned[0].after.shape[1 if returned[0].after.ndim == 4 else -1],
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
    body = parts.wrap(_body_of(computation, parts))
    if kind == torch.float64:
        body.double()  # its routers
    _check_equal(body, deepcopy(model).to("cpu", kind).eval(), sample)
    return body.to(numbers.device)


def _check_arguments(model: nn.Module, sample: Several) -> None:
    """Raises where a model takes more, fewer or other arguments than come."""
    asked = inspect.signature(model.forward)
    try:
        called_with(asked.bind, sample)
    except TypeError as error:
        raise BrodmannError(
            f"{type(model).__name__}.forward({', '.join(map(str, asked.parameters.values()))}) does not take what "
            f"comes, {error}: give a tuple of shapes or of samples, for its arguments in their order, or a dictionary "
            "of samples by their names."
        ) from None


def _body_of(computation: Computation, parts: Parts) -> Sequential | Graph:
    """Returns the steps as layers: one after the other, or as a graph where values part."""
    steps, inputs = computation.steps, tuple(computation.inputs)
    nodes: dict[str, tuple[Any, ...]] = {}
    places: dict[int, list[Step]] = defaultdict(list)  # of each operation
    for step in steps:
        places[id(step.operation)].append(step)
    owners: dict[int, Step] = {}  # of those with parameters that stand in several places
    output_rows = computation.returned[0].rows_of(parts.outputs)
    read = {source for step in steps for source in step.sources}
    images: dict[str, str] = {}  # what stands for inputs of images
    for name, came in computation.inputs.items():
        if came.ndim == 4 and name in read:
            images[name] = free_name("images", {*inputs, *nodes, *(step.name for step in steps)})
            nodes[images[name]] = (Local(Images(*came.shape[1:])), name)
    learning: set[str] = set()
    tied = _tied_weights(steps, parts)
    for step in steps:
        if step.name in tied:
            nodes[step.name] = (tied[step.name],)
            learning.add(step.name)
            continue
        lowest = learning.isdisjoint(step.sources[:1] if isinstance(step.operation, Weighted) else step.sources)
        sources = tuple(images.get(source, source) for source in step.sources)
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
    before, last = [inputs[0], *nodes], next(reversed(nodes))
    chain = all(sources == [below] for (_, *sources), below in zip(nodes.values(), before, strict=False))
    if chain and not owners and inputs == (INPUT,) and computation.outputs == last:
        return Sequential(*(layer for layer, *_ in nodes.values()))
    return Graph(nodes, inputs, computation.outputs)


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
def _check_equal(body: Layer, model: nn.Module, sample: Several) -> None:
    """Raises where the body does not return what the model does for samples, or that returns something else later."""

    def alike(ours: Any, theirs: Any, tolerance: float) -> bool:
        return all(_alike(*both, tolerance) for both in zip(parts_in(ours), parts_in(theirs), strict=True))

    with _without_fast_path():
        once, again = (called_with(model, of_each(Tensor.clone, sample)) for _ in range(2))
    theirs, later = of_each(channels_last, once), of_each(channels_last, again)
    if not alike(theirs, later, 1e-3):
        raise BrodmannError(
            f"{type(model).__name__} cannot be converted: it answers the same samples otherwise the second time. What "
            "it keeps from call to call, such as a state in an attribute, or draws at random, has to come with the "
            "samples, or go."
        )
    stored = any(parameter.dtype == torch.bfloat16 for parameter in body.parameters())
    if not alike(body(sample), theirs, 0.1 if stored else 1e-3):
        raise BrodmannError(
            "The converted network does not return what the model does: one of its layers treats samples in a way that "
            "does not show, such as by hooks. Compose it by brodmann.Sequential."
        )


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Lets PyTorch's encoders compute at inference what they do while learning: else they return 0 for padding."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _alike(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    size = float(theirs.abs().max()) + 1e-6
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= tolerance * size


def _sample(model: nn.Module, shape: Any, kind: torch.dtype) -> Any:
    """Returns a few samples: those given, or random ones of a shape, or of what a model's first layer takes.

    Several of them where samples, or shapes, are several.
    """
    if shape is None:
        first = next(part for part in model.modules() if not any(True for _ in part.children()))
        if not isinstance(first, nn.Linear):
            raise BrodmannError(
                f"The model begins with {first}: name the shape of a sample, such as shape=(3, 32, 32)."
            )
        shape = (first.in_features,)
    draws = torch.Generator().manual_seed(0)
    several = isinstance(shape, Mapping) or (
        isinstance(shape, tuple | list) and any(isinstance(part, Tensor | tuple | list) for part in shape)
    )
    if not several:
        if isinstance(shape, Tensor) and shape.ndim < 2:
            raise _expected_samples(shape)
        return _samples(shape, kind, draws)
    if isinstance(shape, Mapping) and not all(isinstance(name, str) for name in shape):
        names = ", ".join(map(str, shape))
        raise BrodmannError(f"Expected samples by the names of the model's arguments, got {names}.")
    made = of_each(lambda part: _samples(part, kind, draws), shape)
    given = [part for part in parts_in(shape) if isinstance(part, Tensor)]
    return rows_of(made, slice(sample_count(given) if given else PROBES))


def _samples(shape: Any, kind: torch.dtype, draws: torch.Generator) -> Tensor:
    """Returns the first of samples, or random ones of a shape."""
    if isinstance(shape, Tensor):
        if not shape.ndim or not len(shape):
            raise _expected_samples(shape)
        sample = shape[:PROBES].detach().cpu()
        return sample.to(kind) if sample.is_floating_point() else sample
    if isinstance(shape, numpy.ndarray | Mapping):
        raise BrodmannError(f"Expected a shape, or samples as a tensor, got {type(shape).__name__}.")
    try:
        sizes = tuple(shape)
    except TypeError:
        raise BrodmannError(f"Expected the shape of a sample, such as (784,) or (3, 32, 32), got {shape!r}.") from None
    for size in sizes:
        check_whole(shape=size)
    return torch.randn(PROBES, *sizes, generator=draws).to(kind)


def _expected_samples(came: Tensor) -> BrodmannError:
    return BrodmannError(f"Expected a few samples, (samples, ...), got a tensor of shape {tuple(came.shape)}.")
