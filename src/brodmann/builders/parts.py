"""Parts of builders: choices by name, and layers of areas from a builder's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..checks import check_memory, check_settings, check_share, check_whole
from ..errors import BrodmannError, unknown_name
from ..feedback import Direct, Feedback, FixedRandom, KolenPollack, Shape, SignSymmetric, Transpose, build_feedback
from ..generators import undisturbed
from ..layer import Layer
from ..layers import AreaLinear, Convolution, Local, Patches, Product, Routed, TiedWeights
from ..layers.containers import routed_maps
from ..routing import build_router
from ..routing.partition import cell_count
from ..routing.recruiting import Recruiting
from ..routing.router import DIMENSION, Router
from ..storage import storage_dtype
from ..updates import SGD, Adam, UpdateRule

FEEDBACKS: dict[str, Callable[..., Feedback]] = {
    "kolen-pollack": KolenPollack,
    "kolen-pollack-per-area": functools.partial(KolenPollack, per_area=True),
    "kolen-pollack-mirrored": functools.partial(KolenPollack, start="mirrored"),
    "kolen-pollack-equal": functools.partial(KolenPollack, start="equal"),
    "kolen-pollack-noisy": functools.partial(KolenPollack, noise=0.1),
    "random": FixedRandom,
    "sign": SignSymmetric,
    "direct": Direct,
    "transpose": Transpose,
}
SYNONYMS = {
    **dict.fromkeys(("fa", "feedback-alignment"), "random"),
    **dict.fromkeys(("dfa", "direct-feedback-alignment"), "direct"),
    **dict.fromkeys(("sign-symmetry", "sign-symmetric", "usf", "brsf", "frsf"), "sign"),
    **dict.fromkeys(("bp", "backprop", "backpropagation"), "transpose"),
    "kp": "kolen-pollack",
    "weight-mirror": "kolen-pollack-mirrored",
}
"""Names of feedback paths in the literature -> the nearest name in `FEEDBACKS`."""
ACTIVATIONS: dict[str, Callable[..., Any]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
ROUTING = ("layer", "network")
Body = TypeVar("Body", bound=Layer)


def feedback_path(feedback: str | Callable[..., Feedback], outputs: int) -> Callable[[Shape], Feedback]:
    """Returns a feedback path, given by name or as it is, for a network with ``outputs`` outputs.

    A path that asks for ``outputs``, as `Direct` does, is given them.

    Raises:
        BrodmannError: The name is unknown.
    """
    if not callable(feedback) and not (isinstance(feedback, str) and feedback in FEEDBACKS):
        raise unknown_name("feedback", feedback, FEEDBACKS, "brodmann.builders.FEEDBACKS", synonyms=SYNONYMS)
    path = feedback if callable(feedback) else FEEDBACKS[feedback]
    try:
        asked = inspect.signature(path).parameters.get("outputs")
    except (TypeError, ValueError):  # no class or function: `AreaLinear` says so
        return path
    return path if asked is None or asked.default is not asked.empty else functools.partial(path, outputs=outputs)


def _of_rows(path: Callable[[Shape], Feedback], rows: int, shape: Shape) -> Feedback:
    return path(replace(shape, rows=rows))


class Function(nn.Module):
    """A function of one tensor, as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """Wraps a function."""
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return getattr(self.function, "__name__", str(self.function))


