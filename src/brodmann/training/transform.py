"""Transform: what changes a batch before the step that learns from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..checks import binds, form_of, signature_of
from ..errors import BrodmannError
from ..several import Several, parts_in, sample_count


class Transform:
    """A user's function that changes the samples of a batch, or samples and targets together.

    Attributes:
        function: The function, or None: then batches stay as they are.
    """

    def __init__(self, function: Callable[..., Any] | None) -> None:
        """Looks at what the function takes: it gets targets only if it cannot be called without them.

        Raises:
            BrodmannError: It takes neither one argument nor two.
        """
        self.function, self._of_both = function, False
        if function is None:
            return
        signature = signature_of(function) if callable(function) else None
        alone, both = (signature is None or binds(signature, count) for count in (1, 2))
        if not callable(function) or not (alone or both):
            raise BrodmannError(
                "Expected transform to be a function of the samples of a batch, or of samples and targets, got "
                f"{function!r}."
            )
        self._of_both = not alone

    def __call__(self, samples: Several, targets: Several) -> tuple[Any, Any]:
        """Returns samples and targets as the step takes them, (batch, ...) each.

        Raises:
            BrodmannError: The function returned something else than it took.
        """
        if self.function is None:
            return samples, targets
        count = sample_count(samples)
        if not self._of_both:
            return _checked("samples", self.function(samples), count), targets
        changed = self.function(samples, targets)
        if not isinstance(changed, tuple | list) or len(changed) != 2:
            raise BrodmannError(
                f"Expected transform, which takes samples and targets, to return both, got {form_of(changed)}."
            )
        return _checked("samples", changed[0], count), _checked("targets", changed[1], count)


def _checked(what: str, values: Any, count: int) -> Any:
    if {part.shape[:1] if isinstance(part, Tensor) else None for part in parts_in(values)} != {(count,)}:
        raise BrodmannError(f"Expected transform to return the {count} {what} of the batch, got {form_of(values)}.")
    return values
