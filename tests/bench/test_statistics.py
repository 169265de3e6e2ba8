"""Statistics against known values."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from brodmann.bench.packing import pack, unpack
from brodmann.bench.reporting.sections import section_of
from brodmann.bench.reporting.sections.comparisons import TWIN, against_rival, baseline_is_sound
from brodmann.bench.reporting.statistics import (
    DRAWS,
    _counts,
    average_ranks,
    critical_difference,
    difference,
    error_ratio,
    holm,
    paired_p,
)


def test_holm_matches_its_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


def test_the_critical_difference_is_that_of_the_published_table() -> None:
    # Demsar 2006, table 5: q = 2.728 for five methods at 5 %.
    assert critical_difference(5, 30) == pytest.approx(2.728 * math.sqrt(5 * 6 / (6 * 30)), rel=1e-3)


def test_two_seeds_give_no_p_value() -> None:
    right = np.ones((2, 50), dtype=bool)
    assert math.isnan(difference(right, ~right).p)


def test_ranks_share_ties() -> None:
    assert average_ranks(np.array([[0.9, 0.8, 0.8], [0.7, 0.9, 0.5]])) == pytest.approx([1.5, 1.75, 2.75])
    assert average_ranks(np.array([[0.1 + 0.2, 0.3]])).tolist() == [1.5, 1.5]  # they differ in the last bit


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_answers_come_back(right: list[bool]) -> None:
    assert unpack(pack(np.array(right)), len(right)).tolist() == right


def test_a_method_does_not_differ_from_itself() -> None:
    right = np.random.default_rng(0).random((5, 200)) < 0.9
    same = difference(right, right)
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert error_ratio({"a": (right, right)}) == pytest.approx((1.0, 1.0, 1.0))


def test_a_baseline_is_sound_unless_its_interval_lies_below_zero() -> None:
    right = np.random.default_rng(0).random((3, 40)) > 0.5

    def table(twin: NDArray[np.bool_]) -> str:
        answers = {"backpropagation, equal active": twin, "scikit-learn MLP": right}
        rows = [
            {"dataset": "d", "method": name, "seed": seed, "correct": pack(row), "tested": len(row), "digest": ""}
            for name, correct in answers.items()
            for seed, row in enumerate(correct)
        ]
        return baseline_is_sound(rows).rows[0][-1]

    assert table(right) == "yes"
    assert table(np.zeros_like(right)) == "no: the baseline is worse"


def test_sets_of_one_size_are_drawn_each_for_itself() -> None:
    right = np.random.default_rng(0).random((2, 4, 200)) > 0.3
    one = error_ratio({"a": (right[0], right[1])})
    two = error_ratio({"a": (right[0], right[1]), "b": (right[1], right[0])})
    assert two[0] == pytest.approx(1.0)
    assert two[1] < 0.99 < 1.01 < two[2]  # drawn alike, both ratios would cancel in every draw
    assert np.log(two[2] / two[1]) == pytest.approx(np.log(one[2] / one[1]) / 2**0.5, rel=0.1)


def test_an_error_ratio_does_not_depend_on_the_order_of_the_sets() -> None:
    right = np.random.default_rng(0).random((2, 4, 200)) > 0.3
    pairs = {"a": (right[0], right[1]), "b": (right[1], right[0] | right[1])}
    assert error_ratio(pairs) == pytest.approx(error_ratio(dict(reversed(pairs.items()))), rel=1e-12)


def test_half_a_point_is_added_to_every_error_so_that_a_perfect_score_does_not_decide_all() -> None:
    perfect = np.ones((3, 20), dtype=bool)
    tenth = perfect.copy()
    tenth[:, :2] = False
    assert error_ratio({"a": (perfect, perfect)}) == pytest.approx((1.0, 1.0, 1.0))
    assert error_ratio({"a": (perfect, tenth)})[0] == pytest.approx(0.5 / 10.5)
    assert error_ratio({"a": (perfect, tenth), "b": (tenth, perfect)})[0] == pytest.approx(1.0)


def test_intervals_are_those_of_resampled_answers() -> None:
    ours, theirs = np.random.default_rng(2).random((2, 3, 30)) < [[[0.9]], [[0.6]]]
    of_seed, of_sample = _counts(3, 30, 0)
    assert (of_seed.sum(1) == 3).all()
    assert (of_sample.sum(1) == 30).all()
    gaps = ours.astype(float) - theirs
    copies = [gaps.repeat(of_seed[draw], 0).repeat(of_sample[draw], 1).mean() for draw in range(DRAWS)]
    found = difference(ours, theirs)
    assert (found.low, found.high) == pytest.approx(100 * np.quantile(copies, (0.025, 0.975)))


def test_a_clear_difference_is_found_and_its_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.random((10, 2000)) < 0.95, generator.random((10, 2000)) < 0.90
    found = difference(ours, theirs)
    assert found.low < 5.0 < found.high
    assert found.low > 0
    assert found.p < 1e-3
    ratio, low, high = error_ratio({"a": (ours, theirs)})
    assert low < 5.5 / 10.5 < high
    assert low < ratio < high < 1


def test_equal_gaps_are_judged_by_their_number() -> None:
    assert paired_p(np.full(3, 0.28)) == 0.25  # of 8 ways to choose the signs two are as far from 0
    assert paired_p(np.full(10, -0.28)) == 2**-9
    assert paired_p(np.zeros(5)) == 1.0


def test_methods_without_a_common_seed_are_not_compared() -> None:
    rows = [{"dataset": "a", "method": name, "seed": seed, "digest": ""} for seed, name in enumerate(("ours", TWIN))]
    table, said = against_rival(rows, "ours")
    assert (table.rows, said) == ([], [])


def test_what_reads_as_no_difference_is_no_loss() -> None:
    right = np.ones((2, 50_000), dtype=bool)
    right[0, 0] = False  # -0.002 points
    rows = [
        {"dataset": "a", "method": name, "seed": seed, "correct": pack(answers), "tested": len(answers), "digest": ""}
        for name, answers in zip(("ours", TWIN), right, strict=True)
        for seed in range(3)
    ]
    _, said = against_rival(rows, "ours")
    assert said[0] == "ours: on no set is the mean below that of tuned backpropagation."


def test_a_recipe_of_ones_own_is_compared_pair_by_pair_or_says_why_not() -> None:
    right = np.random.default_rng(0).random((2, 2, 40)) > 0.5
    rows: list[dict[str, Any]] = [
        {"dataset": "d", "method": name, "seed": seed, "test": answers.mean(), "tested": 40, "correct": pack(answers)}
        | {"digest": ""}
        for name, by_seed in zip("ab", right, strict=True)
        for seed, answers in enumerate(by_seed)
    ]
    whole = section_of("own", rows)
    assert (len(whole.tables), whole.text) == (2, [])
    fewer = rows[0] | {"tested": 39}
    without = {name: value for name, value in rows[0].items() if name != "correct"}
    for changed, why in (
        ([without, *rows[1:]], r"a row does not say which test samples were right .*'right'"),
        ([rows[0], *rows], "there are 2 rows of d, a, seed 0"),
        ([fewer, *rows[1:]], "the rows of d are of different test samples"),
    ):
        section = section_of("own", changed)
        assert len(section.tables) == 1
        assert re.search(f"^Methods are not compared pair by pair: {why}", section.text[0])
