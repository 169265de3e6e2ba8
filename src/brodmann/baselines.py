"""Backpropagation by PyTorch autograd and torch.optim: the baseline that every result is compared with."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .builders.parts import activation_named
from .builders.sizes import (
    DEPTH,
    MapSize,
    as_ints,
    check_residual,
    convolution_sizes,
    dense_size,
    dense_sizes,
    depth_of,
    weights_of,
)
from .checks import check_memory, check_real, check_share, check_whole
from .divergence import check_loss
from .errors import BrodmannError, CheckpointError
from .files import read_tensors, write_tensors
from .layer import Observer
from .layers import Images, RMSNorm
from .losses.builtin import Loss, one_number
from .losses.descriptions import describe_loss
from .losses.error import check_derivative
from .losses.holder import HoldsLoss
from .network_files import load_whole, named_loss
from .recording import ordinary
from .several import check_batch
from .updates import SGD, RuleOptimizer, update_rule


class _Block(nn.Module):
    def __init__(self, width: int, activation: str, dropout: float, alpha: float) -> None:
        super().__init__()
        self.norm, self.activation, self.dropout = RMSNorm(), activation_named(activation), nn.Dropout(dropout)
        self.linear, self.alpha = nn.Linear(width, width), alpha

    def forward(self, h: Tensor) -> Tensor:
        return h + self.alpha * self.linear(self.dropout(self.activation(self.norm(h))))  # type: ignore[no-any-return]


class _ChannelsFirst(Images):
    """Takes images as `convnet` does, for modules of PyTorch's: one module, so that names in files stay."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).movedim(-1, 1)


class Backpropagation(HoldsLoss):
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
                needs the gradient alone, such as ``"muon"``.
            momentum: Momentum of SGD; other rules have their own.
            decay: Decoupled weight decay; for SGD, L2 decay, added to the gradient.
            readout_only: Whether the hidden layers stay as they were drawn: shows what learning them is worth.
            shape: Shape of an image, (channels, height, width), where ``channels`` are given.
            channels: Channels of the 3 x 3 convolutions of a twin of `convnet`; depth and width are then ignored.
                Default None: linear layers only.
            loss: As for a `Network`. Default cross-entropy.
            lr: Learning rate where none is given. Default that which suits the optimiser, as for a `Network`.

        Raises:
            BrodmannError: A size is not a positive whole number, the depth is another than that of a list of widths,
                the machine's memory is too small, the activation or the optimiser is unknown, the optimiser is
                recursive, a momentum is given without SGD, the dropout is not in [0, 1), or the decay or ``lr`` is
                negative.
        """
        super().__init__()
        check_share(dropout=dropout)
        if lr is not None:
            check_real(lr=lr)
        check_whole(in_features=in_features, outputs=outputs)
        in_features, outputs, depth, width = as_ints((in_features, outputs, depth, width))
        shape, channels = as_ints(shape), as_ints(channels)
        if residual:
            check_residual(depth, width)
        depth = depth_of(depth, width)
        rule = SGD(momentum=momentum, decay=decay) if optimiser == "sgd" else update_rule(optimiser, decay=decay)
        if rule.recursive:
            raise BrodmannError(f"The optimiser '{optimiser}' needs more than gradients: choose another one.")
        if momentum and optimiser != "sgd":
            raise BrodmannError(f"Momentum works only with the optimiser 'sgd', got {momentum} for '{optimiser}'.")
        image = shape or ()
        maps = [] if channels is None else convolution_sizes(image, channels, outputs)
        if maps and math.prod(image) != in_features:
            raise BrodmannError(f"Expected images of {in_features} numbers, got images of shape {shape}.")
        check_memory(4 * (weights_of(maps) if maps else dense_size(in_features, outputs, depth, width)))
        self.design = {
            "in_features": in_features,
            "outputs": outputs,
            "depth": depth,
            "width": list(width) if isinstance(width, Sequence) else width,
            "residual": residual,
            "activation": activation,
            "dropout": dropout,
            "optimiser": optimiser,
            "momentum": momentum,
            "decay": decay,
            "readout_only": readout_only,
            "shape": shape and list(shape),
            "channels": channels and list(channels),
        }
        if channels is not None:
            layers = _convolutions(image, channels, maps[-1], activation, dropout)
        elif residual:
            layers = _residual(dense_sizes(in_features, outputs, depth, width), activation, dropout)
        else:
            layers = _plain(dense_sizes(in_features, outputs, depth, width), activation, dropout)
        self.body = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.eval()
        self.loss = loss  # type: ignore[assignment]
        self.lr, self.update_rule = rule.default_lr if lr is None else lr, rule
        if readout_only:
            self.requires_grad_(False)
            self.body[-1].requires_grad_(True)
        weights = [p for p in self.parameters() if p.ndim > 1 and p.requires_grad]
        biases = [p for p in self.parameters() if p.ndim == 1 and p.requires_grad]
        groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
        if optimiser == "adam":
            self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups)
        elif optimiser == "sgd":
            self.optimiser = torch.optim.SGD(groups, lr=1e-3, momentum=momentum)
        else:
            self.optimiser = RuleOptimizer(groups, rule)

    def forward(self, x: Tensor) -> Tensor:
        """Inference: x (batch, in), or images (batch, channels, height, width) for convolutions; (batch, outputs)."""
        return self.body(x)  # type: ignore[no-any-return]

    def learn_with_output(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; as `Network.learn_with_output`, and nothing is observed.

        Raises:
            BrodmannError: The batch is empty, there is not a target and a weight for each sample, or the learning rate
                or a weight is negative.
            DivergenceError: The loss or its derivative is not finite; nothing has moved then. This is checked only on
                the CPU.
        """
        rate = self.lr if lr is None else lr
        check_real(lr=rate)
        check_batch(x, target, weight)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.inference_mode(False), torch.enable_grad():
            x, target, weight = ordinary(x), ordinary(target), None if weight is None else ordinary(weight)
            self.train()
            try:
                output = self(x)
            finally:
                self.eval()
            loss = one_number(self.loss(output, target, weight))
            if loss.is_cpu:
                check_loss(self, loss.detach(), x)
            self.optimiser.zero_grad(set_to_none=True)
            output.retain_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if output.grad is not None:  # else the loss does not depend on it
                check_derivative(loss.detach(), [output.grad])
            self.optimiser.step()
        return loss.detach(), output.detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backpropagation:
        """Takes along what the optimiser keeps, except for PyTorch's counts of steps, which stay where they are."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for kept in self.optimiser.state.values():
            for name, value in kept.items():
                if isinstance(value, Tensor) and name != "step":
                    kept[name] = fn(value)
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
                self.optimiser.state[parameter][buffer] = (
                    value.to(parameter, copy=True) if value.is_floating_point() and buffer != "step" else value.clone()
                )

    @property
    def _kept(self) -> set[str]:
        """Names of what the optimiser keeps for each weight."""
        known = {"adam": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}
        of_rule = {name for shape in ((1, 1), (1,)) for name in self.update_rule.state_shapes(shape)}
        return known.get(str(self.design["optimiser"]), of_rule)

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
            loss = named_loss(Path(path), options["loss"])
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


def _plain(sizes: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Returns what `mlp` computes, from the sizes between its maps."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation_named(activation), nn.Dropout(dropout)]
    return layers[:-2]  # nothing behind the readout


def _residual(sizes: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Returns what `residual_mlp` computes, from the sizes between its maps."""
    in_features, width, *_, outputs = sizes
    blocks = len(sizes) - 3
    inside = [_Block(width, activation, dropout, blocks**-0.5) for _ in range(blocks)]
    return [nn.Linear(in_features, width), *inside, RMSNorm(), nn.Linear(width, outputs)]


