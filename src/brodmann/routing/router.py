"""Router: chooses a cell for each sample by a projection and prototypes, and with it an area."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..areas import Slab
from ..autograd import followed, transformed, unrecorded
from ..checks import (
    TRUSTED,
    Unmodified,
    check_input,
    check_memory,
    check_positive,
    check_real,
    check_settings,
    check_switch,
    check_whole,
    form_of,
    signature_of,
)
from ..errors import BrodmannError, unknown_name
from ..feedback import Feedback, Shape, Signal, build_feedback, error_below, let_learn
from ..held import Held, HeldBuffer
from ..kernels import Groups
from ..kernels.per_row import nearest
from ..origin import is_ours
from ..recording import replayed
from ..rows import weights_of_rows
from ..updates import SGD, UpdateRule, check_rule, counted
from .conflict import Conflict
from .partition import PARTITIONS, Partitioned, cell_count, initial_partition
from .route import Choice, Route, check_cells, length_of

DIMENSION = 16
"""Size of the projection, see `Router`."""


class Router(Partitioned):
    """Chooses exactly one area for each sample.

    ``u = P x``; ``s_j = cos(u, prototype_j)``; the cell is ``argmax_j (s_j + balance_j)``, the area is
    ``partition[cell]``, the gate ``a = softmax(s / tau)[cell]``. For ``x = 0`` the cell is 0.

    The prototypes are random unit vectors and never move; see `Recruiting` for others. The projection ``P`` may learn.
    It learns from the usefulness of the chosen cell ``c``, ``-dL/da`` (see `AreaLinear.learn`), which is propagated
    through the softmax and the cosine to ``P``:
    ``dL/ds_j = dL/da * a (1[j = c] - p_j) / tau`` and ``dL/du = sum_j dL/ds_j (prototype_j - s_j u/|u|) / |u|``.

    Where a gate multiplies what an area computes, the error of ``u`` is part of the error of ``x``, which the layers
    below learn from. With a ``feedback`` path it goes down, through weights ``B_P`` of that path in place of ``P``:
    ``e_below += dL/du B_P``. Without one, the default, it does not.

    Source: descriptions of SAL (arXiv 2601.21561) for projection, frozen prototypes and hard choice; gate, partition
    table, learning rule and the error that goes down are our choice.

    Attributes:
        feedback: The path by which the error of gates goes down, or None.
    """

    projection = Held[Slab]()
    prototypes = HeldBuffer[Tensor]()
    balance = HeldBuffer[Tensor]()
    conflict = Held[Conflict | None]()
    feedback = Held[Feedback | None]()

    def __init__(
        self,
        in_features: int,
        areas: int,
        *,
        cells: int | None = None,
        dimension: int = DIMENSION,
        temperature: float = 0.3,
        learned: bool = True,
        balance_rate: float = 0.0,
        partition: str = "fixed",
        conflict: dict[str, Any] | None = None,
        feedback: Callable[[Shape], Feedback] | None = None,
        update: UpdateRule | None = None,
    ) -> None:
        """Draws projection and prototypes from torch's global generator.

        Args:
            in_features: Size of a sample.
            areas: Largest number of areas, G.
            cells: Number of prototypes, M >= G. Default: G for a fixed partition, else 4 G, so that there is something
                to split.
            dimension: Size of the projection. Default 16: cosine in 16 dimensions distinguishes hundreds of prototypes,
                and costs a sixteenth of a map of 256 units.
            temperature: tau of the gate, in units of a cosine. Default 0.3; 0.1 and 1 work as well (docs/results.md).
            learned: Whether the projection learns. Default True: frozen ones lost 0.6 points on one set of four, and
                nothing noticeable on the others (docs/results.md).
            balance_rate: Step of the load-balancing bias, which enters only the choice, never the gate; at most 2.
                Default 0, off: it spreads the samples without gain or loss of accuracy, and every area in use costs
                time and memory (docs/results.md).
            partition: ``"fixed"`` (cell mod G), ``"manual"`` (all cells in area 0 until areas are split by hand) or
                ``"growing"``: the same, and areas split by themselves if their samples pull in opposite directions,
                see `Conflict`.
            conflict: Settings of `Conflict` if the partition is growing: ``evidence``, ``opposition``,
                ``certainty``. Default its own.
            feedback: How the error of gates goes down: a class of `brodmann.feedback`, or a `functools.partial` of one,
                other than those that start at the network's output. For layers with ``gated=True``. It is dropped where
                nothing below learns, as below one route for a whole network. It moves only if the projection learns;
                beside a fixed one it must start aligned, as a mirrored one does. Default None: it does not go down,
                which cost 0.01 to 0.03 bits per character in a language model (docs/results.md).
            update: Rule of the projection. Default plain SGD.

        Raises:
            BrodmannError: A size is not a positive whole number, a rate or temperature is out of range, there are fewer
                cells than areas, the partition is unknown, the rule none, or the feedback none for a router, or for one
                whose projection is fixed.
        """
        super().__init__()
        if partition not in PARTITIONS:
            raise unknown_name("partition", partition, PARTITIONS)
        check_whole(in_features=in_features, areas=areas, dimension=dimension)
        count = cell_count(areas, partition, cells)
        check_whole(areas, cells=count)
        areas, dimension, count = int(areas), int(dimension), int(count)  # NumPy's small numbers overflow
        check_memory(4 * count * dimension)
        check_positive(temperature=temperature)
        check_real(balance_rate=balance_rate)
        if balance_rate > 2:
            raise BrodmannError(f"Expected balance_rate to be at most 2, the range of a cosine, got {balance_rate}.")
        check_switch(learned=learned)
        if update is not None:
            check_rule(update)
        if conflict is not None and partition != "growing":
            raise BrodmannError(
                f"Settings of conflict work only with partition='growing', got partition='{partition}'."
            )
        if conflict is not None:
            check_settings("conflict", conflict, Conflict, without=("cells",))
        self.areas, self.temperature, self.learned, self.balance_rate = areas, temperature, learned, balance_rate
        projection = torch.randn(dimension, in_features) / in_features**0.5
        self.projection = Slab(projection[None], update or SGD())
        self.register_buffer("prototypes", F.normalize(torch.randn(count, dimension), dim=1))
        self.register_buffer("balance", torch.zeros(count))
        self.conflict = Conflict(count, **conflict or {}) if partition == "growing" else None
        self.register_buffer("partition", initial_partition(partition, areas, count))
        rule = self.projection.update_rule
        shape = Shape(in_features, dimension, areas=1, shared=True, equal_start=projection, update=rule)
        self.feedback = None if feedback is None else build_feedback(feedback, shape)
        if self.feedback is not None and self.feedback.from_output:
            raise BrodmannError(
                f"{type(self.feedback).__name__} brings errors from the network's output, which say nothing of gates: "
                "give the router another feedback, such as KolenPollack."
            )
        if self.feedback is not None and self.feedback.starts_apart and not learned:
            raise BrodmannError(
                f"This {type(self.feedback).__name__} starts apart from the projection, and as that does not learn "
                "(learned=False), the two would never align: let it learn, leave the router's feedback out, or give "
                "one that starts aligned, such as partial(KolenPollack, start='mirrored'), by name "
                "'kolen-pollack-mirrored'."
            )

    @property
    def cells(self) -> int:
        """Number of cells, M."""
        return len(self.prototypes)

    @property
    def moves(self) -> bool:
        """Whether learning changes it: its projection, its balance, a split, or the `learn` of a class of your own."""
        own = type(self).learn is not Router.learn
        return self.learned or self.balance_rate > 0 or self.conflict is not None or own

    def _project(self, x: Tensor) -> Tensor:
        return x @ self.projection.value[0].t()

    @property
    def _needs_products(self) -> bool:
        """Whether a choice needs the products with all prototypes, not only the nearest one."""
        return self.balance_rate > 0

    def _products(self, u: Tensor) -> Tensor:
        """Returns the products with all prototypes, (rows, cells)."""
        return u @ self.prototypes.t()

    def scores(self, products: Tensor, length: Tensor) -> Tensor:
        """Returns the cosines with all prototypes, (rows, cells), from the products and ``|u|``, (rows, 1)."""
        return products / length

    def _best(self, products: Tensor, u: Tensor) -> Tensor:
        """Returns the nearest cell, with the balance taken into account, (rows,)."""
        if not self.balance_rate:
            return products.argmax(1)  # the length changes no order; the first of equals: cell 0 if u = 0
        length = length_of(u)
        return (self.scores(products, length) + self.balance).argmax(1).masked_fill(length[:, 0] == torch.inf, 0)

    def _chosen(self, x: Tensor, u: Tensor, products: Tensor | None) -> Tensor:
        """Returns the cell of each row, (rows,), from the inputs, their projection, and the products if computed."""
        if (cell := self._own_choice(x)) is not None:
            return cell
        return nearest(u, self.prototypes) if products is None else self._best(products, u)

    def choose(self, x: Tensor) -> Tensor | None:
        """Override it for a choice of your own: x (rows, in); returns the cell of each row, (rows,) int64.

        It serves inference and learning. Everything else goes on as described: the partition says which area a cell
        belongs to, gate and projection look at the cosine with its prototype. Default None: the nearest prototype.
        """
        return None

    def _own_choice(self, x: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or transformed():  # neither can look at numbers
            return self.choose(x)
        name = f"{type(self).__name__}.choose"
        with TRUSTED if is_ours(self) else Unmodified(name, (x,)):
            cell = self.choose(x)
        if cell is None:
            return None
        if not isinstance(cell, Tensor) or cell.shape != x.shape[:1] or cell.dtype != torch.int64:
            raise BrodmannError(f"{name} should return cells, ({len(x)},) torch.int64, got {form_of(cell)}.")
        replayed(check_cells, name, cell, self.cells)
        return cell.contiguous()

    def forward(self, x: Tensor) -> Route | Choice:
        """Routes for inference: x (rows, in); returns something with an ``area`` (rows,) and a ``gate`` (rows,)."""
        check_input(x, self.projection.value)
        if not followed(x, self.projection.value):
            return self.route(x)
        u = self._project(x)
        products = self._products(u)
        cell = self._chosen(x, u, products)
        probabilities = (self.scores(products, length_of(u)) / self.temperature).softmax(1)
        return Choice(self.partition.index_select(0, cell), probabilities.gather(1, cell[:, None])[:, 0])

    @unrecorded
    def route(self, x: Tensor) -> Route:
        """Routes by compiled kernels: x (rows, in); returns everything that inference and `learn` need."""
        check_input(x, self.projection.value)
        u = self.projection.product(x, Groups.single(x.shape[0], x.device))
        products = self._products(u) if self._needs_products else None
        cell = self._chosen(x, u, products)
        area = self.partition.index_select(0, cell)
        return Route(self, x, u, products, cell, area)

    def error_below(self, route: Route, gate_error: Tensor) -> Tensor:
        """Returns what the error of gates, ``dL/da`` (rows,), adds to that of ``x``, (rows, in); see `Router`."""
        assert self.feedback is not None
        return error_below(self.feedback, self._signal(route, route.x, route.gate_down(gate_error)))

    @unrecorded
    def learn_feedback(self, route: Route, lr: float, weight: Tensor | None = None) -> None:
        """Moves the feedback weights, if there are any, by the factors of the projection: before `learn` moves that.

        The arguments are those of `learn`.
        """
        if self.feedback is not None and self.learned and lr:
            x, delta = self._factors(route, weight)
            let_learn(self.feedback, self._signal(route, x, delta), lr, 0.0, lr, 0.0)
            if (follower := self.feedback.follower) is not None:
                follower.learn(delta, x, route.groups, lr, 0.0)

    def _factors(self, route: Route, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns what the projection learns from: ``x`` (rows, in) and ``dL/du`` (rows, dimension)."""
        x, delta = route.x, route.projection_error
        if weight is not None and self.projection.update_rule.repeats:
            x, delta = counted(weights_of_rows(weight, len(x)), x, delta)
        return x, delta

    def _signal(self, route: Route, x: Tensor, delta: Tensor) -> Signal:
        return Signal(x, delta, delta, route.groups, None, self.projection, None)

    @unrecorded
    def learn(self, route: Route, lr: float, weight: Tensor | None = None) -> None:
        """Moves the projection in place, then the balance; adds to the evidence of conflict.

        Args:
            route: What `route` returned. The layers that follow it have added to its ``gate_error``, if the
                projection learns, ``delta . (D[g] x + d[g])``, the negative of the usefulness; and to its ``pulls``,
                if areas grow.
            lr: Learning rate of the projection.
            weight: Weights of the samples, (batch, ...), which ``gate_error`` holds; or None.
        """
        if self.learned and lr:
            x, delta = self._factors(route, weight)
            self.projection.learn(delta, x, route.groups, lr, 0.0)
        if self.balance_rate:
            ones = torch.ones_like(route.cell)  # no bincount, whose size depends on numbers: recordings cannot hold it
            load = torch.zeros_like(self.partition).index_add_(0, route.cell, ones).to(self.balance.dtype)
            self.balance.add_(torch.sign(load.mean() - load), alpha=self.balance_rate)
        if self.conflict is not None:
            self.conflict.add(route.cell, route.pulls)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        kind = "learned" if self.learned else "fixed"
        numbers = f"cells={self.cells}, temperature={self.temperature}, balance_rate={self.balance_rate}"
        return f"areas={self.areas}, {numbers}, projection={kind}, {self.projection.update_rule}"


