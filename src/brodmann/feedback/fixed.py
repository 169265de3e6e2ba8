"""Fixed random matrices: feedback alignment, layer by layer or from the output directly."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_memory, check_whole
from ..errors import BrodmannError
from .path import Feedback
from .shape import Shape
from .signal import Signal


class FixedRandom(Feedback):
    """Feedback alignment: ``e_below = delta B0`` with ``B0`` random and fixed.

    delta (rows, out), without the gate even in gated layers; B0 (out, in); e_below (rows, in). B0 does not follow the
    layer's ``start_scale``: below a readout that starts at a tenth, errors start about ten times as large as the true
    gradient. This does not matter to Adam; it does to SGD and ``clip``. Source: Lillicrap et al. (2016).
    """

    starts_apart = True
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
    """Direct feedback alignment: ``e_below = e_out B``, the output error through a fixed random matrix.

    e_out (samples, outputs); B (outputs, rows * in); e_below (samples * rows, in), a layer of one row for each sample
    being the usual case. The rows of a sample, such as the patches of an image, lie together, and each has a part of B
    to itself; pixels get the sum over the patches that hold them. The delta of the layer itself plays no part; inside a
    `Residual` e_out comes multiplied by its alpha. Source: Nokland (2016); for convolutions Launay et al. (2019).

    A convolution keeps what it computes from B until B changes: change ``matrix`` in place or replace it. What is
    written through ``matrix.data`` or ``matrix.numpy()`` PyTorch does not count, and the convolution does not see.
    """

    from_output = True
    matrix: Tensor

    def __init__(self, shape: Shape, *, outputs: int, rows: int | None = None) -> None:
        """Draws ``B``, (outputs, rows * in), normal with variance ``1 / in``.

        Args:
            shape: What is known of the layer.
            outputs: Width of the network's output. The builders fill it in; otherwise use `functools.partial`.
            rows: Rows of the layer for each row of the output. Default what the shape says: 1, unless a builder or
                `brodmann.from_torch` knows better.

        Raises:
            BrodmannError: The layer's rows are no multiple of the output's. From `error`: the output error is not known
                or of another width, or the layer has another number of rows.
        """
        super().__init__()
        if rows is None and shape.rows < 1:
            raise BrodmannError(
                "Direct feedback cannot reach a layer whose number of rows is not a multiple of the output's, or does "
                "not depend on the input: choose another feedback path."
            )
        self.rows = shape.rows if rows is None else rows
        check_whole(outputs=outputs, rows=self.rows)
        check_memory(4 * outputs * self.rows * shape.in_features)
        self.register_buffer("matrix", torch.randn(outputs, self.rows * shape.in_features) / shape.in_features**0.5)

    def error(self, signal: Signal) -> Tensor:
        """See `Feedback.error`."""
        return self.through(self.matrix, signal.output_error, len(signal.x)).reshape(signal.x.shape)

    def through(self, matrix: Tensor, output_error: Tensor | None, rows: int) -> Tensor:
        """Returns the output error (samples, outputs) times a matrix (outputs, ...), once checked for a layer's rows.

        Raises:
            BrodmannError: As the constructor says of `error`.
        """
        if output_error is None:
            raise BrodmannError(
                "Direct feedback needs the error of one output: train through Network.learn, or set output_error in "
                "the Context."
            )
        count, outputs = output_error.shape
        if outputs != len(self.matrix):
            raise BrodmannError(
                f"Direct feedback was built for {len(self.matrix)} outputs, but the output error has {outputs}: build "
                f"it with partial(Direct, outputs={outputs})."
            )
        if count * self.rows != rows:
            raise BrodmannError(
                f"Direct feedback was built for a layer of {self.rows} rows for each output, got {rows} rows "
                f"and {count} output errors: build it with partial(Direct, outputs={outputs}, rows=...)."
            )
        return output_error @ matrix


def as_direct(path: Feedback | None) -> Direct | None:
    """Returns a path, if its error is that of `Direct`; a subclass may make another one."""
    return path if isinstance(path, Direct) and type(path).error is Direct.error else None
