"""Backpropagation: a learner under autograd and torch.optim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..autograd import as_leaf, ordinary
from ..builders.sizes import DEPTH, as_ints, depth_of
from ..checks import check_dtype, check_input, check_real, check_switch, check_tensors
from ..errors import BrodmannError, CheckpointError
from ..files import as_json, read_tensors, write_tensors
from ..layer import Observer
from ..losses.builtin import Loss
from ..losses.error import check_derivative, error_and_loss
from ..losses.facts import one_number
from ..losses.stored import describe_loss, restored_loss
from ..network.body_with_loss import BodyWithLoss
from ..network.divergence import check_loss
from ..network.files import load_whole
from ..several import Several, check_batch, of_each
from ..updates import SGD, RuleOptimizer, UpdateRule, groups_of, update_rule
from .twins import twin_body


class Backpropagation(BodyWithLoss):
    """The twin of `mlp`, `residual_mlp` or `convnet`, trained by autograd, without areas.

    Every map starts at full size, even the readout, which the builders start at a tenth: backpropagation gains nothing
    from that (docs/log.md).
    """

    recursive = False
    """Whether it learns by recursive least squares, as a `Network` under `RLS` does: never."""

    def __init__(
        self,
        in_features: int,
        outputs: int,
        *,
        depth: int = DEPTH,
        width: int | Sequence[int] = 256,
        residual: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        optimiser: str = "adam",
        momentum: float = 0.0,
        decay: float = 0.0,
        readout_only: bool = False,
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        loss: Loss | None = None,
        lr: float | None = None,
    ) -> None:
        """Draws the weights from torch's global generator: normal with variance ``1 / in``, biases zero.

        Args:
            in_features: Size of a sample (flat).
            outputs: Classes, or targets.
            depth: Number of linear layers, as for `mlp`.
            width: Hidden units, as for `mlp`.
            residual: Whether it is the twin of `residual_mlp`.
            activation: A name in `brodmann.builders.ACTIVATIONS`.
            dropout: Share of hidden units switched off while learning.
            optimiser: ``"adam"`` (AdamW) or ``"sgd"`` of PyTorch, or another rule of `brodmann.updates.UPDATES` that
                needs only the gradient, such as ``"muon"``.
            momentum: Momentum of SGD; other rules have their own.
            decay: Decoupled weight decay; for SGD, L2 decay, added to the gradient.
            readout_only: Whether the hidden layers stay as they were drawn: shows what learning them is worth.
            shape: Shape of an image, (channels, height, width), where ``channels`` are given.
            channels: Channels of the 3 x 3 convolutions of a twin of `convnet`; depth and width are then ignored.
                Default None: linear layers only.
            loss: As for a `Network`. Default cross-entropy.
            lr: Learning rate if none is given. Default that which suits the optimiser, as for a `Network`.

        Raises:
            BrodmannError: A size is not a positive whole number, the depth is another than that of a list of widths,
                the machine's memory is too small, the activation or the optimiser is unknown, the optimiser
                needs inputs, a momentum is given without SGD, the dropout is not in [0, 1), the decay or ``lr`` is
                negative, or a switch is not True or False.
        """
        super().__init__()
        check_switch(residual=residual, readout_only=readout_only)
        if lr is not None:
            check_real(lr=lr)
        rule = SGD(momentum=momentum, decay=decay) if optimiser == "sgd" else update_rule(optimiser, decay=decay)
        if rule.needs_inputs:
            raise BrodmannError(f"The optimiser '{optimiser}' needs more than gradients: choose another one.")
        if momentum and optimiser != "sgd":
            raise BrodmannError(f"Momentum works only with the optimiser 'sgd', got {momentum} for '{optimiser}'.")
        body: dict[str, Any] = {"in_features": in_features, "outputs": outputs, "depth": depth, "width": width}
        body |= {"residual": residual, "activation": activation, "dropout": dropout}
        body = as_ints(body | {"shape": shape, "channels": channels})
        self.body = twin_body(**body)
        rules = {"optimiser": optimiser, "momentum": momentum, "decay": decay, "readout_only": readout_only}
        self.design: dict[str, Any] = as_json({**body, "depth": depth_of(depth, width), **rules})
        self.eval()
        self.loss = loss  # type: ignore[assignment]
        self.lr, self._update_rule = rule.default_lr if lr is None else lr, rule
        if readout_only:
            self.requires_grad_(False)
            self.body[-1].requires_grad_(True)
        self.optimiser = _optimiser(optimiser, groups_of(self, decay), rule)

    def forward(self, x: Tensor) -> Tensor:
        """Inference: x (batch, in), or images (batch, channels, height, width) for convolutions; (batch, outputs)."""
        try:
            return self.body(x)
        except (RuntimeError, TypeError):  # in PyTorch's words
            check_tensors(x=x)
            if self.design["channels"] is None:
                check_input(x, next(self.parameters()))
            check_dtype(x, self.dtype)
            raise

    def _step(
        self,
        x: Any,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        *,
        with_error: bool,
    ) -> tuple[Tensor, Tensor, Any]:
        """Makes a step of the optimiser; nothing is observed."""
        rate = self.lr if lr is None else lr
        check_real(lr=rate)
        check_tensors(x=x)
        check_batch(x, target, weight)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.inference_mode(False), torch.enable_grad():
            x = as_leaf(x) if with_error else ordinary(x).detach()
            targets, weight = of_each(ordinary, target), None if weight is None else ordinary(weight)
            self.optimiser.zero_grad()  # first: else the forward pass needs its memory beside that of gradients
            output = self._dropping_out(x) if self.design["dropout"] else self(x)
            if hasattr(self.loss, "value_and_error"):  # which takes a fifth of the time of autograd's way through it
                error, loss = error_and_loss(self.loss, output.detach(), targets, weight)
                top = output
            else:  # a loss of one's own may look at the weights, too, as a penalty does
                output.retain_grad()
                top, error = one_number(self.loss(output, targets, weight)), None
                loss = top.detach()
            if loss.is_cpu:
                check_loss(self, loss, x)
            top.backward(error)
            if output.retains_grad and output.grad is not None:  # else its loss does not depend on it
                check_derivative(loss, [output.grad])
            if rate:  # else the optimiser would take the gradient into its moments
                self.optimiser.step()
        # A loss need not depend on the output.
        return loss, output.detach(), torch.zeros_like(x) if with_error and x.grad is None else x.grad

    def _dropping_out(self, x: Tensor) -> Tensor:
        """Computes the output in training mode, which takes as long to switch on and off as a small step."""
        self.train()
        try:
            return self(x)
        finally:
            self.eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backpropagation:
        """Takes along what the optimiser keeps; PyTorch's counts of steps change their device, but not their dtype."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for kept in self.optimiser.state.values():
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    moved = fn(value)
                    kept[name] = value.to(moved.device) if name == "step" else moved
        return self

    def learning_state(self) -> dict[str, Tensor]:
        """Returns everything that a checkpoint must hold: weights and the optimiser's buffers."""
        state = dict(self.state_dict())
        for index, parameter in enumerate(self.parameters()):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    state[f"optimiser.{index}.{name}"] = value
        return state

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `learning_state` returned.

        Raises:
            RuntimeError: The state is that of another network or optimiser. Nothing is loaded then.
        """
        kept = {name.split(".")[-1] for name in state if name.startswith("optimiser.")}
        if not kept <= self._kept:
            raise RuntimeError(f"Expected buffers of {self.design['optimiser']}, got {', '.join(sorted(kept))}.")
        load_whole(self, {name: value for name, value in state.items() if not name.startswith("optimiser.")})
        parameters = list(self.parameters())
        self.optimiser.state.clear()
        for name, value in state.items():
            if name.startswith("optimiser."):
                _, index, buffer = name.split(".")
                parameter = parameters[int(index)]
                counts = buffer == "step" or not value.is_floating_point()
                dtype = value.dtype if counts else parameter.dtype
                self.optimiser.state[parameter][buffer] = value.to(parameter.device, dtype, copy=True)

    @property
    def _kept(self) -> set[str]:
        """Names of what the optimiser keeps for each weight."""
        known = {"adam": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}
        of_rule = {name for shape in ((1, 1), (1,)) for name in self._update_rule.state_shapes(shape)}
        return known.get(str(self.design["optimiser"]), of_rule)

    @property
    def update_rule(self) -> UpdateRule:
        """Rule that the optimiser follows; it stays that which it was built with."""
        return self._update_rule

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that it computes in."""
        return next(self.parameters()).dtype

    def active_parameters(self) -> int:
        """Counts all parameters."""
        return sum(p.numel() for p in self.parameters())

    def total_parameters(self) -> int:
        """Counts all parameters."""
        return self.active_parameters()

    def save(self, path: str | Path) -> None:
        """Writes the weights, the design, the learning rate and the loss to one safetensors file, atomically.

        For a loss that is not one of this package's, only the name is written: pass it to `load` again.
        """
        settings = {"backpropagation": self.design, "lr": self.lr, "loss": describe_loss(self.loss)}
        write_tensors(Path(path), self.state_dict(), settings)

    @staticmethod
    @torch.inference_mode(False)
    def load(path: str | Path, loss: Loss | None = None) -> Backpropagation:
        """Reads what `save` wrote.

        Args:
            path: The file.
            loss: Its loss. Default the saved one, if it is one of this package's.

        Raises:
            CheckpointError: The file is missing, damaged, of another version, needs a loss, or holds something else.
        """
        tensors, options = read_tensors(Path(path))
        if "backpropagation" not in options:
            raise CheckpointError(
                f"{path} does not hold a network trained by backpropagation: load other networks with `Network.load`."
            )
        if loss is None and "loss" in options:  # else a file of an earlier version
            loss = restored_loss(Path(path), options["loss"])
        try:
            network = Backpropagation(**options["backpropagation"], loss=loss, lr=options.get("lr"))
            if any(tensor.dtype == torch.float64 for tensor in tensors.values()):
                network.double()
            load_whole(network, tensors)
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged, or was written by another version of this package: {error}"
            ) from None
        return network


def _optimiser(name: str, groups: list[dict[str, Any]], rule: UpdateRule) -> torch.optim.Optimizer:
    """Returns PyTorch's own optimiser where there is one, at its fastest, else one that moves weights by the rule."""
    if name == "adam":
        return torch.optim.AdamW(groups, fused=True)
    if isinstance(rule, SGD) and name == "sgd":
        return torch.optim.SGD(groups, lr=1e-3, momentum=rule.momentum, fused=True)
    return RuleOptimizer(groups, rule)
