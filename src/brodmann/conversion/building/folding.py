"""Folding: batch norms, as they are at inference, become part of the maps below them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from ...several import of_each, parts_in
from ..rewriting.batch_norms import FixedNorm
from ..steps.computation import Computation, Step


def folded(computation: Computation) -> Computation:
    """Returns a computation with each batch norm folded into the map right below it, or fixed if it cannot be."""
    steps = computation.steps
    readers = Counter(source for step in steps for source in step.sources)
    readers.update(parts_in(computation.outputs))
    places = Counter(id(step.operation) for step in steps)
    alone = {step.name for step in steps if places[id(step.operation)] == 1}
    found: dict[str, Step] = {}
    names = {name: name for name in computation.inputs}
    for step in steps:
        norm = step.operation.norm if isinstance(step.operation, FixedNorm) else step.operation
        below = found.get(names[step.sources[0]]) if len(step.sources) == 1 else None
        fused = None
        if below is not None and readers[step.sources[0]] == 1 and {step.name, below.name} <= alone:
            fused = _fused(below.operation, norm, below.output.ndim)
        if below is None or fused is None:
            names[step.name] = step.name
            fixed = FixedNorm(norm) if isinstance(norm, _BatchNorm) else norm
            found[step.name] = replace(step, operation=fixed, sources=tuple(names[source] for source in step.sources))
        else:
            names[step.name] = below.name
            found[below.name] = replace(below, operation=fused, output=step.output)
    return replace(computation, steps=list(found.values()), outputs=of_each(names.__getitem__, computation.outputs))


def _fused(layer: Any, norm: Any, ndim: int) -> nn.Module | None:
    """Returns one map that does what a map and the batch norm above it do at inference; None if there is none."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.weight is None or norm.bias is None:
        return None
    if isinstance(layer, _ConvNd) and not (layer.transposed and layer.groups > 1):
        return fuse_conv_bn_eval(layer, norm, layer.transposed)
    return fuse_linear_bn_eval(layer, norm) if isinstance(layer, nn.Linear) and ndim == 2 else None
