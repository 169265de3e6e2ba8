"""Ready-made bodies: plain and residual multi-layer networks of areas."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .area_linear import AreaLinear
from .checks import check_memory, check_share, check_whole
from .containers import Recomputed, Residual, Routed, Sequential
from .designs import described, design, note
from .errors import BrodmannError, unknown_name
from .feedback import Direct, Feedback, FixedRandom, KolenPollack, LeastChange, Shape, SignSymmetric, Transpose
from .layers import Layer
from .local import Local, RMSNorm
from .routing import Router
from .updates import RLS, Adam, UpdateRule, update_rule

FEEDBACKS: dict[str, Callable[..., Feedback]] = {
    "kolen-pollack": KolenPollack,
    "kolen-pollack-per-area": functools.partial(KolenPollack, per_area=True),
    "kolen-pollack-equal": functools.partial(KolenPollack, start="equal"),
    "kolen-pollack-noisy": functools.partial(KolenPollack, noise=0.1),
    "random": FixedRandom,
    "sign": SignSymmetric,
    "direct": Direct,
    "transpose": Transpose,
}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
ROUTING = ("layer", "network")
STORAGES = {"bfloat16": torch.bfloat16}


def feedback_path(feedback: str | Callable[..., Feedback], outputs: int) -> Callable[[Shape], Feedback]:
    """Returns a feedback path, by its name or itself, for a network with so many outputs.

    A path that asks for ``outputs``, as `Direct` does, is given them.

    Raises:
        BrodmannError: The name is unknown.
    """
    if not callable(feedback) and feedback not in FEEDBACKS:
        raise unknown_name("feedback", feedback, FEEDBACKS, "brodmann.builders.FEEDBACKS")
    path = feedback if callable(feedback) else FEEDBACKS[feedback]
    try:
        asked = inspect.signature(path).parameters.get("outputs")
    except (TypeError, ValueError):  # no class or function: `AreaLinear` says so
        return path
    return path if asked is None or asked.default is not asked.empty else functools.partial(path, outputs=outputs)


def activation_named(name: str) -> nn.Module:
    """Returns the activation of a name in `ACTIVATIONS`; raises a `BrodmannError` where it is unknown."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS, "brodmann.builders.ACTIVATIONS")
    return ACTIVATIONS[name]()


@described
def mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = 2,
    width: int = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    update: UpdateRule | None = None,
    activation: str | Callable[[Tensor], Tensor] = "relu",
    dropout: float = 0.0,
    routing: str = "network",
    shared: str = "learned",
    gated: bool = False,
    pooling: float = 0.0,
    router: dict[str, Any] | None = None,
    storage: str | None = None,
    readout_scale: float = 0.1,
) -> Sequential | Routed:
    """Builds a plain network: ``depth`` layers of areas with an activation between them.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: Number of linear layers, readout included. Default 2: one hidden layer.
        width: Units of a hidden layer. Default 256, the size named for the paper (docs/method.md says by whom).
        areas: Budget of areas of every layer. Default 16, likewise.
        feedback: A name in `FEEDBACKS`, or a path as `AreaLinear` takes it. The lowest layer sends nothing down and has
            none.
        update: Rule of every weight. Default Adam: its steps need no tuning to the width.
        activation: ``"relu"`` (default, likewise), ``"gelu"``, ``"tanh"``, or any operation that `Local` takes.
        dropout: Share of hidden units switched off while learning. Default 0.
        routing: ``"network"``: one route for all layers, found from the input of the lowest (default: as accurate as a
            route per layer, at a fraction of a router's cost); ``"layer"``: every layer routes its own input.
        shared: See `AreaLinear`.
        gated: See `AreaLinear`.
        pooling: See `AreaLinear`.
        router: Further arguments of every `Router`.
        storage: Kind of number that weights are stored in, ``"bfloat16"`` to halve a step's bytes. Default None: as
            the rest. See `AreaLinear`.
        readout_scale: ``start_scale`` of the readout, see `AreaLinear`. Default 0.1: weights and feedback weights then
            soon consist of what they have learned, which is common to both, and not of where each began. That narrows
            the gap to transpose feedback, to about 0.3 points (docs/log.md); backpropagation does not gain by it.

    Raises:
        BrodmannError: A size is not a positive whole number, the machine's memory is too small, or a name is unknown.
    """
    new_layer, wrap = _parts(
        in_features, outputs, depth, width, areas, feedback, update, routing, shared, gated, pooling, router, storage
    )
    sizes = [in_features, *[width] * (depth - 1), outputs]
    layers: list[Layer] = []
    for index in range(depth):
        scale = readout_scale if index == depth - 1 else 1.0
        layers.append(new_layer(sizes[index], sizes[index + 1], lowest=index == 0, start_scale=scale))
        if index < depth - 1:
            layers.append(_activation(activation))
            layers += _dropout(dropout)
    return wrap(Sequential(*layers))