def activation_named(name: str) -> nn.Module:
    """Returns the activation of a name in `ACTIVATIONS`: a class's instance, a copy of a module, or a function of x.

    Raises:
        BrodmannError: It is unknown.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS, "brodmann.builders.ACTIVATIONS")
    made = ACTIVATIONS[name]
    if isinstance(made, nn.Module):
        return deepcopy(made)
    try:
        inspect.signature(made).bind()
    except (TypeError, ValueError):  # it asks for a tensor, or is a builtin such as torch.sin: the operation itself
        return Function(made)
    return made()


@dataclass(frozen=True)
class Parts:
    """Settings that the layers of one network share: arguments of a builder that hold for all of them.

    Attributes:
        in_features: Size of a sample (flat).
        outputs: Outputs of the network.
        areas: As for `brodmann.builders.mlp`, with the same default; likewise ``feedback``. All others: see `Common`.
    """

    in_features: int
    outputs: int
    areas: int = 16
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack"
    update: UpdateRule | None = None
    routing: str = "network"
    shared: str = "learned"
    gated: bool | str = False
    pooling: float = 0.0
    router: dict[str, Any] | Callable[..., Router] | None = None
    storage: str | torch.dtype | None = None

    def check(self, depth: int, weights: int) -> None:
        """Checks, before any layer is built, what no layer checks itself.

        Args:
            depth: Layers that have areas.
            weights: Numbers in all layers, each with one area: what the network holds from the start.

        Raises:
            BrodmannError: A size is no whole number, a name is unknown, or the machine's memory is too small.
        """
        check_whole(in_features=self.in_features, outputs=self.outputs, areas=self.areas)
        if not isinstance(self.gated, bool) and self.gated != "last":
            raise BrodmannError(f"Expected gated to be True, False or 'last', got {self.gated!r}.")
        settings: Any = {} if self.router is None or self._has_own_router else self.router
        if not isinstance(settings, Mapping):
            raise BrodmannError(
                "Expected router to be a dictionary of settings, or a class from which the routers are built, got "
                f"{type(settings).__name__}."
            )
        kind = "router with novelty" if self._kind is Recruiting else "router"
        check_settings(kind, settings, self._kind, without=("in_features", "areas", "update"))
        _ = self._new_router  # which checks the name of its feedback
        dimension = settings.get("dimension", DIMENSION)
        cells = cell_count(self.areas, settings.get("partition", "fixed"), settings.get("cells"))
        check_whole(dimension=dimension, cells=cells)
        tables = 8 * int(self.areas) * depth + 4 * int(cells) * int(dimension)  # slots of areas, prototypes
        check_memory(weights * (2 if self.storage else 4) + tables)
        if self.routing not in ROUTING:
            raise unknown_name("routing", self.routing, ROUTING)
        storage_dtype(self.storage)

    def layer(
        self,
        inputs: int,
        outputs: int,
        *,
        rows: int = 1,
        lowest: bool = False,
        start_scale: float = 1.0,
        start: nn.Linear | None = None,
    ) -> AreaLinear:
        """Builds a layer, which has ``rows`` rows for each row of the network's output; the lowest has no feedback."""
        return AreaLinear(
            inputs,
            outputs,
            areas=self.areas,
            shared=self.shared,
            gated=bool(self.gated),
            feedback=None if lowest else self._path(rows),
            update=self.update_rule,
            pooling=self.pooling,
            router=self._new_router if self.routing == "layer" else None,
            start_scale=start_scale,
            start=start,
            storage=self.storage,
        )

    def convolution(
        self,
        patches: Patches,
        inputs: int,
        outputs: int,
        *,
        rows: int = 1,
        lowest: bool = False,
        start: nn.Linear | None = None,
    ) -> Convolution:
        """Builds a convolution: patches of ``inputs`` numbers, and a `layer` that makes ``outputs`` numbers of each."""
        return Convolution(patches, self.layer(inputs, outputs, rows=rows, lowest=lowest, start=start))

    def product(
        self, operation: Callable[[Tensor, Tensor], Tensor], weight: Tensor, *, lowest: bool = False
    ) -> Product:
        """Builds a map of any form, which has no areas; the lowest has no feedback.

        Raises:
            BrodmannError: The feedback has no way down through it.
        """
        return Product(
            operation,
            weight,
            feedback=None if lowest else self._path(1),
            update=self.update_rule,
            storage=self.storage,
        )

    def tied_weights(self, weight: Tensor) -> TiedWeights:
        """Builds weights that several products share, which have no areas, and are stored as they are.

        Raises:
            BrodmannError: The feedback has no way down through them.
        """
        return TiedWeights(weight, feedback=self._path(1), update=self.update_rule)

    def wrap(self, body: Body) -> Body | Routed:
        """Puts the body under a common route, if there is one."""
        if not self.routed:
            return body
        if self.gated == "last":
            for part in routed_maps(body)[:-1]:
                part.gated = False
        return Routed(build_router(self._new_router, self.in_features, self.areas, self.update_rule), body)

    @property
    def routed(self) -> bool:
        """Whether all layers follow one route."""
        return self.routing == "network" and self.areas > 1

    @property
    def update_rule(self) -> UpdateRule:
        """The update rule of all layers. Default `Adam`."""
        return Adam() if self.update is None else self.update

    @functools.cached_property  # a path is built to ask it
    def from_output(self) -> bool:
        """Whether the feedback brings errors from the network's output, see `Feedback`."""
        shape = Shape(1, 1, areas=1, shared=True, equal_start=torch.zeros(1, 1), update=SGD())
        with undisturbed():  # this path is only inspected
            return build_feedback(self._path(1), shape).from_output

    def _path(self, rows: int) -> Callable[[Shape], Feedback]:
        """Returns what builds the feedback path of a layer with ``rows`` rows per row of the output, see `Shape`."""
        path = feedback_path(self.feedback, self.outputs)
        return path if rows == 1 else functools.partial(_of_rows, path, rows)

    @property
    def _new_router(self) -> Callable[..., Router]:
        if self._has_own_router:
            return self.router  # type: ignore[return-value]
        settings: dict[str, Any] = {**self.router} if isinstance(self.router, dict) else {}
        if settings.get("feedback") is not None:
            settings["feedback"] = feedback_path(settings["feedback"], self.outputs)
        return functools.partial(self._kind, **settings)

    @property
    def _kind(self) -> type[Router]:
        """The class of routers that settings are for."""
        return Recruiting if isinstance(self.router, dict) and "novelty" in self.router else Router

    @property
    def _has_own_router(self) -> bool:
        """Whether what builds routers is given, not settings."""
        return callable(self.router) and not isinstance(self.router, nn.Module)


def dropout_of(share: float) -> list[Layer]:
    """Returns dropout as a layer, none if the share is 0."""
    check_share(dropout=share)
    return [Local(nn.Dropout(share))] if share else []


def activation_of(activation: str | Callable[[Tensor], Tensor]) -> Local:
    """Returns an activation, given by name or as it is, as a layer."""
    return Local(activation_named(activation) if isinstance(activation, str) else activation)
