"""The body of areas that stands for what a PyTorch network computes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import BrodmannError, warn
from ...layer import Layer, has_parameters
from ...layers import AreaLinear, Images, Local, Recomputed, RecomputedGraph, Sequential, TiedWeights
from ...layers.graph import INPUT, Graph
from ...several import of_each
from ..convertible import tied_error
from ..steps.computation import RESERVED, Computation, Step, Tied, Weighted, free_name
from .choices import Choices
from .counterparts import counterpart, tied_product, tied_weights
from .one_route import OneRoute, in_modules
from .sizes import OfSizes


def body_of(
    computation: Computation, choices: Choices, *, lowest: bool = True, recompute: bool = False
) -> Sequential | Graph:
    """Returns the steps as layers: one after the other, or as a graph if values branch.

    Args:
        computation: The steps.
        choices: What layers are made of.
        lowest: Whether nothing below the body learns. Default True.
        recompute: Whether the body computes its traces again, in segments. Default False.
    """
    rows = computation.returned[0].rows_of(choices.common.outputs)
    building = _Building(computation, choices, rows, lowest=lowest)
    building.check_inputs()
    return building.body(recompute=recompute)


class _Building:
    """Nodes of a `Graph`, made of one step after the other.

    Attributes:
        nodes: The nodes so far, as a `Graph` takes them; the node of a step has the step's name.
        moved: By value, the node that has it under another name: an input once it is checked, and what leaves a module
            of one route. See `_node_of`.
        learning: Steps and inputs at or below which something learns.
        owners: The first step of each operation with parameters that stands in several places, by the operation.
    """

    def __init__(self, computation: Computation, choices: Choices, output_rows: int, *, lowest: bool) -> None:
        self.computation, self.choices, self.output_rows = computation, choices, output_rows
        self.inputs = tuple(computation.inputs)
        self.tied = _tied_weights(computation.steps, choices)
        self.places: dict[int, list[Step]] = defaultdict(list)  # of each operation
        for step in computation.steps:
            self.places[id(step.operation)].append(step)
        self.nodes: dict[str, tuple[Any, ...]] = {}
        self.moved: dict[str, str] = {}
        self.learning: set[str] = set() if lowest else set(self.inputs)
        self.owners: dict[int, Step] = {}

    def check_inputs(self) -> None:
        """Adds nodes that check the inputs of the network."""
        computation = self.computation
        read = {source for step in computation.steps for source in step.sources}
        for name, came in computation.inputs.items():
            if name in read and came.ndim == 4:
                self._check(name, "images", Images(*came.shape[1:]), name)
        if computation.is_of_one_shape or computation.asked is not None:
            self._check_sizes(next(name for name in self.inputs if name in read))

    def _add_module(self, module: OneRoute) -> None:
        """Adds the node of a module whose maps follow one route."""
        choices = self.choices.within(module.module, of_rows=module.of_rows)
        lowest = module.source not in self.learning
        inner = _Building(module.computation, choices, self.output_rows, lowest=lowest).body()
        size = module.came.shape[-1:] if module.of_rows else module.came.shape[1:]
        parts = replace(choices.of(module.module), in_features=size.numel(), routing="network")
        name = free_name(module.module.replace(".", "_"), self._taken - {step.name for step in module.steps})
        self.moved[module.output.name] = name
        follow = any(part.routed for part in inner.modules() if isinstance(part, AreaLinear))
        self.nodes[name] = (parts.wrap(inner) if follow else inner, self._node_of(module.source))
        if inner.learns or not lowest:
            self.learning.add(module.output.name)

    def _add(self, step: Step) -> None:
        """Adds the nodes of a step."""
        if step.name in self.tied:
            self._put(step, self.tied[step.name], learns=self.tied[step.name].learns)
        elif isinstance(step.operation, Tied):
            value, weights = step.sources
            product = tied_product(step, self.tied[weights], lowest=value not in self.learning)
            self._put(step, product, learns=not self.learning.isdisjoint(step.sources))
        elif len(self.places[id(step.operation)]) > 1 and has_parameters(step.operation):
            self._add_again(step)
        else:
            below = step.sources[:1] if isinstance(step.operation, Weighted) else step.sources
            lowest = self.learning.isdisjoint(below)
            layer = self._counterpart(step, lowest=lowest)
            self._put(step, layer, learns=layer.learns or not lowest)

    def body(self, *, recompute: bool = False) -> Sequential | Graph:
        """Adds all steps, and returns the body."""
        for part in in_modules(self.computation, self.choices):
            if isinstance(part, OneRoute):
                self._add_module(part)
            else:
                self._add(part)
        outputs = of_each(self._node_of, self.computation.outputs)
        before, last = [self.inputs[0], *self.nodes], next(reversed(self.nodes))
        chain = all(sources == [below] for (_, *sources), below in zip(self.nodes.values(), before, strict=False))
        if chain and not self.owners and self.inputs == (INPUT,) and outputs == last:
            return (Recomputed if recompute else Sequential)(*(layer for layer, *_ in self.nodes.values()))
        return (RecomputedGraph if recompute else Graph)(self.nodes, self.inputs, outputs)

    def _add_again(self, step: Step) -> None:
        """Adds a step whose operation stands in several places, and is one layer in all of them."""
        most = max(self.places[id(step.operation)], key=lambda place: place.rows_per_sample)
        owner = self.owners.setdefault(id(step.operation), replace(most, name=step.name))
        if not owner.laid_out_as(step, self.choices.of(owner.origin)):
            raise BrodmannError(
                f"The layer that returns '{step.name}' is called in several places with values of different shapes: "
                "one layer of areas needs images in all of these places or in none, the same number of rows for each "
                "sample where areas are chosen for the whole network, and equal shapes under direct feedback."
            )
        if owner.name != step.name:
            self._put(step, owner.name, learns=True)
        else:  # it is not the lowest in any place
            self._put(step, self._counterpart(owner, lowest=False), learns=True)

    def _counterpart(self, step: Step, *, lowest: bool) -> Layer:
        return counterpart(step, self.choices.of(step.origin), self.output_rows, lowest=lowest)

    def _put(self, step: Step, layer: Layer | str, *, learns: bool) -> None:
        """Adds the node of a step: its layer, or the name of another one with the same layer."""
        self.nodes[step.name] = (layer, *map(self._node_of, step.sources))
        if learns:
            self.learning.add(step.name)

    def _node_of(self, value: str) -> str:
        """Returns the name of the node that has a value."""
        return self.moved.get(value, value)

    @property
    def _taken(self) -> set[str]:
        """Names that no further node may have."""
        return {*RESERVED, *self.inputs, *self.nodes, *(step.name for step in self.computation.steps)}

    def _check_sizes(self, name: str) -> None:
        """Adds a node that checks the sizes of all inputs, and passes on the one of that name."""
        asked = None if self.computation.is_of_one_shape else self.computation.asked
        images = [one in self.moved for one in self.inputs]
        if all(images) and not (asked is not None and asked.count_samples):  # whose shape is checked already
            return
        sizes = OfSizes([*self.computation.inputs.values()], images, self.inputs.index(name), asked)
        self._check(name, "samples", sizes, *self.inputs)

    def _check(self, name: str, kind: str, check: nn.Module, *read: str) -> None:
        """Adds a node that checks an input, or some of them, and passes on the one of that name."""
        below = [self._node_of(one) for one in read]
        free = free_name(kind, self._taken)
        self.nodes[free] = (Local(check), *below)
        self.moved[name] = free


def _tied_weights(steps: Sequence[Step], choices: Choices) -> dict[str, TiedWeights]:
    """Returns the weights that several products share, by their names."""
    names = {step.sources[1] for step in steps if isinstance(step.operation, Tied)}
    held = [step for step in steps if step.name in names]
    # All but products would expect weights of four dimensions to be laid out as images are.
    others = {source for step in steps if not isinstance(step.operation, Tied) for source in step.sources}
    if any(step.output.ndim == 4 and step.name in others for step in held):
        raise tied_error()
    return {step.name: tied_weights(step, choices.of(step.origin)) for step in held}


def check_untied(steps: Sequence[Step]) -> None:
    """Raises if different maps share a parameter, whose copies would drift apart, or several steps a batch norm."""
    parts = [step.operation for step in steps if isinstance(step.operation, nn.Module | nn.Parameter)]
    norms = Counter(id(part.running_mean) for part in parts if isinstance(part, _BatchNorm))
    apart = {id(part): _held_by(part) if isinstance(part, nn.Module) else [part] for part in parts}
    count = Counter(id(tensor) for tensors in apart.values() for tensor in tensors)
    if any(number > 1 for number in (*count.values(), *norms.values())):
        raise tied_error()


def _held_by(part: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of a module; one that it holds in two places comes twice."""
    return [held for _, held in part.named_parameters(remove_duplicate=False)]


def warn_of_frozen(steps: Sequence[Step]) -> None:
    """Warns if some but not all of a layer's parameters are kept from learning."""
    for step in steps:
        operation = step.operation
        own = [held.requires_grad for held in operation.parameters()] if isinstance(operation, nn.Module) else []
        if any(own) and not all(own):
            warn(
                f"Only some parameters of '{step.name}' require gradients, but it learns as a whole: let all of them "
                "require gradients, or none to freeze it.",
            )
