"""Fixed random matrices: feedback alignment, layer by layer or from the output directly."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BrodmannError
from .path import Feedback, Shape, Signal


class FixedRandom(Feedback):
    """Feedback alignment: ``e_below = delta B0`` with ``B0`` random and fixed.

    delta (rows, out), without the gate in gated layers too; B0 (out, in); e_below (rows, in). B0 does not follow the
    layer's ``start_scale``: below a readout that starts at a tenth, errors start about ten times as large as the true
    gradient. This does not matter to Adam; it does to SGD and ``clip``. Source: Lillicrap et al. (2016).
    """

    matrix: Tensor

    def __init__(self, shape: Shape) -> None:
        """Draws ``B0``, (out, in), normal with variance ``1 / in``: it never grows, so it starts at full size."""
        super().__init__()
        self.register_buffer("matrix", shape.draw())

    def one_matrix(self, weight: Tensor | None) -> Tensor:
        """``B0``."""
        return self.matrix

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        return signal.delta @ self.matrix


class Direct(Feedback):
    """Direct feedback alignment: ``e_below = e_out B``, the output error through a fixed random matrix (outputs, in).

    e_out (rows, outputs); e_below (rows, in). The delta of the layer itself plays no part; inside a `Residual` e_out
    comes multiplied by its alpha. Source: Nokland (2016).
    """

    matrix: Tensor

    def __init__(self, shape: Shape, *, outputs: int) -> None:
        """Draws ``B``, (outputs, in), normal with variance ``1 / in``.

        Args:
            shape: Of the layer.
            outputs: Width of the network's output. The builders fill it in; else `functools.partial` does.

        Raises:
            BrodmannError: By `error`: the output error is not known, of another width, or has another number of rows
                than the layer.
        """
        super().__init__()
        self.register_buffer("matrix", torch.randn(outputs, shape.in_features) / shape.in_features**0.5)

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        if signal.output_error is None:
            raise BrodmannError(
                "Direct feedback needs the output error: train through Network.learn, or set it in the context."
            )
        outputs = signal.output_error.shape[-1]
        if outputs != len(self.matrix):
            raise BrodmannError(
                f"Direct feedback was built for {len(self.matrix)} outputs, and the output error has {outputs}: build "
                f"it by partial(Direct, outputs={outputs})."
            )
        if len(signal.output_error) != len(signal.x):
            raise BrodmannError(
                f"Direct feedback needs one output error per row, got {len(signal.output_error)} for "
                f"{len(signal.x)} rows."
            )
        return signal.output_error @ self.matrix
