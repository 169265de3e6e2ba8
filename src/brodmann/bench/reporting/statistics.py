"""Statistics of a comparison: paired tests, bootstrap intervals, ranks."""

from __future__ import annotations

import importlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..packing import Correct

DRAWS = 2000
"""Bootstrap draws: the ends of a 95 % interval then rest on 50 draws each."""
OFFSET = 0.5
"""Added to every error (in points) before ratios are taken, so that a perfect score does not decide everything."""


@dataclass(frozen=True)
class Difference:
    """How two methods differ on one data set, paired by seed.

    Attributes:
        mean: Mean difference, in points of accuracy.
        low: Lower end of its 95 % bootstrap interval over seeds and test samples.
        high: Upper end.
        p: Two-sided p-value of a paired t-test over seeds, of a sign-flip test if all differences are equal (1 where
            all are 0); NaN for fewer than 3 seeds.
        pairs: Number of seeds.
    """

    mean: float
    low: float
    high: float
    p: float
    pairs: int


def difference(ours: Correct, theirs: Correct) -> Difference:
    """Compares two methods on the same test samples: (seeds, samples) each, the same seed in the same row."""
    gaps = 100.0 * (ours.mean(1) - theirs.mean(1))
    low, high = np.quantile(100.0 * (_draws(ours, 0) - _draws(theirs, 0)), (0.025, 0.975))
    return Difference(float(gaps.mean()), float(low), float(high), paired_p(gaps), len(gaps))


def paired_p(gaps: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of a paired t-test; NaN for fewer than 3 pairs, whose spread says nothing."""
    if len(gaps) < 3:
        return math.nan
    if np.allclose(gaps, gaps[0]):  # they have no spread: a sign-flip test instead
        return 1.0 if gaps[0] == 0 else 2.0 ** (1 - len(gaps))
    return float(_scipy().ttest_1samp(gaps, 0.0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Corrects p-values for their number, by Holm's step-down method; NaN stays NaN and does not count."""
    order = sorted((index for index in range(len(p)) if not math.isnan(p[index])), key=lambda index: p[index])
    corrected = [math.nan] * len(p)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p[index]))
        corrected[index] = largest
    return corrected


def error_ratio(pairs: Mapping[str, tuple[Correct, Correct]]) -> tuple[float, float, float]:
    """Returns the geometric mean over data sets of ``(our error + 0.5) / (their error + 0.5)``, and its interval.

    The bootstrap is over seeds and test samples, and draws by the name of each set: the interval does not depend on
    their order, and sets of one size do not share draws.

    Args:
        pairs: Ours and theirs for each data set, (seeds, samples) each.
    """

    def error(accuracy: Any) -> Any:
        return 100.0 * (1.0 - accuracy) + OFFSET

    logs = [math.log(error(ours.mean()) / error(theirs.mean())) for ours, theirs in pairs.values()]
    drawn = np.zeros(DRAWS)
    for name, (ours, theirs) in pairs.items():
        seed = zlib.crc32(name.encode())
        drawn += np.log(error(_draws(ours, seed)) / error(_draws(theirs, seed))) / len(pairs)
    low, high = np.exp(np.quantile(drawn, (0.025, 0.975)))
    return math.exp(sum(logs) / len(logs)), float(low), float(high)


def average_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns each method's mean rank over data sets, 1 is best: scores (sets, methods), larger is better.

    Scores that agree to nine decimals share their ranks: rounding can part means of as many right answers.
    """
    ranks: NDArray[np.float64] = _scipy().rankdata(-scores.round(9), axis=1).mean(0)
    return ranks


def critical_difference(methods: int, sets: int) -> float:
    """Returns how far two mean ranks must lie apart to differ at the 5 % level (Nemenyi; Demsar 2006, sec. 3.2.2)."""
    studentised = float(_scipy().studentized_range.ppf(0.95, methods, np.inf))
    return studentised / math.sqrt(2.0) * math.sqrt(methods * (methods + 1) / (6.0 * sets))


def _draws(right: Correct, seed: int) -> NDArray[np.float64]:
    """Returns the accuracy in each bootstrap draw: right (seeds, samples); equal sizes and seeds draw the same."""
    return _accuracies(right.tobytes(), right.shape, seed)


@lru_cache(maxsize=512)
def _accuracies(right: bytes, shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Returns what `_draws` does; a report compares every method with many others."""
    answers = np.frombuffer(right, bool).reshape(shape).astype(np.float32)  # counts are exact up to 16 million samples
    of_seed, of_sample = _counts(*shape, seed)
    means = []
    for draws in np.array_split(np.arange(DRAWS), 8):  # a draw takes 4 bytes a sample while it is summed
        of_each = (of_sample[draws].astype(np.float32) @ answers.T).astype(float)  # (draws, seeds)
        means.append((of_seed[draws] * of_each).sum(1) / answers.size)
    return np.concatenate(means)


@lru_cache(maxsize=32)
def _counts(seeds: int, samples: int, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Returns how often each seed, (draws, seeds), and each sample, (draws, samples), is drawn with replacement.

    A weighted mean is cheaper than a copy of the drawn values, and all comparisons on a set share the counts.
    """
    generator = np.random.default_rng(seed)

    def count(size: int) -> NDArray[np.uint16]:
        return np.bincount(generator.integers(size, size=size), minlength=size).astype(np.uint16)

    drawn = [(count(seeds), count(samples)) for _ in range(DRAWS)]
    return np.stack([of_seed for of_seed, _ in drawn]), np.stack([of_sample for _, of_sample in drawn])


def _scipy() -> Any:
    # No type stubs; scipy comes with scikit-learn.
    return importlib.import_module("scipy.stats")
