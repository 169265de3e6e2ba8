"""Convolution: patches of images, and the map of areas on top of them, as one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..autograd import unrecorded
from ..errors import BrodmannError
from ..feedback import one_matrix_of
from ..layer import Container, Context
from ..routing import Choice, Route
from .area_linear import AreaLinear
from .patches import Patches


class Convolution(Container):
    """``map(patches(x))``: x (samples, height, width, channels); returns (samples, rows, columns, out).

    It computes and learns what both do one after the other in a `Sequential`. Where one matrix carries the errors of
    all patches, and they are not clipped, the error below is one transposed convolution, which takes less than half of
    the time of a product and a sum over patches (docs/log.md), and no memory for the errors of patches.
    """

    def __init__(self, patches: Patches, map: AreaLinear) -> None:
        """Takes the window and the map.

        Args:
            patches: The window of k x k pixels, with its stride and padding.
            map: Map of ``k * k * channels`` inputs. A wrong size shows at the first call, when the channels are known.

        Raises:
            BrodmannError: They are of other kinds. When called: images are smaller than the window, or have other
                channels than the map takes.
        """
        super().__init__()
        if not isinstance(patches, Patches) or not isinstance(map, AreaLinear):
            raise BrodmannError(
                "Expected a convolution of Patches and an AreaLinear, got "
                f"{type(patches).__name__} and {type(map).__name__}."
            )
        self.patches, self.map = patches, map

    def forward(self, x: Tensor, choice: Route | Choice | None = None) -> Tensor:
        """Inference: x (samples, height, width, channels); returns (samples, rows, columns, out)."""
        return self.map(self.patches(x), choice)  # type: ignore[no-any-return]

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[torch.Size, Any]]:
        """Learning forward pass: x and output as for `forward`."""
        rows, shape = self.patches.trace(x, context)
        y, trace = self.map.trace(rows, context)
        return y, (shape, trace)

    @unrecorded
    def learn(self, trace: tuple[torch.Size, Any], error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error (samples, rows, columns, out); returns that of x, or None without feedback."""
        shape, inner = trace
        matrix = None
        if self.map.feedback is not None and context.clip is None:
            matrix = one_matrix_of(self.map.feedback, self.map.one_map)
        if matrix is None or not error.is_cpu:  # elsewhere convolutions may compute in fewer digits than products
            of_patches = self.map.learn(inner, error, context)
            return None if of_patches is None else self.patches.learn(shape, of_patches, context)
        self.map.check_error(inner, error)
        below = self.patches.error_through(matrix, error, shape)
        self.map.learn(inner, error, context, send=False)
        return below
