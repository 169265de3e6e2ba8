"""What several processes agree on in a step, before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import BrodmannError, DivergenceError
from ..processes import Processes
from ..several import of_each

DONE, FAILED, DIVERGED = range(3)
SETTINGS = "clip, rates, the loss, update rules, what is frozen or protected, and whether samples are weighed"
SHAPES = "shapes of samples, such as lengths of sequences (weights, clip and your own feedback paths need equal ones)"


def shares_of(counts: Sequence[float], *, sums: bool) -> list[float]:
    """Returns the factors by which losses of parts add up to the loss of all, from the count of each part."""
    total = sum(counts)
    return [1.0 if sums else count / total if total else 0.0 for count in counts]


class Report(NamedTuple):
    """What one process tells the others of a step.

    Attributes:
        state: `DONE`, `FAILED` or `DIVERGED`, for its half of the step before anything moves.
        lr: Learning rate of the step.
        batch: Stands for the whole batch; 0 if processes bring samples of their own.
        settings: Stands for the settings of the network.
        shapes: Stands for those shapes of samples that must be the same.
        seed: The first process's determines the random numbers of the update, which must be the same.
        counts: What its samples count for, see `brodmann.losses.facts.LossTraits.counts_for`.
        loss: Loss of its samples.
    """

    state: float
    lr: float = 0.0
    batch: float = 0.0
    settings: float = 0.0
    shapes: float = 0.0
    seed: float = 0.0
    counts: float = 0.0
    loss: float = 0.0


class Agreement:
    """The agreement of one step: either all processes make it, or none does.

    Attributes:
        processes: Who makes the step.
    """

    def __init__(self, processes: Processes) -> None:
        """Begins a step."""
        self.processes = processes
        self._reported = False

    def agree(self, error: Any, loss: Tensor, report: Report, *, sums: bool) -> tuple[Any, Tensor]:
        """Returns the output error and the loss as of one batch of the samples of all processes.

        With ``n`` what a process's samples count for, and N the sum over all processes, the error becomes ``n / N``
        times as large, and the loss the mean weighted likewise; both are sums if the loss is one.

        Args:
            error: ``dL/d output`` of this process's samples, or several.
            loss: Their loss.
            report: That of this process.
            sums: Whether the loss is a sum over samples.

        Raises:
            BrodmannError: Another process cannot make the step, or was given another batch, learning rate or settings.
            DivergenceError: The loss of another process is not finite.
        """
        reports = self._exchanged(report)
        for rank, other in enumerate(reports):
            if other.state != DONE:
                kind = DivergenceError if other.state == DIVERGED else BrodmannError
                raise kind(f"Process {rank} could not make this step, so that no process has: see its own error.")
        first, rates = reports[0], [other.lr for other in reports]
        if len(set(rates)) > 1:
            raise BrodmannError(
                f"Processes were given different learning rates, {', '.join(map(str, rates))}: give all the same one."
            )
        for what, name in (("batches", "batch"), (f"settings ({SETTINGS})", "settings"), (SHAPES, "shapes")):
            apart = [str(rank) for rank, other in enumerate(reports) if getattr(other, name) != getattr(first, name)]
            if apart:
                raise BrodmannError(
                    f"Processes {', '.join(apart)} have other {what} than process 0: give all of them the same."
                )
        self.processes.draw_from(int(first.seed))
        shares = shares_of([other.counts for other in reports], sums=sums)
        own = shares[self.processes.rank]
        whole = sum(share * other.loss for share, other in zip(shares, reports, strict=True))
        return of_each(lambda part: part * own, error), loss.new_tensor(whole)

    def give_up(self, error: Exception) -> None:
        """Tells the others that this process cannot make the step, unless they have agreed on it already."""
        if not self._reported:
            self._exchanged(Report(DIVERGED if isinstance(error, DivergenceError) else FAILED))

    def _exchanged(self, report: Report) -> list[Report]:
        """Returns the reports of all processes, in their order."""
        self._reported = True
        return [Report(*numbers) for numbers in self.processes.numbers_of_each("a step", *report)]
