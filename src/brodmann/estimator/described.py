"""The network that an estimator's settings describe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import BaseEstimator

from ..builders import build, stream_mlp
from ..builders.registry import built_by, label_of
from ..builders.sizes import as_ints
from ..checks import check_positive
from ..errors import BrodmannError
from ..layer import Layer
from ..losses import Loss
from ..network import Network
from ..updates import UpdateRule, usual_rule

if TYPE_CHECKING:
    from .base import SALEstimator

OF_DENSE = ("layers", "width", "residual", "activation", "dropout")
"""Settings that are not handed to a builder of another kind of network."""


def network_of(settings: SALEstimator, features: int, outputs: int, loss: Loss) -> Network:
    """Builds the network; its weights are drawn from PyTorch's generators.

    Raises:
        BrodmannError: A setting is unknown, out of range or does not go with others, or a builder does not return a
            body with this number of outputs.
    """
    rule = usual_rule(settings.optimiser, settings.decay)
    if settings.learning_rate is not None:
        check_positive(learning_rate=settings.learning_rate)
    if rule.recursive:
        return Network(_body(settings, features, outputs, usual_rule(settings.optimiser))).float()
    if settings.builder in ("stream_mlp", stream_mlp):
        raise BrodmannError("Expected another builder than stream_mlp: optimiser='rls' builds that by itself.")
    network = Network(_body(settings, features, outputs, rule), lr=settings.learning_rate)
    if network.recursive:
        raise BrodmannError(
            f"The builder '{label_of(settings.builder)}' returned a body that learns streams by recursive least "
            "squares, in one pass. Of such bodies an estimator has stream_mlp alone: write optimiser='rls' and leave "
            "the builder out, or learn with brodmann.Network and its loss SumOfSquares."
        )
    network.loss = loss
    network.float()  # as the inputs, whatever PyTorch's default
    if settings.builder is not None:
        _check_outputs(network, settings.builder, features, outputs)
    return network


def given(settings: BaseEstimator, names: Collection[str]) -> list[str]:
    """Returns which of these settings are not the default."""
    defaults = signature(type(settings)).parameters
    return [name for name in defaults if name in names and as_ints(getattr(settings, name)) != defaults[name].default]


def _body(settings: SALEstimator, features: int, outputs: int, rule: UpdateRule) -> Layer:
    further = {} if settings.options is None else settings.options
    if not isinstance(further, Mapping):
        raise BrodmannError(
            "Expected options to be None or a dictionary of further arguments of the builder, such as "
            f"{{'readout_scale': 1.0}}, got {further!r}."
        )
    arguments: dict[str, Any] = {"outputs": outputs, "update": rule}
    arguments |= {name: getattr(settings, name) for name in ("areas", "feedback")}
    if "shape" not in further:
        arguments["in_features"] = features
    if not rule.recursive:
        arguments |= {name: getattr(settings, name) for name in ("shared", "gated", "pooling", "routing")}
        arguments["router"] = _router(settings)
    builder = settings.builder
    if builder is None:
        arguments |= {"depth": settings.layers, "width": settings.width, "activation": settings.activation}
        arguments |= {} if rule.recursive else {"dropout": settings.dropout}
        builder = "stream_mlp" if rule.recursive else "residual_mlp" if settings.residual else "mlp"
    elif unused := given(settings, OF_DENSE):
        raise BrodmannError(
            f"builder={builder!r} cannot be combined with {', '.join(unused)}: leave that out, or put what this "
            "builder takes into options."
        )
    if twice := sorted(further.keys() & {*arguments, "builder"}):
        raise BrodmannError(
            f"Expected options to hold further arguments, but the estimator itself gives {', '.join(twice)}: leave "
            "that out, and change its own setting."
        )
    arguments |= further
    return built_by(builder, arguments) if callable(builder) else build({"builder": builder, **arguments})


def _router(settings: SALEstimator) -> dict[str, Any]:
    further = {} if settings.router is None else settings.router
    if not isinstance(further, Mapping) or "partition" in further:
        raise BrodmannError(
            "Expected router to be None or a dictionary of settings, such as {'temperature': 0.5}, but without the "
            f"partition, which is a parameter of its own, got {settings.router!r}."
        )
    return {"partition": settings.partition, **further}


def _check_outputs(network: Network, builder: Any, features: int, outputs: int) -> None:
    with torch.no_grad():
        made = network(torch.zeros(1, features, dtype=torch.float32))
    shape = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
    if shape != (1, outputs):
        raise BrodmannError(
            f"Expected the builder '{label_of(builder)}' to return a body whose outputs for one sample have the shape "
            f"(1, {outputs}), got {shape}: its argument outputs says how many there must be."
        )
