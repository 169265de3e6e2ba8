"""Layers: what they must offer, and what they are told in a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from .areas import Slab
from .checks import changes_of, check_sent, check_switch, check_unmodified
from .errors import BrodmannError
from .origin import is_ours
from .processes import Processes
from .rates import Rates
from .recording import told
from .routing import Chosen, Route
from .several import parts_in
from .updates import UpdateRule, check_rule

Observer = Callable[["Layer", Tensor], None]
"""What is called with every layer that has weights and a way down, or calls `Context.received`, and its error.

The error must stay as it is: what is to learn otherwise belongs into a loss, a feedback path or a layer.
"""


class Context(NamedTuple):
    """What is not local to one layer during a learning step.

    Attributes:
        lr: Learning rate of this step; at 0 nothing moves, nothing is recruited, and no area splits.
        rates: Multiples of it for each part.
        output_error: Error at the network's output, (batch, ..., outputs), set during the error pass only; None where
            there are several outputs.
        route: Route shared by the layers of a `Routed` body, else None.
        weight: Weight of each sample, (batch, ...), or None. The output error includes it already.
        clip: Largest norm, over the whole batch, of the error that enters a layer, see `clipped`; None for no limit.
        observe: Called by every `AreaLinear`, `Product` and `TiedProduct` in `learn` with itself and the error that
            arrived, before it is clipped.
        target: What the output is compared with, (batch, ...), or several tensors.
        layer_rates: Rates of single layers, see `Rates`; None where all are 1.
        gathered: Where one layer stands in several places, what is to move it, see `Gathering`; None where layers move
            at once.
        processes: The processes that make the step together, see `brodmann.Parallel`; None where this one is alone.
        output: Output of the network from before the step, (batch, ..., outputs), where ``output_error`` is set; it is
            the caller's too, and stays as it is.
    """

    lr: float = 0.0
    rates: Rates = Rates()
    output_error: Tensor | None = None
    route: Route | None = None
    weight: Tensor | None = None
    clip: float | None = None
    observe: Observer | None = None
    target: Any = None
    layer_rates: Mapping[Layer, float] | None = None
    gathered: dict[Gathering, list[Any]] | None = None
    processes: Processes | None = None
    output: Tensor | None = None

    def rate_of(self, layer: Layer) -> float:
        """Returns the multiple of the learning rate for all that one layer holds."""
        if layer.frozen_here:
            return 0.0
        return 1.0 if self.layer_rates is None else self.layer_rates.get(layer, 1.0)

    def lr_of(self, layer: Layer, part: Literal["shared", "projection", "feedback"] | None = None) -> float:
        """Returns the learning rate of this step for all that one layer holds, or for a part of it, see `Rates`."""
        lr = self.lr * self.rate_of(layer)
        return lr if part is None else lr * getattr(self.rates, part)

    def received(self, layer: Layer, error: Tensor) -> Tensor:
        """Tells the observer of the error that arrives at a layer; returns it `clipped`.

        Raises:
            BrodmannError: The observer has written into the error.
        """
        if self.observe is not None:
            before = changes_of((error,))
            self.observe(layer, error)
            check_unmodified("The observer of errors", (error,), before)
        return self.clipped(error)

    def clipped(self, error: Tensor) -> Tensor:
        """Returns an error no larger than ``clip`` allows: ``e min(1, clip / |e|)``, over the whole batch."""
        if self.clip is None:
            return error
        norm: Tensor = error.norm()
        if self.processes is not None:
            (square,) = self.processes.summed(norm.square())
            norm = square.sqrt()
        return error * (self.clip / norm.clamp_min(self.clip))

    def summed(self, *tensors: Tensor) -> list[Tensor]:
        """Returns sums of tensors of one dtype over all processes that make the step, such as gradients."""
        return list(tensors) if self.processes is None else self.processes.summed(*tensors)

    def same_draws(self) -> AbstractContextManager[None]:
        """Lets all processes that make the step draw the same random numbers inside the block."""
        return nullcontext() if self.processes is None else self.processes.same_draws()

    def of_all_processes(self) -> Context:
        """Returns the context for what was gathered from all processes: as if this one had had the whole batch."""
        processes, weight = self.processes, self.weight
        if processes is not None and weight is not None:
            (weight,) = processes.rows(weight)
        return self._replace(processes=None, weight=weight)


def as_rows(x: Tensor) -> Tensor:
    """Returns (..., n) as (rows, n); x itself if it is 2-d: even a reshape takes time that shows in a small step."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def unflatten_rows(rows: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Returns (rows, n) as (*leading, n), see `as_rows`."""
    return rows if len(leading) == 1 else rows.reshape(*leading, rows.shape[-1])


