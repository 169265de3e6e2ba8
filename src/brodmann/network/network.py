"""Network: a body of layers with a loss on top; how it makes a step is in `Learning`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..areas import AreaMap
from ..autograd import autocast_off, unrecorded
from ..builders import build
from ..builders.designs import built_from, forget
from ..checks import MisfitError, check_real, unwrapped
from ..errors import BrodmannError, warn
from ..layer import Layer, check_layer
from ..layers import AreaLinear, Routed
from ..losses.builtin import Loss, SumOfSquares
from ..rates import Rates
from ..several import Several, check_several, parts_in, sample_count
from ..storage import COMPUTING
from ..updates import LEARNING_RATE, UpdateRule
from .counting import active_parameters, total_parameters
from .files import load_whole, read_network, write_network
from .learning import Learning
from .learning_layers import learning_layers


class Network(Learning):
    """A trainable network: a body of layers with a loss on top.

    ``network.learn(x, y)`` makes one training step (forward pass, error pass and all updates, without autograd) and
    returns the loss before the step. ``network(x)`` is inference::

        network = Network(mlp(64, 10), lr=3e-3)
        loss = network.learn(x, y)
        logits = network(x)
    """

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
            lr: Learning rate of `learn` if a call gives none. Default that of the layers' update rules, the smallest
                if they differ: 3e-3 with `Adam` and `Muon`, ``0.3 (1 - momentum)`` with `SGD`, 1 with `RLS`. That of
                `SGD` suits cross-entropy; squared errors of a single target want a tenth of it, and may diverge at
                more (docs/log.md).
            rates: Multiples of the learning rate for each part. Default 1 each.
            clip: Largest Frobenius norm, over the whole batch, of the error that enters a layer with weights, or a
                tensor of the network's own. Each scales a larger one down to this norm. Default none.

        Raises:
            BrodmannError: The body is no `Layer`, a part that learns stands in it twice, or has extra state, the loss
                cannot be called with an output and a target, ``lr`` is negative, ``clip`` not above 0, or the rates
                name a layer that is not there.

        Warns:
            UserWarning: Rules ask for different learning rates, and none is given; or layers follow `RLS` under another
                loss than `SumOfSquares`; or a layer or feedback path of your own keeps a tensor that is neither a
                parameter nor a buffer, which no file would hold.
        """
        check_layer(body, "The body of a Network")
        if lr is not None:
            check_real(lr=lr)
        rules = _rules_in(body)
        if loss is None and any(rule.recursive for rule in rules):
            loss = SumOfSquares()
        super().__init__(body, loss, _suited_rate(rules) if lr is None else lr, rates, clip)

    def _look(self) -> None:
        """Also warns if layers follow `RLS` under a loss that does not suit it."""
        super()._look()
        if self.recursive and not isinstance(self.loss, SumOfSquares):
            warn(
                "Recursive least squares needs SumOfSquares: other losses, such as a mean over the batch, make its "
                "steps too small to learn from one pass.",
            )

    @property
    def recursive(self) -> bool:
        """Whether a layer follows `RLS`, or another rule that is recursive."""
        return any(rule.recursive for rule in _rules_in(self.body))

    @staticmethod
    def from_design(design: Mapping[str, Any], loss: Loss | None = None, **options: Any) -> Network:
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

        A rule that `update_rule` put in place of theirs in all layers is that of the design. None if the body was
        composed by hand, or if parts, or other numbers that ``print`` shows, were changed later.
        """
        return built_from(self.body)

    def forward(self, x: Several) -> Any:
        """Inference: x (batch, ..., in); returns (batch, ..., outputs), logits for a classifier.

        If the body is a `Graph` of several inputs or outputs, these are tuples or dictionaries of tensors.
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

    @unrecorded
    def allocate(self) -> None:
        """Gives memory to every area of the budget now, not when a sample first chooses it. No output changes.

        Parameters then keep their identity and shape, as weight averaging and compiled networks need. Their number is
        that of `total_parameters` from then on.
        """
        for part in self.body.modules():
            if isinstance(part, AreaMap):
                part.allocate(torch.arange(len(part.slot), device=part.slot.device))

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Copies the network as it is between two steps: it waits for one that another thread is making."""
        copy = memo[id(self)] = type(self).__new__(type(self))
        with self.turn:
            copy.__setstate__(deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return copy

    def merged(self) -> Network:
        """Returns a copy for inference in which every layer is one map per area, see `AreaLinear.merge_parts`."""
        copy = copy_of(self)
        forget(copy.body)
        copy.rates = Rates()
        for _, layer in copy.area_layers():
            layer.merge_parts()
        return copy

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Network:
        """Refuses dtypes that would also convert routers, biases and the state of rules."""
        number = fn(torch.zeros((), dtype=self.dtype)).dtype
        if number not in COMPUTING:
            raise BrodmannError(
                f"A network computes in float32 or float64, not in {number}: leave the conversion out. "
                "storage='bfloat16', given as it is built, stores its weights in bfloat16."
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
        """Returns name and layer of all that has its own learning rate, by the names that `Rates` takes.

        These are `AreaLinear`, `Product`, `TiedWeights`, `Constant` and `BatchNorm` that learn, and layers of your own
        that hold parameters; frozen ones, too, whose rates count once they are not. A `Routed` whose router learns,
        balances, recruits or splits has the router's name, such as ``"router"``.
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

        Parameters of your own layers count if they are ``nn.Parameter``, and not in what `Layer.learning_only` names.
        """
        return active_parameters(self.body)

    def total_parameters(self) -> int:
        """Counts every stored weight: all existing areas, feedback, projections, prototypes; no optimiser state.

        Parameters of your own layers count if they are ``nn.Parameter``; for feedback paths, buffers count too.
        """
        return total_parameters(self.body)

    def save(self, path: str | Path) -> None:
        """Writes weights, optimiser state, options and design to one safetensors file, atomically.

        It waits for a step that another thread is making, and steps of other threads wait for it. For a loss that is
        not one of this package's, only the name is written: pass it to `load` again.
        """
        with self.turn:
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
            BrodmannError: The body is not a layer, for example a whole network.
            CheckpointError: The file is missing, damaged, of another design, or needs a body or a loss.
        """
        body, loss, settings = read_network(Path(path), body, loss)
        network = Network(body, loss, lr=settings["lr"])
        network.adjust(settings)
        return network


