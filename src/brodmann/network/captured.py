"""Captured: a network whose steps and inference are recorded once, and then computed without the Python in between."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..autograd import dispatched, transformed
from ..checks import check_switch
from ..kernels import library
from ..layer import Observer
from ..recording.nested import replaced
from ..several import Several, of_each, parts_in
from .network import Network
from .recorded import Recorded
from .wrapper import Wrapper


class Captured(Wrapper):
    """Records the operations of a step once and replays them, like a CUDA graph: same bits, faster for small batches.

    The first call of `learn`, or of inference, with batches of one size is an ordinary one. The second is recorded:
    every operation of PyTorch, and every call of a compiled kernel. Later calls repeat just these, in memory that is
    kept, without the Python in between, which takes most of the time of a small step. An ordinary call, and another
    recording, come again if

    - a batch has another size or dtype;
    - the network has changed other than by learning: a setting such as ``frozen`` or ``rates``, one of its parts, or
      the memory of a tensor.

    Calls stay ordinary

    - if an observer or a rate of 0 is given, or while another thread makes a call;
    - if a tensor of a batch is on a GPU, or not contiguous (slices of whole numbers, such as ``tokens[:, :-1]``, are
      taken);
    - without compiled kernels, under autocast, with hooks, and if autograd records;
    - for batches of a ninth size;
    - if a step reads its own numbers, as dropout in `Recomputed` does, and as a loss of your own may.

    `refusal` says why a call was an ordinary one. Update rules without a compiled kernel (`Muon`, `RLS`, one of your
    own) are called in every step, as they are.

    Source: CUDA graphs, which do the same on GPUs; for steps in place, our choice.

    Attributes:
        network: The network.
    """

    def __init__(self, network: Network, *, own_parts: bool = False) -> None:
        """Takes a network, which may also be used directly meanwhile.

        Args:
            network: The network.
            own_parts: Whether to capture calls that go through layers, functions or a loss of your own, and steps that
                move weights by an update rule of your own. The rule is called in every step, with tensors that the next
                one overwrites. Of all other parts, Python runs only while a call is recorded: they then count steps,
                draw from NumPy, keep tensors in a list, or read a number outside of the network only once, so what a
                layer remembers belongs in its buffers. The learning rate may change if operations of PyTorch take it as
                it is, times a number, or negated. A second recording, at another rate, shows whether other numbers are
                computed from it; such steps stay ordinary. Default False: all calls through parts of your own do.

        Raises:
            BrodmannError: It is not a `Network`, or ``own_parts`` not True or False.
        """
        super().__init__(network)
        check_switch(own_parts=own_parts)
        self._own_parts = own_parts
        self._learning = Recorded(
            network, lambda inputs, rate: network.learn_with_output(*inputs, lr=rate), own_parts=own_parts
        )
        self._inference = Recorded(network, lambda inputs, _: network(*inputs), own_parts=own_parts)
        self._last = self._learning
        self._refusal: str | None = None  # why the last call was not even looked up there
        self._free = threading.Lock()  # of the memory of recordings, which a second thread would overwrite

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the network, not what was recorded."""
        return partial(Captured, own_parts=self._own_parts), (self.network,)

    def __call__(self, x: Several) -> Any:
        """Inference: x (batch, ..., in); returns (batch, ..., outputs); see `Network.forward`."""
        output = self._replayed(x)
        return self.network(x) if output is None else output

    @property
    def is_captured(self) -> bool:
        """Whether calls like the last one, a step or inference, are captured."""
        return self._refusal is None and self._last.last is not None and self._last.last.program is not None

    @property
    def refusal(self) -> str | None:
        """Why calls like the last one, a step or inference, are not captured; None if they are, or may yet be."""
        return self._refusal or self._last.refusal

    @property
    def recordings(self) -> int:
        """How often a step or inference was recorded."""
        return self._learning.recordings + self._inference.recordings

    @property
    def memory(self) -> int:
        """Bytes that are kept for what is computed, for batches of all sizes."""
        return self._learning.memory + self._inference.memory

    def _replayed(self, x: Any) -> Any:
        """Computes the output by a recording, or while recording; returns None if an ordinary call is due."""
        if not self._free.acquire(blocking=False):
            return None
        try:
            x = of_each(_in_order, x)
            self._last, self._refusal = self._inference, _unfit(x) or _unusual() or self._followed()
            if self._refusal is not None:
                return None
            with torch.inference_mode(False):
                output = self._inference((x,), None)
            return replaced(Tensor, Tensor.clone, output)
        finally:
            self._free.release()

    def _step(
        self, x: Any, target: Any, weight: Any, lr: float | None, observe: Observer | None, *, with_output: bool
    ) -> tuple[Tensor, Any]:
        made = self._replayed_step(x, target, weight, lr, observe, with_output=with_output)
        if made is not None:
            return made
        if with_output:
            return self.network.learn_with_output(x, target, weight, lr=lr, observe=observe)
        return self.network.learn(x, target, weight, lr=lr, observe=observe), None

    def _replayed_step(
        self, x: Any, target: Any, weight: Any, lr: float | None, observe: Observer | None, *, with_output: bool
    ) -> tuple[Tensor, Any] | None:
        """Makes a step by a recording, or while recording; returns None if an ordinary step is due."""
        if not self._free.acquire(blocking=False):
            return None
        try:
            rate: Any = self.network.lr if lr is None else lr
            given = (x, target) if weight is None else (x, target, weight)
            given = tuple([of_each(_in_order, values) for values in given])
            self._last, self._refusal = self._learning, self._uncommon(rate, observe) or _unusual()
            for values in given:
                self._refusal = self._refusal or _unfit(values)
            if self._refusal is not None:
                return None
            with self.network.turn:
                made = self._learning(given, float(rate))
            if made is None:
                return None
            return made[0].clone(), replaced(Tensor, Tensor.clone, made[1]) if with_output else None
        finally:
            self._free.release()

    def _uncommon(self, rate: Any, observe: Observer | None) -> str | None:
        """Returns why a step is an ordinary one, whatever its batch is; None if it need not be."""
        if observe is not None:
            return "an observer watches the step"
        if not isinstance(rate, float | int) or not 0 < rate < math.inf:
            return f"the learning rate, {rate!r}, is no plain number above 0"
        if type(self.network).learn is not Network.learn:  # a subclass does more than is recorded here
            return f"{type(self.network).__name__} overrides learn"
        if torch.is_inference_mode_enabled():
            return "torch.inference_mode is on"
        return None

    def _followed(self) -> str | None:
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.network.parameters()):
            return "autograd follows, since a parameter requires a gradient"
        return None


