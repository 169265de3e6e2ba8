"""Sizes for which a conversion holds: those for which a network decides as it did for the samples it was shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import BrodmannError
from ...several import check_several
from ..following.questions import Questions, Shapes


class OfSizes(nn.Module):
    """Passes on one of the tensors that come to a network, (samples, ...), if all have sizes that it is made for."""

    def __init__(self, shown: Sequence[Tensor], images: Sequence[bool], passed: int, asked: Questions | None) -> None:
        """Takes what decides on sizes.

        Args:
            shown: Samples that the network was converted with.
            images: Which of them come with their channels last.
            passed: Which of them is passed on.
            asked: What the network asked about sizes; None if it is made only for the shapes of ``shown``.
        """
        super().__init__()
        self.images, self.passed, self.asked = tuple(images), passed, asked
        self.shapes: Shapes = tuple(tuple(part.shape[1:]) for part in shown)
        # How many samples, of which shapes, and whether that is known for learning or for inference.
        self._known = {(2, self.shapes, learning) for learning in (False, True)}

    def forward(self, *values: Tensor) -> Tensor:
        """Returns one of the values as it is.

        Raises:
            BrodmannError: The network does something else for values of such sizes.
        """
        check_several(x=values if len(values) > 1 else values[0])
        of_torch = (x.movedim(-1, 1) if last else x for x, last in zip(values, self.images, strict=True))
        shapes = tuple(tuple(x.shape[1:]) for x in of_torch)
        # One sample is treated as several are, and none as well; see `same_alone`.
        count = max(2, len(values[0])) if self.asked is not None and self.asked.count_samples else 2
        if (count, shapes, self.training) not in self._known:
            # Compilers cannot follow it; as a decorator, this would load them wherever this package is imported.
            if torch.compiler.is_compiling():
                torch.compiler.disable(self._learn)(count, shapes)  # type: ignore[no-untyped-call]
            else:
                self._learn(count, shapes)
        return values[self.passed]

    def _learn(self, count: int, shapes: Shapes) -> None:
        """Notes sizes for which the answers are the same, which are computed once; raises for others."""
        learning = self.training  # the mode into which `Local` puts it while it learns
        of_samples = tuple((count, *shape) for shape in shapes)
        if self.asked is None or not self.asked.allow(of_samples):
            raise self._refused(count, shapes, "computes")
        if learning and not self.asked.allow_learning(of_samples):
            raise self._refused(count, shapes, "learns")
        self._known.add((count, shapes, learning))

    def _refused(self, count: int, shapes: Shapes, does: str) -> BrodmannError:
        """Returns the error for samples of other shapes, or for another number of them."""
        if shapes == self.shapes:
            return BrodmannError(
                f"This network decides by the number of samples, and {does} differently for {count} than for those "
                "it was converted with: give it fewer or more samples at a time, or let the model do the same for any "
                "number."
            )
        return BrodmannError(
            f"This network was converted for samples of shape {_listed(self.shapes)}, and {does} differently for "
            "other shapes, for example by repeating a step once for each element of a sequence; got "
            f"{_listed(shapes)}: convert the model for that shape."
        )

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return ", ".join(map(str, self.shapes[0])) if len(self.shapes) == 1 else _listed(self.shapes)


def _listed(shapes: Shapes) -> str:
    return ", ".join(map(str, shapes))
