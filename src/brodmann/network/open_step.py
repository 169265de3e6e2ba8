"""OpenStep: a forward pass of a network, from which it learns once the error of its output is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..checks import all_finite, changes_of, form_of
from ..errors import BrodmannError, DivergenceError
from ..several import Several, parts_in


class OpenStep:
    """One learning forward pass, see `Network.trace`: it learns once something else has computed the error.

    Attributes:
        output: (batch, ..., outputs), as `Network.forward` returns it, but as learning computes it: with dropout, and
            by the statistics of the batch if there are batch norms. For autograd it is a leaf.
    """

    def __init__(self, x: Several, output: Any, down: Callable[[Any], Any], state: Callable[[], Any]) -> None:
        """Takes what a forward pass made.

        Args:
            x: The samples, which must stay as they are until the step is made, as must the output.
            output: Output of the network.
            down: Takes its error down, so that all layers learn.
            state: Returns how the network is now; it must be the same when the step is made.
        """
        self.output = output
        self._down: Callable[[Any], Any] | None = down
        self._kept = [*parts_in(x), *parts_in(output)]
        self._before = changes_of(self._kept)
        self._state, self._first = state, state()

    def learn(self, error: Several) -> Tensor | None:
        """Makes the step: moves the network by ``dL/d output``; once, and before the network learns anything else.

        Args:
            error: Shaped as the output, or several of such tensors: (batch, ..., outputs). If the loss is a mean
                over samples, the factor ``1 / batch`` is in it.

        Returns:
            ``dL/dx`` as the feedback sees it, shaped like x; None if the body sends no error down.

        Raises:
            BrodmannError: The error is not shaped as the output, the step was made already, samples or output were
                changed in place, or the network has learned, or was changed, since `Network.trace`.
            DivergenceError: The error is not finite; checked only on the CPU. Nothing has moved then.
        """
        if self._down is None:
            raise BrodmannError("This step was made already: call trace again, and learn by what it returns.")
        if changes_of(self._kept) != self._before:
            raise BrodmannError(
                "The samples, or the output, were written over since trace took and returned them: work on a copy, "
                "such as x.clone()."
            )
        if self._state() != self._first:
            raise BrodmannError(
                "The network has learned, or was changed, since trace: call trace again, and learn by what it returns "
                "before the network learns anything else."
            )
        error = self._checked(error)
        down, self._down = self._down, None
        return down(error)

    def _checked(self, error: Any) -> Any:
        """Returns an error in the form of the output, its parts in the same order."""
        if isinstance(self.output, Tensor) and isinstance(error, tuple | list) and len(error) == 1:
            error = error[0]
        if isinstance(self.output, Mapping):
            if not isinstance(error, Mapping) or error.keys() != self.output.keys():
                raise BrodmannError(f"Expected an error for each output by its name: {', '.join(self.output)}.")
            error = {name: error[name] for name in self.output}
        wanted, came = (", ".join(map(form_of, parts_in(parts))) for parts in (self.output, error))
        if came != wanted:
            raise BrodmannError(
                f"Expected the error of the output, {wanted}, got {came}: that is dL/d output, such as the .grad of an "
                "output from which autograd went on."
            )
        if not all(all_finite(part) for part in parts_in(error) if part.is_cpu):
            raise DivergenceError("The error of the output is not finite, so that nothing was learned from it.")
        return error