def _in_order(x: Any) -> Any:
    """Returns a tensor; a part of a larger one that holds whole numbers, such as ``tokens[:, :-1]``, as a copy.

    Whole numbers select and are compared: nothing is computed from the order in which they lie, as a sum is from that
    of real ones.
    """
    if type(x) is not Tensor or x.is_contiguous() or x.is_floating_point() or x.layout is not torch.strided:
        return x
    return x.contiguous() if list(x.stride()) == sorted(x.stride(), reverse=True) else x


def _unfit(values: Several) -> str | None:
    """Returns why tensors are not captured; None if they may be."""
    if type(values) is Tensor:
        return _unfit_part(values)
    parts = parts_in(values)
    return next((why for part in parts if (why := _unfit_part(part))), None if parts else "part of a batch is empty")


def _unfit_part(x: Any) -> str | None:
    """Returns why a tensor is not captured; None for one on the CPU, its numbers in order, left by autograd."""
    if type(x) is not Tensor:
        return f"part of a batch is a {type(x).__name__}, not a plain tensor"
    if not x.is_cpu:
        return f"part of a batch lies on {x.device}, not on the CPU"
    if x.requires_grad:
        return "part of a batch requires a gradient"
    if x.layout is not torch.strided or not x.is_contiguous():
        return "part of a batch is not contiguous: call contiguous() on it"
    return None if x.numel() else "part of a batch is empty"


def _unusual() -> str | None:
    """Returns why nothing is captured now; None if kernels are active, and nobody follows what PyTorch does."""
    if not library.active():
        return "no compiled kernels are active: `brodmann doctor` says why"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if dispatched() or torch.compiler.is_compiling() or transformed():
        return "a mode, a compiler or a transform follows what PyTorch does"
    return None