def has_parameters(part: Any) -> bool:
    """Whether something is a module with parameters, its own or those of modules in it."""
    return isinstance(part, nn.Module) and next(part.parameters(), None) is not None


def check_layer(part: Any, place: str) -> None:
    """Checks that a part of a network can learn; raises a `BrodmannError` that names its place."""
    if not isinstance(part, Layer):
        raise BrodmannError(
            f"{place} is a {type(part).__name__}, which cannot learn: wrap parameter-free operations in Local, use "
            "AreaLinear for linear maps, or convert a whole network with from_torch."
        )


def trace_of(layer: Any, x: Any, context: Context) -> tuple[Any, Any]:
    """Returns what ``trace`` of a layer, which may be a user's own, returns, once checked."""
    traced = layer.trace(x, context)
    if not isinstance(traced, tuple) or len(traced) != 2:
        raise BrodmannError(
            f"{type(layer).__name__}.trace should return the output and what `learn` must remember, (y, trace), got "
            f"{type(traced).__name__}."
        )
    return traced


def error_through(layer: Any, trace: Any, error: Any, context: Context) -> Any:
    """Returns what ``learn`` of a layer returns, once checked where the layer is a user's own: the error below it."""
    below = layer.learn(trace, error, context)
    if below is not None and not is_ours(layer):
        told(check_sent, f"{type(layer).__name__}.learn", parts_in(below), parts_in(error))
    return below