def _rules_in(body: Layer) -> list[UpdateRule]:
    """Returns the rules of the layers that move; a projection goes along at any rate."""
    parts = (part for part in body.modules() if isinstance(part, Layer) and not isinstance(part, Routed))
    return [part.update_rule for part in parts if part.update_rule is not None and part.moves]


def _suited_rate(rules: Iterable[UpdateRule]) -> float:
    """Returns the learning rate of layers that follow these rules; warns if they ask for different ones."""
    suited = {rule.default_lr for rule in rules} or {LEARNING_RATE}
    if len(suited) > 1:
        warn(
            f"The layers' rules ask for different learning rates, {', '.join(map(str, sorted(suited)))}: the "
            "smallest is taken. Choose one with lr=..., or give all layers the same rule with update=...",
        )
    return min(suited)


def check_network(network: Any) -> None:
    """Checks that something is a `Network`, not its body, nor a baseline; raises a `BrodmannError`."""
    if isinstance(network, Network):
        return
    held, hint = getattr(network, "network", unwrapped(network)), ""
    if isinstance(held, Network):  # a `Captured`, say
        hint = ": give the network that it holds"
    elif isinstance(network, Layer):
        hint = ": put the body into one"
    raise BrodmannError(f"Expected a Network, got {type(network).__name__}{hint}.")


def copy_of(network: Network) -> Network:
    """Returns a copy; if the loss holds what cannot be copied, such as a lock, both share the loss."""
    try:
        return deepcopy(network)
    except Exception:  # whatever the loss raises; what fails elsewhere is raised again
        return deepcopy(network, {id(network.loss): network.loss})
