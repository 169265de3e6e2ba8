"""Kolen-Pollack: feedback weights that learn as the forward weights do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..areas import AreaMap, Slab, error_of_parts
from ..areas.starts import mirrored
from ..checks import check_real, check_switch
from ..errors import BrodmannError, unknown_name
from ..held import Held
from .path import Feedback
from .shape import Shape
from .signal import Signal

STARTS: dict[str, Callable[[Shape], Tensor]] = {
    "independent": lambda shape: shape.draw().mul_(shape.scale),
    "mirrored": lambda shape: mirrored(lambda x: x @ shape.equal_start.t(), shape.equal_start),
    "equal": lambda shape: shape.equal_start.clone(),
}
"""What ``B0`` starts as."""


class KolenPollack(Feedback):
    """Feedback weights that learn by the same updates as the forward weights, and so align with them.

    With delta (rows, out) and ``part_delta``, which is ``a delta`` in gated layers and else ``delta``, e_below (rows,
    in) is, by the layer's shared part and the number of feedback maps,

    - learned, one map: ``delta B0``; B0 (out, in) receives the factors ``(delta, x)`` of ``W0``;
    - learned, per area: ``delta B0 + part_delta E[g]``; E[g] (out, in) starts at 0 and receives those of ``D[g]``;
    - frozen or off, one map: ``part_delta B0``; B0 receives ``(part_delta, x)`` of all samples, the areas' decay;
    - frozen or off, per area: ``part_delta E[g]``; all E[g] start as copies of one random map.

    If a pair learns at equal rates (`Rates`), its difference shrinks by ``1 - lr * decay`` a step, so without decay
    it stays.

    Source: Kolen and Pollack (1994), Akrout et al. (2019) for the rule; sharing one matrix among areas is our choice.
    """

    reads_rows = False
    shared = Held[Slab | None]()
    areas = Held[AreaMap | None]()

    def __init__(self, shape: Shape, *, per_area: bool = False, start: str = "independent", noise: float = 0.0) -> None:
        """Starts ``B0``, by default drawn with the standard deviation of the forward weights.

        Args:
            shape: What is known of the layer.
            per_area: Whether each area has a feedback map of its own. Default False: as accurate, and half the memory.
            start: ``"independent"`` (default) draws ``B0`` apart from ``W0``; ``"mirrored"`` starts as an estimate of
                ``W0`` from what it answers to noise, which reads no weight, see `brodmann.mirror.mirror_weights`;
                ``"equal"`` starts as a copy, which is backpropagation with a second copy of the weights (exactly so
                with one area) and proves nothing about feedback.
            noise: Standard deviation of a factor ``1 + noise * normal`` on every change of every weight of ``B0``, for
                studies of hardware whose two sets of weights do not move alike. Default 0.

        Raises:
            BrodmannError: The start is unknown, the noise negative, ``per_area`` not True or False, or noise is wanted
                on maps per area.
        """
        super().__init__()
        check_real(noise=noise)
        check_switch(per_area=per_area)
        if noise and per_area:
            raise BrodmannError(f"Expected noise to be 0 with a map per area, got {noise}.")
        self.noise = noise
        if start not in STARTS:
            raise unknown_name("start", start, STARTS)
        self.starts_apart = start == "independent"
        matrix = shape.stored(STARTS[start](shape))
        per_area = per_area and (shape.areas > 1 or not shape.shared)  # else the shared part is all there is
        own_only = per_area and not shape.shared
        self.shared = None if own_only else Slab(matrix[None], shape.update)
        self.areas = None
        if per_area:
            origin = matrix if own_only else torch.zeros_like(matrix)
            self.areas = AreaMap(shape.areas, origin, None, shape.update)
        self.follows_shared = shape.shared

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"per_area={self.areas is not None}, noise={self.noise}"

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        delta = signal.delta if self.follows_shared else signal.part_delta
        return error_of_parts(self.shared, self.areas, delta, signal.part_delta, signal.groups)

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """``B0``, unless there are maps per area, or no shared part learns."""
        return self.shared.value[0] if self.shared is not None and self.areas is None and self.follows_shared else None

    @property
    def follower(self) -> Slab | None:
        """``B0``, unless no shared part learns, or it moves with noise."""
        return self.shared if self.follows_shared and not self.noise else None

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """Moves the feedback weights that the layer does not move as `follower`, see the class."""
        if self.shared is not None and self.follower is None:
            driver, shared_decay = (signal.delta, decay) if self.follows_shared else (signal.part_delta, area_decay)
            before = self.shared.value.clone() if self.noise else None
            self.shared.learn(driver, signal.x, signal.groups, lr, shared_decay)
            if before is not None:
                change = self.shared.value - before
                self.shared.value.addcmul_(change, torch.randn_like(change), value=self.noise)
        if self.areas is not None:
            self.areas.learn(signal.part_delta, signal.x, signal.groups, area_lr, area_decay)

    def mirror(self, shared: Slab | None, areas: AreaMap | None, samples: int) -> None:
        """Sets the feedback weights by what a layer's parts answer to rows of noise, see `brodmann.mirror`."""
        common = [] if shared is None else [shared.value[0]]
        own = None if areas is None else areas.weight.value  # (slots, out, in); what has no slot of its own is slot 0
        if self.shared is not None:
            others = [] if self.follows_shared or own is None else [*(own[1:] if len(own) > 1 else own)]
            self.shared.value[0] = _watched(common, others, samples)
        if self.areas is None or areas is None or own is None:
            return
        existing = areas.slot.nonzero()[:, 0]
        self.areas.allocate(existing)
        if not self.follows_shared:  # what areas begin with that do not exist yet
            self.areas.weight.value[0] = _watched(common, [own[0]], samples)
        beside = [] if self.follows_shared else common
        for area in existing.tolist():
            watched = own[int(areas.slot[area])]
            self.areas.weight.value[int(self.areas.slot[area])] = _watched(beside, [watched], samples)


def _watched(common: list[Tensor], others: list[Tensor], samples: int) -> Tensor:
    """Estimates from answers to noise the sum of the common maps, (out, in) each, and of the mean of the others."""

    def answer(x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), like.shape[0])
        for weight in common:
            y += x @ weight.to(x.dtype).t()
        for weight in others:
            y += x @ weight.to(x.dtype).t() / len(others)
        return y

    like = [*common, *others][0]
    return mirrored(answer, like, samples)