class Layer(nn.Module, ABC):
    """Abstract: a part of a network that learns without autograd.

    A step calls ``trace`` on every layer from below, then ``learn`` on every layer from above, once for each place in
    which it stands (in more than one: `Gathering`). All that ``learn`` needs is in the trace: nothing is kept between
    calls. With x (batch, ..., in) and y (batch, ..., out),

    - ``forward(x) -> y`` is inference;
    - ``trace(x, context) -> (y, trace)`` is the forward pass of a step, dropout included;
    - ``learn(trace, error, context) -> error_below`` gets ``dL/dy`` as the feedback above sees it, shaped like y (the
      factor 1/batch of the losses' mean is in it), moves its parameters in place at ``context.lr_of(self)``, so that
      `Rates` reach them, and returns ``dL/dx``, shaped like x and computed from the parameters before they moved; or
      None where nothing below learns.

    Whether anything moves is asked in four ways:

    |      | what it holds itself              | that, and all layers inside |
    |------|-----------------------------------|-----------------------------|
    | ever | `moves`                           | `can_learn`                 |
    | now  | `moves` and not ``frozen_here`` | `learns`                    |

    Source: our choice.
    """

    _built: tuple[dict[str, Any], str, UpdateRule | None] | None = None
    """Design that a builder built it from, how it then looked, and the one rule that all of it followed; see
    `brodmann.builders.designs.built_from`."""
    _update_rule: UpdateRule | None = None
    learning_only: tuple[str, ...] = ()
    """Class attribute: what it holds for learning alone, by the names of its attributes, such as a readout for a loss
    of its own: `Network.active_parameters` leaves that out, as it does feedback paths."""
    frozen_here: bool = False
    """Whether what it holds itself, besides the layers inside it, stays as it is; see `frozen`."""

    @property
    def update_rule(self) -> UpdateRule | None:
        """Rule that its parameters follow, None where none does. It may be replaced between steps.

        A `Network` takes that rule's learning rate, where none is given, when it is made. What follows the rule then
        follows the new one: weights, biases, feedback weights and the projection of the layer's router, and every
        `Slab` that a layer of your own holds under it. What the old one remembers is kept as `Slab.update_rule` says.

        Raises:
            BrodmannError: It is no rule, the layer holds no weights that follow one, one of the two is recursive, or
                needs inputs, and the other is not, or a buffer of the rule has a name that cannot be used. Nothing is
                replaced then.
        """
        return self._update_rule

    @update_rule.setter
    def update_rule(self, rule: UpdateRule | None) -> None:
        self._check_can_follow(rule)
        self._take_rule(rule)

    def _check_can_follow(self, rule: UpdateRule | None) -> None:
        """Raises where it, or anything that it holds, cannot follow a rule in place of its own."""
        before, name = self._update_rule, type(self).__name__
        if before is None and is_ours(self):
            raise BrodmannError(
                f"This {name} holds no weights of its own that follow a rule, and its update_rule is None: set that of "
                "layers which have one, or network.update_rule."
            )
        if before is not None:
            check_rule(rule)
            assert rule is not None
            if (rule.recursive, rule.needs_inputs) != (before.recursive, before.needs_inputs):
                raise BrodmannError(
                    f"This {name} follows {before}, and cannot go on with {rule}: what learns, by which loss and "
                    "schedule, depends on whether a rule is recursive and needs inputs, so build the network with it."
                )
            for slab in self._slabs_that_follow():
                slab.check_can_follow(rule)

    def _take_rule(self, rule: UpdateRule | None) -> None:
        """Follows a rule that was checked in place of its own."""
        for slab in self._slabs_that_follow():
            slab.update_rule = rule  # type: ignore[assignment]  # a layer with none has no such slab
        self._update_rule = rule

    def _slabs_that_follow(self) -> list[Slab]:
        """Returns the slabs that it holds, but not those of layers inside it, which follow its rule."""
        own = self._update_rule
        return [slab for slab in _slabs_in(self) if slab.update_rule is own or slab.update_rule == own]

    @property
    def sends_down(self) -> bool:
        """Whether `learn` returns an error for the layer below. Default True."""
        return True

    @property
    def reads(self) -> bool:
        """False for layers that ignore their input, such as `Constant`. Default True."""
        return True

    @property
    def moves(self) -> bool:
        """Whether `learn` moves anything that it holds itself, unless it is frozen. Default: whether it has parameters.

        Those of layers inside it count as theirs; those of other modules, such as an `nn.Linear`, as its own. A layer
        of your own whose parameters stay as they are returns False, one that moves buffers alone True.
        """
        return _holds_parameters(self)

    @property
    def can_learn(self) -> bool:
        """Whether `learn` moves anything in it, unless it is frozen."""
        return any(part.moves for part in self._layers())

    @property
    def learns(self) -> bool:
        """Whether `learn` moves anything in it as it is now, so that an error must come down."""
        return any(part.moves and not part.frozen_here for part in self._layers())

    @property
    def frozen(self) -> bool:
        """Whether it stays as it is, whatever the rates are; errors pass through it. It may be set between steps.

        Setting it reaches all layers inside, at any depth. It reads True if nothing in it would move.
        """
        moving = [part for part in self._layers() if part.moves]
        return all(part.frozen_here for part in moving) if moving else self.frozen_here

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        check_switch(frozen=frozen)
        for part in self._layers():
            part.frozen_here = frozen

    def _layers(self) -> Iterator[Layer]:
        """Yields itself, and the layers inside it at any depth."""
        return (part for part in self.modules() if isinstance(part, Layer))

    @abstractmethod
    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (batch, ..., in); returns (batch, ..., out). ``choice`` is what an enclosing `Routed` chose."""

    @abstractmethod
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Computes the output and what `learn` must remember."""

    @abstractmethod
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Updates in place: error (batch, ..., out); returns that for the layer below, (batch, ..., in), or None."""


class Gathering(Layer):
    """Abstract: a layer that moves once a step by all that it is handed over.

    It may stand in several places of a `Graph`, and in several processes, see `brodmann.Parallel`.
    """

    def hand_over(self, part: Any, context: Context) -> None:
        """Moves by what `learn` made of one error: at once, or later together with the other places."""
        if context.gathered is None:
            self.move_together([part], context)
        else:
            context.gathered.setdefault(self, []).append(part)

    def move_together(self, parts: list[Any], context: Context) -> None:
        """Moves by what was handed over in all places, and in all processes that make the step."""
        processes = context.processes
        if processes is None:
            self.move(parts, context)
            return
        with processes.same_draws():
            self.move([self.of_all(part, processes) for part in parts], context.of_all_processes())

    def of_all(self, part: Any, processes: Processes) -> Any:
        """Returns a part with what the other processes have of it: their sum, where a part is a tensor.

        Override it for parts of another kind, such as rows, see `Processes.rows`.

        Args:
            part: What was handed over in this process. All hand over as many, in the same order.
            processes: Who makes the step together.

        Raises:
            BrodmannError: The part is not a tensor.
        """
        if not isinstance(part, Tensor):
            raise BrodmannError(
                f"{type(self).__name__} hands over a {type(part).__name__}, which several processes cannot sum: "
                "override `of_all`, or hand over a tensor."
            )
        return processes.summed(part)[0]

    @abstractmethod
    def move(self, parts: list[Any], context: Context) -> None:
        """Moves in place by what was handed over, for each place in which the layer stands, from output to input."""


class Container(Layer):
    """Abstract: a layer that is made of layers, through all of which the error comes down."""

    traces_again: bool = False
    """Whether it traces its layers a second time when the error comes down."""

    @property
    def update_rule(self) -> UpdateRule | None:
        """Rule that all layers inside follow, at any depth, and its router; None where they follow several, or none.

        It may be replaced between steps: they all then follow the new one, see `Layer.update_rule`.

        Raises:
            BrodmannError: One of them cannot follow it, or none follows a rule. Nothing is replaced then.
        """
        return rule_throughout(self)

    @update_rule.setter
    def update_rule(self, rule: UpdateRule | None) -> None:
        replace_rule_throughout(self, rule)

    @property
    def sends_down(self) -> bool:
        """Whether all of its layers do: else the error below would lack a part."""
        return all(layer.sends_down for layer in _inside(self))


def rule_throughout(layer: Layer) -> UpdateRule | None:
    """Returns the rule that a layer and all layers inside it follow, None where they follow several, or none."""
    first, *others = _rules_in(layer).values() or [None]
    return first if all(rule == first for rule in others) else None


def replace_rule_throughout(layer: Layer, rule: UpdateRule | None) -> None:
    """Lets a layer and all layers inside it follow another rule, where they follow one: all or, by an error, none."""
    parts = list(_rules_in(layer)) or [layer]
    for part in parts:
        part._check_can_follow(rule)
    for part in parts:
        part._take_rule(rule)


def _rules_in(layer: Layer) -> dict[Layer, UpdateRule]:
    """Returns the rules of a layer and of all layers inside it, by the layer that follows one itself."""
    return {part: part._update_rule for part in layer._layers() if part._update_rule is not None}


def _holds_parameters(module: nn.Module) -> bool:
    """Whether a module has parameters besides those of layers inside it."""
    if any(True for _ in module.parameters(recurse=False)):
        return True
    return any(_holds_parameters(child) for child in module.children() if not isinstance(child, Layer))


def _slabs_in(module: nn.Module) -> Iterator[Slab]:
    """Yields the slabs that a module holds, but not those of layers inside it."""
    for child in module.children():
        if isinstance(child, Slab):
            yield child
        elif not isinstance(child, Layer):
            yield from _slabs_in(child)


def _inside(module: nn.Module) -> Iterator[Layer]:
    """Yields the layers inside a module, not those inside of them."""
    for child in module.children():
        if isinstance(child, Layer):
            yield child
        else:
            yield from _inside(child)
