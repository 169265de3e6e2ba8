"""InputOfOnes: one more input, always 1, whose weights are biases."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import MisfitError, check_tensors, check_whole


class InputOfOnes(nn.Module):
    """Appends an input that is always 1: its weights are biases, for rules that do not move other biases."""

    def __init__(self, features: int) -> None:
        """Stores the number of inputs, without the one that is added: error messages name it."""
        super().__init__()
        check_whole(features=features)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Takes x (..., features); returns (..., features + 1).

        Raises:
            BrodmannError: It is of another size.
        """
        check_tensors(x=x)
        if x.ndim == 0 or x.shape[-1] != self.features:
            raise MisfitError(f"Expected an input of shape (..., {self.features}), got {tuple(x.shape)}.")
        return F.pad(x, (0, 1), value=1.0)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return str(self.features)
