"""Streams of one's own: every sample once, every task scored after each."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.nn import functional

from brodmann import BrodmannError, MeanSquaredError, Network, convnet, mlp, stream_mlp
from brodmann.baselines import Backpropagation
from brodmann.streams import (
    ElasticConsolidation,
    NearestMean,
    NetworkLearner,
    Replay,
    StreamingDiscriminant,
    Task,
    continual_scores,
    learn_stream,
)

from .settings import default_dtype


def task(seed: int, rows: int = 20, parts: int = 1) -> Task:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=generator)
    y = torch.arange(rows) % 3
    return Task(x, y, [(x[:7], y[:7])] * parts)


class Remembers:
    """Knows every sample that it saw, and answers with the class of the nearest."""

    def __init__(self) -> None:
        self.x, self.y, self.ends, self.sizes = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), [], []

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = torch.cat([self.x, x]), torch.cat([self.y, y])
        self.sizes.append(len(x))

    def end_task(self, x: Tensor, y: Tensor) -> None:
        self.ends.append(len(self.x))

    def predict(self, x: Tensor) -> Tensor:
        return self.y[torch.cdist(x, self.x).argmin(1)]


class Blurts(Remembers):
    """Answers with what it was given."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def predict(self, x: Tensor) -> Tensor:
        return self.answer  # type: ignore[return-value]


def test_tasks_may_come_one_by_one_and_batches_be_numbers_of_numpy() -> None:
    matrix = learn_stream(Remembers(), (task(seed) for seed in range(2)), batch_size=np.int64(4), seed=np.int64(1))
    assert len(matrix) == 2


def test_of_one_output_the_sign_is_the_class() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    y = (x[:, 0] > 0).long()
    network = Network(mlp(5, 1), torch.nn.BCEWithLogitsLoss())
    matrix = learn_stream(network, [Task(x, y, [(x[:150], y[:150])])], batch_size=4)
    assert matrix[0][0] > 0.8


def test_a_learner_of_ones_own_sees_every_sample_once_in_the_order_of_tasks() -> None:
    tasks = [task(0), task(1, rows=17), task(2)]
    learner = Remembers()
    matrix = learn_stream(learner, tasks, batch_size=8)
    assert learner.ends == [20, 37, 57]
    assert learner.sizes == [8, 8, 4, 8, 8, 1, 8, 8, 4]
    for (start, stop), each in zip(((0, 20), (20, 37), (37, 57)), tasks, strict=True):
        assert sorted(learner.x[start:stop, 0].tolist()) == sorted(each.x[:, 0].tolist())
    assert not torch.equal(learner.x[:20], tasks[0].x)  # shuffled
    assert [len(row) for row in matrix] == [3, 3, 3]
    assert [matrix[i][j] for i in range(3) for j in range(i + 1)] == [1.0] * 6
    assert continual_scores(matrix) == {"average_accuracy": 1.0, "forgetting": 0.0, "backward_transfer": 0.0}


