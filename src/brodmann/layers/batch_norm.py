"""BatchNorm: a norm by the statistics of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ..autograd import unrecorded
from ..checks import check_error, check_positive, check_real, check_switch, check_tensors, check_whole
from ..errors import BrodmannError
from ..layer import Context, Layer
from ..routing import Chosen
from ..updates import UpdateRule
from .constant import Constant


class BatchNormTrace(NamedTuple):
    """What a `BatchNorm` remembers of one forward pass.

    Attributes:
        x: (1, features, values, 1), see `_as_image`.
        mean: Mean that it subtracted, (features,); empty unless `several`.
        root: ``1 / sqrt(v + eps)`` of the batch, (features,); empty unless `several`.
        running: Running mean and variance as they are after this step, (features,) each.
        several: Whether it used statistics of the batch, from several values of each feature.
        shape: Shape of the input.
    """

    x: Tensor
    mean: Tensor
    root: Tensor
    running: tuple[Tensor, Tensor]
    several: bool
    shape: tuple[int, ...]


class BatchNorm(Layer):
    """Norm of every feature over a batch: ``y = g (x - m) / sqrt(v + eps) + b``.

    While learning ``m`` and ``v`` are mean and variance of the feature in the batch, over all dimensions but the last,
    and the running ones follow: ``M <- (1 - momentum) M + momentum m``, ``V`` in the same way by the unbiased variance.
    At inference ``M`` and ``V`` are used, so that every sample is independent of the others. With ``n = (x - m) /
    sqrt(v + eps)`` the errors are ``sum n e`` of g, ``sum e`` of b, and below ``(g e - mean(g e) - n mean(g e n)) /
    sqrt(v + eps)``: a unit knows its own factor, and no weight of another layer is transported.

    While learning, it is the only layer in which a sample's output depends on other samples, even of other areas;
    weights of samples do not count. Features that come with a single value have no variance: they are normalised by
    ``M`` and ``V``, which then stay as they are, as in a step at a learning rate of 0. A norm that is frozen, or has
    a rate of 0, works as at inference: it uses ``M`` and ``V`` while learning too.

    Source: Ioffe and Szegedy (2015), with the constants of PyTorch's norms, which have features second; here they are
    last.

    Attributes:
        gain: ``g``, a `Constant` of (features,), or None: then it is 1.
        shift: ``b``, a `Constant` of (features,), or None: then it is 0.
        mean: ``M``, (features,), which starts at 0.
        variance: ``V``, (features,), which starts at 1.
        batches: How many batches have been seen, ().
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(
        self,
        features: int,
        *,
        update: UpdateRule | None = None,
        momentum: float | None = 0.1,
        eps: float = 1e-5,
        start: _BatchNorm | None = None,
        fixed: bool = False,
    ) -> None:
        """Starts as a norm that has seen nothing, or as another one.

        Args:
            features: Size of the last dimension.
            update: Rule that moves gain and shift, at the rate of shared parts. Default None: there are none.
            momentum: Share of a batch in the running statistics, in [0, 1]; None for the mean over all batches. Default
                0.1, as in PyTorch.
            eps: Added to every variance. Default 1e-5, as in PyTorch.
            start: A PyTorch norm whose gain, shift, statistics, momentum and eps it takes, in place of the arguments.
                Without a rule its gain and shift stay fixed. Default None.
            fixed: Whether running statistics stay as they are, and are used while learning too. Default False.

        Raises:
            BrodmannError: A number is out of range, or the start has another size or no running statistics.
        """
        super().__init__()
        check_whole(features=features)
        if start is not None:
            if not isinstance(start, _BatchNorm) or start.running_mean is None or start.num_features != features:
                raise BrodmannError(
                    f"Expected a batch norm of {features} features that tracks its running statistics to start from, "
                    f"got {start}."
                )
            momentum, eps = start.momentum if start.track_running_stats else 0.0, start.eps
        if momentum is not None:
            check_real(momentum=momentum)
            if momentum > 1:
                raise BrodmannError(f"Expected momentum to be at most 1, got {momentum}.")
        check_positive(eps=eps)
        check_switch(fixed=fixed)
        self.features, self.momentum, self.eps, self.fixed = features, momentum, eps, fixed
        self.gain = self.shift = None
        if start is not None and start.affine:
            self.gain = Constant(start.weight, update)
            self.shift = (
                Constant(torch.zeros_like(start.weight)) if start.bias is None else Constant(start.bias, update)
            )
        elif start is None and update is not None:
            self.gain, self.shift = Constant(torch.ones(features), update), Constant(torch.zeros(features), update)
        norm = nn.BatchNorm1d(features) if start is None else start
        statistics = {"mean": norm.running_mean, "variance": norm.running_var, "batches": norm.num_batches_tracked}
        with torch.inference_mode(False):
            for name, value in statistics.items():
                self.register_buffer(name, value.detach().clone())  # type: ignore[union-attr]

    @property
    def moves(self) -> bool:
        """Whether the running statistics follow the batches, or gain and shift learn."""
        return not self.fixed or (self.gain is not None and self.gain.moves)

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (..., features); returns the same shape."""
        self._check(x)
        scale = torch.rsqrt(self.variance + self.eps)
        if self.gain is not None:
            scale = scale * self.gain.value
        shift = -scale * self.mean
        if self.shift is not None:
            shift = shift + self.shift.value
        return torch.addcmul(shift, x, scale)

    def by_batch(self, x: Tensor, rate: float) -> Tensor:
        """Returns the output of `trace` at a rate of the layer, in a form that autograd follows: x (..., features)."""
        rows, several = x.reshape(-1, self.features), self._goes_by_batch(x, rate)
        mean, variance = (None, None) if several else (self.mean, self.variance)
        return functional.batch_norm(rows, mean, variance, *self._weights, several, eps=self.eps).reshape(x.shape)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, BatchNormTrace]:
        """Learning forward pass: by the statistics of the batch, unless it is fixed or frozen."""
        self._check(x)
        rows, (mean, variance) = _as_image(x), (self.mean.clone(), self.variance.clone())
        several = self._goes_by_batch(x, context.rate_of(self))
        momentum = 1.0 / (1 + int(self.batches)) if self.momentum is None else self.momentum
        gain, shift = self._weights
        y, of_batch, root = torch.native_batch_norm(rows, gain, shift, mean, variance, several, momentum, self.eps)
        return _as_it_came(y, x.shape), BatchNormTrace(rows, of_batch, root, (mean, variance), several, x.shape)

    @unrecorded
    def learn(self, trace: BatchNormTrace, error: Tensor, context: Context) -> Tensor:
        """Error pass: error shaped as x; moves gain, shift and statistics; returns the error of x."""
        check_error(error, trace.shape, trace.x.dtype)
        gain, _ = self._weights
        below, of_gain, of_shift = torch.ops.aten.native_batch_norm_backward(
            _as_image(error),
            trace.x,
            gain,
            self.mean,
            self.variance,
            trace.mean,
            trace.root,
            trace.several,
            self.eps,
            [True, gain is not None, gain is not None],
        )
        if self.gain is not None and self.shift is not None:
            self.gain.learn(None, of_gain, context)
            self.shift.learn(None, of_shift, context)
        if context.lr_of(self):
            self._follow(*trace.running, trace.several, context)
        return _as_it_came(below, error.shape)

    def _follow(self, mean: Tensor, variance: Tensor, several: bool, context: Context) -> None:
        """Takes over running statistics; of several processes the mean, over those whose statistics moved."""
        if context.processes is not None:
            mean, variance, moved = context.summed(mean * several, variance * several, mean.new_tensor([several]))
            mean, variance, several = mean / moved, variance / moved, bool(moved)
        if several:
            self.mean.copy_(mean)
            self.variance.copy_(variance)
            self.batches += 1

    def _goes_by_batch(self, x: Tensor, rate: float) -> bool:
        return x.numel() > self.features and rate > 0 and not self.fixed

    @property
    def _weights(self) -> tuple[Tensor | None, Tensor | None]:
        if self.gain is None or self.shift is None:
            return None, None
        return self.gain.value, self.shift.value

    def _check(self, x: Tensor) -> None:
        check_tensors(x=x)
        if x.ndim < 2 or x.shape[-1] != self.features or x.dtype != self.mean.dtype:
            raise BrodmannError(
                f"Expected an input of shape (batch, ..., {self.features}) and {self.mean.dtype}, got "
                f"{tuple(x.shape)} {x.dtype}."
            )

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        moves = "fixed" if self.fixed else f"momentum={self.momentum}"
        return f"{self.features}, {moves}, eps={self.eps}"


def _as_image(x: Tensor) -> Tensor:
    """Returns (..., features) as one image, (1, features, values, 1), whose rows PyTorch's kernels go through."""
    return x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _as_it_came(image: Tensor, shape: Any) -> Tensor:
    """Reverses `_as_image`: returns a tensor of this shape."""
    return image.permute(0, 2, 3, 1).reshape(shape)
