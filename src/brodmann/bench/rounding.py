"""Rounding of the numbers that searches try and rows hold."""

from __future__ import annotations


def significant(value: float, digits: int) -> float:
    """Returns a number rounded to ``digits`` significant digits."""
    return float(f"{value:.{digits}g}")
