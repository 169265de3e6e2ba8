"""Benchmarks: cases come from recipes, run in parallel, become rows in a journal, and rows become a report.

``recipes`` of ``methods`` -> ``selection`` -> `Case` -> ``tuner`` -> ``runner`` -> ``workers`` -> ``tasks`` ->
``journal`` -> ``reporting``.
"""

from .case import Case
from .plan import Plan
from .recipes import RECIPES
from .reporting import Report, write_report
from .runner import run_recipes
from .selection import cases_of

__all__ = ["RECIPES", "Case", "Plan", "Report", "cases_of", "run_recipes", "write_report"]
