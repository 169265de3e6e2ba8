"""Runs recipes: what searches and results still need is carried out, every row on disk as soon as it is known."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import warn
from ..files import alone_in, write_json
from ..kernels import library
from ..runs.version import code_version
from ..training.display import display
from .case import Case
from .choices import Choices, Search, packaged_choices, search_of, to_stored
from .folder import CHOICES, PLAN, ROWS, TRIAL_ROWS, read_choices, read_plan, read_rows
from .journal import Journal
from .places import check_alike
from .plan import Plan
from .selection import cases_of
from .tuner import TRIAL_SEEDS, TRIALS, choose, next_settings, scores_of, settled, trials_of
from .workers import Workers


def run_recipes(
    names: Iterable[str], plan: Plan, folder: str | Path, *, jobs: int = 1, trials: int = TRIALS, search: bool = False
) -> None:
    """Runs recipes into a folder; rows that are there already are not run again.

    Args:
        names: Names of the recipes.
        plan: How much of each to run.
        folder: Gets ``trials.jsonl``, ``choices.json``, ``rows.jsonl`` and ``plan.json``.
        jobs: Trainings at a time, one thread each. Times count as measurements only with 1.
        trials: Settings that a search tries per method and data set.
        search: Whether to search even if the folder or else the package holds chosen settings. A quick plan always
            does: the package's were chosen for longer trainings.

    Raises:
        BrodmannError: A recipe is unknown, its data is missing, a training failed, another process runs in the folder,
            a file in it is damaged, or it holds rows of the same methods with other settings.
        Interrupted: Stopped by a signal; a later call goes on.
    """
    folder = Path(folder)
    cases = cases_of(names, plan)
    with alone_in(folder), Workers(jobs) as workers:
        tried, results = Journal(folder / TRIAL_ROWS), Journal(folder / ROWS)
        # What is damaged, or does not belong together, is told before anything runs.
        check_alike(folder, read_rows(folder, ROWS), read_rows(folder, TRIAL_ROWS), cases)
        earlier, noted = read_choices(folder), read_plan(folder)
        choices = settle(cases, {} if search or plan.quick else known_choices(earlier), tried, trials, workers)
        write_json(folder / CHOICES, to_stored(earlier | choices))
        final = [settled(case, choices) for case in cases]
        planned = {case.key: case.planned for case in final}
        write_json(folder / PLAN, noted | planned)  # of earlier calls too: the report looks for gaps
        carry_out(final, results, workers, ", ".join(dict.fromkeys(case.recipe for case in final)))


def known_choices(earlier: Choices) -> Choices:
    """Returns the settings that need no search: those that were chosen in the folder, else those of the package."""
    return packaged_choices() | earlier


def searches(cases: Iterable[Case], known: Choices) -> tuple[dict[Search, Case], Choices]:
    """Returns a case of every search that the cases still need, and the choices that are known for the others."""
    wanted: dict[Search, Case] = {}
    choices: Choices = {}
    for case in cases:
        if not case.searched:
            continue
        search = search_of(case)
        if search in known:
            choices[search] = known[search]
        else:
            wanted.setdefault(search, case)
    return wanted, choices


def settle(cases: Iterable[Case], known: Choices, journal: Journal, trials: int, workers: Workers) -> Choices:
    """Searches for the settings of the cases that are not known: in rounds, each of which runs what searches ask for.

    Trials that the journal holds are not run again, and count, also those of a longer search.

    Warns:
        UserWarning: Existing trials come from another version of the code.
    """
    wanted, choices = searches(cases, known)
    if wanted:
        _tell_of_other_code(journal)
    rounds = 0
    while True:
        scores = scores_of(journal.rows())
        more: dict[str, Case] = {}
        for search, case in wanted.items():
            tried = scores.get(search, {})
            done = {entry: values for entry, values in tried.items() if len(values) == len(TRIAL_SEEDS)}
            settings = next_settings(done, trials, stream="stream" in case.detail)
            more |= {trial.key: trial for trial in trials_of(case, settings)}
        if not more:
            break
        rounds += 1
        _run(list(more.values()), journal, workers, f"search, round {rounds}")
    found = choose(journal.rows())
    return choices | {search: found[search] for search in wanted}


def carry_out(cases: list[Case], journal: Journal, workers: Workers, title: str) -> None:
    """Runs those of the cases that have no row yet, and appends theirs.

    Warns:
        UserWarning: Existing rows come from another version of the code.
    """
    _tell_of_other_code(journal)
    _run(cases, journal, workers, title)


def _tell_of_other_code(journal: Journal) -> None:
    """Warns of rows of other code, which are not run again; also if they are all that is asked for."""
    rows, code = journal.rows(), code_version()
    others = sum(row["code"] != code for row in rows)
    if others:
        warn(
            f"{others} of the {len(rows)} rows in {journal.path} come from another version of the code. The report "
            "will say so; for rows of one version choose another folder.",
        )


def _run(cases: list[Case], journal: Journal, workers: Workers, title: str) -> None:
    done = {row["key"] for row in journal.rows()}
    left = list({case.key: case for case in cases if case.key not in done}.values())
    if not left:
        return
    library.active()  # compiles at a machine's first use: seconds that no case took
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=display(sys.stdout)) as progress:
        bar = progress.add_task(title, total=len(left))
        for row in workers.rows_of(left):
            journal.append(row)
            progress.advance(bar)