@described
def residual_mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = 8,
    width: int = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    update: UpdateRule | None = None,
    activation: str | Callable[[Tensor], Tensor] = "relu",
    dropout: float = 0.0,
    routing: str = "network",
    shared: str = "learned",
    gated: bool = False,
    pooling: float = 0.0,
    router: dict[str, Any] | None = None,
    storage: str | None = None,
    readout_scale: float = 0.1,
    recompute: bool = False,
) -> Sequential | Routed:
    """Builds a residual network: a stem, ``depth - 2`` blocks ``h + alpha W phi(norm(h))``, a norm and a readout.

    ``alpha = 1 / sqrt(blocks)`` keeps the variance of the sum with depth, so that a learning rate serves any depth.
    Norm and activation lie before the map. Weights and feedback start independently unless the feedback says
    ``-equal``.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: Number of linear layers in all, at least 3. Default 8.
        width: Units of every layer. Default 256.
        areas: As in `mlp`.
        feedback: As in `mlp`.
        update: As in `mlp`.
        activation: As in `mlp`.
        dropout: As in `mlp`, before each block's map.
        routing: As in `mlp`.
        shared: As in `mlp`.
        gated: As in `mlp`.
        pooling: As in `mlp`.
        router: As in `mlp`.
        storage: As in `mlp`.
        readout_scale: As in `mlp`.
        recompute: Whether blocks remember their input alone and compute their traces again when the error comes down,
            see `Recomputed`: half the memory of very deep networks for a tenth more time (docs/results.md). Default
            False.

    Raises:
        BrodmannError: The depth is below 3, a size is not a positive whole number, the machine's memory is too small,
            or a name is unknown.
    """
    check_residual_depth(depth)
    new_layer, wrap = _parts(
        in_features, outputs, depth, width, areas, feedback, update, routing, shared, gated, pooling, router, storage
    )
    blocks = depth - 2
    layers: list[Layer] = [new_layer(in_features, width, lowest=True, start_scale=1.0)]
    for _ in range(blocks):
        body: list[Layer] = [Local(RMSNorm()), _activation(activation)]
        body += _dropout(dropout)
        body.append(new_layer(width, width, lowest=False, start_scale=1.0))
        inside = Sequential(*body)
        layers.append(Residual(Recomputed(inside) if recompute else inside, alpha=blocks**-0.5))
    layers += [Local(RMSNorm()), new_layer(width, outputs, lowest=False, start_scale=readout_scale)]
    return wrap(Sequential(*layers))


@described
def stream_mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = 2,
    width: int = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    update: UpdateRule | None = None,
    activation: str | Callable[[Tensor], Tensor] = "relu",
    novelty: float = 0.4,
    dimension: int = 128,
) -> Sequential | Routed:
    """Builds a network for streams that change: it learns in one pass, sample by sample, and forgets little.

    Areas are exclusive (no shared part, one frozen route for all layers), so that only the areas whose cells a sample
    hits may change; new samples recruit areas, which start as copies of the nearest; and inside an area `RLS` holds
    what earlier samples determined. How much is forgotten depends on how many areas the stream needs and has: 0 to 4.4
    points on MNIST with 16 to 1024 areas, 5.6 and 8.3 with one (docs/results.md).
    Train it as ``Network(stream_mlp(...))``, whose loss is then `SumOfSquares` and whose rate is 1, on standardised
    inputs.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: Number of linear layers, readout included. Default 2.
        width: Units of a hidden layer. Default 256.
        areas: Budget of areas. Default 16.
        feedback: A name in `FEEDBACKS`, or a path; its errors are scaled by `LeastChange`.
        update: Rule of every weight. Default `RLS`.
        activation: As in `mlp`.
        novelty: See `Router`. Default 0.4, from a search on validation parts (docs/log.md).
        dimension: Of the router's projection. Default 128: the cosine decides what is new, and a random projection
            keeps it to about ``1 / sqrt(dimension)``.

    Raises:
        BrodmannError: A size is not a positive whole number, the machine's memory is too small, or a name is unknown.
    """
    path: Callable[[Shape], Feedback] = functools.partial(LeastChange, path=feedback_path(feedback, outputs))
    router = {"learned": False, "novelty": novelty, "dimension": dimension}
    new_layer, wrap = _parts(
        in_features, outputs, depth, width, areas, path, update or RLS(), "network", "off", False, 0.0, router, None
    )
    sizes = [in_features, *[width] * (depth - 1), outputs]
    layers: list[Layer] = []
    for index in range(depth):
        last = index == depth - 1
        layers.append(Local(nn.ConstantPad1d((0, 1), 1.0)))  # biases, as one more input: RLS moves no others
        scale = 0.0 if last else 1.0
        layers.append(new_layer(sizes[index] + 1, sizes[index + 1], lowest=index == 0, start_scale=scale))
        layers += [] if last else [_activation(activation)]
    return wrap(Sequential(*layers))


