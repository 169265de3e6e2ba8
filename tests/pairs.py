"""Products of families of parameters, of which the default run makes a part, and the slow run all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def pairwise(**families: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrises a test over a product: what shows no two values together for the first time is slow.

    The largest two families come first: the others follow them diagonally, which shows new pairs soonest.
    """
    named = sorted(((name, list(values)) for name, values in families.items()), key=lambda family: -len(family[1]))
    (_, first), (_, second), *others = named
    met: set[tuple[tuple[int, int], ...]] = set()
    cases = []
    for shifts in itertools.product(*(range(len(values)) for _, values in others)):
        for i, j in itertools.product(range(len(first)), range(len(second))):
            along = ((i + (k + 1) * j + shift) % len(others[k][1]) for k, shift in enumerate(shifts))
            places = (i, j, *along)
            pairs = set(itertools.combinations(enumerate(places), 2))
            values = [family[place] for (_, family), place in zip(named, places, strict=True)]
            cases.append(pytest.param(*values, marks=() if pairs - met else pytest.mark.slow))
            met |= pairs
    return pytest.mark.parametrize([name for name, _ in named], cases)


def diagonal(**families: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrises a long test over a product: what shows each value for the first time is quick, all else slow."""
    values = [list(family) for family in families.values()]
    quick = {tuple(row % len(family) for family in values) for row in range(max(map(len, values)))}
    cases = [
        pytest.param(
            *(family[place] for family, place in zip(values, places, strict=True)),
            marks=() if places in quick else pytest.mark.slow,
        )
        for places in itertools.product(*(range(len(family)) for family in values))
    ]
    return pytest.mark.parametrize(list(families), cases)
