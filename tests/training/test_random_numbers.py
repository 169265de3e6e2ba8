"""Random numbers: a training draws what its seed says, and leaves the generators of others alone."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brodmann import SGD, Network, mlp
from brodmann.training import Callback, Interrupted, Trainer
from brodmann.training.schedule import Schedule

from .parts import Shifted, blobs, network


def test_a_default_device_of_the_users_is_not_drawn_on() -> None:
    torch.manual_seed(0)
    whole = Network(mlp(64, 40, width=64, areas=1, update=SGD()), lr=0.1)
    growing = Network(mlp(5, 3, areas=4, router={"partition": "growing"}))
    x, y, few = torch.randn(5000, 64), torch.randint(0, 40, (5000,)), (torch.randn(30, 5), torch.arange(30) % 3)
    torch.set_default_device("meta")
    try:
        whole.learn(x, y)  # so many rows that the gradient is one product
        Trainer(growing, few, None, Schedule(epochs=1)).run()
    finally:
        torch.set_default_device(None)
    assert math.isfinite(whole.learn(x, y))


def test_trainings_in_threads_draw_what_their_seeds_say() -> None:
    alone, *others = (network(dropout=0.5) for _ in range(3))
    Trainer(alone, blobs(), None, Schedule(epochs=4)).run()
    state = torch.get_rng_state()
    threads = [threading.Thread(target=Trainer(other, blobs(), None, Schedule(epochs=4)).run) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    for other in others:
        assert all(map(torch.equal, other.state_dict().values(), alone.state_dict().values()))


def test_a_run_leaves_the_generator_as_it_was() -> None:
    def trained(dropout: float) -> torch.Tensor:
        learner = Network(mlp(5, 3, width=8, areas=4, dropout=dropout))
        state = torch.get_rng_state()
        Trainer(learner, blobs(), None, Schedule(epochs=2)).run()
        assert torch.equal(torch.get_rng_state(), state)
        return learner(blobs()[0])

    torch.manual_seed(1)
    first, second = trained(0.3), trained(0.3)
    assert not torch.equal(first, second)  # an ensemble is not one network several times
    torch.manual_seed(1)
    assert torch.equal(trained(0.3), first)


def test_a_run_that_was_stopped_draws_on_where_it_stood() -> None:
    class Once(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] == 2:
                trainer.stop()

    outputs = []
    for callbacks in ([], [Once()]):
        torch.manual_seed(0)
        learner = Network(mlp(5, 3, width=8, areas=4, dropout=0.5))
        trainer = Trainer(learner, blobs(), None, Schedule(epochs=4, batch_size=30), callbacks=callbacks)
        trainer.run()
        torch.rand(3)  # what others draw in between is nothing to it
        outputs.append((trainer.run().step, learner(blobs()[0])))
    assert outputs[0][0] == outputs[1][0] == 12
    assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_draws_goes_on_bit_for_bit_in_the_middle_of_an_epoch(tmp_path: Path, workers: int) -> None:
    x, y = blobs()
    schedule = Schedule(epochs=3, batch_size=16)

    class Stop(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 9:
                os.kill(os.getpid(), signal.SIGINT)

    whole, broken = network(), network()
    Trainer(whole, Shifted(x, y), None, schedule).run()
    with pytest.raises(Interrupted):
        Trainer(broken, Shifted(x, y), None, schedule, folder=tmp_path, callbacks=Stop(), workers=workers).run()
    assert not multiprocessing.active_children()
    again = network()
    trainer = Trainer(again, Shifted(x, y), None, schedule, folder=tmp_path, workers=workers)
    trainer.resume()
    trainer.run()
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


def test_what_items_draw_is_decided_by_the_seed_and_leaves_other_generators_alone() -> None:
    x, y = blobs()

    def learned(seed: int, workers: int) -> torch.Tensor:
        learner = network(dropout=0.5)
        Trainer(learner, Shifted(x, y), None, Schedule(epochs=2, batch_size=16, seed=seed), workers=workers).run()
        return learner(x)

    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = learned(0, 0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    np.random.random(3), random.random()
    assert torch.equal(first, learned(0, 0))
    assert torch.equal(first, learned(0, 1))
    assert torch.equal(first, learned(0, 2))
    assert not torch.equal(first, learned(1, 0))