def test_a_network_learns_at_its_own_rate_and_the_seed_decides_the_order() -> None:
    torch.manual_seed(0)
    networks = [Network(mlp(5, 3, width=8, areas=2), lr=0.01)]
    networks += [copy.deepcopy(networks[0]) for _ in range(3)]
    tasks = [task(0), task(1)]
    learn_stream(networks[0], tasks, seed=3)
    learn_stream(NetworkLearner(networks[1], lr=0.01), tasks, seed=3)
    learn_stream(networks[2], tasks, seed=4)
    order = torch.Generator().manual_seed(3)
    for each in tasks:
        for rows in torch.randperm(20, generator=order).split(16):
            networks[3].learn(each.x[rows], each.y[rows])
    x = torch.randn(6, 5)
    assert torch.equal(networks[0](x), networks[1](x))
    assert torch.equal(networks[0](x), networks[3](x))
    assert not torch.equal(networks[0](x), networks[2](x))
    assert len(learn_stream(Backpropagation(5, 3, depth=2, width=4), tasks)) == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: Replay(Backpropagation(5, 3, depth=2, width=4), 12),
        lambda: ElasticConsolidation(Backpropagation(5, 3, depth=2, width=4), 10.0),
        lambda: NetworkLearner(Network(stream_mlp(5, 3, width=6, areas=4))),
    ],
    ids=["replay", "consolidation", "areas"],
)
def test_a_stream_that_was_stopped_goes_on_as_if_it_had_not(build: Callable[[], NetworkLearner]) -> None:
    tasks = [task(0), task(1, rows=17), task(2), task(3)]
    kept: list[bytes] = []

    def keep(number: int, matrix: list[list[float]]) -> None:
        assert len(matrix) == number + 1
        kept.append(pickle.dumps((learner, torch.get_rng_state(), matrix)))  # as docs/streams.md says

    torch.manual_seed(0)
    learner = build()
    whole = learn_stream(learner, tasks, seed=5, batch_size=3, after_task=keep)
    for early, state, matrix in map(pickle.loads, kept):
        torch.set_rng_state(state)
        assert learn_stream(early, tasks, seed=5, batch_size=3, done=np.array(matrix)) == whole
        both = zip(early.network.parameters(), learner.network.parameters(), strict=True)
        assert all(torch.equal(one, two) for one, two in both)


