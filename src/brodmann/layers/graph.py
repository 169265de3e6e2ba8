"""Graph: layers whose values branch and meet again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..autograd import unrecorded
from ..errors import BrodmannError
from ..layer import Container, Context, Gathering, Layer, check_layer, error_through, trace_of
from ..routing import Chosen, Recruiting
from ..several import Several, of_each, parts_in
from .local import Local
from .plan import Node, Plan, leading_to, repeated, unread, with_last_reads
from .product import Product
from .tied import TiedProduct

INPUT = "input"
"""Name of the input of a graph."""


class Graph(Container):
    """A directed acyclic graph of layers. Each node reads earlier values; the last node is the output.

    ``v[k] = f[k](v[i], v[j], ...)`` with ``i, j < k``. The error of a value is the sum of what comes down from all that
    read it. `Sequential` and `Residual` are the usual cases; this one is for branches, concatenations and products:

        Graph({"wide": (layer, "input"), "both": (lambda x, y: torch.cat((x, y), -1), "input", "wide")})

    Several values may come to it and leave it, as ``inputs`` and ``outputs`` say: features beside an image, the heads
    of several tasks. No error leaves a graph of several inputs, below which nothing learns.

    A layer may stand in several nodes: all but the first name an earlier one, as in ``"again": ("wide", "both")``. Each
    node sends its error down by the layer's weights and feedback as they were before the step. Then the layer moves
    once, by the gradients of all its nodes: their rows count as rows of one batch. Finally its router, if it has one,
    learns from each node in turn. ``clip`` limits the error of each.
    """

    def __init__(
        self,
        nodes: Mapping[str, tuple[Any, ...]],
        inputs: Sequence[str] = (INPUT,),
        outputs: str | Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        """Takes the nodes from input to output.

        Args:
            nodes: Name -> a tuple. First a layer or an operation, or the name of an earlier node whose layer it shares;
                then the names of the values that it reads, ``"input"`` for what comes to the graph. A layer reads one
                value; a `TiedProduct` also reads its weights, and a `Product` what else its operation takes. An
                operation without parameters takes as many tensors as it reads, see `Local`. A layer that reads nothing,
                a `Constant` or `TiedWeights`, stands for a tensor of its own.
            inputs: Names of what comes to the graph. Several inputs come as a tuple in this order, or as a dictionary
                by these names. Default one, ``"input"``.
            outputs: Node whose value is returned; or several nodes, for a tuple, or for a dictionary by names of its
                own. Errors come in the same form. Default the last node.

        Raises:
            BrodmannError: There are no nodes, inputs or outputs; a name is taken or unknown; a layer reads several
                values; nothing reads a node that is not an output; a node sends no error down, but nodes below it
                learn; or a layer in several nodes holds something that moves with every error, such as a `BatchNorm` or
                a layer of your own that is not a `Gathering`.
        """
        super().__init__()
        if not isinstance(nodes, Mapping) or not nodes:
            raise BrodmannError(f"Expected nodes of a Graph to be a dictionary with at least one node, got {nodes!r}.")
        self.inputs = _names("inputs", inputs)
        self.nodes = nn.ModuleDict()  # layers, by the first nodes that have them
        self.plan: Plan = {}
        for name, node in nodes.items():
            if not isinstance(node, tuple) or not node:
                raise BrodmannError(
                    f"Expected node '{name}' to be a tuple of a layer or operation and the names that it reads, got "
                    f"{node!r}."
                )
            self._add_node(name, node[0], node[1:])
        self.outputs: Any = of_each(str, name if outputs is None else outputs)
        returned = set(parts_in(self.outputs))
        if not returned or not returned.issubset(self.plan):
            came = ", ".join(map(str, parts_in(self.outputs))) or "none"
            raise BrodmannError(f"Expected outputs of this Graph to be among {', '.join(self.plan)}, got {came}.")
        if loose := unread(self.plan, returned):
            raise BrodmannError(f"Nothing reads {', '.join(loose)} in this Graph: leave out nodes that nothing reads.")
        self.plan = with_last_reads(self.plan, returned)
        self.settle()

    def settle(self) -> None:
        """Checks its nodes and finds out which move late, see `Container.settle`."""
        for name, node in self.plan.items():
            layer = self.layer_of(name)
            check_layer(layer, f"Node '{name}'")
            self._check_tied(name, layer, node.reads)
            if node.holder != name:
                _check_gathers(name, layer, traces_again=self.traces_again)
        self._late = self._moving_late()
        self._check_ways_down()

    def _add_node(self, name: str, part: Any, reads: tuple[str, ...]) -> None:
        """Adds a node."""
        taken = name in self.inputs or name in self.plan or (isinstance(name, str) and hasattr(self.nodes, name))
        if not isinstance(name, str) or "." in name or not name or taken:
            raise BrodmannError(f"A node of a Graph cannot be called {name!r}: choose another name.")
        holder, layer = self._layer_for(name, part)
        self._check_reads(name, layer, reads)
        self.nodes[holder] = layer
        self.plan[name] = Node(holder, reads)

    def _layer_for(self, name: str, part: Any) -> tuple[str, Layer]:
        """Returns the node that holds the layer of a node, and the layer."""
        if isinstance(part, str):
            if part not in self.plan:
                before = ", ".join(self.nodes) or "there are none"
                raise BrodmannError(
                    f"Node '{name}' takes the layer of '{part}', which is not an earlier node that has a layer: "
                    f"{before}."
                )
            return self.plan[part].holder, self.layer_of(part)
        layer = part if isinstance(part, Layer) else Local(part)
        if layer.can_learn and any(layer is other for other in self.nodes.values()):
            raise BrodmannError(
                f"The layer of node '{name}' is in another node too, and would be updated twice: put that node's name "
                "in the layer's place."
            )
        return name, layer

    def _check_reads(self, name: str, layer: Layer, reads: tuple[str, ...]) -> None:
        """Raises if a node reads an unknown value, or values that its layer does not take."""
        known = *self.inputs, *self.plan
        for source in reads:
            if not isinstance(source, str) or source not in known:
                raise BrodmannError(
                    f"Node '{name}' reads '{source}', which is not an input or an earlier node: choose among "
                    f"{', '.join(known)}."
                )
        if layer.reads and not reads:
            raise BrodmannError(
                f"Node '{name}' names nothing to read: add a name after the layer, such as '{self.inputs[0]}'."
            )
        self._check_tied(name, layer, reads)
        if len(reads) > 1 and not isinstance(layer, Local | Product | TiedProduct):
            raise BrodmannError(
                f"Node '{name}' is a layer, which reads one value, but it names {len(reads)}: join them first with "
                "an operation such as torch.add."
            )

    def _check_tied(self, name: str, layer: Layer, reads: tuple[str, ...]) -> None:
        """Raises if a node is a `TiedProduct` and reads other weights than its own."""
        if not isinstance(layer, TiedProduct):
            return
        if len(reads) != 2 or reads[1] in self.inputs or self.layer_of(reads[1]) is not layer.weights:
            raise BrodmannError(
                f"Node '{name}' is a TiedProduct: expected it to read a value and the node of its TiedWeights, got "
                f"{', '.join(reads)}."
            )

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Names of the values that each node reads."""
        return {name: node.reads for name, node in self.plan.items()}

    def layer_of(self, name: str) -> Layer:
        """Returns the layer of a node."""
        return self.nodes[self.plan[name].holder]  # type: ignore[return-value]

    def _check_ways_down(self) -> None:
        """Raises if a node sends no error down, but nodes below it learn."""
        for name in self._silent():
            value = self.plan[name].reads[0]  # what else it reads are tied weights, to which their gradient goes
            if any(self.layer_of(lower).learns for lower in leading_to(self.plan, value).difference(self.inputs)):
                raise self._without_feedback(name)

    def _moving_late(self) -> set[str]:
        """Returns the nodes whose layers move at the end of a step, if a layer stands in several places.

        Constants do too: what such a layer remembers until then may lie in their memory.
        """
        several = repeated(self.plan)
        constants = {name for name in self.plan if not self.layer_of(name).reads}
        return several | constants if several else set()

    def _silent(self) -> list[str]:
        """Returns the nodes that send no error down."""
        return [name for name, node in self.plan.items() if node.reads and not self.layer_of(name).sends_down]

    @property
    def sends_down(self) -> bool:
        """Whether all nodes above its input do: else the error would be incomplete. False with several inputs."""
        if len(self.inputs) > 1:
            return False
        # Nodes to which only a `Constant` leads do not count.
        return not any(self.inputs[0] in leading_to(self.plan, name) for name in self._silent())

    def forward(self, x: Several, choice: Chosen = None) -> Any:
        """Inference: x (batch, ...), or several as ``inputs`` names them; returns what ``outputs`` names."""
        values = self._given(x)
        for name in self.plan:
            values[name] = self._single(name, self.layer_of(name)(self._read(name, values), choice))
        return of_each(values.__getitem__, self.outputs)

    @unrecorded
    def trace(self, x: Several, context: Context) -> tuple[Any, Any]:
        """Learning forward pass: x and output as for `forward`; returns the trace of each node by its name, too."""
        values = self._given(x)
        traces = self._up(self.plan, values, context)
        return of_each(values.__getitem__, self.outputs), traces

    def _up(self, names: Iterable[str], values: dict[str, Any], context: Context) -> dict[str, Any]:
        """Computes nodes from the values before them, adds their values, and returns the trace of each."""
        traces = {}
        for name in names:
            value, traces[name] = trace_of(self.layer_of(name), self._read(name, values), context)
            values[name] = self._single(name, value)
        return traces

    def _given(self, x: Any) -> dict[str, Any]:
        """Returns the inputs of the graph by name."""
        if isinstance(x, Mapping) and x.keys() == set(self.inputs):
            return dict(x)
        if isinstance(x, tuple | list) and len(x) == len(self.inputs):
            return dict(zip(self.inputs, x, strict=True))
        if len(self.inputs) == 1 and not isinstance(x, Mapping | tuple | list):
            return {self.inputs[0]: x}
        came = f"{', '.join(map(str, x))}" if isinstance(x, Mapping) else f"{len(parts_in(x))}"
        raise BrodmannError(
            f"Expected a tuple of {len(self.inputs)} tensors for this Graph, {', '.join(self.inputs)}, or a dictionary "
            f"with these names, got {came}."
        )

    def _single(self, name: str, value: Any) -> Any:
        """Returns the value of a node; raises if it is not one, since other nodes read it as one."""
        if isinstance(value, tuple | list | Mapping):
            raise BrodmannError(
                f"Node '{name}' returns {len(value)} values, but other nodes read it as one: make a node for each "
                "value. The nodes of a Graph inside this one can be written directly into this one."
            )
        return value

    def _read(self, name: str, values: dict[str, Any]) -> Any:
        """Returns the values that a node reads, a tensor or a tuple; drops values that no later node reads."""
        node = self.plan[name]
        read = tuple(values[source] for source in node.reads or self.inputs[:1])  # which a constant ignores
        for source in node.last:
            del values[source]
        return read[0] if len(read) == 1 else read

    @unrecorded
    def learn(self, trace: Any, error: Several, context: Context) -> Tensor | None:
        """Error pass from the outputs to the input: errors shaped as those; returns that of x, None for several."""
        return self._down(last_first(trace), error, context)

    def _down(self, traces: Iterable[tuple[str, Any]], error: Several, context: Context) -> Tensor | None:
        """As `learn`, with the name and the trace of each node, from the last one to the first."""
        errors: dict[str, Tensor] = {}
        for name, part in zip(parts_in(self.outputs), parts_in(error), strict=True):
            _add(errors, name, part)
        gathered: dict[Gathering, list[Any]] = {}
        late = self._late if context.gathered is None else set()
        gathering = context._replace(gathered=gathered) if late else context
        for name, remembered in traces:
            if name not in errors:  # nothing below learns, or the node above is user-defined
                if self.layer_of(name).learns:
                    raise self._without_feedback(name)
                continue
            of_node = gathering if name in late else context
            below = error_through(self.layer_of(name), remembered, errors.pop(name), of_node)
            sources = self.plan[name].reads
            if not sources:
                continue
            for source, part in zip(sources, below if len(sources) > 1 else (below,), strict=True):
                if part is not None:
                    _add(errors, source, part)
        for layer, parts in gathered.items():
            layer.move_together(parts, context)
        below = errors.get(self.inputs[0])
        return below if below is None or self.sends_down else None

    def extra_repr(self) -> str:
        """Shown by print(network): what each node reads."""
        lines = []
        for name, node in self.plan.items():
            again = "" if node.holder == name else f" ({node.holder} again)"
            lines.append(f"{name}{again} <- {', '.join(node.reads) or 'nothing'}")
        if not isinstance(self.outputs, str):
            lines.append(f"returns {', '.join(parts_in(self.outputs))}")
        return "\n".join(lines)

    def _without_feedback(self, name: str) -> BrodmannError:
        kind = type(self.layer_of(name)).__name__
        return BrodmannError(
            f"Node '{name}' ({kind}) receives no error, or sends none down, but nodes that learn need it: give an "
            "AreaLinear a feedback path, give a builder lowest=False, and let a layer of your own return the error "
            "from `learn`."
        )


