"""What a PyTorch network computes, step by step, and the values of a few samples in between."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ...checks import changes_of, is_real
from ...errors import BrodmannError, lacks_memory
from ...layer import has_parameters
from ...layers.graph import INPUT
from ...layers.local import Sum
from ...several import Several, of_each, parts_in, sample_count
from ..following.derivatives import WITHOUT_ERROR, OwnDerivative, WithoutError
from ..following.recurrent import Recurrence
from ..following.tracers import Root, one_line
from ..following.transformers import written_out
from ..modules import MAPS, linear_of, module_text
from ..nodes import RELUS, is_held, name_of, origin_of
from ..rewriting.ties import uses_of_parameters
from ..rewriting.training_mode import DROPOUTS
from ..samples import check_returned
from ..tracing import traced
from .computation import RESERVED, Computation, Step, Tied, Weighted, free_name, lay_out, tensors_of
from .functions import Functions, as_module
from .lengths import same_for_other_lengths
from .products import Multiplication, as_matrix, check_learns_as_before, multiplication_of, turns_alone
from .provenance import Provenance, is_product, not_followed
from .rows import Rows

SUMS: set[Any] = {operator.add, torch.add, "add"}
"""Operations that a `Sum` stands for, if they add tensors of equal shape."""
DEEPEST = 100
"""Largest depth to which functions are nested."""


def computed_by(model: nn.Module, sample: Several, dtype: torch.dtype) -> Computation:
    """Returns what a network computes in a dtype, followed with a few samples (samples, ...).

    A step is a module of PyTorch's own, a tensor that the network holds, or a function whose value is a tensor of real
    numbers; all else (sizes, masks, parts of tuples, what only one other function needs) is computed inside the
    functions that need it. What would overwrite its input does not, dropout is drawn only while learning, and
    everything else is as at inference.

    Raises:
        BrodmannError: The network cannot be followed, or a module does not take what comes to it.
    """
    copy = deepcopy(model).to("cpu", dtype)
    lay_out(copy)
    held = tensors_of(copy)
    if not any(parameter.requires_grad for parameter in copy.parameters()):
        for parameter in copy.parameters():
            parameter.requires_grad = parameter.is_floating_point()
    with torch.enable_grad():  # so that values made from parameters require gradients
        root = Root(written_out(copy), sample).eval()
        graph, asked = traced(root, sample)
    with torch.no_grad():
        computation = _Walk(graph, sample).computation(held)
        one_shape = not same_for_other_lengths(graph, root, sample, asked)
        return replace(computation, is_of_one_shape=one_shape, asked=asked)


def _is_plain(node: fx.Node) -> bool:
    """Whether a node is a function that no layer is made for, or one through which no error goes down."""
    if node.op not in ("call_function", "call_method"):
        return False
    return WITHOUT_ERROR in node.meta or not any(node.target in known for known in (RELUS, SUMS, DROPOUTS))


class _Walk(fx.Interpreter):
    """One walk through the graph of a network with a few samples; ``env`` holds the results of nodes."""

    def __init__(self, root: fx.GraphModule, sample: Several) -> None:
        super().__init__(root, garbage_collect_values=False)
        self.sample, self.count = sample, sample_count(sample)
        self.inputs = _named(sample)
        self.names: dict[fx.Node, str] = {}  # of the nodes whose results are values of steps
        self.taken = {*RESERVED, *self.inputs}  # names that no other step may have
        self.provenance = Provenance(root.graph, root)
        self.uses = uses_of_parameters(root.graph, root, self.provenance.moved)
        called = (self._module(node) for node in root.graph.nodes)
        self.of_modules = {id(held) for module in called if module is not None for held in module.parameters()}
        self.rows = Rows(root, sample)
        self.depths: dict[fx.Node, int] = {}  # of functions nested in others

    def computation(self, held: dict[str, Tensor]) -> Computation:
        """Returns the steps in their order, the inputs and outputs, and what the network holds."""
        given, *nodes, output = self.graph.nodes
        self.env[given] = self.sample
        if isinstance(self.sample, Tensor):
            self.names[given] = INPUT
        steps = [step for node in nodes for step in self._steps(node, given)]
        if not parts_in(output.args[0]):
            raise BrodmannError(
                "Expected a network that returns one or more tensors of real numbers, got one that returns none."
            )
        outputs = of_each(self._output, output.args[0])
        needed = {source for step in steps for source in step.sources}.union(parts_in(outputs))
        # Others became weights of products, or buffers of functions.
        return Computation(self.inputs, [step for step in steps if step.name in needed], outputs, held)

    def _steps(self, node: fx.Node, given: fx.Node) -> list[Step]:
        """Computes a node, and returns the steps that it becomes: none, one, or two if it sends no error down.

        Args:
            node: The next node.
            given: The node of what comes to the network, from which those of several inputs are taken.
        """
        self.env[node] = self._result(node)
        if given in node.all_input_nodes and given not in self.names:
            self.names[node] = _name_of(node.args[1])
            self.provenance.note(node, self.env, None)
            return []
        if any(self.env[node] is self.env[read] for read in node.all_input_nodes):  # errors go through it as before
            node.meta.pop(WITHOUT_ERROR, None)
        if isinstance(node.target, OwnDerivative):
            self._check_one_way_down(node)
        module = self._module(node)
        self.provenance.note(node, self.env, module)
        if isinstance(module, nn.Identity):
            self.names[node] = self.names[node.all_input_nodes[0]]
            return []
        step = self._step(node)
        if step is None:
            return []
        steps = [step]
        if WITHOUT_ERROR in node.meta and not isinstance(step.operation, Tensor | Functions):
            steps.append(self._without_error(step))  # functions detach what they return
        self.names[node] = steps[-1].name
        return steps

    def _output(self, node: Any) -> str:
        """Returns the name of a value that the network returns, once checked."""
        name = self.names.get(node) if isinstance(node, fx.Node) else None
        if name is None or name in self.inputs:
            value = self.env[node] if isinstance(node, fx.Node) else node
            came = value.dtype if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise BrodmannError(
                "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary of such tensors, "
                f"each of them with a name, as in `a, b = x.chunk(2)`; got {'one of its inputs' if name else came} "
                "among them."
            )
        check_returned(tuple(self.env[node].shape), self.count)
        return name

    def _module(self, node: fx.Node) -> nn.Module | None:
        """Returns the module that a node calls, if it does."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _result(self, node: fx.Node) -> Any:
        """Computes a node from what comes to it."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        tensors = [part for part in (*args, *kwargs.values()) if isinstance(part, Tensor)]
        before = changes_of(tensors)
        module = self._module(node)
        called = name_of(node) if module is None else module_text(module)
        try:
            result = self.run_node(node)
        except Exception as error:  # from whatever the network does with samples of a shape that it is not made for
            if lacks_memory(error):
                raise
            came = ", ".join(str(tuple(tensor.shape[1:])) for tensor in tensors)
            shapes = [tuple(part.shape[1:]) for part in parts_in(self.sample)]
            hint = f"check shape={shapes[0] if len(shapes) == 1 else tuple(shapes)}"
            if node.target is functional.embedding:
                hint = "give a few samples of whole numbers instead of a shape"
            raise BrodmannError(
                f"{called} does not accept its input, {came} for each sample: {hint}. ({one_line(error)})"
            ) from None
        if before != changes_of(tensors):
            raise BrodmannError(f"{called} cannot be converted: it overwrites its input.")
        return result

    def _check_one_way_down(self, node: fx.Node) -> None:
        """Raises if a function with a derivative of its own has several outputs, whose errors would come apart."""
        result = self.env[node]
        if isinstance(result, tuple | list) and sum(map(is_real, result)) > 1 and len(node.users) > 1:
            raise BrodmannError(
                f"{name_of(node)} cannot be converted: it returns several tensors, whose errors go down together. Let "
                "it return one, for example all of them joined by torch.cat."
            )

    def _step(self, node: fx.Node) -> Step | None:
        """Returns the step that a node is, or None if it is part of those that read it.

        A tensor that the network holds is a step, and so is a module. A function is none if its value is no tensor
        of real numbers, or if only one other function reads it. One whose value is always the same, such as
        ``self.mask * 2``, is part of all functions that read it, and for modules a tensor that the network holds.
        """
        always = node not in self.provenance.dependent
        if node.op == "get_attr" or (always and any(user.op == "call_module" for user in node.users)):
            return self._of_tensor(node)
        module = self._module(node)
        if module is not None:
            return self._of_module(node, module)
        if not is_real(self.env[node]) or always or self._is_part(node):
            return None
        operation, read = self._operation(node)
        step = self._of_operation(node, operation, read)
        if not isinstance(operation, nn.Linear):
            return step
        return replace(step, rows_per_sample=len(step.output) // self.count)

    def _of_module(self, node: fx.Node, module: nn.Module) -> Step:
        """Returns the step of a module."""
        given = [*node.args, *node.kwargs.values()]
        if not isinstance(self.env[node], Tensor):
            raise BrodmannError(f"{module_text(module)} cannot be converted: it does not return one tensor of samples.")
        if not self._takes_values(node, module) or any(part not in self.names for part in given):
            raise BrodmannError(
                f"{module_text(module)} cannot be converted: expected it to take one tensor, or, without "
                "parameters, several that depend on the input."
            )
        step = self._of_operation(node, module, node.all_input_nodes)
        if node not in self.provenance.moved:
            return replace(step, rows_per_sample=0)
        if not isinstance(module, _ConvNd | _BatchNorm | Recurrence) and self.rows.are_turned(node, self.env):
            return replace(step, batch_second=True)
        return replace(step, rows_per_sample=self.rows.per_sample(node, self.env, module))

    def _takes_values(self, node: fx.Node, module: nn.Module) -> bool:
        """Whether a module takes one thing, or has no parameters and takes several that depend only on the input.

        Errors would go down through parameters of the network that it takes beside them.
        """
        if len(node.args) + len(node.kwargs) == 1:
            return True
        if has_parameters(module) or node.kwargs:
            return False
        read = node.all_input_nodes
        return list(node.args) == read and self.provenance.moved.issuperset(read)

    def _is_part(self, node: fx.Node) -> bool:
        """Whether a function becomes part of the only other one that reads it.

        A product with weights takes a value as it is, since it must be linear in it.
        """
        depth = 1 + max((self.depths.get(part, 0) for part in node.all_input_nodes), default=0)
        single = len(node.users) == 1 and depth < DEEPEST
        if node in self.provenance.products or not single or not _is_plain(node):
            return False
        (user,) = node.users
        weighted = is_product(user) and not self.provenance.fixed.isdisjoint(user.all_input_nodes)
        if not _is_plain(user) or (weighted and node not in self.provenance.fixed):
            return False
        self.depths[node] = depth
        return True

    def _operation(self, node: fx.Node) -> tuple[nn.Module, list[fx.Node]]:
        """Returns the operation that a function becomes, and the nodes whose values it takes.

        A product with weights takes them with it, and is a map if it is a matrix times rows. The rest are
        activations, dropouts, sums of two values, and functions of their own, each with all that is part of it.
        """
        if node in self.provenance.products:
            return self._weighted(node)
        if WITHOUT_ERROR in node.meta:
            return as_module(node, self.env, self.names)
        if node.target in RELUS:
            return nn.ReLU(), node.all_input_nodes[:1]
        if node.target in DROPOUTS:
            share: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            return DROPOUTS[node.target](share), node.all_input_nodes[:1]
        parts = [part for part in node.args if isinstance(part, fx.Node) and part in self.names]
        shapes = {self.env[part].shape for part in parts}
        if node.target in SUMS and len(parts) == len(node.args) == 2 and len(shapes) == 1 and not node.kwargs:
            return Sum(), parts
        return as_module(node, self.env, self.names)

    def _weighted(self, node: fx.Node) -> tuple[nn.Linear | Weighted | Tied, list[fx.Node]]:
        """Returns a product with weights as a module, and the nodes that it reads: a value, and weights if tied."""
        within = self.provenance.fixed.intersection(self.provenance.weights)
        function, read = as_module(node, self.env, self.names, within)
        multiplication = multiplication_of(node, function, read, self.env, self.provenance.live)
        check_learns_as_before(node, multiplication)
        product, (value, _, *others), weight = multiplication.product, multiplication.read, multiplication.given[1]
        if self.uses[id(weight)] > 1:
            if others:
                raise not_followed(node)
            return Tied(product), [value, next(one for one in self.names if self.env[one] is weight)]
        matrix = self._matrix(node, multiplication)
        if matrix is not None:
            return linear_of(matrix, None).requires_grad_(weight.requires_grad).eval(), [value]
        return Weighted(product, weight), [value, *others]

    def _matrix(self, node: fx.Node, multiplication: Multiplication) -> Tensor | None:
        """Returns the matrix by which a product maps rows of samples, None if it is no such map of its own."""
        (value, _, *others), (came, weight, *_) = multiplication.read, multiplication.given
        of_samples = node in self.provenance.moved and not len(self.env[node]) % self.count and self.count > 1
        unshared = id(weight) not in self.of_modules
        if others or not (of_samples and unshared and turns_alone(multiplication.inside)):
            return None
        return as_matrix(multiplication.product, came, weight) if self.rows.lie_by_samples(value, came) else None

    def _of_tensor(self, node: fx.Node) -> Step | None:
        """Returns the step of a tensor that the network holds, None if it has one already."""
        result = self.env[node]
        if not isinstance(result, Tensor):
            return None
        if result.requires_grad and not isinstance(result, nn.Parameter):
            raise BrodmannError(
                "The network computes with a parameter where torch.fx cannot see it, so that it would never learn: "
                "read it in `forward` by its name, as in self.scale."
            )
        for other, name in self.names.items():
            if other.op == "get_attr" and self.env[other] is result:
                self.names[node] = name
                return None
        return Step(self._new_name(node, result), origin_of(node), result, (), (), result)

    def _of_operation(self, node: fx.Node, operation: nn.Module, read: list[fx.Node]) -> Step:
        """Returns the step of a node, which applies an operation to the values of others."""
        sources, inputs = tuple(self.names[one] for one in read), tuple(self.env[one] for one in read)
        return Step(self._new_name(node, operation), origin_of(node), operation, sources, inputs, self.env[node])

    def _without_error(self, step: Step) -> Step:
        """Returns the step that passes on the value of another one, through which no error goes down."""
        return replace(
            step,
            name=self._free(f"{step.name}_detached"),
            operation=WithoutError(),
            sources=(step.name,),
            inputs=(step.output,),
        )

    def _new_name(self, node: fx.Node, operation: nn.Module | Tensor) -> str:
        """Returns a name for the value of a node: that of its module or tensor, of a function that of its map."""
        origin = origin_of(node)
        named = is_held(node) or (origin and isinstance(operation, (*MAPS, Weighted, Tied)))
        return self._free(origin.replace(".", "_") if named else node.name)

    def _free(self, name: str) -> str:
        """Returns a name that no other step has, and reserves it."""
        name = free_name(name, self.taken)
        self.taken.add(name)
        return name


def _named(sample: Several) -> dict[str, Tensor]:
    """Returns what comes to a network by name: a single tensor as ``input``, those of a tuple with their numbers."""
    if isinstance(sample, Tensor):
        return {INPUT: sample}
    if isinstance(sample, Mapping):
        return dict(sample)
    return {_name_of(place): part for place, part in enumerate(sample)}


def _name_of(place: Any) -> str:
    """Returns the name of one of several inputs: its own, or its number in a tuple."""
    return place if isinstance(place, str) else f"{INPUT}_{place}"