def test_a_mixture_is_one_task_of_several_parts() -> None:
    matrix = learn_stream(Remembers(), [task(0, parts=3)])
    assert continual_scores(matrix) == {"average_accuracy": 1.0, "forgetting": 0.0, "backward_transfer": 0.0}
    for same in (np.array(matrix), torch.tensor(matrix), [np.array(row) for row in matrix], [torch.ones(3)]):
        assert continual_scores(same) == continual_scores(matrix)
    assert continual_scores([[torch.tensor(0.5), np.float32(1)], [0.25, 1]])["forgetting"] == 0.25
    with pytest.raises(BrodmannError, match="Expected a score for each of the 2 tasks in every row, got 3: give each"):
        continual_scores(learn_stream(Remembers(), [task(0), task(1, parts=2)]))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "Expected at least one task."),
        (
            [task(0, parts=0)],
            "Expected every task to have parts, a list of pairs of samples and classes on which to score.",
        ),
        ([Task(torch.zeros(3, 5), torch.zeros(2), [])], "Expected every task to have parts"),
        (
            [Task(torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64), task(0).parts[0])],
            "Expected every task to have parts",
        ),
        ([(torch.zeros(3, 5), torch.zeros(3))], "Expected tasks of the class Task, got tuple."),
        (
            [Task(torch.zeros(3, 5), torch.zeros(3), task(0).parts)],
            r"Expected classes of shape \(n,\) as whole numbers, got \(3,\)",
        ),
        ([Task(torch.zeros(3, 5), torch.zeros(2), task(0).parts)], "got 3 samples and 2 targets"),
        ([Task(torch.zeros(0, 5), torch.zeros(0), task(0).parts)], "got 0 samples and 0 targets"),
        ([replace(task(0), x=torch.full((20, 5), math.nan))], "Sample 0 of a task, counted from 0, is not finite"),
        ([replace(task(0), parts=[(torch.full((1, 5), math.inf), torch.tensor([0]))])], "Sample 0 of a task"),
        ([replace(task(0), parts=(part for part in task(0).parts))], "Expected every task to have parts"),
        ([replace(task(0), parts=torch.zeros(2, 2))], "Expected every task to have parts"),
        (task(0), "Expected a list of tasks, got Task"),
        (None, "Expected a list of tasks, got NoneType"),
    ],
)
def test_streams_that_cannot_be_learned(tasks: list[Task], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        learn_stream(Remembers(), tasks)


def test_what_is_no_learner_is_refused() -> None:
    for other, name in ((mlp(5, 3), "Routed"), (Network, "Network"), (GaussianNB(), "GaussianNB"), (Blurts, "Blurts")):
        with pytest.raises(
            BrodmannError, match=rf"Expected a Network, or an object with learn\(x, y\), .*, got {name}"
        ):
            learn_stream(other, [task(0)])  # type: ignore[arg-type]
    for answer, came in ((torch.zeros(7, 1), r"\(7, 1\)"), (torch.tensor(0), r"\(\)"), ([0] * 7, "list")):
        with pytest.raises(
            BrodmannError, match=rf"Expected predict to return a class for each of 7 samples.*got {came}"
        ):
            learn_stream(Blurts(answer), [task(0)])
    for other in (3, lambda number: None):
        with pytest.raises(
            BrodmannError, match="Expected after_task to be a function of a task's number and the matrix"
        ):
            learn_stream(Remembers(), [task(0)], after_task=other)  # type: ignore[arg-type]
    for done, came in (([[1.0]], "1 rows of 1"), ([[1.0, 1.0]] * 3, "3 rows of 2")):
        with pytest.raises(BrodmannError, match=f"Expected done to be at most 2 rows, .*, got {came}: give all"):
            learn_stream(Remembers(), [task(0), task(1)], done=done)
    for nothing in ([1.0], None):
        with pytest.raises(BrodmannError, match="Expected a matrix of accuracies, as learn_stream returns it, got"):
            learn_stream(Remembers(), [task(0)], done=nothing)  # type: ignore[arg-type]
    for nothing in (
        [],
        [[]],
        None,
        [1, 2],
        "12",
        ["12", "34"],
        [[1.0, None], [1.0, 1.0]],
        torch.tensor(1.0),
        [[1.0], []],
    ):
        with pytest.raises(BrodmannError, match="Expected a matrix of accuracies, as learn_stream returns it"):
            continual_scores(nothing)
    for stack, came in ((np.ones((5, 5, 5)), r"an array of shape \(5, 5, 5\)"), ([[[1.0]]], r"\[\[\[1.0\]\]\]")):
        with pytest.raises(BrodmannError, match=f"got {came}: give rows of numbers; of several streams, average"):
            continual_scores(stack)
    with pytest.raises(BrodmannError, match="Expected batch_size to be a whole number of at least 1, got 0"):
        learn_stream(Remembers(), [task(0)], batch_size=0)


def test_nearest_mean_and_streaming_discriminant_equal_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 5) + y[:, None]
    monkeypatch.setattr(StreamingDiscriminant, "RIDGE", 0.0)
    far = 1e5 + torch.randn(40, 5)
    away = NearestMean(5, 2)
    away.learn(far, torch.arange(40) % 2)
    means = torch.stack([far[0::2].double().mean(0), far[1::2].double().mean(0)])
    assert float((away.predict(far) == torch.cdist(far.double(), means).argmin(1)).double().mean()) > 0.9
    nearest, discriminant = NearestMean(5, 3), StreamingDiscriminant(5, 3, width=16)
    for rows in torch.split(torch.randperm(300), 16):
        nearest.learn(x[rows], y[rows])
        discriminant.learn(x[rows], y[rows])
    assert nearest.predict(x).tolist() == NearestCentroid().fit(x, y).predict(x).tolist()
    features = discriminant._features(x).numpy()
    reference = LinearDiscriminantAnalysis("lsqr").fit(features, y)  # 16 random features of 5 inputs: no singularity
    assert (discriminant.predict(x).numpy() == reference.predict(features)).mean() > 0.99


def test_what_the_streaming_discriminant_answers_does_not_depend_on_the_unit_of_its_inputs() -> None:
    torch.manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 5) * torch.logspace(0, 2, 5) + y[:, None]  # what tells classes apart varies least
    answers = []
    for unit in (1.0, 1e-3, 1e3):
        torch.manual_seed(1)
        learner = StreamingDiscriminant(5, 3, width=64)
        torch.nn.init.zeros_(learner.hidden.bias)  # features are then in the same unit
        learner.learn(unit * x, y)
        answers.append(learner.predict(unit * x))
    assert float((answers[0] == y).double().mean()) > 0.5
    for other in answers[1:]:
        assert float((answers[0] == other).double().mean()) > 0.99


