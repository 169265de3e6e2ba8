"""Folded: the matrix of direct feedback for whole images, in place of their patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..recording import replayed
from .patches import Patches


class Folded:
    """``fold(B)``, (outputs, height * width * channels), of a matrix B (outputs, patches * k * k * channels).

    Each pixel gets the sum over the patches that hold it, which is linear: ``fold(e B) = e fold(B)``. B stays as it is,
    so its patches are added up once, and again if B or ``B.data`` is replaced, or B changed in place. Numbers
    that are written through ``B.data`` or ``B.numpy()`` go unseen.
    """

    def __init__(self) -> None:
        """Knows no matrix yet."""
        self._matrix: Tensor | None = None
        self._data = torch.empty(0)  # its numbers: while they are held, no others lie in their place
        self._of_size: dict[tuple[int, ...], tuple[Tensor, int | None]] = {}  # and as of which change of the matrix

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin anew."""
        return Folded, ()

    def matrix(self, patches: Patches, matrix: Tensor, size: tuple[int, ...]) -> Tensor:
        """Returns ``fold(B)`` for images of a size, (height, width, channels)."""
        replayed(self._renew, patches, matrix, size)
        return self._of_size[size][0]

    @torch.inference_mode(False)
    def _renew(self, patches: Patches, matrix: Tensor, size: tuple[int, ...]) -> None:
        if matrix is not self._matrix or matrix.data_ptr() != self._data.data_ptr():
            self._matrix, self._data, self._of_size = matrix, matrix.detach(), {}
        known, before = self._of_size.get(size, (None, -1))
        now = None if matrix.is_inference() else matrix._version  # PyTorch counts no changes of inference tensors
        if known is not None and now is not None and now == before:
            return
        height, width, _ = size
        of_patches = matrix.reshape(len(matrix), *patches.places(height, width), -1)
        whole = patches.added_up(of_patches, (len(matrix), *size)).reshape(len(matrix), -1)
        self._of_size[size] = (whole if known is None else known.copy_(whole)), now
