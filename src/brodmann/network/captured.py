"""CapturedStep: a network's step, recorded once and then computed without the Python between its operations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..autograd import transformed, unrecorded
from ..checks import check_switch
from ..kernels import library
from ..kernels.fusion import fuse
from ..layer import Observer
from ..recording import Departure, Program, Recorder
from ..several import Several
from .network import Network, check_network
from .own_parts import own_part
from .unchanged import Unchanged

_MOST = 8
"""Sizes of batches that are remembered: an epoch has one, or two."""
_LONGEST = 4096
"""Steps after which a recording that failed is tried again at the latest."""


class _Size:
    """What is known of batches of one size.

    Attributes:
        program: What computes a step, if it was recorded.
        steps: How many steps came since that was last tried.
        wait: After how many it is tried (again).
        refusal: Why it cannot be recorded; None where that is not known.
    """

    def __init__(self) -> None:
        self.program: Program | None = None
        self.steps, self.wait = 0, 1
        self.refusal: str | None = None


class CapturedStep:
    """Makes the steps of a network as `Network.learn` does, bit for bit, in less time where batches are small.

    The first step on batches of one size is an ordinary one. During the second, all that it computes is recorded:
    operations of PyTorch, and calls of the compiled kernels. Further ones make just these calls, in memory that is
    kept, without the Python between them, which takes most of the time of a small step. A step is an ordinary one
    again, and one more is recorded, where

    - a batch has another size or dtype;
    - the network has changed other than by learning: a setting such as ``frozen`` or ``rates``, a part of it, where a
      tensor lies.

    Steps stay ordinary ones where weights of samples, an observer or a rate of 0 are given; where a batch or an output
    is more than one tensor, or on a GPU; without compiled kernels; under autocast, `torch.inference_mode` and hooks;
    and where a step looks at its own numbers: areas that grow, recruit or are protected, rules without a compiled
    kernel (`Muon`, `RLS`, one of your own), `Transpose` through areas, a loss of your own that does. `refusal` says
    which of these it was.

    Attributes:
        network: The network.
        recordings: How often a step was recorded.

    Source: CUDA graphs, which do the same on GPUs; for steps in place, our choice.
    """

    def __init__(self, network: Network, *, own_parts: bool = False) -> None:
        """Takes a network, which may also be used directly meanwhile.

        Args:
            network: The network.
            own_parts: Whether steps through layers, functions or a loss of your own may be captured too. What they do
                besides computing with tensors, such as counting steps or drawing from NumPy, then happens only while a
                step is recorded. Default False: such steps stay ordinary ones.

        Raises:
            BrodmannError: It is no `Network`, or ``own_parts`` not True or False.
        """
        check_network(network)
        check_switch(own_parts=own_parts)
        self.network, self._own_parts = network, own_parts
        self._sizes: dict[Any, _Size] = {}
        self._last: _Size | None = None
        self._unchanged: Unchanged | None = None
        self.recordings = 0

    def learn(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Makes one step on one mini-batch; see `Network.learn`."""
        made = self._made(x, target, weight, lr, observe)
        return self.network.learn(x, target, weight, lr=lr, observe=observe) if made is None else made[0].clone()

    def learn_with_output(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Any]:
        """As `learn`; returns the loss and the output, both from before the step; see `Network.learn_with_output`."""
        made = self._made(x, target, weight, lr, observe)
        if made is None:
            return self.network.learn_with_output(x, target, weight, lr=lr, observe=observe)
        loss, output = made
        return loss.clone(), output.clone()

    @property
    def captured(self) -> bool:
        """Whether steps on batches of the size that came last are captured."""
        return self._last is not None and self._last.program is not None

    @property
    def memory(self) -> int:
        """Bytes that captured steps keep for what they compute, for batches of all sizes."""
        return sum(size.program.memory for size in self._sizes.values() if size.program is not None)

    @property
    def refusal(self) -> str | None:
        """Why steps on batches of the size that came last are not captured; None where they are, or may yet be."""
        return None if self._last is None else self._last.refusal

    @unrecorded
    def _made(
        self, x: Several, target: Several, weight: Tensor | None, lr: float | None, observe: Observer | None
    ) -> tuple[Tensor, Tensor] | None:
        """Makes a step by a program, or makes a program meanwhile; returns None where an ordinary step is due.

        What is returned belongs to the program.
        """
        rate = self.network.lr if lr is None else lr
        if not (weight is None and observe is None and _plain(x) and _plain(target) and _moves(rate) and _usual()):
            return None
        assert isinstance(x, Tensor)
        assert isinstance(target, Tensor)
        key = (x.shape, x.dtype, target.shape, target.dtype)
        size = self._sizes.get(key)
        if size is None:
            if len(self._sizes) < _MOST:
                size = self._sizes[key] = _Size()
            self._last = size
            return None
        self._last = size
        if size.program is not None and not (self._unchanged is not None and self._unchanged.holds()):
            for known in self._sizes.values():
                known.program = None
        if size.program is None:
            size.steps += 1
            return self._recorded(size, x, target, float(rate)) if size.steps >= size.wait else None
        try:
            return size.program.run((x, target), float(rate))  # type: ignore[no-any-return]
        except Departure:
            return None

    def _recorded(self, size: _Size, x: Tensor, target: Tensor, rate: float) -> tuple[Tensor, Tensor] | None:
        """Makes an ordinary step, and a program of it where it can be made again."""
        size.steps, size.wait = 0, min(8 * size.wait, _LONGEST)
        network, inputs = self.network, (x.clone(), target.clone())
        own = None if self._own_parts else own_part(network, network.loss)
        if own is not None:
            size.refusal = f"'{own}' is a part of your own: own_parts=True lets it be captured"
            return None
        unchanged = Unchanged(network, network.loss)
        if not unchanged.holds():
            size.refusal = "hooks watch the network"
            return None
        recorder = Recorder([*network.parameters(), *network.buffers()])
        with recorder.listening():
            made = network.learn_with_output(*inputs, lr=recorder.rate(rate))
        if not unchanged.holds():
            recorder.refuse("a step changes more than numbers in tensors")
        if not all(isinstance(part, Tensor) for part in made):
            recorder.refuse("the network has several outputs")
        size.refusal = recorder.refusal
        if size.refusal is None:
            fuse(recorder, made)
            size.program = Program(recorder, inputs, made, rate)
            self.recordings += 1
            if self._unchanged is None or not self._unchanged.holds():
                self._unchanged = unchanged
        return made


def _plain(x: Several) -> bool:
    """Whether this is one tensor on the CPU, which autograd leaves alone."""
    return type(x) is Tensor and x.is_cpu and not x.requires_grad and x.numel() > 0


def _moves(rate: object) -> bool:
    return type(rate) in (float, int) and 0 < rate < math.inf  # type: ignore[operator]


def _usual() -> bool:
    """Whether kernels are active, and nobody else follows or changes what PyTorch does."""
    return library.active() and not (
        is_in_torch_dispatch_mode()
        or torch.is_inference_mode_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or transformed()
    )
