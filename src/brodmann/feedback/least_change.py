"""Least change: the error of another path, scaled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..areas import Slab
from .checked import build_feedback, error_below, let_learn
from .kolen_pollack import KolenPollack
from .path import Feedback
from .shape import Shape
from .signal import Signal


class LeastChange(Feedback):
    """Rescales another path's error to the length of the least input change that would cancel ``delta``, for `RLS`.

    ``e_below = e |delta|^2 / |e|^2`` for each sample, ``e`` the error of the path. If its matrix B has orthogonal
    rows of length b, that is ``delta B / b^2``, the product with the pseudo-inverse of B^T: the least change of x that
    takes ``delta`` off ``B x``. So the size of hidden steps depends neither on the width nor on how large B has grown.
    delta (rows, out); e and e_below (rows, in); a row whose e is 0 sends 0. In a `Convolution` every patch is scaled on
    its own, and the transposed convolution is not used. Source: our choice, after target propagation (Lee et al. 2015).
    """

    def __init__(self, shape: Shape, *, path: Callable[[Shape], Feedback] = KolenPollack) -> None:
        """Wraps ``path``, a feedback path or a `functools.partial` of one."""
        super().__init__()
        self.path = build_feedback(path, shape)
        self.from_output, self.starts_apart = self.path.from_output, self.path.starts_apart

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        below = error_below(self.path, signal)
        size = below.square().sum(1, keepdim=True)
        wanted = signal.delta.square().sum(1, keepdim=True)
        return below * torch.where(size > 0, wanted / size, 0.0)

    @property
    def follower(self) -> Slab | None:
        """The follower of the wrapped path."""
        return self.path.follower

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """Lets the wrapped path learn."""
        let_learn(self.path, signal, lr, decay, area_lr, area_decay)
