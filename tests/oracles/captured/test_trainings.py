"""Trainings and streams by captured steps."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from brodmann import Adam, Captured, Network, mlp
from brodmann.streams import NetworkLearner, Task, learn_stream
from brodmann.training import AreaRecord, Schedule, Trainer, evaluate

from .parts import GROWING, network_of


def test_trainings_of_one_captured_network_share_its_recordings() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=3, update=Adam()))
    twin, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(48, 6), torch.randint(0, 3, (48,))
    for seed in range(3):
        schedule = Schedule(epochs=1, batch_size=16, seed=seed)
        Trainer(captured, (x, y), (x, y), schedule).run()
        Trainer(twin, (x, y), (x, y), schedule).run()
    assert captured.recordings == 1
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())
    assert evaluate(captured, x, y) == evaluate(twin, x, y)


def test_a_training_of_areas_that_grow_is_that_of_ordinary_steps() -> None:
    class Plain(Network):
        """A network of whose steps a `Trainer` captures none."""

    def trained(kind: type[Network]) -> tuple[Captured, list[dict[str, Any]]]:
        torch.manual_seed(0)
        captured = Captured(kind(mlp(6, 2, width=8, areas=8, router={**GROWING, "cells": 32}, update=Adam())))
        given = captured if kind is Network else captured.network
        history = Trainer(given, (x, y), (x, y), Schedule(3, 32), callbacks=AreaRecord(x)).run().history
        return captured, [{name: value for name, value in row.items() if name != "seconds"} for row in history]

    x = torch.randn(640, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()
    (captured, history), (plain, same) = trained(Network), trained(Plain)
    assert (captured.recordings, plain.recordings) == (1, 0)
    assert history == same
    assert sum(len(row["splits"]) for row in history) > 3
    other = plain.network.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in captured.network.state_dict().items())


def test_streams_are_learned_by_captured_steps() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=8, areas=3, update=Adam()))
    twin, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(64, 6), torch.randint(0, 3, (64,))
    tasks = [Task(x, y, [(x, y)]), Task(-x, y, [(-x, y)])]

    class Ordinary(NetworkLearner):
        def learn(self, x: Tensor, y: Tensor) -> None:
            self.network.learn(x, y, lr=self.lr)

    assert learn_stream(captured, tasks) == learn_stream(Ordinary(twin), tasks)
    assert captured.is_captured
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())


def test_the_step_that_a_trainer_watches_tells_nothing_of_the_others() -> None:
    captured = Captured(network_of())
    Trainer(captured, (torch.randn(32, 5), torch.randint(3, (32,))), None, Schedule(epochs=2, batch_size=8)).run()
    assert captured.is_captured, captured.refusal
