"""Recruiting: a router whose prototypes are samples that were new when they came."""

from __future__ import annotations

from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autograd import unrecorded
from ..checks import check_input
from ..errors import BrodmannError
from ..held import HeldBuffer
from ..updates import UpdateRule
from .router import DIMENSION, Router


class Recruiting(Router):
    """A `Router` whose prototypes are the directions of samples that were new when they came.

    A sample whose cosine with every prototype lies below ``novelty`` becomes the next prototype, until the budget of
    areas is used up. Every cell has an area of its own, and the projection is fixed, so that cells stay where they are.
    """

    vacant = HeldBuffer[Tensor]()
    _needs_products = True  # now: cells that are vacant may be taken later, but before the gate asks
    novelty: float

    def __init__(
        self,
        in_features: int,
        areas: int,
        *,
        novelty: float,
        dimension: int = DIMENSION,
        temperature: float = 0.3,
        update: UpdateRule | None = None,
    ) -> None:
        """Draws the projection from torch's global generator.

        Args:
            in_features: Size of a sample.
            areas: Budget of areas, and of cells.
            novelty: Threshold in (-1, 1), see the class.
            dimension: As for `Router`.
            temperature: As for `Router`.
            update: Rule whose buffers the projection keeps. Default plain SGD.

        Raises:
            BrodmannError: As for `Router`, or the novelty is out of range.
        """
        if not isinstance(novelty, Real) or not -1 < float(novelty) < 1:
            raise BrodmannError(f"Expected novelty to be a number between -1 and 1, got {novelty}.")
        super().__init__(in_features, areas, dimension=dimension, temperature=temperature, learned=False, update=update)
        self.novelty = novelty
        self.prototypes.zero_()
        # Cell 0 is never vacant: it takes the samples that come before anything was recruited.
        self.register_buffer("vacant", torch.arange(self.cells) > 0)

    @property
    def moves(self) -> bool:
        """True: it recruits."""
        return True

    @property
    def recruits(self) -> bool:
        """Whether a new sample would become a prototype: a cell is free, and its area may learn."""
        if self.protected:
            return bool(self._free().any())
        return bool(self.vacant.any()) or not bool(self.prototypes[0].any())

    def _free(self) -> Tensor:
        """Returns which cells new samples may take, (cells,): the free ones of areas that are not protected."""
        free = self.vacant.clone()
        free[0] = ~self.prototypes[0].any()
        if self.protected:
            free &= ~torch.isin(self.partition, torch.tensor(list(self.protected), device=free.device))
        return free

    @unrecorded
    def recruit(self, x: Tensor) -> list[tuple[int, int]]:
        """Makes the directions of new samples, x (rows, in), the next prototypes, one sample after another.

        Changes only prototypes; `AreaLinear` and `Routed` copy the parents' maps too, so that the output of a sample
        does not change by recruiting, unless a gate multiplies it, since that is a softmax over one cell more. The
        output of others may: a new cell also takes from cells that are not its parent's. Protected areas get none.

        Returns:
            For every area recruited but the first, the area that its sample would have gone to, and itself.
        """
        pairs: list[tuple[int, int]] = []
        taken, free = self.prototypes.any(1), self._free().nonzero()[:, 0].tolist()
        if not free:
            return pairs
        check_input(x, self.projection.value)
        directions = F.normalize(self._project(x), dim=1)
        closest, parent = (directions @ self.prototypes.t()).masked_fill(~taken, -torch.inf).max(1)
        closest[~directions.any(1)] = torch.inf  # a sample of zeros has no direction
        for cell in free:
            new = (closest < self.novelty).nonzero()
            if not len(new):
                break
            row = int(new[0])
            self.prototypes[cell] = directions[row]
            self.vacant[cell] = False
            if cell:
                pairs.append((int(self.partition[parent[row]]), int(self.partition[cell])))
            cosine = directions @ directions[row]
            nearer = cosine > closest
            closest, parent = torch.where(nearer, cosine, closest), torch.where(nearer, cell, parent)
        return pairs

    def _products(self, u: Tensor) -> Tensor:
        return super()._products(u).masked_fill(self.vacant, -torch.inf)

    def scores(self, products: Tensor, length: Tensor) -> Tensor:
        """As `Router.scores`: ``-inf`` at cells that were vacant when the products were computed."""
        vacant = products == -torch.inf  # left out of the division, whose derivative would be no number there
        return super().scores(products.masked_fill(vacant, 0.0), length).masked_fill(vacant, -torch.inf)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{super().extra_repr()}, novelty={self.novelty}"
