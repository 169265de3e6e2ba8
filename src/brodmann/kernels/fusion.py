"""Recorded calls made fewer: a ReLU above a map, and its derivative below one, which the maps' kernels compute as well.

The kernels do so when a thread has just written its part, before that has left the core's cache.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from ..recording import Call, Recorder, View
from ..recording.nested import leaves
from .library import RELU, WRITTEN

_RELU, _DERIVATIVE = torch.ops.aten.relu.default, torch.ops.aten.threshold_backward.default


def fuse(recorder: Recorder, outputs: Any) -> None:
    """Fuses what kernels can compute together; the numbers stay the same.

    Args:
        recorder: What was recorded.
        outputs: The tensors that are needed in the end, in any structure.
    """
    calls, uses = recorder.calls, _uses(recorder.calls)
    for part in leaves(outputs):
        if isinstance(view := recorder.view_of(part), View):
            uses[view.piece].append(len(calls))
    for number, call in enumerate(calls):
        if call.function is _RELU and call.made is not None:
            source = _source(calls, uses, number, call.arguments[0], call.made[0], "brodmann_forward_")
            if source is not None:
                calls[source].arguments = (*calls[source].arguments[:RELU], 1)
                recorder.drop(number, call.arguments[0].piece)
        elif call.function is _DERIVATIVE and call.made is not None and call.arguments[2] == 0:
            below, output, _ = call.arguments
            source = _source(calls, uses, number, below, call.made[0], "brodmann_error_")
            if source is not None and isinstance(output, View) and recorder.pieces[output.piece].made < source:
                calls[source].arguments = (*calls[source].arguments[:RELU], output)
                recorder.drop(number, below.piece)


def _source(
    calls: list[Call], uses: dict[int, list[int]], number: int, view: Any, made: View, kernel: str
) -> int | None:
    """Returns the kernel's call that wrote what a call changes elementwise, if nobody else reads that."""
    if not isinstance(view, View) or (view.size, view.stride, view.offset) != (made.size, made.stride, made.offset):
        return None
    before = [user for user in uses[view.piece] if user < number]
    if not before or uses[view.piece][-1] != number:
        return None
    source = calls[before[-1]]
    written = getattr(source.function, "__name__", "").startswith(kernel) and source.arguments[WRITTEN] == view
    return before[-1] if written else None


def _uses(calls: list[Call]) -> dict[int, list[int]]:
    """Returns the calls that use each piece of memory, in order."""
    uses: dict[int, list[int]] = defaultdict(list)
    for number, call in enumerate(calls):
        pieces = {part.piece for part in _views((call.arguments, call.keywords))}
        for piece in pieces:
            uses[piece].append(number)
    return uses


def _views(values: Any) -> list[View]:
    return [part for part in leaves(values) if isinstance(part, View)]
