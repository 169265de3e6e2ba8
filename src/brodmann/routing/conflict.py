"""Conflict: where the samples of one area pull its weights in opposite directions, measured from sketches."""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..checks import check_positive, check_whole
from ..held import HeldBuffer
from ..recording import recorder_here

SIZE = 64
"""Numbers of a sketch. Default 64: a step then costs a few per cent more, and the tests need dozens, not hundreds."""


def sketch(delta: Tensor, x: Tensor, place: int) -> Tensor:
    """Sketches each sample's gradient ``delta^T x`` without forming it.

    ``s = (delta U) * (x V)`` with random signs U (out, SIZE) and V (in, SIZE): the mean of ``s_i . s_j / SIZE`` over
    the signs is ``(delta_i . delta_j) (x_i . x_j)``, the inner product of the two gradients.

    Args:
        delta: (rows, out).
        x: (rows, in).
        place: Which of several layers it is: their signs differ, so that their sketches may be added up.

    Returns:
        (rows, SIZE). Source: Pham and Pagh (2013) for products of sketches; its use here is our choice.
    """
    return (delta @ _signs(delta.shape[1], 2 * place, delta)) * (x @ _signs(x.shape[1], 2 * place + 1, x))


@lru_cache(maxsize=4096)  # two a layer: fewer would be drawn anew at every step of a deep network
def _drawn(size: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draws signs from a seed of their own: they are part of no state, and touch no global generator."""
    if (recorder := recorder_here()) is not None:
        recorder.refuse("signs of sketches are drawn, which are kept for later steps")
    generator = torch.Generator("cpu").manual_seed(seed)
    return (torch.randint(0, 2, (size, SIZE), generator=generator, device="cpu") * 2 - 1).to(device, dtype)


def _signs(size: int, seed: int, like: Tensor) -> Tensor:
    with torch.inference_mode(False):
        return _drawn(size, seed, like.dtype, like.device)


class Conflict(nn.Module):
    """Decides which areas to split, from what each cell's samples want to do to the weights.

    In every window of ``evidence`` samples the sketches of each cell are added up. At its end, each area's cells are
    parted in two along the direction in which their mean pulls differ most. That parting is judged in the *next*
    window, on samples that had no part in choosing it: with ``sum_1`` and ``sum_2`` the summed pulls of both sides,
    ``n_1`` and ``n_2`` their samples, T the mean square of a sketch, (SIZE, SIZE),

    - opposition ``-(sum_1 . sum_2) / (n_1 n_2 |T|)``: how strongly they pull apart, relative to how much single samples
      scatter;
    - certainty ``-(sum_1 . sum_2) / (sqrt(n_1 n_2) |T|)``: the same in standard deviations of pulls that
      have no direction.

    An area is split if both exceed their thresholds. Its *tension* is the smaller of the two, each divided by its
    threshold: above 1 it splits. ``tension`` holds the largest of the last window, 0 before one was judged. Samples
    that agree have a negative opposition, so a homogeneous task stays one area; and an area that still learns something
    common is not split before it has learned it. Source: our choice; the paper's abstract names adaptive partitioning,
    not how.
    """

    pull = HeldBuffer[Tensor]()
    samples = HeldBuffer[Tensor]()
    square = HeldBuffer[Tensor]()
    apart = HeldBuffer[Tensor]()
    tension = HeldBuffer[Tensor]()

    def __init__(self, cells: int, *, evidence: int = 2048, opposition: float = 0.03, certainty: float = 4.0) -> None:
        """Starts a window.

        Args:
            cells: Cells of the router.
            evidence: Samples of a window. Default 2048.
            opposition: Threshold. Default 0.03: planted conflicts reach 0.1 to 0.2, trained networks on real data
                stayed below 0.012 (docs/log.md), but for 3 of 90 tuned runs, which split (docs/results.md).
            certainty: Threshold. Default 4 standard deviations.

        Raises:
            BrodmannError: A setting is not above 0.
        """
        super().__init__()
        check_whole(cells=cells, evidence=evidence)
        check_positive(opposition=opposition, certainty=certainty)
        self.evidence, self.opposition, self.certainty = evidence, opposition, certainty
        self.register_buffer("pull", torch.zeros(cells, SIZE))
        self.register_buffer("samples", torch.zeros(cells, dtype=torch.int64))
        self.register_buffer("square", torch.zeros(SIZE, SIZE))
        self.register_buffer("apart", torch.zeros(cells, dtype=torch.bool))
        self.register_buffer("tension", torch.zeros(()))

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"evidence={self.evidence}, opposition={self.opposition}, certainty={self.certainty}"

    def add(self, cell: Tensor, sketches: Tensor) -> None:
        """Adds a batch: cell (rows,) int64, sketches (rows, SIZE) of the error of a mean over the batch.

        With a loss that sums over the samples, larger batches count for more.
        """
        own = sketches * len(sketches)  # of each sample's loss: batches of all sizes count alike
        self.pull.index_add_(0, cell, own)
        self.samples.index_add_(0, cell, torch.ones_like(cell))
        self.square.addmm_(own.t(), own)

    @property
    def window_is_full(self) -> bool:
        """Whether the window holds its evidence."""
        return int(self.samples.sum()) >= self.evidence

    def end_window(self, partition: Tensor, room: int, unsplit: Container[int] = ()) -> list[tuple[int, list[int]]]:
        """Once the window holds its evidence: judges the last partings, proposes new ones, and starts the next window.

        Args:
            partition: Area of each cell, (cells,) int64.
            room: How many splits there may be.
            unsplit: Areas that are not split.

        Returns:
            The areas to split, each with the cells that leave it. The new partings are of the areas as they are after
            these splits.
        """
        if not self.window_is_full:
            return []
        splits: list[tuple[int, list[int]]] = []
        self.tension.zero_()
        if torch.isfinite(self.square).all():  # otherwise the training diverges, and will say so
            judged = list(self._judged(partition))
            self.tension.fill_(max((tension for _, _, tension in judged), default=0.0))
            splits = [(area, leaving) for area, leaving, tension in judged if tension > 1 and area not in unsplit]
            splits = splits[:room]
            divided = partition.clone()
            for number, (_, leaving) in enumerate(splits):
                divided[leaving] = int(partition.max()) + 1 + number
            self.apart.copy_(self._parted(divided))
        for window in (self.pull, self.samples, self.square):
            window.zero_()
        return splits

    def _judged(self, partition: Tensor) -> Iterator[tuple[int, list[int], float]]:
        """Yields the partings that the last window proposed, area and leaving cells, with the tension in this one."""
        scatter = float(self.square.norm() / self.samples.sum())
        for area in torch.unique(partition[self.apart]).tolist():
            own = partition == area
            sides = own & ~self.apart, own & self.apart
            count_1, count_2 = (float(self.samples[side].sum()) for side in sides)
            sum_1, sum_2 = (self.pull[side].sum(0) for side in sides)
            if not (count_1 and count_2 and scatter):
                continue
            against, pairs = -float(sum_1 @ sum_2) / scatter, count_1 * count_2
            tension = min(against / (self.opposition * pairs), against / (self.certainty * pairs**0.5))
            yield area, sides[1].nonzero()[:, 0].tolist(), tension

    def _parted(self, partition: Tensor) -> Tensor:
        """Returns which cells would leave their area, (cells,) bool: one side of the main direction of disagreement."""
        apart = torch.zeros_like(self.apart)
        for area in torch.unique(partition).tolist():
            cells = ((partition == area) & (self.samples > 0)).nonzero()[:, 0]
            if len(cells) < 2:
                continue
            count = self.samples[cells, None].to(self.pull.dtype)
            pull = self.pull[cells]
            different = (pull / count - pull.sum(0) / count.sum()) * count.sqrt()
            main = torch.linalg.svd(different, full_matrices=False)[0][:, 0]
            apart[cells[main > 0]] = True
        return apart
