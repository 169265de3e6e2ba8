"""A rule applied, with checks: user-defined rules, too, must move in place what they are given."""

from __future__ import annotations

from torch import Tensor

from ..checks import Unmodified, all_finite, changes_of
from ..errors import BrodmannError, DivergenceError, warn
from ..origin import is_ours
from .rule import Factors, UpdateRule


def rule_reads_rows(rule: UpdateRule) -> bool:
    """Whether a rule looks at single rows, as `RLS` does, and as a user-defined one may."""
    return rule.needs_inputs or not is_ours(rule)


def apply_rule(
    rule: UpdateRule, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float
) -> None:
    """Moves a weight and its state in place; arguments as for `UpdateRule.apply`.

    Raises:
        BrodmannError: A user-defined rule returns or replaces what it should have moved, or changes the factors.
        DivergenceError: A user-defined rule made a weight NaN or infinite by a finite gradient; checked only on the
            CPU.

    Warns:
        UserWarning: A user-defined rule moved nothing, although the rate is above 0.
    """
    if is_ours(rule):  # watching would take a tenth of the time
        rule.apply(weight, state, factors, lr, decay)
        return
    name, given = type(rule).__name__, tuple(state.values())
    watched = (weight, *given) if lr > 0 and not weight.is_inference() else ()
    read = (factors.delta, factors.x) if lr > 0 else ()
    before = changes_of(watched)
    with Unmodified(f"{name}.apply", read):
        returned: object = rule.apply(weight, state, factors, lr, decay)
    if returned is not None and returned is not weight:
        raise BrodmannError(f"{name}.apply should change the weight in place and return nothing.")
    if len(state) != len(given) or any(now is not old for now, old in zip(state.values(), given, strict=True)):
        raise BrodmannError(
            f"{name}.apply should change its state in place, as in state['m'].mul_(0.9).add_(g): what is assigned by "
            "state['m'] = ... is lost."
        )
    if watched and changes_of(watched) == before:
        warn(
            f"{name}.apply changed neither the weight nor its state, so nothing is learned: change them in place, as "
            "in weight.sub_(lr * g). `weight = weight - lr * g` makes another tensor, and PyTorch does not see what "
            "changes through weight.data.",
        )
    if lr > 0 and weight.is_cpu and not all_finite(weight) and all_finite(factors.dense()):
        raise DivergenceError(
            f"{name}.apply made a weight of shape {tuple(weight.shape)} NaN or infinite by a finite gradient: look for "
            "divisions by a gradient of 0, as the first one of a router is, and lower the learning rate if there are "
            "none."
        )
