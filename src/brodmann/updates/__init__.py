"""Update rules: how a weight moves."""

from .adam import Adam
from .applied import apply_rule, rule_reads_rows
from .counted import check_counts, counted
from .muon import Muon
from .named import UPDATES, check_rule, update_rule, usual_rule
from .optimizer import RuleOptimizer, groups_of
from .rls import RLS
from .rule import LEARNING_RATE, Factors, UpdateRule
from .sgd import SGD

__all__ = [
    "LEARNING_RATE",
    "RLS",
    "SGD",
    "UPDATES",
    "Adam",
    "Factors",
    "Muon",
    "RuleOptimizer",
    "UpdateRule",
    "apply_rule",
    "check_counts",
    "check_rule",
    "counted",
    "groups_of",
    "rule_reads_rows",
    "update_rule",
    "usual_rule",
]
