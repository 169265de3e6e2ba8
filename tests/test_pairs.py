"""Parts of products: which combinations the default run makes, and that the slow run makes all."""

from __future__ import annotations

import itertools

import pytest

from .pairs import diagonal, pairwise


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


def test_every_value_comes_by_default_and_all_combinations_are_there_once() -> None:
    names, cases = diagonal(rule=["a", "b", "c"], place=[0, 1]).args
    assert names == ["rule", "place"]
    assert [case.values for case in cases] == list(itertools.product("abc", (0, 1)))
    assert [case.values for case in cases if not case.marks] == [("a", 0), ("b", 1), ("c", 0)]
