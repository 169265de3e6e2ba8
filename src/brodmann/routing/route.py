"""Routes: the choices of a router for each row, with what learning and inference need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..checks import all_in
from ..errors import BrodmannError
from ..kernels import Groups, per_row
from ..processes import Processes
from ..rows import repeat_rows, stack_steps, summed_by_sample
from .conflict import SIZE

if TYPE_CHECKING:
    from .router import Router


@dataclass(eq=False)
class Route:
    """The choice made for each row of a batch, and what the router needs to learn from it, computed when asked for.

    Attributes:
        router: The router that made it.
        x: What was routed, (rows, in).
        u: Its projection, (rows, dimension).
        products: Products of the projection and the prototypes, ``|u| s``, (rows, cells); None if the choice did not
            need them all.
        cell: Chosen cell, (rows,) int64.
        area: Its area, (rows,) int64.
        error_of_gates: The part of `gate_error` that comes from layers whose output the gate multiplies, (rows,); None
            if there is none yet, or the router has no feedback by which it would go down.
    """

    router: Router
    x: Tensor
    u: Tensor
    products: Tensor | None
    cell: Tensor
    area: Tensor
    error_of_gates: Tensor | None = None

    @staticmethod
    def of_steps(steps: Sequence[Route]) -> Route:
        """Returns the route of all steps of a sequence, see `stack_steps`: the same at each of them, or one for each.

        Products are those of each step: a router may have recruited in between.
        """
        first, products = steps[0], [step.products for step in steps if step.products is not None]
        if first is steps[-1]:
            return first
        return Route(
            first.router,
            stack_steps([step.x for step in steps]),
            stack_steps([step.u for step in steps]),
            stack_steps(products) if products else None,
            stack_steps([step.cell for step in steps]),
            stack_steps([step.area for step in steps]),
        )

    @property
    def learned(self) -> bool:
        """Whether the projection learns from how useful the choice was, see `gate_error`."""
        return self.router.learned

    @property
    def reads_gate_error(self) -> bool:
        """Whether someone asks for it: the projection learns, or it goes down."""
        return self.learned or self.router.feedback is not None

    @property
    def grows(self) -> bool:
        """Whether areas grow when gradients are in conflict, see `pulls`."""
        return self.router.conflict is not None

    @cached_property
    def length(self) -> Tensor:
        """``|u|``, (rows, 1); infinite if ``u = 0``, which has no direction: so all its scores are 0."""
        return length_of(self.u)

    @cached_property
    def scores(self) -> Tensor:
        """Cosine of projection and prototype, (rows, cells)."""
        products = self.u @ self.router.prototypes.t() if self.products is None else self.products
        return self.router.scores(products, self.length)

    @cached_property
    def groups(self) -> Groups:
        """The rows of each area."""
        return Groups.of(self.area, self.router.areas)

    def groups_of(self, rows: int) -> Groups:
        """The rows of each area in a layer that sees several of every sample, such as the patches of an image.

        Args:
            rows: Rows of the layer, those of a sample together: a multiple of the number of samples.
        """
        if rows == len(self.area):
            return self.groups
        if rows not in self._spread:
            self._spread[rows] = Groups.of(repeat_rows(self.area, rows), self.router.areas)
        return self._spread[rows]

    @cached_property
    def _spread(self) -> dict[int, Groups]:
        """Number of rows -> groups: layers of one size ask for the same."""
        return {}

    @cached_property
    def probabilities(self) -> Tensor:
        """Softmax of the scores over the temperature, (rows, cells)."""
        return (self.scores / self.router.temperature).softmax(1)

    @cached_property
    def gate(self) -> Tensor:
        """Softmax of the scores at the chosen cell, (rows,), see `probabilities`."""
        return self.probabilities.gather(1, self.cell[:, None])[:, 0]

    @cached_property
    def gate_error(self) -> Tensor:
        """``dL/da`` of each row, (rows,), a the gate: the layers that follow the route add theirs to it."""
        return self.u.new_zeros(len(self.u))

    @cached_property
    def pulls(self) -> Tensor:
        """Sketches of each row's gradients, (rows, SIZE); layers add theirs, see `brodmann.routing.conflict.sketch`."""
        return self.u.new_zeros(len(self.u), SIZE)

    @cached_property
    def projection_error(self) -> Tensor:
        """``dL/du`` of each row, (rows, dimension), from `gate_error` once all layers have added theirs."""
        return self.gate_down(self.gate_error)

    def add_gate_error(self, of_rows: Tensor, *, gated: bool) -> None:
        """Adds what a layer finds for each of its rows, (rows of the layer,), to `gate_error`."""
        found = summed_by_sample(of_rows, len(self.u))
        self.gate_error.add_(found)
        if gated and self.router.feedback is not None:
            self.error_of_gates = found if self.error_of_gates is None else self.error_of_gates + found

    def add_pulls(self, sketches: Tensor) -> None:
        """Adds the sketches of a layer's rows, (rows of the layer, SIZE), to `pulls`."""
        self.pulls.add_(summed_by_sample(sketches, len(self.u)))

    def of_all(self, processes: Processes, x: Tensor | None = None) -> Route:
        """Returns the route of the rows of all processes, with what the layers of each have added to it.

        Args:
            processes: Who makes the step together.
            x: What was routed in all processes, (all rows, in), if it is known already.
        """
        if x is None:
            (x,) = processes.rows(self.x)
        added = [name for name, there in (("gate_error", self.learned), ("pulls", self.grows)) if there]
        u, cell, area, *found = processes.rows(self.u, self.cell, self.area, *(getattr(self, name) for name in added))
        whole = Route(self.router, x, u, None, cell, area)
        for name, of_rows in zip(added, found, strict=True):
            setattr(whole, name, of_rows)
        return whole

    def gate_down(self, gate_error: Tensor) -> Tensor:
        """Returns ``dL/du``, (rows, dimension), from ``dL/da``, (rows,), a the gate. See `Router`."""
        prototypes, temperature = self.router.prototypes, self.router.temperature
        fused = per_row.gate_down(self.u, prototypes, self.cell, gate_error, temperature)
        if fused is not None:
            return fused
        # dL/ds_j = dL/da a (1[j = c] - p_j) / tau
        scale = (gate_error * self.gate / temperature)[:, None]
        score_error = -scale * self.probabilities
        score_error.scatter_add_(1, self.cell[:, None], scale)
        # dL/du = sum_j dL/ds_j (prototype_j - s_j u / |u|) / |u|
        along = (score_error * self.scores).sum(1, keepdim=True) * (self.u / self.length)
        return (score_error @ prototypes - along) / self.length