def _convolutions(
    shape: Sequence[int], channels: Sequence[int], readout: MapSize, activation: str, dropout: float
) -> list[nn.Module]:
    """Returns what `convnet` computes, in PyTorch's own modules."""
    layers: list[nn.Module] = [_ChannelsFirst(*shape)]
    for before, count in itertools.pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(before, count, 3, padding=1), activation_named(activation), nn.MaxPool2d(2)]
    return [*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(readout.inputs, readout.outputs)]


def matching_width(active: int, in_features: int, outputs: int, depth: int, width: int | Sequence[int] = 1) -> int:
    """Returns the width at which the dense twin, plain or residual, has the number of parameters nearest ``active``.

    Args:
        active: The number of parameters.
        in_features: Size of a sample (flat).
        outputs: Classes, or targets.
        depth: Number of linear layers, see `Backpropagation`.
        width: Widths of the network whose twin it is: of a list, the largest one is returned, see `in_proportion`.
    """

    def size(widest: int) -> int:
        return dense_size(in_features, outputs, depth, in_proportion(width, widest))

    if depth == 1:
        return 1
    widest = max(1, bisect.bisect_right(range(1, active + 1), active, key=size))  # the largest that is not above
    return min(widest, widest + 1, key=lambda candidate: abs(size(candidate) - active))


def in_proportion(width: int | Sequence[int], widest: int) -> int | tuple[int, ...]:
    """Returns a list of widths scaled so that the largest is ``widest``; in place of one width, ``widest`` itself."""
    if not isinstance(width, Sequence):
        return widest
    return tuple(max(1, round(widest * units / max(width))) for units in width)
