"""Stream learners that areas are compared with: replay, consolidation, nearest class mean, streaming discriminant."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..autograd import ordinary
from ..baselines import Backpropagation
from ..checks import check_real, check_tensors, check_whole
from ..errors import BrodmannError
from ..losses import Loss
from ..network import Captured
from ..training import Learner
from .stream import NetworkLearner


class Replay(NetworkLearner):
    """A network that repeats remembered samples beside every new batch, as many as are new.

    The memory is a reservoir (Vitter 1985): after n samples of the stream each of them is in it with equal probability.
    """

    def __init__(self, network: Learner | Captured, memory: int, lr: float | None = None) -> None:
        """Takes a network, or a baseline, with an empty memory; draws from torch's global generator.

        Args:
            network: What learns.
            memory: Samples that are kept.
            lr: Rate of its steps. Default the network's own.
        """
        super().__init__(network, lr)
        check_whole(memory=memory)
        self.memory, self.seen = int(memory), 0
        self.x, self.y = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step on new and remembered samples; then the new ones may be remembered."""
        if not self.seen:
            with torch.inference_mode(False):  # it could not be written outside of that mode else
                self.x, self.y = x.new_empty((self.memory, *x.shape[1:])), y.new_empty((self.memory, *y.shape[1:]))
        kept = min(self.seen, self.memory)
        if kept:
            rows = torch.randint(kept, (len(x),))
            super().learn(torch.cat([x, self.x[rows]]), torch.cat([y, self.y[rows]]))
        else:
            super().learn(x, y)
        for sample, target in zip(x, y, strict=True):
            place = self.seen if self.seen < self.memory else int(torch.randint(self.seen + 1, ()))
            if place < self.memory:
                self.x[place], self.y[place] = sample.detach(), target.detach()
            self.seen += 1

    def total_parameters(self) -> int:
        """Counts the network and, from the first sample on, the memory."""
        return super().total_parameters() + self.x.numel() + self.y.numel()