@pytest.mark.parametrize("build", [NearestMean, partial(StreamingDiscriminant, width=8)])
def test_streaming_means_answer_by_the_classes_seen_so_far_and_by_no_others(build: Any) -> None:
    torch.manual_seed(0)
    learner, far, near = build(5, 4), 9 * torch.eye(2, 5), 0.1 * torch.randn(40, 5)
    learner.learn(far[:1], torch.tensor([3]))
    assert learner.predict(near).unique().tolist() == [3]  # although what was never seen has its sums at 0
    learner.learn(far[1:], torch.tensor([1]))
    assert learner.predict(far).tolist() == [3, 1]
    assert set(learner.predict(near).tolist()) <= {1, 3}


@pytest.mark.parametrize("build", [NearestMean, partial(StreamingDiscriminant, width=8)])
def test_streaming_means_take_few_samples_of_any_kind_and_name_what_does_not_fit(build: Any) -> None:
    for rows in (1, 3):
        first = Task(torch.eye(3, 5)[:rows], torch.arange(rows), [(torch.eye(3, 5)[:rows], torch.arange(rows))])
        assert learn_stream(build(5, 3), [first]) == [[1.0]]  # a sample of each class, or one alone
    learner = build(5, 3)
    learner.learn(torch.eye(3, 5, dtype=torch.float64), torch.arange(3, dtype=torch.uint8))
    assert learner.predict(torch.eye(3, 5, dtype=torch.int64)).tolist() == [0, 1, 2]
    x = torch.zeros(2, 5)
    for bad, y, message in (
        (x, torch.tensor([0, 3]), "Expected classes from 0 to 2, got 0 to 3"),
        (x, torch.tensor([-1, 0]), "Expected classes from 0 to 2, got -1 to 0"),
        (x, torch.zeros(2), r"Expected classes of shape \(2,\) as whole numbers, got \(2,\) torch.float32"),
        (x[:, :4], torch.tensor([0, 0]), r"Expected samples of shape \(n, 5\), got \(2, 4\)"),
    ):
        with pytest.raises(BrodmannError, match=message):
            learner.learn(bad, y)
    with pytest.raises(BrodmannError, match=r"Expected samples of shape \(n, 5\), got \(2, 4\)"):
        learner.predict(x[:, :4])


def test_the_reservoir_is_a_fair_sample() -> None:
    counts: Counter[int] = Counter()
    for seed in range(60):
        torch.manual_seed(seed)
        learner = Replay(Network(mlp(1, 2, width=4, areas=1)), 10)
        assert learner.total_parameters() == learner.network.total_parameters()
        for start in range(0, 40, 8):
            x = torch.arange(start, start + 8.0)[:, None] / 40
            learner.learn(x, torch.zeros(8, dtype=torch.int64))
        counts.update(round(40 * value) for value in learner.x[:, 0].tolist())
        assert learner.total_parameters() == learner.network.total_parameters() + 20
    quarters = [sum(counts[i] for i in range(start, start + 10)) for start in range(0, 40, 10)]
    assert sum(quarters) == 600
    assert all(abs(count - 150) < 60 for count in quarters)  # 5 standard deviations


def test_replay_repeats_as_many_earlier_samples_as_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    monkeypatch.setattr(NetworkLearner, "learn", lambda _, x, y: seen.append(x[:, 0].tolist()))
    torch.manual_seed(0)
    learner = Replay(Network(mlp(1, 2, width=4, areas=1)), 20)
    for start in (0.0, 8.0, 16.0):
        learner.learn(torch.arange(start, start + 8)[:, None], torch.zeros(8, dtype=torch.int64))
    assert seen[0] == [*range(8)]
    for number in (1, 2):
        assert seen[number][:8] == [*range(8 * number, 8 * number + 8)]
        assert len(seen[number]) == 16
        assert len(set(seen[number][8:])) > 3
        assert max(seen[number][8:]) < 8 * number


