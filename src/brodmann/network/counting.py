"""How many numbers a network reads for one sample, and how many it stores."""

from __future__ import annotations

from torch import nn

from ..errors import BrodmannError
from ..feedback import Feedback
from ..layer import Layer
from ..layers import AreaLinear
from ..routing import Router


def active_parameters(part: nn.Module) -> int:
    """Counts what a part reads for one sample at inference: no feedback, nor anything else that only learning reads.

    For an `AreaLinear` that is the merged map, shared and own part in one, or both parts if the gate multiplies one
    of them; for a `Router`, projection and prototypes.

    Raises:
        BrodmannError: ``learning_only`` of a layer names what it does not hold.
    """
    if isinstance(part, Router):
        return part.projection.value.numel() + part.prototypes.numel()
    if isinstance(part, AreaLinear):
        both = part.gated and part.shared is not None and part.areas is not None
        maps = (1 + both) * (part.in_features + part.biased) * part.out_features
        return maps + (0 if part.router is None else active_parameters(part.router))
    left_out = _learning_only(part)
    own = (parameter for name, parameter in part.named_parameters(recurse=False) if name not in left_out)
    inside = (child for name, child in part.named_children() if name not in left_out)
    return sum(parameter.numel() for parameter in own) + sum(
        active_parameters(child) for child in inside if not isinstance(child, Feedback)
    )


def _learning_only(part: nn.Module) -> tuple[str, ...]:
    names: object = part.learning_only if isinstance(part, Layer) else ()
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) and hasattr(part, name) for name in names):
        raise BrodmannError(
            f"Expected learning_only of {type(part).__name__} to be a tuple of names of what it holds, such as "
            f"('readout',), got {names!r}."
        )
    return tuple(names)


def total_parameters(body: nn.Module) -> int:
    """Counts what is stored: parameters, prototypes of routers, and the fixed matrices of feedback paths."""
    prototypes = sum(part.prototypes.numel() for part in body.modules() if isinstance(part, Router))
    paths = [part for part in body.modules() if isinstance(part, Feedback)]
    fixed = sum(buffer.numel() for path in paths for buffer in path.buffers(recurse=False))
    return sum(parameter.numel() for parameter in body.parameters()) + prototypes + fixed