class ElasticConsolidation(NetworkLearner):
    """Elastic weight consolidation (Kirkpatrick et al. 2017): weights that mattered are held.

    The loss of its steps gains ``strength / 2 * sum_k F_k (w_k - w*_k)^2`` with the Fisher information F, summed over
    tasks, and the weights w* at the end of the last task: one penalty for all tasks, as Huszar (2018) derives it, where
    the paper adds one for each. F is the empirical one, the mean square of the gradients of single samples' losses at
    their own targets. It is told when a task ends. The network's own loss stays as it is: what learns or saves the
    network otherwise knows of no penalty.
    """

    SAMPLES = 512
    """Samples of a task by which the Fisher information is estimated."""

    def __init__(self, network: Backpropagation, strength: float, lr: float | None = None) -> None:
        """Takes a dense network under autograd, with nothing to hold yet.

        Args:
            network: What learns.
            strength: Strength of the hold. No default, because none suits most streams: try powers of ten, such as 1
                to 10,000, on a validation part. Below them it forgets; above them it learns nothing new.
            lr: Rate of its steps. Default the network's own.

        Raises:
            BrodmannError: The network has no gradients that tell which weights matter.
        """
        super().__init__(network, lr)
        if not isinstance(network, Backpropagation):
            raise BrodmannError(
                "Expected a network trained by autograd, brodmann.baselines.Backpropagation, got "
                f"{type(network).__name__}: consolidation reads gradients, and adds a penalty on the weights to the "
                "loss."
            )
        check_real(strength=strength)
        self.strength = float(strength)
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.anchors: list[Tensor] = []
        self.fisher = [torch.zeros_like(weight) for weight in self.weights]

    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step, with the penalty in the loss."""
        plain = self.network.loss
        self.network.loss = partial(self._held, plain)
        try:
            super().learn(x, y)
        finally:
            self.network.loss = plain

    def _held(self, plain: Loss, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Computes the loss with the penalty."""
        loss: Tensor = plain(output, target, weight)
        if self.anchors:
            parts = zip(self.weights, self.anchors, self.fisher, strict=True)
            loss = loss + 0.5 * self.strength * sum((f * (w - a).square()).sum() for w, a, f in parts)
        return loss

    @torch.inference_mode(False)  # gradients are wanted, whoever calls
    @torch.enable_grad()
    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Remembers the weights and how much each matters."""
        x, y = ordinary(x.detach()), ordinary(y)
        rows = torch.randperm(len(x))[: self.SAMPLES]
        for row in rows.tolist():
            loss = self.network.loss(self.network(x[row : row + 1]), y[row : row + 1], None)
            for fisher, gradient in zip(self.fisher, torch.autograd.grad(loss, self.weights), strict=True):
                fisher.add_(gradient.square(), alpha=1.0 / len(rows))
        self.anchors = [weight.detach().clone() for weight in self.weights]

    def total_parameters(self) -> int:
        """Counts the weights, and the anchors and Fisher information of those that learn."""
        return super().total_parameters() + 2 * sum(weight.numel() for weight in self.weights)


class NearestMean:
    """Nearest class mean of the raw samples: learns no features, forgets nothing."""

    def __init__(self, features: int, outputs: int) -> None:
        """Starts without any class: samples (n, features), classes below ``outputs``."""
        check_whole(features=features, outputs=outputs)
        self.sums, self.counts = torch.zeros(outputs, features), torch.zeros(outputs)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the samples to the means of their classes."""
        x, y = _checked(x, self.sums), _checked_classes(y, len(x), len(self.counts))
        self.sums.index_add_(0, y, x)
        self.counts.index_add_(0, y, torch.ones(len(y)))

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Does nothing."""

    def predict(self, x: Tensor) -> Tensor:
        """Returns the class of the nearest mean among those seen."""
        x = _checked(x, self.sums)
        means = self.sums / self.counts.clamp_min(1)[:, None]
        distance = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist")  # whose products would cancel
        distance = distance.masked_fill(self.counts == 0, torch.inf)
        return distance.argmin(1)

    def active_parameters(self) -> int:
        """Counts the means."""
        return self.sums.numel()

    def total_parameters(self) -> int:
        """Counts the means."""
        return self.sums.numel()


class StreamingDiscriminant:
    """Streaming linear discriminant analysis (Hayes and Kanan 2020) on frozen random ReLU features.

    Class means and one covariance are exact running sums; ``W = (C + ridge I)^-1 means``. What a network with learned
    hidden layers must beat to show that learning them is worth something.
    """

    RIDGE = 1e-2
    """Ridge, in units of the features' mean variance within a class: keeps the inverse finite, too small to matter."""

    def __init__(self, features: int, outputs: int, *, width: int = 1024) -> None:
        """Draws ``width`` features, by default 1024, from torch's global generator."""
        check_whole(features=features, outputs=outputs, width=width)
        self.hidden = nn.Linear(features, width).requires_grad_(False)
        nn.init.normal_(self.hidden.weight, std=(2.0 / features) ** 0.5)
        self.sums, self.counts = torch.zeros(outputs, width, dtype=torch.float64), torch.zeros(outputs)
        self.squares = torch.zeros(width, width, dtype=torch.float64)
        self.discriminants: tuple[Tensor, Tensor] | None = None  # of the samples so far, once somebody asks

    def _features(self, x: Tensor) -> Tensor:
        return torch.relu(self.hidden(_checked(x, self.hidden.weight))).double()

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the samples to the sums."""
        h, y = self._features(x), _checked_classes(y, len(x), len(self.counts))
        self.sums.index_add_(0, y, h)
        self.counts.index_add_(0, y, torch.ones(len(y)))
        self.squares.addmm_(h.t(), h)
        self.discriminants = None

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Does nothing."""

    def predict(self, x: Tensor) -> Tensor:
        """Returns the class with the largest discriminant among those seen."""
        if self.discriminants is None:
            self.discriminants = self._solve()
        weight, bias = self.discriminants
        scores: Tensor = self._features(x) @ weight + bias
        return scores.masked_fill(self.counts == 0, -torch.inf).argmax(1)

    def _solve(self) -> tuple[Tensor, Tensor]:
        counts = self.counts.double()
        means = self.sums / counts.clamp_min(1)[:, None]
        # Within-class covariance: all squares less those of the means.
        covariance = (self.squares - means.t() @ (counts[:, None] * means)) / counts.sum()
        variance = float(covariance.diagonal().mean())
        ridge = self.RIDGE * (variance if variance > 0 else 1.0)  # none within classes of one sample each
        weight = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64), means.t())
        return weight, -0.5 * (means.t() * weight).sum(0)

    def active_parameters(self) -> int:
        """Counts features and discriminants."""
        return self.hidden.weight.numel() + self.sums.numel()

    def total_parameters(self) -> int:
        """Counts the covariance too."""
        return self.active_parameters() + self.squares.numel()


def _checked(x: Tensor, like: Tensor) -> Tensor:
    """Returns samples (n, features) in the dtype of what they meet, (..., features), without what autograd knows."""
    check_tensors(x=x)
    if x.ndim != 2 or x.shape[1] != like.shape[1]:
        raise BrodmannError(f"Expected samples of shape (n, {like.shape[1]}), got {tuple(x.shape)}.")
    return x.detach().to(like.dtype)


def _checked_classes(y: Tensor, samples: int, outputs: int) -> Tensor:
    """Returns a class for each sample, (n,) int64; raises a `BrodmannError` if they are none."""
    check_tensors(y=y)
    if y.shape != (samples,) or y.is_floating_point():
        raise BrodmannError(f"Expected classes of shape ({samples},) as whole numbers, got {tuple(y.shape)} {y.dtype}.")
    if samples and not 0 <= int(y.min()) <= int(y.max()) < outputs:
        raise BrodmannError(f"Expected classes from 0 to {outputs - 1}, got {int(y.min())} to {int(y.max())}.")
    return y.long()