def _add(errors: dict[str, Tensor], name: str, part: Tensor) -> None:
    """Adds to the error of a value, which several nodes may read and the graph may return."""
    errors[name] = errors[name] + part if name in errors else part


def last_first(traces: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields name and trace of each node, from the last to the first, and removes them."""
    while traces:
        yield traces.popitem()


def _check_gathers(name: str, layer: nn.Module, *, traces_again: bool) -> None:
    """Raises if a layer, or one in it, moves at every error, or would be traced differently the second time."""
    again = traces_again or any(getattr(part, "traces_again", False) for part in layer.modules())
    if again and any(isinstance(part, Recruiting) for part in layer.modules()):
        raise BrodmannError(
            f"Node '{name}' reuses a layer whose router recruits areas, and traces are computed again, by then through "
            "other areas: use Graph and Sequential (recompute=False), or a router without novelty."
        )
    for part in layer.modules():
        if isinstance(part, Layer) and part.moves and not isinstance(part, Gathering):
            raise BrodmannError(
                f"Node '{name}' reuses a layer in which a {type(part).__name__} learns, which would be updated twice "
                "per step: of the layers that learn, only AreaLinear, Product, Constant, TiedWeights, Routed and what "
                "is made of them may be in several nodes, and layers of your own that are a brodmann.layer.Gathering."
            )


def _names(kind: str, names: Any) -> tuple[str, ...]:
    """Returns names as a tuple.

    Raises:
        BrodmannError: They are not names, or one is there twice.
    """
    found = tuple(names) if isinstance(names, tuple | list) else ()
    if not found or not all(isinstance(name, str) and name for name in found) or len(set(found)) < len(found):
        raise BrodmannError(f"Expected {kind} of a Graph to be a tuple of different names, got {names!r}.")
    return found
