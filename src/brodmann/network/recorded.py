"""A function of a network and tensors that is recorded, once for tensors of each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..autograd import unrecorded
from ..kernels.fusion import fuse
from ..recording import Departure, Program, Recorder
from .network import Network
from .own_parts import own_part
from .unchanged import Unchanged

_MOST = 8
"""Sizes that are remembered: an epoch has one of batches, or two."""
_PATIENCE, _LONGEST = 8, 4096
"""By what the calls until a recording is tried again are multiplied each time, and their largest number."""
_WORTH = 64
"""Calls of a program after which its recording has paid: that takes as long as about ten ordinary calls."""


class Size:
    """What is known of tensors of one size.

    Attributes:
        program: What computes the function, where it was recorded.
        unchanged: How the network was then.
        calls: How many calls came since recording was last tried: those of its program, or ordinary ones.
        wait: After how many ordinary ones it is tried (again).
        refusal: Why the function cannot be recorded; None where that is not known.
        constants: The rate of a recording through parts of a user's own, and the numbers in it, until one at another
            rate has shown that they stay the same; else None.
    """

    def __init__(self) -> None:
        """Begins with an ordinary call; the next one is recorded."""
        self.program: Program | None = None
        self.unchanged: Unchanged | None = None
        self.calls, self.wait = 0, 1
        self.refusal: str | None = None
        self.constants: tuple[float, list[float]] | None = None

    def forget(self) -> None:
        """Forgets the program of a network that has changed; where it has paid, another is recorded at once."""
        if self.calls >= _WORTH:
            self.wait = 1
        self.program = self.unchanged = self.constants = None
        self.calls = 0


class Recorded:
    """A function of a network, tensors and a learning rate, whose further calls are those of its recording.

    Attributes:
        sizes: What is known of each size.
        last: That of the size that came last, None before the first call, or beyond the sizes that are remembered.
        recordings: How often the function was recorded.
    """

    def __init__(
        self, network: Network, function: Callable[[tuple[Tensor, ...], Any], Any], *, own_parts: bool
    ) -> None:
        """Takes the function: (tensors, rate) to tensors. ``own_parts`` says whether it may go through a user's own."""
        self.network, self.function, self._own_parts = network, function, own_parts
        self.sizes: dict[Any, Size] = {}
        self.last: Size | None = None
        self.recordings = 0

    @unrecorded
    def __call__(self, inputs: tuple[Tensor, ...], rate: float | None) -> Any:
        """Returns what the function does, in tensors that the next call overwrites; None where an ordinary call is due.

        Args:
            inputs: Tensors on the CPU, contiguous, without gradients.
            rate: Learning rate, above 0, or None for a function without one.
        """
        key = tuple([(tensor.shape, tensor.dtype) for tensor in inputs])
        size = self.last = self.sizes.get(key)
        if size is None:
            if len(self.sizes) < _MOST:
                self.last = self.sizes[key] = Size()
            return None
        if size.unchanged is not None and not size.unchanged.holds():
            size.forget()
        if size.program is not None and size.constants is not None and rate != size.constants[0]:
            return self._recorded(size, inputs, rate)
        if size.program is None:
            size.calls += 1
            return self._recorded(size, inputs, rate) if size.calls >= size.wait else None
        try:
            made = size.program.run(inputs, rate)
        except Departure:
            return None
        size.calls += 1
        return made

    def _recorded(self, size: Size, inputs: tuple[Tensor, ...], rate: float | None) -> Any:
        """Calls the function, and makes a program of it where it can be called again."""
        size.calls, size.wait = 0, min(_PATIENCE * size.wait, _LONGEST)
        network, inputs = self.network, tuple(tensor.clone() for tensor in inputs)
        own = own_part(network, network.loss)
        if own is not None and not self._own_parts:
            size.refusal = f"'{own}' is a part of your own: own_parts=True lets it be captured"
            return None
        unchanged = Unchanged(network, network.loss)
        if not unchanged.holds():
            size.refusal = "hooks watch the network"
            return None
        recorder = Recorder([*network.parameters(), *network.buffers()])
        with recorder.listening():
            outputs = self.function(inputs, rate if rate is None else recorder.rate(rate))
        if not unchanged.holds():
            recorder.refuse("a step changes more than numbers in tensors")
        if not isinstance(outputs if rate is None else outputs[1], Tensor):
            recorder.refuse("the network has several outputs")
        if own is not None and rate is not None and recorder.refusal is None:
            self._compare(size, rate, recorder)
        size.refusal, size.program = recorder.refusal, None
        if size.refusal is None:
            fuse(recorder, outputs)
            size.program, size.unchanged = Program(recorder, inputs, outputs, rate), unchanged
            self.recordings += 1
        return outputs

    @staticmethod
    def _compare(size: Size, rate: float, recorder: Recorder) -> None:
        """Compares recordings at two rates: code of a user's own may compute numbers from them unnoticed."""
        first, size.constants = size.constants, None
        if first is None or first[0] == rate:
            size.constants = rate, recorder.constants
        elif recorder.constants != first[1]:
            recorder.refuse("a number is computed from the learning rate")

    @property
    def refusal(self) -> str | None:
        """Why tensors of the size that came last cannot be recorded; None where they are, or may yet be."""
        if self.last is not None:
            return self.last.refusal
        return f"{_MOST} sizes of batches are remembered, and this is another one" if self.sizes else None

    @property
    def memory(self) -> int:
        """Bytes that are kept for what is computed, for tensors of all sizes."""
        return sum(size.program.memory for size in self.sizes.values() if size.program is not None)
