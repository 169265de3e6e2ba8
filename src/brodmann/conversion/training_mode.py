"""What a network does only while training: dropout and its like are kept, all else is told of."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from typing import Any

from torch import fx, nn
from torch.nn import functional

from ..errors import BrodmannError
from .followed import name_of

DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
    functional.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
"""Functions that a module stands for, which draws while learning alone."""
ATTENTION = functional.scaled_dot_product_attention
JUDGED_APART = {*DROPOUTS, ATTENTION, functional.batch_norm}
"""Functions of which it is known what a conversion makes of their training mode."""


def modules_that_differ(graph: fx.Graph, training: fx.Graph) -> list[str]:
    """Returns the names of the innermost modules that call other functions in training mode, see `JUDGED_APART`."""
    here, there = _calls(graph), _calls(training)
    return [name for name in here | there if here[name] != there[name]]


def _calls(graph: fx.Graph) -> dict[str, Counter[str]]:
    """Returns what each module calls, and with which settings."""
    calls: dict[str, Counter[str]] = defaultdict(Counter)
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and node.target not in JUDGED_APART:
            *_, (name, _) = node.meta["nn_module_stack"].values()
            settings = fx.node.map_arg((node.args, node.kwargs), lambda _: None)
            calls[name][f"{name_of(node)}{settings}"] += 1
    return calls


def leave_out_dropouts(graph: fx.Graph, training: fx.Graph, network: str) -> None:
    """Leaves out functions that draw no dropout in training mode either.

    Args:
        graph: Of the network at inference, which is changed.
        training: Of the same in training mode.
        network: What the network is called.

    Raises:
        BrodmannError: Dropout would be lost.
    """
    here, there = _draws(graph), _draws(training)
    if len(here) != len(there):
        raise BrodmannError(
            f"{network} cannot be converted: in training mode it calls other functions for dropout, which would be "
            "lost: write F.dropout(x, p, training=self.training), or nn.Dropout, not below an `if`."
        )
    for node, other in zip(here, there, strict=True):
        if node.target in DROPOUTS:
            asked = inspect.signature(other.target).bind(*other.args, **other.kwargs)  # type: ignore[arg-type]
            asked.apply_defaults()
            if asked.arguments["training"] is False:
                node.replace_all_uses_with(node.all_input_nodes[0])
                graph.erase_node(node)
        elif other.kwargs.get("dropout_p", other.args[4] if len(other.args) > 4 else 0.0):
            raise BrodmannError(
                "scaled_dot_product_attention cannot be converted with dropout, which it would lose: set dropout_p to "
                "0, or write the attention out with an nn.Dropout."
            )


def _draws(network: fx.Graph) -> list[fx.Node]:
    return [node for node in network.nodes if node.target in DROPOUTS or node.target is ATTENTION]
