"""Products of many families of parameters: by default every two values meet, in the slow run all of them do."""

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
            diagonal = ((i + (k + 1) * j + shift) % len(others[k][1]) for k, shift in enumerate(shifts))
            places = (i, j, *diagonal)
            pairs = set(itertools.combinations(enumerate(places), 2))
            values = [family[place] for (_, family), place in zip(named, places, strict=True)]
            cases.append(pytest.param(*values, marks=() if pairs - met else pytest.mark.slow))
            met |= pairs
    return pytest.mark.parametrize([name for name, _ in named], cases)
