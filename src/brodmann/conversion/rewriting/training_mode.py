"""What a network does only while training: dropout and the like are kept, all else is reported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ...checks import is_real
from ...errors import BrodmannError
from ...generators import drawing_by, generator_states
from ...several import Several, of_each
from ..following.questions import ASKED
from ..nodes import TRAINING, arguments_of, asks_metadata, caller_of, name_of, reached, reads_numbers
from .batch_norms import KeptNorm

DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
    functional.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
"""Functions that a module stands for, which draws only while learning."""
ATTENTION = functional.scaled_dot_product_attention
JUDGED_APART = {*DROPOUTS, ATTENTION}
"""Functions of which it is known what a conversion makes of their training mode."""


def modules_that_differ(graph: fx.Graph, training: fx.Graph) -> list[str]:
    """Returns the names of the innermost modules that call other things in training mode, see `JUDGED_APART`."""
    here, there = _calls(graph), _calls(training)
    return [name for name in here | there if here[name] != there[name]]


def _calls(graph: fx.Graph) -> dict[str, Counter[str]]:
    """Returns what each module calls directly: functions, with their settings, and modules."""
    calls: dict[str, Counter[str]] = defaultdict(Counter)
    judged_apart = _only_asked(graph)
    for node in graph.nodes:
        if node.op == "call_module":
            calls[caller_of(node)][str(node.target)] += 1
        elif node.target in JUDGED_APART or node in judged_apart or _counts_batches(node):
            continue
        elif node.op in ("call_function", "call_method"):
            settings: Any = fx.node.map_arg((node.args, node.kwargs), lambda _: None)
            normed = node.target is functional.batch_norm  # what becomes of its settings is judged apart
            calls[caller_of(node)][f"{name_of(node)}{'' if normed else settings}"] += 1
    return calls


def _counts_batches(node: fx.Node) -> bool:
    """Whether a node only adds to a norm's count of batches, as a `BatchNorm` does while learning."""
    read = node.all_input_nodes
    return bool(read) and all(str(one.target).endswith(".num_batches_tracked") for one in read)


def _only_asked(graph: fx.Graph) -> set[fx.Node]:
    """Returns the nodes that are made of sizes, and about which the network asked something, but that nothing reads."""
    asked = {node for node, _ in graph.output_node().meta.get(ASKED, ())}
    sizes = reached(graph, asks_metadata)
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in sizes and (node.users or node in asked) and found.issuperset(node.users):
            found.add(node)
    return found


@torch.no_grad()
def taking_tensors(root: nn.Module, sample: Several) -> list[str]:
    """Returns the names of the modules without parameters and buffers that take only tensors and return one.

    Several tensors have to be of real numbers, and different ones, with as many rows as what is returned.
    """
    names = {part: name for name, part in root.named_modules() if not [*part.parameters(), *part.buffers()]}
    found: dict[str, bool] = {}

    def look(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        fits = len(args) == 1 and isinstance(args[0], Tensor)
        if len(args) > 1 and all(map(is_real, (*args, output))):
            rows = {part.shape[:1] for part in (*args, output)}
            fits = len(set(map(id, args))) == len(args) and len(rows) == 1 and rows != {()}
        found[names[part]] = fits and not kwargs and isinstance(output, Tensor) and found.get(names[part], True)

    with ExitStack() as hooks:
        for part in names:
            hooks.enter_context(part.register_forward_hook(look, with_kwargs=True))
        try:
            root(of_each(Tensor.clone, sample))
        except Exception:  # from samples of a shape that the network is not made for, which is reported later
            return []
    return [name for name, fits in found.items() if fits]


@torch.no_grad()
def modules_that_draw(twin: nn.Module, sample: Several) -> list[str]:
    """Returns the names of the innermost modules that draw random numbers in a network in training mode."""
    names = {part: name for name, part in twin.named_modules()}
    began: dict[nn.Module, Any] = {}
    found: list[str] = []

    def begin(part: nn.Module, *_: Any) -> None:
        began[part] = generator_states()

    def end(part: nn.Module, *_: Any) -> None:
        if generator_states() != began[part] and not any(name.startswith(f"{names[part]}.") for name in found):
            found.append(names[part])

    with ExitStack() as hooks, drawing_by(0):
        for part in names:
            hooks.enter_context(part.register_forward_pre_hook(begin))
            hooks.enter_context(part.register_forward_hook(end))
        with suppress(Exception):  # from samples of a shape that the network is not made for, which is reported later
            twin(of_each(Tensor.clone, sample))
    return found


def joining_values(graph: fx.Graph, names: Collection[str]) -> list[str]:
    """Returns those of the modules that are called with one value, or with several that all depend on the input.

    Others take tensors that the network holds, through which no error may go down to their neighbours.
    """
    given = next(iter(graph.nodes))
    moved = reached(graph, lambda node: node is given, reads_numbers)
    others = {
        str(node.target)
        for node in graph.nodes
        if node.op == "call_module" and len(node.args) > 1 and not all(part in moved for part in node.args)
    }
    return [name for name in names if name not in others]


def leave_out_dropouts(graph: fx.Graph, training: fx.Graph, drawing: Collection[str], network: str) -> None:
    """Leaves out functions that draw no dropout in training mode either.

    Args:
        graph: Graph of the network at inference, which is changed.
        training: Graph of the network in training mode.
        drawing: Names of the modules that draw in training mode.
        network: What the network is called.

    Raises:
        BrodmannError: Dropout would be lost, or its share is not known.
    """
    here, there = _draws(graph), _draws(training)
    modules = [Counter(node.target for node in each.nodes if node.op == "call_module") for each in (graph, training)]
    only_there = any(name in drawing for name in modules[1] - modules[0])
    if len(here) != len(there) or only_there:
        raise BrodmannError(
            f"{network} cannot be converted: in training mode it calls other functions for dropout and the like, which "
            "would be lost: use F.dropout(x, p, training=self.training) or nn.Dropout, and not under an `if`."
        )
    for node, other in zip(here, there, strict=True):
        if node.target in DROPOUTS:
            if isinstance(arguments_of(other)["training"], fx.Node) or isinstance(arguments_of(node)["p"], fx.Node):
                raise BrodmannError(
                    f"{name_of(node)} cannot be converted: what share it drops, or whether it does, is computed when "
                    "the network is called. Expected numbers, as in F.dropout(x, 0.1, training=self.training)."
                )
            if arguments_of(other)["training"] is False:
                node.replace_all_uses_with(node.all_input_nodes[0])
                graph.erase_node(node)
        elif other.kwargs.get("dropout_p", other.args[4] if len(other.args) > 4 else 0.0):
            raise BrodmannError(
                "scaled_dot_product_attention cannot be converted with dropout, which it would lose: set dropout_p to "
                "0, or write the attention out with an nn.Dropout, as models of Hugging Face do that are built with "
                "attn_implementation='eager'."
            )


def keep_from_training(root: nn.Module, training: fx.Graph) -> None:
    """Replaces each batch norm that stays at inference in training mode by a `KeptNorm`, and such dropout by nothing.

    Args:
        root: The network, whose modules are changed.
        training: Its graph in training mode.
    """
    for name in {str(node.target) for node in training.nodes if node.meta.get(TRAINING) is False}:
        part = root.get_submodule(name)
        if isinstance(part, _BatchNorm):
            root.set_submodule(name, KeptNorm(part))
        elif isinstance(part, _DropoutNd):
            root.set_submodule(name, nn.Identity())


def _draws(network: fx.Graph) -> list[fx.Node]:
    return [node for node in network.nodes if node.target in DROPOUTS or node.target is ATTENTION]
