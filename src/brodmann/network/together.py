"""What several processes agree on in a step, before anything moves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import BrodmannError, DivergenceError
from ..processes import Processes
from ..several import of_each

DONE, FAILED, DIVERGED = range(3)


class Together:
    """The agreement of one step: either all processes make it, or none does.

    Attributes:
        processes: Who makes the step.
    """

    def __init__(self, processes: Processes) -> None:
        """Begins a step."""
        self.processes = processes
        self._told = False

    def agree(
        self, error: Any, loss: Tensor, *, lr: float, counts: float, sums: bool, check: float
    ) -> tuple[Processes, Any, Tensor]:
        """Returns the processes, the output error and the loss as of one batch of the samples of all processes.

        With ``n`` what a process's samples count for, and N the sum over all processes, the error becomes ``n / N``
        times as large, and the loss the mean weighted likewise; both are sums where the loss is one.

        Args:
            error: ``dL/d output`` of this process's samples, or several.
            loss: Their loss.
            lr: Learning rate of the step.
            counts: n, see `brodmann.losses.facts.Facts.counts_for`.
            sums: Whether the loss is a sum over samples.
            check: A number that all processes must have in common.

        Raises:
            BrodmannError: Another process cannot make the step, or was given another batch or learning rate.
            DivergenceError: The loss of another process is not finite.
        """
        reports = self._tell(DONE, lr, check, counts, float(loss))
        for rank, (state, *_) in enumerate(reports):
            if state != DONE:
                kind = DivergenceError if state == DIVERGED else BrodmannError
                raise kind(f"Process {rank} could not make this step, so that no process has: see its own error.")
        for what, values in zip(("learning rates", "batches"), list(zip(*reports, strict=True))[1:3], strict=True):
            if len(set(values)) > 1:
                raise BrodmannError(f"Processes were given different {what}: {', '.join(map(str, values))}.")
        total = sum(report[3] for report in reports)
        shares = [1.0 if sums else report[3] / total if total else 0.0 for report in reports]
        own = shares[self.processes.rank]
        whole = sum(share * report[4] for share, report in zip(shares, reports, strict=True))
        return self.processes, of_each(lambda part: part * own, error), loss.new_tensor(whole)

    def give_up(self, error: Exception) -> None:
        """Tells the others that this process cannot make the step, unless they have agreed on it already."""
        if not self._told:
            self._tell(DIVERGED if isinstance(error, DivergenceError) else FAILED)

    def _tell(self, state: int, lr: float = 0.0, check: float = 0.0, counts: float = 0.0, loss: float = 0.0) -> Any:
        self._told = True
        return self.processes.of_each([state, lr, check, counts, loss])