def test_replay_repeats_samples_of_any_shape_and_keeps_what_would_be_lost() -> None:
    torch.manual_seed(0)
    first = torch.randn(800, 1, 4, 4) + 1.0
    tasks = [
        Task(sign * first, torch.full((800,), place), [(sign * first, torch.full((800,), place))])
        for place, sign in enumerate((1.0, -1.0))
    ]
    kept = []
    for memory in (None, 50):
        torch.manual_seed(0)
        network = Network(convnet((1, 4, 4), 2, channels=(4,), areas=1), lr=0.01)
        learner = NetworkLearner(network) if memory is None else Replay(network, memory)
        kept.append(learn_stream(learner, tasks)[-1][0])
    assert kept[0] < 0.5 < 0.8 < kept[1]


def test_consolidation_holds_weights_that_mattered() -> None:
    """As SGD on the loss and the penalty, which are written down here once more; three tasks, so that terms add up."""
    torch.manual_seed(0)
    learner = ElasticConsolidation(Backpropagation(6, 3, width=7, optimiser="sgd").double(), 50.0, 0.05)
    reference = copy.deepcopy(learner.network)
    weights = list(reference.parameters())
    fisher, anchors = [torch.zeros_like(weight) for weight in weights], [weight.detach().clone() for weight in weights]
    optimiser = torch.optim.SGD(weights, lr=0.05)
    for _ in range(3):
        x, y = torch.randn(30, 6, dtype=torch.float64), torch.arange(30) % 3
        for rows in torch.arange(30).split(10):
            held = sum((f * (w - a).square()).sum() for f, w, a in zip(fisher, weights, anchors, strict=True))
            optimiser.zero_grad()
            (functional.cross_entropy(reference(x[rows]), y[rows]) + 25 * held).backward()
            optimiser.step()
            learner.learn(x[rows], y[rows])
        for row in range(30):
            loss = functional.cross_entropy(reference(x[row : row + 1]), y[row : row + 1])
            for f, gradient in zip(fisher, torch.autograd.grad(loss, weights), strict=True):
                f += gradient.square() / 30
        anchors = [weight.detach().clone() for weight in weights]
        learner.end_task(x, y)
    for ours, theirs in ((learner.weights, weights), (learner.fisher, fisher)):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_consolidation_asks_some_samples_of_a_long_task_for_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ElasticConsolidation, "SAMPLES", 10)
    torch.manual_seed(0)
    alike, y = torch.randn(1, 6).expand(30, 6), torch.zeros(30, dtype=torch.int64)
    learner = ElasticConsolidation(Backpropagation(6, 3, width=7), 1.0)
    loss = functional.cross_entropy(learner.network(alike[:1]), y[:1])
    expected = [gradient.square() for gradient in torch.autograd.grad(loss, learner.weights)]
    learner.end_task(alike, y)
    for ours, theirs in zip(learner.fisher, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    silent_first = alike * (torch.arange(30) >= 10)[:, None]  # a task may begin with samples of one kind
    learner = ElasticConsolidation(learner.network, 1.0)
    learner.end_task(silent_first, y)
    assert float(learner.fisher[0].sum()) > 0


def test_a_copy_of_consolidation_holds_its_own_weights() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 9), torch.arange(40) % 4
    learner = ElasticConsolidation(Backpropagation(9, 4, width=8, optimiser="sgd"), 10.0, 0.01)
    learner.learn(x, y)
    learner.end_task(x, y)
    alone = copy.deepcopy(learner)
    for each in (learner, alone):  # what the original has become is none of the copy's business
        for _ in range(3):
            each.learn(-x, y)
    assert all(torch.equal(one, two) for one, two in zip(alone.weights, learner.weights, strict=True))


def test_consolidation_leaves_the_networks_own_loss_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 9), torch.arange(40) % 4
    network = Backpropagation(9, 4, width=8, optimiser="sgd")
    loss, start = network.loss, copy.deepcopy(network.learning_state())
    ends = []
    for _ in range(2):  # a second learner of the same network knows nothing of the first
        network.load_learning_state(start)
        learner = ElasticConsolidation(network, 1e3, 0.01)
        for sign in (1, -1):
            learner.learn(sign * x, y)
            torch.manual_seed(1)  # which samples tell what matters
            learner.end_task(sign * x, y)
        ends.append([weight.detach().clone() for weight in network.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*ends, strict=True))
    with pytest.raises(BrodmannError):
        learner.learn(x, y[:3])
    assert network.loss is loss
    network.save(tmp_path / "network.safetensors")
    assert torch.equal(Backpropagation.load(tmp_path / "network.safetensors")(x), network(x))


