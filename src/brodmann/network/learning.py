"""Learning: the steps of a network, from the loss at its top or from an error that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from ..autograd import autocast_off, unrecorded
from ..checks import MisfitError, check_real
from ..errors import BrodmannError
from ..feedback import Feedback
from ..layer import Container, Context, Layer, Observer, error_through, trace_of
from ..losses.builtin import Loss
from ..losses.error import error_and_loss
from ..rates import Rates
from ..recording import asked, replayed
from ..routing import Recruiting, Router
from ..several import Several, check_batch, of_each, parts_in
from .adjustable import Adjustable, routers
from .changes import Changes
from .composition import Composition
from .divergence import check_loss
from .files import check_savable
from .learning_layers import check_once
from .open_step import OpenStep


class Pending(NamedTuple):
    """A step between its two halves: the forward pass is made, and nothing has moved.

    Attributes:
        output: What the forward pass returned.
        trace: What the layers remember of it.
        context: What they were given for this step.
    """

    output: Any
    trace: Any
    context: Context


class Learning(Adjustable):
    """A body of layers that makes steps: forward pass, error of the output, error pass."""

    def __init__(self, body: Layer, loss: Loss | None, lr: float, rates: Rates | None, clip: float | None) -> None:
        """Takes the layers, the loss and the settings of a step, see `Network`."""
        super().__init__(body, loss, rates, clip)
        self.lr = lr
        self._changes = Changes()
        self._look()

    def _look(self) -> None:
        """Checks the body, and looks for the parts that steps ask: as it is built, and whenever that has changed.

        Raises:
            BrodmannError: A part that learns stands in the body twice, or has extra state.
        """
        check_once(self.body)
        check_savable(self.body)
        paths = [(name.rpartition(".")[0], part) for name, part in self.named_modules() if isinstance(part, Feedback)]
        self._direct = [name for name, path in paths if path.from_output]
        self._recruiting = [router for _, router in routers(self) if isinstance(router, Recruiting)]
        self._composition = Composition(self.modules())

    def look_again(self) -> None:
        """Does for a body in which a part was put in another's place what building a network of it would do.

        Every step begins with it.

        Raises:
            BrodmannError: As when it is built, or a name in ``rates`` is that of no layer any more.
        """
        if self._composition.is_same():
            return
        for part in self.body.modules():
            if isinstance(part, Container):
                part.settle()
        self.rates = self.rates
        self._look()

    @unrecorded
    def trace(
        self,
        x: Several,
        target: Several | None = None,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> OpenStep:
        """Makes the forward pass of a step, for an error that something else computes from the output.

            step = trunk.trace(x)
            hidden = step.output.requires_grad_()
            cross_entropy(head(hidden), y).backward()  # a head that autograd trains
            step.learn(hidden.grad)

        The loss of the network has no part in it. A router that recruits does so now. Nothing else may move the
        network before the step does; steps at a rate of 0 do not.

        Args:
            x: As for `learn`. It may require a gradient, which `OpenStep.learn` returns.
            target: What layers and feedback paths of your own read as ``context.target``, if they do.
            weight: Weights of samples, for routers and rules that count samples. The error must include them.
            lr: As for `learn`.
            observe: As for `learn`.

        Raises:
            BrodmannError: As `learn`.
        """
        check_batch(x, x if target is None else target, weight)
        context = self.context(target, weight, lr=lr, observe=observe)
        with self._computing(x):
            output, trace = trace_of(self.body, x, context)
        self._check_direct(output)
        output = of_each(Tensor.detach, output)
        down = partial(self.error_pass, Pending(output, trace, context))
        return OpenStep(x, output, down, partial(self._changes.state, self))

    @unrecorded
    def _step(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        *,
        with_error: bool,
    ) -> tuple[Tensor, Any, Any]:
        if with_error:
            self._check_returns_error(x)
        pending, error, loss = self.forward_pass(x, target, weight, lr, observe)
        below = self.error_pass(pending, error)
        if with_error and below is None:  # from a user-defined layer whose sends_down says otherwise
            raise BrodmannError(
                "The lowest layer of this body returned no error from `learn`, although it sends one down: return it "
                "there, or set sends_down = False in its class. The step was made."
            )
        return loss, pending.output, below

    @unrecorded
    def forward_pass(
        self, x: Several, target: Several, weight: Tensor | None, lr: float | None, observe: Observer | None
    ) -> tuple[Pending, Any, Tensor]:
        """Makes the first half of a step, see `learn`; returns it, ``dL/d output`` and the loss, checked."""
        check_batch(x, target, weight)
        context = self.context(target, weight, lr=lr, observe=observe)
        with self._computing(x):
            recruiting = [asked(router, "recruits") for router in self._recruiting]  # before any of them does
            if any(recruiting):
                self._checked_error(self.body(x), x, target, weight)  # a step that is refused must recruit nothing
            output, trace = trace_of(self.body, x, context)
            return Pending(output, trace, context), *self._checked_error(output, x, target, weight)

    @unrecorded
    def error_pass(self, pending: Pending, error: Any) -> Any:
        """Makes the second half, by ``dL/d output``: all layers learn.

        Returns:
            The error of x; None if nothing sends one down.
        """
        if pending.context.lr > 0:
            replayed(self._changes.add_step)
        outputs, errors = parts_in(pending.output), parts_in(error)
        context = pending.context
        if len(errors) == 1:
            context = context._replace(output=outputs[0], output_error=errors[0])
        with self._computing(error):
            return error_through(self.body, pending.trace, error, context)

    @property
    def turn(self) -> AbstractContextManager[bool]:
        """A lock: while one thread makes a step, or saves or copies the network, others wait with theirs."""
        return self._changes.turn

    @contextmanager
    def _computing(self, x: Several) -> Iterator[None]:
        """Computes in the network's own dtypes, while no other thread saves it or makes a step.

        Makes errors raised inside say where they arose, and what to do.
        """
        with self.turn, autocast_off(parts_in(x)[0]):
            try:
                yield
            except MisfitError as misfit:
                self._name_layer(misfit)
                raise
            except RuntimeError:
                if any(parameter.is_inference() for parameter in self.parameters()):
                    raise BrodmannError(
                        "A network that was built or copied under torch.inference_mode cannot learn: build it outside "
                        "that mode, or copy it there with copy.deepcopy."
                    ) from None
                raise

    def _name_layer(self, error: MisfitError) -> None:
        """Adds to an error the name of the layer whose size does not fit its input."""
        parts = [(name, part) for name, part in self.named_modules() if isinstance(part, Layer | Router)]
        holders = [name for name, part in parts if any(own is error.weight for own in part.parameters())]
        if holders:  # the innermost comes last
            error.args = (f"{str(error).removesuffix('.')} at layer '{holders[-1]}'.",)
            error.weight = None

    def context(
        self,
        target: Several | None = None,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> Context:
        """Returns what layers are given in a step of this network; arguments as for `learn`.

        Raises:
            BrodmannError: The learning rate is negative, or a part was put in another's place where it cannot learn.
        """
        self.look_again()
        rate = self.lr if lr is None else lr
        check_real(lr=rate)
        return Context(
            lr=rate,
            rates=self._rates,
            weight=weight,
            clip=self.clip,
            observe=observe,
            target=target,
            layer_rates=self._layer_rates,
        )

    def _check_returns_error(self, x: Several) -> None:
        """Raises if a step would have no error of x to return."""
        if isinstance(x, Tensor) and not x.is_floating_point():
            raise BrodmannError(
                f"learn_with_error returns the error of x, but there is none of whole numbers, and x is {x.dtype}: "
                "call learn, or give what an embedding makes of them."
            )
        if not isinstance(x, Tensor) and isinstance(x, tuple | list | Mapping):
            raise BrodmannError(
                f"learn_with_error returns the error of a single input, but x is a {type(x).__name__}: call learn."
            )
        if not self.body.sends_down:
            raise BrodmannError(
                "learn_with_error returns the error of x, but the lowest layer of this body has no feedback path to "
                "compute it with: build the body with lowest=False, give that layer a feedback path, or call learn."
            )

    def _checked_error(self, output: Several, x: Several, target: Several, weight: Tensor | None) -> tuple[Any, Tensor]:
        error, loss = self.output_error(output, target, weight)
        self._check_direct(output)
        if loss.device.type == "cpu":
            replayed(check_loss, self, loss, x)
        return error, loss

    def _check_direct(self, output: Several) -> None:
        count = len(parts_in(output))
        if count > 1 and self._direct:
            raise BrodmannError(
                f"Direct feedback needs one output, but the network has {count}: choose another feedback path for the "
                f"layer '{self._direct[0]}'."
            )

    def output_error(self, output: Several, target: Several, weight: Tensor | None = None) -> tuple[Any, Tensor]:
        """Returns ``dL/d output`` and the loss. Autograd, if used, differentiates the loss only, never a layer.

        With several outputs, one that the loss leaves out has an error of 0.
        """
        return error_and_loss(self.loss, output, target, weight)
