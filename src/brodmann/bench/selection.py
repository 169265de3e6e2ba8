"""Selection: which cases of recipes are to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..checks import as_names, check_registered
from ..errors import BrodmannError, MissingDataError, unknown_name
from .case import Case
from .plan import Plan
from .recipes import RECIPES


def cases_of(names: Iterable[str], plan: Plan) -> list[Case]:
    """Returns the cases of recipes, in the order in which they run.

    Raises:
        BrodmannError: There is no such recipe, or none of them has a method or the streams that the plan names.
        MissingDataError: None of the data of one is on this machine.
    """
    names = as_names("recipes", list(names) if isinstance(names, Mapping) else names)
    if plan.streams is not None and "interference" not in names:
        raise BrodmannError(f"Streams belong to the recipe interference, not to {', '.join(names)}: leave them out.")
    cases = [case for name in names for case in _cases_of(name, plan)]
    if plan.methods is None:
        return cases
    known = dict.fromkeys(case.method for case in cases)
    for method in plan.methods:
        if method not in known:
            raise unknown_name("method", method, known)
    return [case for case in cases if case.method in plan.methods]


def _cases_of(name: str, plan: Plan) -> list[Case]:
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES, "brodmann.bench.RECIPES")
    kind = "a function of a Plan that returns a list of cases"
    check_registered(f"brodmann.bench.RECIPES['{name}']", RECIPES[name], kind, "plan")
    cases = RECIPES[name](plan)
    if not isinstance(cases, list | tuple) or not all(isinstance(case, Case) for case in cases):
        raise BrodmannError(f"Expected brodmann.bench.RECIPES['{name}'] to be {kind}, but it returned {cases!r}.")
    if not cases and plan.sets is None:
        raise MissingDataError(
            f"None of the data sets of '{name}' is on this machine: see what is with `brodmann data list`, fetch a set "
            "with `brodmann data fetch NAME`, or choose others with --sets."
        )
    if not cases:
        raise BrodmannError(
            f"The recipe '{name}' has nothing to run for {', '.join(plan.sets or ())} with these streams and "
            "protocols: choose others."
        )
    for option, asked, found in (
        ("sets", plan.sets, {case.options.dataset for case in cases}),
        ("seeds", None if plan.seeds is None else range(plan.seeds), {case.options.seed for case in cases}),
    ):
        if asked is not None and not found <= set(asked):
            raise BrodmannError(
                f"The recipe '{name}' ignores --{option}: leave that out, or have the recipe ask its plan, with "
                "plan.datasets(...) and plan.seeds_for(...)."
            )
    return cases
