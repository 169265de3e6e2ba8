"""The faults that `make mutants` plants still have a place in the sources: else it stops before it has planted one."""

from __future__ import annotations

from pathlib import Path

import pytest

import brodmann

from .mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant[0]}: {mutant[-1]}")
def test_the_text_to_be_changed_stands_there_once(mutant: tuple[str, ...]) -> None:
    file, text, changed, *_ = mutant
    assert (Path(brodmann.__file__).parent / file).read_text().count(text) == 1
    assert text != changed
