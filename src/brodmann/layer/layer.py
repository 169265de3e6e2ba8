"""Layer: the interface of a part of a network that learns without autograd."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..areas import Slab
from ..checks import check_default_dtype, check_switch
from ..errors import BrodmannError
from ..origin import is_ours
from ..routing import Chosen
from ..updates import UpdateRule, check_rule
from .context import Context


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
      None if nothing below learns.

    What comes to them, and what the context holds, stays as it is: others read the very same tensors.

    Whether anything moves is asked in four ways:

    |      | what it holds itself              | that, and all layers inside |
    |------|-----------------------------------|-----------------------------|
    | ever | `moves`                           | `can_learn`                 |
    | now  | `moves` and not ``frozen_here`` | `learns`                    |

    Source: our choice.
    """

    _update_rule: UpdateRule | None = None
    learning_only: tuple[str, ...] = ()
    """Class attribute: names of the attributes that it needs only for learning, such as a readout for a local loss:
    `Network.active_parameters` leaves them out, as it does feedback paths."""
    frozen_here: bool = False
    """Whether its own parameters and buffers, not those of layers inside it, stay as they are; see `frozen`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begins a layer; arguments are those of a module that a class may also inherit from.

        Raises:
            BrodmannError: PyTorch's default dtype is neither float32 nor float64.
        """
        check_default_dtype()
        super().__init__(*args, **kwargs)

    @property
    def update_rule(self) -> UpdateRule | None:
        """Rule that its parameters follow, None if none does. It may be replaced between steps.

        A `Network` for which no learning rate is given takes that of the rule when it is made. What follows the rule
        then follows the new one: weights, biases, feedback weights and the projection of the layer's router, and every
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
        """Raises if it, or anything that it holds, cannot follow another rule."""
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
                    f"This {name} follows {before}, and {rule} cannot take its place: rules such as RLS, which need "
                    "a layer's inputs, go with another loss and other schedules, so build the network with the rule."
                )
            for slab in self._slabs_that_follow():
                slab.check_can_follow(rule)

    def _take_rule(self, rule: UpdateRule | None) -> None:
        """Follows another rule, once checked."""
        for slab in self._slabs_that_follow():
            slab.update_rule = rule  # type: ignore[assignment]  # a layer with none has no such slab
        self._update_rule = rule

    def _slabs_that_follow(self) -> list[Slab]:
        """Returns the slabs that it holds, but not those of layers inside it, which follow its rule."""
        own, slabs = self._update_rule, (part for part in _own_modules(self) if isinstance(part, Slab))
        return [slab for slab in slabs if slab.update_rule is own or slab.update_rule == own]

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

        Parameters of layers inside it count as theirs, those of other modules, such as an `nn.Linear`, as its own. A
        layer of your own whose parameters stay as they are returns False, one that only moves buffers True.
        """
        return any(True for part in _own_modules(self) for _ in part.parameters(recurse=False))

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
        """Inference: x (batch, ..., in); returns (batch, ..., out). ``choice`` is that of an enclosing `Routed`."""

    @abstractmethod
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Any]:
        """Computes the output and what `learn` must remember."""

    @abstractmethod
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Updates in place: error (batch, ..., out); returns that for the layer below, (batch, ..., in), or None."""


def has_parameters(part: Any) -> bool:
    """Whether something is a module with parameters, its own or those of modules in it."""
    return isinstance(part, nn.Module) and next(part.parameters(), None) is not None


def _own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yields a module and those inside it, at any depth, but no layers inside it, nor what these hold."""
    yield module
    for child in module.children():
        if not isinstance(child, Layer):
            yield from _own_modules(child)