def build_router(router: Callable[..., Router], in_features: int, areas: int, update: UpdateRule) -> Router:
    """Builds the router of a layer; raises a `BrodmannError` unless it is one of ``areas`` areas."""
    signature = signature_of(router)
    try:
        if signature is not None:
            signature.bind(in_features, areas, update=update)
    except TypeError as error:
        raise BrodmannError(
            f"Expected router to be a class that takes (in_features, areas, update=...), got {router!r} ({error})."
        ) from None
    built = router(in_features, areas, update=update)
    if not isinstance(built, Router):
        raise BrodmannError(f"Expected router to build a Router, got {type(built).__name__}.")
    if built.areas != areas:
        raise BrodmannError(f"Expected router to build a Router of {areas} areas, as its layer has, got {built.areas}.")
    return built


def settle_feedback(router: Router, *, gated: bool, lowest: bool) -> None:
    """Drops the feedback of a router if nothing below it learns.

    Args:
        router: That of a layer, or of a routed body.
        gated: Whether its gate multiplies what some layer computes.
        lowest: Whether nothing below learns.

    Raises:
        BrodmannError: It has feedback, but no gate whose error could go down.
    """
    if router.feedback is not None and not gated:
        raise BrodmannError(
            "The feedback of a router sends down the error of gates, but nothing that follows this one is gated: give "
            "gated=True, or leave the router's feedback out."
        )
    if lowest:
        router.feedback = None
