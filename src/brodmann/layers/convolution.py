"""Convolution: patches of images, and the map of areas on top of them, as one layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..autograd import unrecorded
from ..errors import BrodmannError
from ..feedback import as_direct, one_matrix_of
from ..layer import Container, Context
from ..routing import Chosen
from ..rows import as_rows
from ..storage import computing
from .area_linear import AreaLinear, AreaTrace
from .folded import Folded
from .patches import Patches


class ImageTrace(NamedTuple):
    """What a convolution by one map remembers of one forward pass.

    Attributes:
        x: Images, (samples, height, width, channels).
        leading: (samples, rows, columns).
    """

    x: Tensor
    leading: tuple[int, ...]


class PatchesTrace(NamedTuple):
    """What any other convolution remembers of one forward pass.

    Attributes:
        images: Shape of the images.
        rows: What the map remembers of their patches.
    """

    images: torch.Size
    rows: AreaTrace


class Convolution(Container):
    """``map(patches(x))``: x (samples, height, width, channels); returns (samples, rows, columns, out).

    It computes and learns what both do one after the other in a `Sequential`, in less time and memory (docs/log.md).

    - If one map serves all patches, and one matrix, fixed or moving as the map does, carries their errors, then on the
      CPU no patches are made: output, gradient and error below are PyTorch's convolutions.
    - With areas, only the error below is such a convolution, if one matrix carries the errors of all patches and they
      are not clipped.
    - Under `Direct` feedback the error below is one product, with a matrix whose patches are added up once, see
      `Folded`.
    """

    def __init__(self, patches: Patches, map: AreaLinear) -> None:
        """Takes the window and the map.

        Args:
            patches: The window of k x k pixels, with its stride and padding.
            map: Map of ``k * k * channels`` inputs. A wrong size is found at the first call, when the channels are
                known.

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
        self._folded = Folded()

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (samples, height, width, channels); returns (samples, rows, columns, out)."""
        return self._mapped(x) if self._by_one_map(x) else self.map(self.patches(x), choice)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, ImageTrace | PatchesTrace]:
        """Learning forward pass: x and output as for `forward`."""
        if self._by_one_map(x) and self._learns_by_gradient(x.shape):
            y = self._mapped(x)
            return y, ImageTrace(x, tuple(y.shape[:-1]))
        return self._trace_patches(x, context)

    def _trace_patches(self, x: Tensor, context: Context) -> tuple[Tensor, PatchesTrace]:
        rows, shape = self.patches.trace(x, context)
        y, trace = self.map.trace(rows, context)
        return y, PatchesTrace(shape, trace)

    @unrecorded
    def learn(self, trace: ImageTrace | PatchesTrace, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error (samples, rows, columns, out); returns that of x, or None without feedback."""
        if isinstance(trace, ImageTrace):
            if context.gathered is None:
                return self._learn_by_gradient(trace, error, context)
            _, trace = self._trace_patches(trace.x, context)  # it moves later, by the rows of all of its places
        shape, rows = trace
        # Elsewhere convolutions may compute in fewer digits than products; the map clips the error that it receives.
        if not error.is_cpu or context.clip is not None or not self._skips_patches(shape):
            of_patches = self.map.learn(rows, error, context)
            return None if of_patches is None else self.patches.learn(shape, of_patches, context)
        self.map.check_error(error, rows.leading, rows.x)
        below = self._below(error, shape, context)
        self.map.learn_without_sending(rows, error, context)
        return below

    def _by_one_map(self, x: Tensor) -> bool:
        """Whether one map serves all patches, and takes this input; patches and map say what is wrong with another."""
        matrix = self.map.one_map
        return (
            matrix is not None
            and isinstance(x, Tensor)
            and x.is_cpu
            and x.dtype == computing(matrix.dtype)
            and self.patches.fits(x)
            and x.shape[3] * self.patches.size[0] * self.patches.size[1] == matrix.shape[1]
            and not self.map._forward_hooks  # whoever watches the map sees its rows
            and not self.map._forward_pre_hooks
        )

    def _mapped(self, x: Tensor) -> Tensor:
        shared = self.map.shared
        assert shared is not None
        return self.patches.mapped(x, shared.value[0], None if shared.bias is None else shared.bias.value[0])

    def _learns_by_gradient(self, images: torch.Size) -> bool:
        """Whether the gradient of the map says how all of its weights move, so that nothing needs rows of patches."""
        return self.map.learns_by_gradient and (self.map.feedback is None or self._skips_patches(images))

    def _skips_patches(self, images: torch.Size) -> bool:
        """Whether the error below, shaped as the images, can be computed without those of patches."""
        if self.map.sends_error_of_gates:
            return False  # which are those of patches
        direct = as_direct(self.map.feedback)
        if direct is None:
            return self._matrix() is not None
        return direct.rows == math.prod(self.patches.places(*images[1:3]))  # one output for each image

    def _below(self, error: Tensor, images: torch.Size, context: Context) -> Tensor | None:
        """Returns the error below, shaped as the images; None without feedback, or if patches cannot be skipped."""
        direct = as_direct(self.map.feedback)
        if direct is None:
            matrix = self._matrix()
            return None if matrix is None else self.patches.error_through(matrix, error, images)
        output_error = None if context.output_error is None else as_rows(context.output_error)
        folded = self._folded.matrix(self.patches, direct.matrix, tuple(images[1:]))
        return direct.through(folded, output_error, images[0] * direct.rows).reshape(images)

    def _learn_by_gradient(self, trace: ImageTrace, error: Tensor, context: Context) -> Tensor | None:
        self.map.check_error(error, trace.leading, trace.x)
        error = context.received(self.map, error)
        below = self._below(error, trace.x.shape, context)
        if context.lr_of(self.map) and trace.x.shape[0]:
            self.map.move_by_gradient(self.patches.gradient(trace.x, error), error.sum((0, 1, 2)), context)
        return below

    def _matrix(self) -> Tensor | None:
        """Returns the matrix by which the errors of all patches go down, if there is one."""
        path = self.map.feedback
        return None if path is None else one_matrix_of(path, self.map.one_map)
