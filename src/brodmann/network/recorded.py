"""A function of a network and tensors that is recorded, once for tensors of each size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..areas import AreaMap
from ..autograd import unrecorded
from ..kernels.fusion import fuse
from ..recording import DoesNotFit, Outdated, Program, Recorder
from ..recording.nested import leaves
from ..several import Several, of_each, parts_in
from .contents import own_part
from .network import Network
from .unchanged import Unchanged

_MOST = 8
"""Sizes that are remembered: batches of an epoch have one size, or two."""
_PATIENCE, _LONGEST = 8, 4096
"""Factor by which the calls until the next recording grow each time, and their largest number."""
_WORTH = 64
"""Calls of a program after which its recording has paid off: recording takes as long as about ten calls."""


class Attempt:
    """The attempt to record a function of tensors of one size, and what came of it.

    Attributes:
        program: What computes the function, if it was recorded.
        unchanged: How the network was then.
        ordinary_calls: How many calls came, since it was last tried, that nothing had been recorded for.
        replays: How many calls the program has made.
        wait: After how many ordinary ones it is tried (again).
        refusal: Why the function cannot be recorded; None if that is not known.
        constants: The rate of a recording through user-defined parts, and the numbers in it, until one at another
            rate has shown that they stay the same; else None.
    """

    def __init__(self) -> None:
        """Begins with an ordinary call; the next one is recorded."""
        self.program: Program | None = None
        self.unchanged: Unchanged | None = None
        self.ordinary_calls, self.replays, self.wait = 0, 0, 1
        self.refusal: str | None = None
        self.constants: tuple[float, list[float]] | None = None

    def due(self, rate: float | None) -> bool:
        """Whether this call is to be recorded: the first one, or one at another rate than the last recording."""
        if self.program is None:
            return self.ordinary_calls >= self.wait
        return self.constants is not None and rate != self.constants[0]

    def begin(self) -> None:
        """Begins a recording; the next one waits longer."""
        self.ordinary_calls = self.replays = 0
        self.wait = min(_PATIENCE * self.wait, _LONGEST)

    def forget(self) -> None:
        """Forgets the program of a network that has changed; if it has paid off, another is recorded at once."""
        if self.replays >= _WORTH:
            self.wait = 1
        self.program = self.unchanged = self.constants = None
        self.ordinary_calls = self.replays = 0


class Recorded:
    """A function of a network, tensors and a learning rate, whose further calls are those of its recording.

    Attributes:
        attempts: Those for tensors of each size.
        last: That for the size that came last, None before the first call, or beyond the sizes that are remembered.
        recordings: How often the function was recorded.
    """

    def __init__(self, network: Network, function: Callable[[tuple[Any, ...], Any], Any], *, own_parts: bool) -> None:
        """Takes the function: (inputs, rate) to tensors. ``own_parts`` says whether it may use user-defined parts."""
        self.network, self.function, self._own_parts = network, function, own_parts
        self.attempts: dict[Any, Attempt] = {}
        self.last: Attempt | None = None
        self.recordings = 0

    @unrecorded
    def __call__(self, inputs: tuple[Several, ...], rate: float | None) -> Any:
        """Returns what the function does, in tensors that the next call overwrites; None if an ordinary call is due.

        Args:
            inputs: Tensors on the CPU, contiguous, without gradients; one or several in each place.
            rate: Learning rate, above 0, or None for a function without one.
        """
        key = tuple([_form(values) for values in inputs])
        attempt = self.last = self.attempts.get(key)
        if attempt is None:
            if len(self.attempts) < _MOST:
                self.last = self.attempts[key] = Attempt()
            return None
        if attempt.unchanged is not None and not attempt.unchanged.holds():
            attempt.forget()
        if attempt.program is None:
            attempt.ordinary_calls += 1
        if attempt.due(rate):
            return self._recorded(attempt, inputs, rate)
        if attempt.program is None:
            return None
        try:
            made = attempt.program.run(_tensors_of(inputs), rate)
        except Outdated:
            attempt.forget()
            return None
        except DoesNotFit:
            return None
        attempt.replays += 1
        return made

    def _recorded(self, attempt: Attempt, inputs: tuple[Several, ...], rate: float | None) -> Any:
        """Calls the function, and makes a program of it if it can be replayed."""
        attempt.begin()
        network, inputs = self.network, tuple(of_each(Tensor.clone, values) for values in inputs)
        own = own_part(network, network.loss)
        if own is not None and not self._own_parts:
            attempt.refusal = f"'{own}' is a part of your own: own_parts=True lets it be captured"
            return None
        if rate is not None:
            network.look_again()  # before it is seen as it is
            # Areas may become more: copies, and networks of another dtype, have no room for them.
            for part in network.modules():
                if isinstance(part, AreaMap):
                    part.make_room()
        unchanged = Unchanged(network, network.loss)
        if not unchanged.holds():
            attempt.refusal = "hooks watch the network"
            return None
        recorder = Recorder([*network.parameters(), *network.buffers()])
        with recorder.listening():
            outputs = self.function(inputs, rate if rate is None else recorder.rate(rate))
        if not unchanged.holds():
            recorder.refuse("a step changes more than numbers in tensors")
        output = outputs if rate is None else outputs[1]
        if not all(isinstance(part, Tensor) for part in leaves(output)):
            recorder.refuse(f"the network returns a {type(output).__name__}, not tensors")
        if own is not None and rate is not None and recorder.refusal is None:
            self._compare(attempt, rate, recorder)
        attempt.refusal, attempt.program = recorder.refusal, None
        if attempt.refusal is None:
            fuse(recorder, outputs)
            attempt.program, attempt.unchanged = Program(recorder, _tensors_of(inputs), outputs, rate), unchanged
            self.recordings += 1
        return outputs

    @staticmethod
    def _compare(attempt: Attempt, rate: float, recorder: Recorder) -> None:
        """Compares recordings at two rates: user-defined code may compute numbers from them unnoticed."""
        first, attempt.constants = attempt.constants, None
        if first is None or first[0] == rate:
            attempt.constants = rate, recorder.constants
        elif recorder.constants != first[1]:
            recorder.refuse("a number is computed from the learning rate")

    @property
    def refusal(self) -> str | None:
        """Why tensors of the size that came last cannot be recorded; None if they are, or may yet be."""
        if self.last is not None:
            return self.last.refusal
        return f"{_MOST} sizes of batches are remembered, and this is another one" if self.attempts else None

    @property
    def memory(self) -> int:
        """Bytes that are kept for what is computed, for tensors of all sizes."""
        return sum(attempt.program.memory for attempt in self.attempts.values() if attempt.program is not None)


def _form(values: Several) -> Any:
    """Returns shape and dtype of a tensor; of several also in what they come, and the names they have there."""
    if isinstance(values, Tensor):
        return values.shape, values.dtype
    names = tuple(values) if isinstance(values, Mapping) else None
    return names, tuple([(part.shape, part.dtype) for part in parts_in(values)])


def _tensors_of(inputs: Sequence[Several]) -> list[Tensor]:
    """Returns all tensors of inputs, of which some may be several."""
    return [part for values in inputs for part in parts_in(values)]
