"""The body of areas that stands for what a PyTorch network computes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..builders import Parts
from ..errors import BrodmannError
from ..layers import Images, Local, Sequential, TiedWeights
from ..layers.graph import INPUT, Graph
from .computation import Computation, Step, Tied, Weighted, free_name
from .convertible import tied_error
from .counterparts import counterpart, tied_product, tied_weights


def body_of(computation: Computation, parts: Parts) -> Sequential | Graph:
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
            if tied[step.name].learns:
                learning.add(step.name)
            continue
        lowest = learning.isdisjoint(step.sources[:1] if isinstance(step.operation, Weighted) else step.sources)
        sources = tuple(images.get(source, source) for source in step.sources)
        if isinstance(step.operation, Tied):
            value, weights = step.sources
            nodes[step.name] = (tied_product(step, tied[weights], lowest=value not in learning), *sources)
            if not learning.isdisjoint(step.sources):
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
        raise tied_error()
    return {step.name: tied_weights(step, parts) for step in held}


def _holds_parameters(operation: nn.Module | Tensor) -> bool:
    return isinstance(operation, nn.Module) and any(True for _ in operation.parameters())


def check_untied(steps: Sequence[Step]) -> None:
    """Raises where different maps share a parameter, whose copies would go apart, or steps a batch norm."""
    parts = [step.operation for step in steps if isinstance(step.operation, nn.Module | nn.Parameter)]
    norms = Counter(id(part.running_mean) for part in parts if isinstance(part, _BatchNorm))
    apart = {id(part): _held_by(part) if isinstance(part, nn.Module) else [part] for part in parts}
    count = Counter(id(tensor) for tensors in apart.values() for tensor in tensors)
    if any(number > 1 for number in (*count.values(), *norms.values())):
        raise tied_error()


def _held_by(part: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of a module, one that stands in two of its places twice."""
    return [held for _, held in part.named_parameters(remove_duplicate=False)]
