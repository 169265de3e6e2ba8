"""Network: a body of layers with a loss at the top, and its step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..areas import AreaMap
from ..autograd import autocast_off, unrecorded
from ..builders import build
from ..builders.designs import built_from, forget
from ..checks import MisfitError, check_real
from ..errors import BrodmannError, warn
from ..feedback import Feedback
from ..held import Held
from ..layer import Context, Layer, Observer, check_layer, error_through, trace_of
from ..layers import AreaLinear
from ..losses.builtin import Loss, SumOfSquares
from ..losses.error import error_and_loss
from ..losses.facts import facts_of
from ..processes import Processes
from ..rates import Rates
from ..recording import told
from ..routing import Recruiting, Router
from ..several import Several, check_batch, check_several, parts_in, sample_count
from ..storage import COMPUTING
from ..updates import LEARNING_RATE
from .adjustable import Adjustable, routers
from .counting import active_parameters, total_parameters
from .divergence import check_loss
from .files import check_savable, load_whole, read_network, write_network
from .learning_layers import check_once, learning_layers

Agreement = Callable[..., tuple[Processes, Any, Tensor]]
"""Takes the output error and the loss of one process, see `brodmann.network.together.Together.agree`."""


class Network(Adjustable):
    """A body and a loss: every step is one forward pass and one error pass, ``x -> traces -> loss -> learn``."""

    body = Held[Layer]()

    def __init__(
        self,
        body: Layer,
        loss: Loss | None = None,
        *,
        lr: float | None = None,
        rates: Rates | None = None,
        clip: float | None = None,
    ) -> None:
        """Puts a loss on top of a body.

        Args:
            body: The layers.
            loss: Any callable ``(output, target, weight or None) -> scalar``, or a loss of PyTorch. Default
                cross-entropy; `SumOfSquares` for a body that follows `RLS`, which asks for it.
            lr: Learning rate of `learn` where none is given. Default that of the layers' update rules, the smallest
                where they differ: 3e-3 with `Adam` and `Muon`, ``0.3 (1 - momentum)`` with `SGD`, 1 with `RLS`.
            rates: Multiples of the learning rate for each part. Default 1 each.
            clip: Largest Frobenius norm, over the whole batch, of the error that enters a layer with weights, or a
                tensor of the network's own. Each scales a larger one down to this norm. Default none.

        Raises:
            BrodmannError: The body is no `Layer`, a part that learns stands in it twice, or has extra state, the loss
                cannot be called with an output and a target, ``lr`` is negative, ``clip`` not above 0, or the rates
                name a layer that is not there.

        Warns:
            UserWarning: Rules ask for different learning rates, and none is given; or layers follow `RLS` under another
                loss than `SumOfSquares`.
        """
        super().__init__()
        check_layer(body, "The body of a Network")
        check_once(body)
        check_savable(body)
        if lr is not None:
            check_real(lr=lr)
        moving = [part for part in body.modules() if isinstance(part, Layer) and part.moves]
        rules = [part.update_rule for part in moving if part.update_rule is not None]
        self.recursive = any(rule.recursive for rule in rules)
        self.body = body
        self.loss = SumOfSquares() if loss is None and self.recursive else loss  # type: ignore[assignment]
        if self.recursive and not isinstance(self.loss, SumOfSquares):
            warn(
                "Recursive least squares needs SumOfSquares: other losses, such as a mean over the batch, make its "
                "steps too small to learn from one pass.",
            )
        suited = {rule.default_lr for rule in rules} or {LEARNING_RATE}
        if lr is None and len(suited) > 1:
            warn(
                f"The layers' rules ask for different learning rates, {', '.join(map(str, sorted(suited)))}: the "
                "smallest is taken. Choose one with lr=..., or give all layers the same rule with update=...",
            )
        self.lr = min(suited) if lr is None else lr
        self.rates, self.clip = Rates() if rates is None else rates, clip
        paths = [(name.rpartition(".")[0], part) for name, part in self.named_modules() if isinstance(part, Feedback)]
        self._direct = [name for name, path in paths if path.from_output]
        self._recruiting = [router for _, router in routers(self) if isinstance(router, Recruiting)]

    @staticmethod
    def from_design(design: dict[str, Any], loss: Loss | None = None, **options: Any) -> Network:
        """Builds the body from a builder's name and arguments, such as ``{"builder": "mlp", "in_features": 64, ...}``.

        Args:
            design: See `brodmann.builders.build`.
            loss: Loss of the network.
            **options: Further arguments of `Network`.
        """
        return Network(build(design), loss, **options)

    @property
    def design(self) -> dict[str, Any] | None:
        """Name and arguments of the builder that made the body, so that `load` can make it again.

        None if the body was composed by hand, or if parts, or numbers that ``print`` shows, were changed later.
        """
        return built_from(self.body)

    def forward(self, x: Several) -> Any:
        """Inference: x (batch, ..., in); returns (batch, ..., outputs), logits for a classifier.

        Where the body is a `Graph` of several inputs or outputs, these are tuples or dictionaries of tensors.
        """
        check_several(x=x)
        if not isinstance(x, Tensor):
            sample_count(x)  # otherwise one sample of an input would serve all samples of the others
        with autocast_off(parts_in(x)[0]):
            try:
                return self.body(x)
            except MisfitError as error:
                self._name_layer(error)
                raise

    def learn(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Makes one step on one mini-batch; takes any DataLoader batch as ``network.learn(*batch)``.

        Args:
            x: (batch, ..., in), or several such tensors, see `forward`.
            target: What the loss compares with: classes (batch, ...) int64 for `CrossEntropy`, real values shaped like
                the output for `MeanSquaredError`, either for `SumOfSquares`. A loss of your own may ask for several
                tensors (batch, ...), as a tuple or a dictionary.
            weight: Weight of each sample, or of each target where a sample has several, (batch, ...); or None. A sample
                of weight 0 contributes no gradient and recruits no area. Its area still counts as chosen, so decay, and
                what else a rule does without a gradient, applies there, and routers count the sample for their balance
                and as evidence of conflict.
            lr: Learning rate of this step. Default the network's own. At 0 nothing moves, not even a partition.
            observe: Called by every `AreaLinear`, `Product` and `TiedProduct` with itself and the error that arrives,
                see `Context`.

        Returns:
            The loss before the step, a scalar tensor without a graph.

        Raises:
            BrodmannError: The batch is empty, a shape or a target does not fit, the learning rate is negative, or
                autograd waits for an error of x, which `learn_with_error` returns.
            DivergenceError: The loss or its derivative is not finite, as where a sample holds NaN. Nothing has moved
                then. This is checked only on the CPU: elsewhere it would make every step wait for the device. Inputs
                that the loss never sees, such as pixels that no patch holds, are not looked at. With `RLS` it is also
                raised where the inputs of a layer are too large to be told apart: layers above it have moved then.
        """
        loss, _ = self.learn_with_output(x, target, weight, lr=lr, observe=observe)
        return loss

    def learn_with_output(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Any]:
        """As `learn`; returns the loss and the output that it was computed from, both from before the step."""
        if torch.is_grad_enabled() and any(getattr(part, "requires_grad", False) for part in parts_in(x)):
            raise BrodmannError(
                "x requires a gradient, which this call would not compute: to train what x comes from, write "
                "`loss, error = network.learn_with_error(x, target)` and `x.backward(error)`; otherwise give it "
                "x.detach()."
            )
        loss, output, _ = self._step(x, target, weight, lr, observe)
        return loss, output

    def learn_with_error(
        self,
        x: Tensor,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `learn`; returns the loss and ``dL/dx`` as the feedback sees it, shaped like x, from before the step.

        ``x.backward(error)`` hands it on to autograd, which then trains what x comes from. Routes send no error down.

        Raises:
            BrodmannError: As `learn`, or the body computes no error of its input, as where its lowest layer has no
                feedback. Nothing has moved then, unless a layer of your own returns none and does not say so.
        """
        if not (isinstance(x, Tensor) and x.is_floating_point() and self.body.sends_down):
            raise BrodmannError(
                "This body sends no error down to its input: build it with lowest=False, or give its lowest layer a "
                "feedback path. Whole numbers have none, and neither do several inputs."
            )
        loss, _, error = self._step(x, target, weight, lr, observe)
        if error is None:  # of a layer of a user's own that says otherwise
            raise BrodmannError(
                "The lowest layer of this body returned no error from `learn`, although it sends one down: return it "
                "there, or set sends_down = False in its class. The step was made."
            )
        return loss, error

    @unrecorded
    def _step(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        agree: Agreement | None = None,
    ) -> tuple[Tensor, Any, Any]:
        """Makes a step, see `learn`; returns loss, output, and the error of x, None where nothing sends one down.

        Several processes make it together where they ``agree`` on it, before anything moves, see `Parallel`.
        """
        check_batch(x, target, weight)
        context = self.context(target, weight, lr=lr, observe=observe)

        def error_of(output: Several) -> tuple[Any, Tensor]:
            return self._checked_error(output, x, target, weight)

        with autocast_off(parts_in(x)[0]):
            try:
                if any(router.recruits for router in self._recruiting):
                    error_of(self.body(x))  # a step that is refused must recruit nothing
                output, trace = trace_of(self.body, x, context)
                error, loss = error_of(output)
                if agree is not None:
                    facts = facts_of(self.loss)
                    counts = facts.counts_for(target, weight, sample_count(x))
                    processes, error, loss = agree(error, loss, lr=context.lr, counts=counts, sums=facts.sums)
                    context = context._replace(processes=processes)
                errors = parts_in(error)
                context = context._replace(output_error=errors[0] if len(errors) == 1 else None)
                return loss, output, error_through(self.body, trace, error, context)
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
        """Lets an error name the layer whose size does not fit what came to it."""
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
        """Returns what layers are told in a step of this network; arguments as of `learn`.

        Raises:
            BrodmannError: The learning rate is negative.
        """
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

    def _checked_error(self, output: Several, x: Several, target: Several, weight: Tensor | None) -> tuple[Any, Tensor]:
        error, loss = self.output_error(output, target, weight)
        count = len(parts_in(output))
        if count > 1 and self._direct:
            raise BrodmannError(
                f"Direct feedback needs one output, but the network has {count}: choose another feedback path for the "
                f"layer '{self._direct[0]}'."
            )
        if loss.device.type == "cpu":
            told(check_loss, self, loss, x)
        return error, loss

    @unrecorded
    def allocate(self) -> None:
        """Gives memory to every area of the budget now, not when a sample first chooses it. No output changes.

        Parameters then keep their identity and shape, as weight averaging and compiled networks need. Their number is
        that of `total_parameters` from then on.
        """
        for part in self.body.modules():
            if isinstance(part, AreaMap):
                part.allocate(torch.arange(len(part.slot), device=part.slot.device))

    def merged(self) -> Network:
        """Returns a copy for inference in which every layer is one map per area, see `AreaLinear.merge_parts`."""
        copy = copy_of(self)
        forget(copy.body)
        copy.rates = Rates()
        for _, layer in copy.area_layers():
            layer.merge_parts()
        return copy

    def output_error(self, output: Several, target: Several, weight: Tensor | None = None) -> tuple[Any, Tensor]:
        """Returns ``dL/d output`` and the loss. Autograd, if used, differentiates the loss only, never a layer.

        Where there are several outputs, one that the loss leaves out has an error of 0.
        """
        return error_and_loss(self.loss, output, target, weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Network:
        """Refuses dtypes that would also convert routers, biases and the state of rules."""
        number = fn(torch.zeros((), dtype=self.dtype)).dtype
        if number not in COMPUTING:
            raise BrodmannError(
                f"A network computes in float32 or float64, not in {number}: leave that out, or build it with "
                "storage='bfloat16', which stores its weights in bfloat16."
            )
        if number == torch.float64 and any(parameter.dtype == torch.bfloat16 for parameter in self.parameters()):
            raise BrodmannError(
                "Weights stored as bfloat16 work only with float32: leave .double() out, or build the network without "
                "storage."
            )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that it computes in: that of its samples, not of weights stored as bfloat16."""
        numbers = {parameter.dtype for parameter in self.parameters()} - {torch.bfloat16}
        return torch.float64 if torch.float64 in numbers else torch.float32

    def area_layers(self) -> list[tuple[str, AreaLinear]]:
        """Returns name and layer of every `AreaLinear`, from input to output."""
        return [(name, part) for name, part in self.body.named_modules() if isinstance(part, AreaLinear)]

    def learning_layers(self) -> list[tuple[str, Layer]]:
        """Returns name and layer of all that moves at a rate of its own, by the names that `Rates` takes.

        These are `AreaLinear`, `Product`, `TiedWeights`, `Constant` and `BatchNorm` that learn, and layers of your own
        that hold parameters; frozen ones, too, whose rates count once they are not. A `Routed` whose router learns,
        balances, recruits or splits goes by the router's name, such as ``"router"``.
        """
        return learning_layers(self.body)

    def learning_state(self) -> dict[str, Tensor]:
        """Returns everything that a checkpoint must hold: weights, feedback, partitions and the optimiser's buffers."""
        return self.state_dict()

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `learning_state` returned.

        Raises:
            RuntimeError: The state is that of another network. Nothing is loaded then.
        """
        load_whole(self, state)

    def active_parameters(self) -> int:
        """Counts everything read for one sample at inference: merged maps, biases, projections, prototypes.

        Parameters of your own layers count if they are ``nn.Parameter``.
        """
        return active_parameters(self.body)

    def total_parameters(self) -> int:
        """Counts every stored weight: all existing areas, feedback, projections, prototypes; no optimiser state.

        Parameters of your own layers count if they are ``nn.Parameter``; for feedback paths, buffers count too.
        """
        return total_parameters(self.body)

    def save(self, path: str | Path) -> None:
        """Writes weights, optimiser state, options and design to one safetensors file, atomically.

        For a loss that is not one of this package's, only the name is written: pass it to `load` again.
        """
        settings = {"lr": self.lr, **self.adjustments(), "dtype": str(self.dtype).removeprefix("torch.")}
        write_network(Path(path), self.body, self.loss, settings)

    @staticmethod
    @torch.inference_mode(False)
    def load(path: str | Path, body: Layer | None = None, loss: Loss | None = None) -> Network:
        """Reads what `save` wrote.

        Args:
            path: The file.
            body: A body built by the same code as the saved one. Not needed for the builders of this package.
            loss: Loss of the network. Default the saved one, if it is one of this package's.

        Raises:
            CheckpointError: The file is missing, damaged, of another design, or needs a body or a loss.
        """
        body, loss, settings = read_network(Path(path), body, loss)
        network = Network(body, loss, lr=settings["lr"])
        network.adjust(settings)
        return network


def check_network(network: Any) -> None:
    """Checks that something is a `Network`, not its body, nor a baseline; raises a `BrodmannError`."""
    if not isinstance(network, Network):
        raise BrodmannError(f"Expected a Network, got {type(network).__name__}: put the body into one.")


def copy_of(network: Network) -> Network:
    """Returns a copy; where the loss holds what cannot be copied, such as a lock, both share the loss."""
    try:
        return deepcopy(network)
    except Exception:  # whatever the loss raises; what fails elsewhere is raised again
        return deepcopy(network, {id(network.loss): network.loss})