class Choice(NamedTuple):
    """What inference needs of a route if autograd or a compiler follows: neither traces a cached property.

    Attributes:
        area: Area of each row, (rows,) int64.
        gate: Gate of each row, (rows,).
    """

    area: Tensor
    gate: Tensor


Chosen = Route | Choice | None
"""The choice of an enclosing `Routed` for the layers inside it; None without one: layers then choose themselves."""
AnyRoute = TypeVar("AnyRoute", bound=Route | Choice)


def checked_route(route: AnyRoute | None, x: Tensor, rows: Tensor) -> AnyRoute:
    """Returns the route that an enclosing `Routed` passes to a layer, once checked.

    Args:
        route: Its choice for each row, or for each sample of (samples, ..., in).
        x: What comes to the layer.
        rows: The same as (rows, in).

    Raises:
        BrodmannError: There is none, or it is for other rows.
    """
    if route is None:
        raise BrodmannError("This AreaLinear has no router of its own: put it into a Routed, or give it one.")
    routed, there = route.area.shape[0], rows.shape[0]
    if routed != there and (x.ndim == 2 or routed != x.shape[0]):
        raise BrodmannError(
            f"The shared route has {routed} rows, but this layer got {there}: keep the number of rows inside a Routed, "
            "or give the layer an input of shape (samples, ..., in)."
        )
    return route


def length_of(u: Tensor) -> Tensor:
    """Returns ``|u|`` of each row, (rows, 1); infinite if ``u = 0``."""
    length: Tensor = torch.linalg.vector_norm(u, dim=1, keepdim=True)
    return length.masked_fill(length == 0, torch.inf)


def check_cells(name: str, cell: Tensor, cells: int) -> None:
    """Raises a `BrodmannError` unless cells (rows,), which a method of this name returned, are from 0 to cells - 1."""
    if not all_in(cell, 0, cells - 1):
        raise BrodmannError(
            f"{name} should return cells from 0 to {cells - 1}, got {int(cell.min())} to {int(cell.max())}."
        )
