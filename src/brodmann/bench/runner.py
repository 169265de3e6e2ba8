"""Runs cases: several at a time, one thread each, every row on disk as soon as it is known."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import BrodmannError, warn
from ..files import alone_in, write_json
from ..kernels import library
from ..runs.extensions import import_extensions
from ..runs.version import code_version
from ..training import Interrupted
from ..training.display import display
from .case import Case, Row, row_name
from .choices import Choices, Search, packaged_choices, search_of, to_stored
from .folder import CHOICES, PLAN, ROWS, TRIAL_ROWS, read_choices, read_plan, read_rows
from .journal import Journal
from .places import check_alike
from .plan import Plan
from .selection import cases_of
from .tasks import run_case
from .tuner import TRIAL_SEEDS, TRIALS, choose, next_settings, scores_of, settled, trials_of


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
    with alone_in(folder):
        tried, results = Journal(folder / TRIAL_ROWS), Journal(folder / ROWS)
        # What is damaged, or does not belong together, is told before anything runs.
        check_alike(folder, read_rows(folder, ROWS), read_rows(folder, TRIAL_ROWS), cases)
        earlier, noted = read_choices(folder), read_plan(folder)
        choices = settle(cases, {} if search or plan.quick else known_choices(earlier), tried, trials, jobs)
        write_json(folder / CHOICES, to_stored(earlier | choices))
        final = [settled(case, choices) for case in cases]
        planned = {case.key: case.planned for case in final}
        write_json(folder / PLAN, noted | planned)  # of earlier calls too: the report looks for gaps
        carry_out(final, results, jobs, ", ".join(dict.fromkeys(case.recipe for case in final)))


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


def settle(cases: Iterable[Case], known: Choices, journal: Journal, trials: int, jobs: int) -> Choices:
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
        _run(list(more.values()), journal, jobs, f"search, round {rounds}")
    found = choose(journal.rows())
    return choices | {search: found[search] for search in wanted}


def carry_out(cases: list[Case], journal: Journal, jobs: int, title: str) -> None:
    """Runs those of the cases that have no row yet, and appends theirs.

    Warns:
        UserWarning: Existing rows come from another version of the code.
    """
    _tell_of_other_code(journal)
    _run(cases, journal, jobs, title)


def _tell_of_other_code(journal: Journal) -> None:
    """Warns of rows of other code, which are not run again; also if they are all that is asked for."""
    rows, code = journal.rows(), code_version()
    others = sum(row["code"] != code for row in rows)
    if others:
        warn(
            f"{others} of the {len(rows)} rows in {journal.path} come from another version of the code. The report "
            "will say so; for rows of one version choose another folder.",
        )


def _run(cases: list[Case], journal: Journal, jobs: int, title: str) -> None:
    done = {row["key"] for row in journal.rows()}
    left = list({case.key: case for case in cases if case.key not in done}.values())
    if not left:
        return
    library.active()  # compiles at a machine's first use: seconds that no case took
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=display(sys.stdout)) as progress:
        bar = progress.add_task(title, total=len(left))
        for row in _rows_of(left, jobs):
            journal.append(row)
            progress.advance(bar)


def _rows_of(cases: list[Case], jobs: int) -> Iterator[Row]:
    """Yields rows as they become known; cases that ask for it get a process of their own, one at a time."""
    together, alone = ([case for case in cases if case.alone is apart] for apart in (False, True))
    if together:
        yield from _in_processes(together, jobs)
    if alone:
        yield from _in_processes(alone, 1, tasks_per_child=1)


def _in_processes(cases: list[Case], workers: int, tasks_per_child: int | None = None) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, context, _start_worker, (os.getpid(),), max_tasks_per_child=tasks_per_child
    ) as pool:
        waiting = iter(cases)
        running: set[Future[Row]] = set()
        try:
            while True:
                # No more than one case in hand for each worker: what is lost in a kill is what was running.
                for case in waiting:
                    running.add(pool.submit(_work, case, workers))
                    if len(running) >= workers:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    row = future.result()
                    if "interrupted" in row:
                        raise Interrupted(row["interrupted"])
                    yield row
        except (KeyboardInterrupt, Interrupted, GeneratorExit):
            for worker in multiprocessing.active_children():
                worker.terminate()  # the pool would wait for rows that nobody takes
            raise
        except BrokenProcessPool:
            raise BrodmannError(
                "A worker of the benchmark was killed, perhaps for memory: run fewer at a time with --jobs 1; rows "
                'that are done are kept. A script calls run_recipes under `if __name__ == "__main__":`, since workers '
                "read it too."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _work(case: Case, jobs: int) -> Row:
    began = time.perf_counter()
    try:
        row = run_case(case)
    except Interrupted as stop:
        return {"interrupted": stop.number}
    except Exception as error:
        which = row_name(case.row())
        if isinstance(error, BrodmannError):
            raise BrodmannError(f"{which}: {error}") from error
        error.add_note(f"This was {which}.")
        raise
    return row | {
        "wall_seconds": round(time.perf_counter() - began, 3),
        "jobs": jobs,
        "code": code_version(),
        "torch": torch.__version__,
    }


def _start_worker(parent: int) -> None:
    torch.set_num_threads(1)
    import_extensions()
    torch.use_deterministic_algorithms(True, warn_only=True)

    def watch() -> None:
        # A worker whose parent was killed would wait for work for ever.
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
