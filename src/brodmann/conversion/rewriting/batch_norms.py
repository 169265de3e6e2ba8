"""Batch norms of PyTorch networks: which ones normalise by the batch while training, and which never do."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import BrodmannError
from ..nodes import arguments_of, held_by

NAMES = ("running_mean", "running_var", "weight", "bias")


class FixedNorm(nn.Module):
    """A batch norm as it is at inference: a gain and a shift for each channel."""

    def __init__(self, norm: _BatchNorm) -> None:
        """Takes the norm."""
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Takes x as the norm does; returns the same shape."""
        norm = self.norm
        return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class KeptNorm(FixedNorm):
    """A batch norm that a network keeps out of training mode; its own gain and shift learn."""


class NormOfFunction(_BatchNorm):
    """The batch norm that `F.batch_norm` computes with tensors that the network holds."""

    def __init__(self, held: dict[str, Any]) -> None:
        """Takes the arguments of the function, and the count of batches that its module keeps, None without one."""
        super().__init__(len(held["running_mean"]), held["eps"], held["momentum"], affine=held["weight"] is not None)
        self.running_mean, self.running_var = held["running_mean"], held["running_var"]
        self.weight, self.bias = held["weight"], held["bias"]
        if held["num_batches_tracked"] is not None:
            self.num_batches_tracked = held["num_batches_tracked"]

    def _check_input_dim(self, input: Tensor) -> None:
        """Accepts any input, as the function does."""


def make_norms(graph: fx.Graph, training: fx.Graph, root: nn.Module) -> None:
    """Replaces each `F.batch_norm` that normalises by the batch in training mode only by a module.

    Args:
        graph: Graph of the network at inference, which is changed.
        training: Graph of the network in training mode.
        root: The network, which gets the modules.

    Raises:
        BrodmannError: A call takes tensors that the network does not hold, other tensors in training mode than at
            inference, or a gain without a shift or the reverse.
    """
    partners: dict[str, list[fx.Node]] = defaultdict(list)
    for other in _norms(training):
        partners[_identifier(arguments_of(other)["running_mean"])].append(other)
    alone = []
    for number, node in enumerate(_norms(graph)):
        given = arguments_of(node)
        queue = partners[_identifier(given["running_mean"])]
        if not queue:
            alone.append(node)
            continue
        learning = arguments_of(queue.pop(0))
        if given["training"] is not False or learning["training"] is not True:
            continue
        held: dict[str, Any] = {name: held_by(root, given[name]) for name in NAMES}
        known = all((held[name] is None) == (given[name] is None) for name in NAMES)
        alike = all(_identifier(given[name]) == _identifier(learning[name]) for name in (*NAMES, "eps"))
        whole = held["running_mean"] is not None and (held["weight"] is None) == (held["bias"] is None)
        if not (known and alike and whole and isinstance(learning["momentum"], int | float)):
            raise _not_followed()
        name = f"batch_norm_{number}"
        owner = root.get_submodule(str(given["running_mean"].target).rpartition(".")[0])
        held |= {"eps": given["eps"], "momentum": float(learning["momentum"]), "num_batches_tracked": None}
        if isinstance(owner, _BatchNorm):  # which counts its batches, and may take the mean over all of them
            held["num_batches_tracked"] = owner.num_batches_tracked
            held["momentum"] = None if owner.momentum is None else held["momentum"]
        root.add_module(name, NormOfFunction(held).eval())
        with graph.inserting_after(node):
            node.replace_all_uses_with(graph.call_module(name, (given["input"],)))
        graph.erase_node(node)
    left = [other for queue in partners.values() for other in queue if arguments_of(other)["training"] is True]
    if alone and left:  # one in training mode may replace one at inference, with other statistics
        raise _not_followed()


def _not_followed() -> BrodmannError:
    return BrodmannError(
        "batch_norm cannot be converted if its statistics, gains or shifts are computed or differ in training mode, or "
        "if it has only gains or only shifts: pass it tensors that the network holds, or use nn.BatchNorm1d or the "
        "like."
    )


def _identifier(given: Any) -> str:
    """Returns a text that identifies an argument in both graphs, whose nodes may be numbered differently."""
    return str(given.target if isinstance(given, fx.Node) and given.op == "get_attr" else given)


def _norms(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target is functional.batch_norm]
