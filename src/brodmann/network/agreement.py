"""What several processes agree on in a step, before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..errors import BrodmannError, DivergenceError
from ..processes import Processes
from ..several import of_each

DONE, FAILED, DIVERGED = range(3)
SETTINGS = "clip, rates, the loss, what is frozen or protected, and whether samples are weighed"
SHAPES = "shapes of samples, such as lengths of sequences, where weights, clip or a path of your own need the same"


def shares_of(counts: Sequence[float], *, sums: bool) -> list[float]:
    """Returns the factors by which losses of parts add up to that of all, from what each part counts for."""
    total = sum(counts)
    return [1.0 if sums else count / total if total else 0.0 for count in counts]


class Agreement:
    """The agreement of one step: either all processes make it, or none does.

    Attributes:
        processes: Who makes the step.
    """

    def __init__(self, processes: Processes) -> None:
        """Begins a step."""
        self.processes = processes
        self._reported = False

    def agree(
        self,
        error: Any,
        loss: Tensor,
        *,
        lr: float,
        counts: float,
        sums: bool,
        batch: float,
        settings: float,
        shapes: float,
        seed: float,
    ) -> tuple[Any, Tensor]:
        """Returns the output error and the loss as of one batch of the samples of all processes.

        With ``n`` what a process's samples count for, and N the sum over all processes, the error becomes ``n / N``
        times as large, and the loss the mean weighted likewise; both are sums where the loss is one.

        Args:
            error: ``dL/d output`` of this process's samples, or several.
            loss: Their loss.
            lr: Learning rate of the step.
            counts: n, see `brodmann.losses.facts.LossTraits.counts_for`.
            sums: Whether the loss is a sum over samples.
            batch: Stands for the whole batch; 0 if processes bring samples of their own.
            settings: Stands for the settings of the network.
            shapes: Stands for those shapes of samples that must be the same.
            seed: Random numbers of the update, which must be the same, follow from that of the first process.

        Raises:
            BrodmannError: Another process cannot make the step, or was given another batch, learning rate or settings.
            DivergenceError: The loss of another process is not finite.
        """
        states, rates, batches, every_setting, every_shape, seeds, every_count, losses = zip(
            *self._report(DONE, lr, batch, settings, shapes, seed, counts, float(loss)), strict=True
        )
        for rank, state in enumerate(states):
            if state != DONE:
                kind = DivergenceError if state == DIVERGED else BrodmannError
                raise kind(f"Process {rank} could not make this step, so that no process has: see its own error.")
        if len(set(rates)) > 1:
            raise BrodmannError(f"Processes were given different learning rates: {', '.join(map(str, rates))}.")
        compared = {"batches": batches, f"settings ({SETTINGS})": every_setting, SHAPES: every_shape}
        for what, values in compared.items():
            if others := [str(rank) for rank, value in enumerate(values) if value != values[0]]:
                raise BrodmannError(f"Processes {', '.join(others)} have other {what} than process 0.")
        self.processes.draw_from(int(seeds[0]))
        shares = shares_of(every_count, sums=sums)
        own = shares[self.processes.rank]
        whole = sum(share * value for share, value in zip(shares, losses, strict=True))
        return of_each(lambda part: part * own, error), loss.new_tensor(whole)

    def give_up(self, error: Exception) -> None:
        """Tells the others that this process cannot make the step, unless they have agreed on it already."""
        if not self._reported:
            self._report(DIVERGED if isinstance(error, DivergenceError) else FAILED)

    def _report(self, state: int, *numbers: float) -> list[list[float]]:
        self._reported = True
        return self.processes.numbers_of_each("a step", state, *(numbers or [0.0] * 7))
