"""How many numbers a network reads for one sample, and how many it stores."""

from __future__ import annotations

from torch import nn

from ..feedback import Feedback
from ..layers import AreaLinear
from ..routing import Router


def active_parameters(part: nn.Module) -> int:
    """Counts what a part reads for one sample at inference; its feedback reads nothing then.

    For an `AreaLinear` that is the merged map, shared and own part in one, or both parts where the gate multiplies one
    of them; for a `Router`, projection and prototypes.
    """
    if isinstance(part, Router):
        return part.projection.value.numel() + part.prototypes.numel()
    if isinstance(part, AreaLinear):
        both = part.gated and part.shared is not None and part.areas is not None
        maps = (1 + both) * (part.in_features + part.biased) * part.out_features
        return maps + (0 if part.router is None else active_parameters(part.router))
    own = sum(parameter.numel() for parameter in part.parameters(recurse=False))
    return own + sum(active_parameters(child) for child in part.children() if not isinstance(child, Feedback))


def total_parameters(body: nn.Module) -> int:
    """Counts what is stored: parameters, prototypes of routers, and the fixed matrices of feedback paths."""
    prototypes = sum(part.prototypes.numel() for part in body.modules() if isinstance(part, Router))
    paths = [part for part in body.modules() if isinstance(part, Feedback)]
    fixed = sum(buffer.numel() for path in paths for buffer in path.buffers(recurse=False))
    return sum(parameter.numel() for parameter in body.parameters()) + prototypes + fixed