@pytest.mark.parametrize(
    "build",
    [
        lambda: NearestMean(5, 3),
        lambda: StreamingDiscriminant(5, 3, width=8),
        lambda: Replay(Backpropagation(5, 3, width=4), memory=8),
        lambda: ElasticConsolidation(Backpropagation(5, 3, width=4), strength=1.0),
        lambda: NetworkLearner(Network(mlp(5, 3, width=4))),
    ],
)
def test_learners_of_streams_keep_no_graph_and_learn_in_any_mode(build: Callable[[], Any]) -> None:
    """Samples may be what an encoder makes of others, and a caller may have switched gradients off."""
    first, x, y = torch.randn(10, 5), torch.randn(10, 5), torch.arange(10) % 3
    learned = []
    for samples, mode in ((x, torch.enable_grad), (x.clone().requires_grad_(), torch.enable_grad), (x, torch.no_grad)):
        torch.manual_seed(0)
        learner = build()
        with mode():
            learner.learn(first, y)
            for _ in range(2):
                learner.learn(samples * 1.0, y)
            learner.end_task(samples * 1.0, y)
        copy.deepcopy(learner).learn(x, y)
        learned.append(learner)
    torch.manual_seed(0)
    learner = build()
    with torch.inference_mode():
        learner.learn(first.clone(), y.clone())
        learner.end_task(first.clone(), y.clone())
    learner.learn(x, y)
    for other in learned[1:]:
        assert other.predict(first).tolist() == learned[0].predict(first).tolist()


def test_a_learner_follows_the_rate_of_its_network_unless_it_has_its_own() -> None:
    network = Network(mlp(5, 3, width=4), lr=0.1)
    follows, has = NetworkLearner(network), NetworkLearner(network, 0.2)
    network.lr = 0.3
    assert (follows.lr, has.lr) == (0.3, 0.2)
    has.lr = 0.4
    assert has.lr == 0.4
    has.lr = None
    assert has.lr == 0.3
    with pytest.raises(BrodmannError, match="Expected lr to be a number of at least 0, got -1"):
        has.lr = -1


def test_tasks_may_be_compared() -> None:
    one, other = task(0), task(1)
    assert one != other
    assert [other, one].index(one) == 1


def test_streaming_means_follow_the_default_dtype() -> None:
    with default_dtype(torch.float64):
        for learner in (NearestMean(5, 3), StreamingDiscriminant(5, 3, width=8)):
            for dtype in (torch.float32, torch.float64):
                learner.learn(torch.randn(9, 5, dtype=dtype), torch.arange(9) % 3)
                assert learner.predict(torch.randn(4, 5, dtype=dtype)).shape == (4,)


def test_baselines_of_streams_say_what_they_need() -> None:
    network = Network(mlp(5, 3, areas=1))
    with pytest.raises(
        BrodmannError, match=r"Expected a network trained by autograd, .*, got Network: consolidation reads"
    ):
        ElasticConsolidation(network, 1.0)  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="Expected memory to be a whole number of at least 1, got 0"):
        Replay(network, 0)
    with pytest.raises(BrodmannError, match="Expected lr to be a number of at least 0, got -1"):
        NetworkLearner(network, -1.0)


def test_consolidation_measures_by_the_loss_that_learns_and_counts_what_it_stores() -> None:
    torch.manual_seed(0)
    network = Backpropagation(8, 1, loss=MeanSquaredError(), readout_only=True)
    learner = ElasticConsolidation(network, 1.0)
    x, y = torch.randn(20, 8), torch.randn(20, 1)
    learner.learn(x, y)
    learner.end_task(x, y)
    assert all(float(fisher.sum()) > 0 for fisher in learner.fisher)
    stored = [*network.parameters(), *learner.fisher, *learner.anchors]
    assert learner.total_parameters() == sum(tensor.numel() for tensor in stored)
