"""What learns a stream: networks of areas, and the baselines beside which they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brodmann.assembly import build_learner
from brodmann.baselines import Backpropagation
from brodmann.bench.case import Case
from brodmann.builders import stream_mlp
from brodmann.errors import unknown_name
from brodmann.feedback import FixedRandom
from brodmann.losses import SumOfSquares
from brodmann.network import Network
from brodmann.streams import NetworkLearner, StreamLearner


class Counted(StreamLearner, Protocol):
    """A learner that says what it reads and stores."""

    def active_parameters(self) -> int:
        """Numbers read for one sample."""

    def total_parameters(self) -> int:
        """Numbers stored."""


class Trained(NetworkLearner):
    """What the options of its case describe, by gradients: areas, or a dense network. Knows of no tasks."""

    network: Network | Backpropagation

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Builds it."""
        super().__init__(build_learner(case.options, features, outputs), case.options.learning_rate)
        self.active_parameters, self.total_parameters = self.network.active_parameters, self.network.total_parameters


class Recursive(Trained):
    """Exclusive areas that new samples recruit, with `RLS` inside; knows of no tasks and has nothing to tune."""

    network: Network

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Builds the network; the detail ``"frozen"`` leaves its hidden layer as it was drawn."""
        options = case.options
        frozen = bool(case.detail.get("frozen"))
        path = "random" if frozen else options.rule
        body = stream_mlp(
            features, outputs, depth=options.layers, width=options.width, areas=options.areas, feedback=path
        )
        NetworkLearner.__init__(self, Network(body, SumOfSquares()), 1.0)
        for part in self.network.modules():
            if frozen and isinstance(part, FixedRandom):
                part.matrix.zero_()  # no error comes down
        self.active_parameters = self.network.active_parameters

    def total_parameters(self) -> int:
        """Weights and what the rule remembers beside them: here that is most."""
        return sum(tensor.numel() for tensor in self.network.state_dict().values())


class ElasticConsolidation(Trained):
    """Elastic weight consolidation (Kirkpatrick et al. 2017): weights that mattered are held.

    The loss gains ``strength / 2 * sum_k F_k (w_k - w*_k)^2`` with the Fisher information F, summed over tasks, and the
    weights w* at the end of the last task. It is told where tasks end.
    """

    SAMPLES = 512
    """Samples of a task by which the Fisher information is estimated."""

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Builds the dense network and an empty memory."""
        super().__init__(case, features, outputs)
        self.strength = float(case.detail["strength"])
        self.anchors: list[Tensor] = []
        self.total_parameters = lambda: 3 * self.network.total_parameters()  # weights, anchors and Fisher information
        self.fisher = [torch.zeros_like(weight) for weight in self.network.parameters()]
        plain = self.network.loss
        self.plain = plain

        def held(output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
            loss = plain(output, target, weight)
            if self.anchors:
                parts = zip(self.network.parameters(), self.anchors, self.fisher, strict=True)
                loss = loss + 0.5 * self.strength * sum((f * (w - a).square()).sum() for w, a, f in parts)
            return loss

        self.network.loss = held

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Remembers the weights and how much each matters."""
        rows = torch.randperm(len(x))[: self.SAMPLES]
        for row in rows.tolist():
            loss = F.cross_entropy(self.network(x[row : row + 1]), y[row : row + 1])
            gradients = torch.autograd.grad(loss, list(self.network.parameters()))
            for fisher, gradient in zip(self.fisher, gradients, strict=True):
                fisher.add_(gradient.square(), alpha=1.0 / len(rows))
        self.anchors = [weight.detach().clone() for weight in self.network.parameters()]


class Replay(Trained):
    """A dense network that repeats samples from a reservoir (Vitter 1985) beside every new batch."""

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Builds the dense network and an empty reservoir.

        It holds the detail's ``"memory"`` samples, or so many that it stores as many numbers as a full budget of
        ``"areas"`` recursive areas does: what is stored is what the two are compared by.
        """
        super().__init__(case, features, outputs)
        self.seen = 0
        if "areas" in case.detail:
            options = replace(case.options, rule="kolen-pollack", areas=case.detail["areas"])
            with torch.random.fork_rng(devices=[]):  # what it is compared with must not change what is drawn
                rival = Recursive(replace(case, options=options), features, outputs)
            rival.network.allocate()
            self.size = (rival.total_parameters() - self.network.total_parameters()) // (features + 1)
        else:
            self.size = int(case.detail["memory"])
        self.x, self.y = torch.empty(self.size, features), torch.empty(self.size, dtype=torch.int64)
        self.total_parameters = lambda: self.network.total_parameters() + self.x.numel() + self.y.numel()

    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step on new and remembered samples; then the new ones may be remembered."""
        kept = min(self.seen, self.size)
        if kept:
            rows = torch.randint(kept, (len(x),))
            super().learn(torch.cat([x, self.x[rows]]), torch.cat([y, self.y[rows]]))
        else:
            super().learn(x, y)
        for sample, target in zip(x, y, strict=True):
            place = self.seen if self.seen < self.size else int(torch.randint(self.seen + 1, ()))
            if place < self.size:
                self.x[place], self.y[place] = sample, target
            self.seen += 1


class NearestMean:
    """Nearest class mean of the raw samples: learns no features, forgets nothing."""

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Starts without any class."""
        self.sums, self.counts = torch.zeros(outputs, features), torch.zeros(outputs)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the samples to the means of their classes."""
        self.sums.index_add_(0, y, x)
        self.counts.index_add_(0, y, torch.ones(len(y)))

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Nothing."""

    def predict(self, x: Tensor) -> Tensor:
        """Returns the class of the nearest mean among those seen."""
        means = self.sums / self.counts.clamp_min(1)[:, None]
        distance = torch.cdist(x, means).masked_fill(self.counts == 0, torch.inf)
        return distance.argmin(1)

    def active_parameters(self) -> int:
        """The means."""
        return self.sums.numel()

    def total_parameters(self) -> int:
        """The means."""
        return self.sums.numel()


class StreamingDiscriminant:
    """Streaming linear discriminant analysis (Hayes and Kanan 2020) on frozen random ReLU features.

    Class means and one covariance are exact running sums; ``W = (C + ridge I)^-1 means``. What a network with learned
    hidden layers must beat to show that learning them is worth something.
    """

    RIDGE = 1e-2
    """Times the mean variance of the features: keeps the inverse finite, too small to matter."""

    def __init__(self, case: Case, features: int, outputs: int) -> None:
        """Draws the features: as many as the hidden units of the other methods, or the detail's ``"width"``."""
        width = int(case.detail.get("width", case.options.width))
        self.hidden = nn.Linear(features, width).requires_grad_(False)
        nn.init.normal_(self.hidden.weight, std=(2.0 / features) ** 0.5)
        self.sums, self.counts = torch.zeros(outputs, width, dtype=torch.float64), torch.zeros(outputs)
        self.squares = torch.zeros(width, width, dtype=torch.float64)
        self.discriminants: tuple[Tensor, Tensor] | None = None  # of the samples so far, once somebody asks

    def _features(self, x: Tensor) -> Tensor:
        return torch.relu(self.hidden(x)).double()

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the samples to the sums."""
        h = self._features(x)
        self.sums.index_add_(0, y, h)
        self.counts.index_add_(0, y, torch.ones(len(y)))
        self.squares.addmm_(h.t(), h)
        self.discriminants = None

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Nothing."""

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
        ridge = self.RIDGE * covariance.diagonal().mean()
        weight = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64), means.t())
        return weight, -0.5 * (means.t() * weight).sum(0)

    def active_parameters(self) -> int:
        """Features and discriminants."""
        return self.hidden.weight.numel() + self.sums.numel()

    def total_parameters(self) -> int:
        """The covariance too."""
        return self.active_parameters() + self.squares.numel()


LEARNERS: dict[str, Callable[[Case, int, int], Counted]] = {
    "areas": Trained,
    "recursive": Recursive,
    "dense": Trained,
    "elastic": ElasticConsolidation,
    "replay": Replay,
    "nearest-mean": NearestMean,
    "streaming-discriminant": StreamingDiscriminant,
}


def stream_learner(case: Case, features: int, outputs: int) -> Counted:
    """Builds the learner that the case's detail names.

    Raises:
        BrodmannError: The name is unknown.
    """
    name = case.detail["learner"]
    if name not in LEARNERS:
        raise unknown_name("stream learner", name, LEARNERS)
    return LEARNERS[name](case, features, outputs)
