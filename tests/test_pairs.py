"""Half of a product: every two values meet in the default run, and every combination is there once."""

from __future__ import annotations

import itertools

import pytest

from .pairs import pairwise


@pytest.mark.parametrize("sizes", [(2, 3, 4), (7, 8, 16), (2, 2, 2, 2), (5, 3)])
def test_every_two_values_meet_by_default_and_all_combinations_are_there_once(sizes: tuple[int, ...]) -> None:
    families = {f"family_{place}": [(place, value) for value in range(size)] for place, size in enumerate(sizes)}
    names, cases = pairwise(**families).args
    assert sorted(names) == sorted(families)
    assert sorted(tuple(sorted(case.values)) for case in cases) == sorted(itertools.product(*families.values()))
    quick = [frozenset(case.values) for case in cases if not case.marks]
    for one, other in itertools.combinations(families.values(), 2):
        assert all(any({a, b} <= case for case in quick) for a, b in itertools.product(one, other))
    largest, second = sorted(sizes)[-1:-3:-1]
    assert len(quick) <= 2 * largest * second
