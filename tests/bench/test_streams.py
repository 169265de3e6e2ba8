"""Streams: their scores, tasks and learners."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from brodmann.bench import stream_learners
from brodmann.bench.case import Case
from brodmann.bench.streams import stream_of
from brodmann.bench.tasks import run_case
from brodmann.errors import BrodmannError
from brodmann.runs import RunOptions
from brodmann.streams import continual_scores


def test_scores_of_a_stream_follow_their_definitions() -> None:
    matrix = [[0.9, 0.1, 0.0], [0.95, 0.8, 0.1], [0.6, 0.7, 0.9]]
    scores = continual_scores(matrix)
    assert scores["average_accuracy"] == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert scores["forgetting"] == pytest.approx((0.35 + 0.1) / 2)
    assert scores["backward_transfer"] == pytest.approx((-0.3 - 0.1) / 2)


def stream_case(blobs: str, **detail: object) -> Case:
    options = RunOptions(blobs, width=16, areas=4, epochs=1, batch_size=16, routing="network")
    return Case("interference", "m", options, task="stream", detail={"learner": "areas", **detail})


def test_a_split_stream_shows_every_class_once_and_a_trial_sees_no_test_part(blobs: str) -> None:
    stream = stream_of(stream_case(blobs, stream="split", tasks=2))
    assert [task.y.unique().tolist() for task in stream.tasks] == [[0, 1], [2, 3]]
    assert stream.reads == 1
    assert stream_of(replace(stream_case(blobs, stream="split", tasks=2), trial=True)).reads == 0
    with pytest.raises(BrodmannError, match="4 classes cannot be split into 3 tasks"):
        stream_of(stream_case(blobs, stream="split", tasks=3))
    with pytest.raises(BrodmannError, match="Unknown stream 'spilt'. Did you mean 'split'"):
        stream_of(stream_case(blobs, stream="spilt", tasks=2))


def test_seed_0_has_the_usual_order_of_classes_and_others_their_own(blobs: str) -> None:
    def order(seed: int) -> list[int]:
        case = stream_case(blobs, stream="split", tasks=4)
        stream = stream_of(replace(case, options=replace(case.options, seed=seed)))
        return [int(task.y[0]) for task in stream.tasks]

    assert order(0) == [0, 1, 2, 3]
    assert order(1) == order(1)
    assert sorted(order(1)) == [0, 1, 2, 3]
    assert len({tuple(order(seed)) for seed in range(1, 8)}) > 2


def test_replay_in_the_memory_of_areas_stores_as_many_numbers(blobs: str) -> None:
    case = stream_case(blobs, stream="split", tasks=1)
    areas = replace(case, detail={"learner": "recursive"}, options=replace(case.options, areas=3))
    rival = stream_learners.stream_learner(areas, 9, 4)
    rival.network.allocate()
    replayed = replace(case, detail={"learner": "replay", "areas": 3}, options=replace(case.options, rule="backprop"))
    replay = stream_learners.stream_learner(replayed, 9, 4)
    replay.learn(torch.zeros(1, 9), torch.zeros(1, dtype=torch.int64))
    assert 0 <= rival.total_parameters() - replay.total_parameters() < 10


def test_permuted_tasks_hold_the_same_numbers_in_other_places(blobs: str) -> None:
    first, second = stream_of(stream_case(blobs, stream="permuted", tasks=2)).tasks
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x.sort(1).values, second.x.sort(1).values)


def test_samples_that_judge_a_permuted_task_are_permuted_as_it_is(blobs: str) -> None:
    first, second = stream_of(stream_case(blobs, stream="permuted", tasks=2)).tasks
    order = (first.x[:, :, None] == second.x[:, None]).all(0).int().argmax(0)
    assert torch.equal(first.x[:, order], second.x)
    assert torch.equal(first.parts[0][0][:, order], second.parts[0][0])


@pytest.mark.parametrize(("kind", "tasks"), [("split", 4), ("permuted", 5)])
def test_trials_see_the_first_three_tasks_of_a_stream_alone(blobs: str, kind: str, tasks: int) -> None:
    case = stream_case(blobs, stream=kind, tasks=tasks)
    whole, trial = stream_of(case).tasks, stream_of(replace(case, trial=True)).tasks
    assert (len(whole), len(trial)) == (tasks, 3)
    for one, other in zip(whole, trial, strict=False):
        assert torch.equal(one.x, other.x)
        assert not torch.equal(one.parts[0][0], other.parts[0][0])  # by samples held out, not by those of the test part


def test_a_mixture_keeps_the_classes_of_its_sets_apart(blobs: str) -> None:
    (task,) = stream_of(stream_case(blobs, stream="mixture", others=["digits"])).tasks
    assert task.x.shape[1] == 64
    assert [sorted(y.unique().tolist()) for _, y in task.parts] == [[0, 1, 2, 3], list(range(4, 14))]


@pytest.mark.parametrize("name", sorted(stream_learners.LEARNERS))
def test_every_stream_learner_learns_four_blobs_at_once(blobs: str, name: str) -> None:
    case = stream_case(blobs, stream="split", tasks=1, strength=1.0, memory=20)
    options = replace(case.options, rule="backprop" if name in ("dense", "elastic", "replay") else "kolen-pollack")
    case = replace(case, options=replace(options, lr=1e-2, batch_size=4), detail={**case.detail, "learner": name})
    row = run_case(case)
    assert row["test"] > 0.6
    assert row["test_reads"] == 1
    assert row["total"] > 0


def test_a_network_of_areas_has_all_options_of_its_case(blobs: str) -> None:
    case = stream_case(blobs, stream="split", tasks=1)
    options = replace(case.options, routing="layer", lr_areas=0.7, gated=True, pooling=0.3, clip=2.0, activation="tanh")
    network = stream_learners.stream_learner(replace(case, options=options), 9, 4).network
    assert (network.rates.areas, network.clip) == (0.7, 2.0)
    layers = [layer for _, layer in network.area_layers()]
    assert all(layer.gated and layer.pooling == 0.3 and layer.router is not None for layer in layers)
    assert isinstance(network.body.layers[1].operation, torch.nn.Tanh)