BUILDERS: dict[str, Callable[..., Layer]] = {"mlp": mlp, "residual_mlp": residual_mlp, "stream_mlp": stream_mlp}


def build(description: dict[str, Any]) -> Layer:
    """Builds the body that `design` describes.

    Raises:
        BrodmannError: The builder, the rule or an argument is unknown.
    """
    arguments = dict(description)
    name = arguments.pop("builder", None)
    if name not in BUILDERS:
        raise unknown_name("builder", str(name), BUILDERS, "brodmann.builders.BUILDERS")
    if isinstance(arguments.get("update"), dict):
        arguments["update"] = update_rule(**arguments["update"])
    try:
        body = BUILDERS[name](**arguments)
    except TypeError as error:
        raise BrodmannError(f"The builder '{name}' cannot use this design: {error}.") from None
    note(body, description)
    return body


def _parts(
    in_features: int,
    outputs: int,
    depth: int,
    width: int,
    areas: int,
    feedback: str | Callable[[Shape], Feedback],
    update: UpdateRule | None,
    routing: str,
    shared: str,
    gated: bool,
    pooling: float,
    router: dict[str, Any] | None,
    storage: str | None,
) -> tuple[Callable[..., AreaLinear], Callable[[Sequential], Sequential | Routed]]:
    """Returns what builds one layer, and what wraps the whole in a common route where wanted."""
    if not isinstance(router, dict | None):
        raise BrodmannError(f"Expected router to be a dictionary of a Router's settings, got {type(router).__name__}.")
    settings = router or {}
    check_whole(in_features=in_features, outputs=outputs, depth=depth, width=width, areas=areas)
    _check_router(settings)
    tables = areas * (8 * depth + 4 * settings.get("dimension", 16))  # slots of areas, prototypes
    check_memory(dense_size(in_features, outputs, depth, width) * (2 if storage else 4) + tables)
    if routing not in ROUTING:
        raise unknown_name("routing", routing, ROUTING)
    if storage is not None and storage not in STORAGES:
        raise unknown_name("storage", storage, STORAGES)
    rule = update or Adam()
    path = feedback_path(feedback, outputs)
    new_router: Callable[..., Router] = functools.partial(Router, **settings)
    own = new_router if routing == "layer" else None

    def new_layer(inputs: int, size: int, *, lowest: bool, start_scale: float) -> AreaLinear:
        return AreaLinear(
            inputs,
            size,
            areas=areas,
            shared=shared,
            gated=gated,
            feedback=None if lowest else path,
            update=rule,
            pooling=pooling,
            router=own,
            start_scale=start_scale,
            storage=None if storage is None else STORAGES[storage],
        )

    def wrap(body: Sequential) -> Sequential | Routed:
        if routing == "layer" or areas == 1:
            return body
        return Routed(new_router(in_features, areas, update=rule), body)

    return new_layer, wrap


def check_residual_depth(depth: int) -> None:
    """Checks that there is room for a stem, a block and a readout.

    Raises:
        BrodmannError: There is not.
    """
    check_whole(depth=depth)
    if depth < 3:
        raise BrodmannError(f"A residual network needs a depth of at least 3 (stem, block, readout), got {depth}.")


def dense_size(in_features: int, outputs: int, depth: int, width: int) -> int:
    """Counts the parameters of a dense network, plain or residual: input to width, width to width, width to output."""
    if depth == 1:
        return (in_features + 1) * outputs
    return (in_features + 1) * width + (depth - 2) * (width + 1) * width + (width + 1) * outputs


def _check_router(settings: dict[str, Any]) -> None:
    known = set(inspect.signature(Router).parameters) - {"in_features", "areas", "update"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise unknown_name("setting of a router", unknown[0], known)


def _dropout(share: float) -> list[Layer]:
    check_share(dropout=share)
    return [Local(nn.Dropout(share))] if share else []


def _activation(activation: str | Callable[[Tensor], Tensor]) -> Local:
    return Local(activation_named(activation) if isinstance(activation, str) else activation)


__all__ = [
    "ACTIVATIONS",
    "BUILDERS",
    "FEEDBACKS",
    "activation_named",
    "build",
    "check_residual_depth",
    "dense_size",
    "design",
    "feedback_path",
    "mlp",
    "residual_mlp",
    "stream_mlp",
]
