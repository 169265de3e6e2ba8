"""Benchmarks: cases come from recipes, run in parallel, become rows in a journal, and rows become a report.

``recipes`` -> `Case` -> ``tuner`` -> ``runner`` -> ``tasks`` -> ``journal`` -> ``reporting``.
"""

from .case import Case
from .plan import Plan
from .recipes import RECIPES, cases_of
from .reporting import Report, write_report
from .runner import run_recipes

__all__ = ["RECIPES", "Case", "Plan", "Report", "cases_of", "run_recipes", "write_report"]
