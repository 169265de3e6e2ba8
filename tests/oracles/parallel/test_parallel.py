"""Oracle: processes that learn together make the steps of one process, and hold the same bits.

All cases run in one group of processes, which is started once; what they found is looked at test by test.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from brodmann import BrodmannError, Network, Parallel, mlp

from .own_parts import Noisy, Online, own_layer, own_router
from .refused import REFUSED, another_part, refused, refused_trainer
from .steps import COUNT, EXACT, RANDOM, exact, masks, own_batches, random, traffic, traffic_of_many_rows, trained


def run(rank: int, folder: str) -> None:
    """What every process does: all cases, one after the other; writes what it found."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=COUNT)
    cases: dict[str, Callable[[], Any]] = {
        **{f"exact {name}": partial(exact, name) for name in EXACT},
        **{f"random {name}": partial(random, name) for name in RANDOM},
        **{f"refused {name}": partial(refused, name) for name in REFUSED},
        "own batches": own_batches,
        "own layer": own_layer,
        "own router": lambda: own_router({"router": Online}),
        "own router of all layers": lambda: own_router({"router": Online, "routing": "network"}),
        "own rule": lambda: own_router({"update": Noisy(), "routing": "network"}),
        "masks": masks,
        "another part": another_part,
        "trainer": refused_trainer,
        "traffic": lambda: (traffic(2), traffic(64)),
        "traffic of many rows": traffic_of_many_rows,
        "trained": trained,
    }
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            found[name] = case()
        except Exception as error:  # the test of this case fails, in all processes alike
            found[name] = error
    distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of the processes found."""
    folder = str(tmp_path_factory.mktemp("processes"))
    multiprocessing.spawn(run, (folder,), nprocs=COUNT)
    return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(COUNT)]


def of_all(found: list[dict[str, Any]], name: str) -> list[Any]:
    """Returns what the processes found in a case; raises what they raised."""
    for part in found:
        if isinstance(part[name], Exception):
            raise part[name]
    return [part[name] for part in found]


@pytest.mark.parametrize("name", EXACT)
def test_a_step_is_that_of_one_process(found, name):
    assert max(of_all(found, f"exact {name}")) < 1e-7


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn_at_random_is_the_same_in_all_processes(found, name):
    of_all(found, f"random {name}")


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_is_made_by_all_processes_or_by_none(found, name):
    for said, expected in zip(of_all(found, f"refused {name}"), REFUSED[name], strict=True):
        assert expected in said


def test_processes_may_bring_samples_of_their_own(found):
    assert max(of_all(found, "own batches")) < 1e-9


def test_a_layer_of_ones_own_hands_over_gradients(found):
    assert max(of_all(found, "own layer")) < 1e-12


@pytest.mark.parametrize("name", ["own router", "own router of all layers", "own rule"])
def test_routers_and_rules_of_ones_own_move_alike_in_all_processes(found, name):
    assert all(of_all(found, name))


def test_each_process_draws_masks_of_its_own(found):
    assert min(of_all(found, "masks")) > 0.01


def test_a_layer_in_anothers_place_is_not_taken_for_the_same_in_all_processes(found):
    assert all("was put in another's place" in said for said in of_all(found, "another part"))


def test_a_training_needs_whole_batches(found):
    assert all("Expected a Parallel that shares whole batches" in said for said in of_all(found, "trainer"))


def test_traffic_does_not_grow_with_the_areas(found):
    for few, many in of_all(found, "traffic"):
        assert few == many > 0


def test_traffic_does_not_grow_with_the_rows_beyond_the_weights(found):
    for told, weights in of_all(found, "traffic of many rows"):
        assert told < 2 * weights


def test_a_trainer_of_several_processes_is_that_of_one(found):
    for alone, together in of_all(found, "trained"):
        assert len(alone) == 3
        for one, other in zip(alone, together, strict=True):
            assert one == pytest.approx(other, abs=1e-9)


def test_without_a_process_group_it_says_what_to_call():
    with pytest.raises(BrodmannError, match=re.escape("torch.distributed.init_process_group() first")):
        Parallel(Network(mlp(5, 3, areas=1, width=4)))


def test_batches_are_whole_or_ones_own():
    with pytest.raises(BrodmannError, match="Expected batches to be one of whole, own, got 'mine'"):
        Parallel(Network(mlp(5, 3, areas=1, width=4)), batches="mine")
