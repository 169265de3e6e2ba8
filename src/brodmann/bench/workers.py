"""Workers: processes of one thread each that carry out cases."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch

from ..errors import BrodmannError
from ..runs.extensions import import_extensions
from ..runs.version import code_version
from ..training import Interrupted
from .case import Case, Row, row_name
from .tasks import run_case


class Workers:
    """Processes that carry out cases until the block ends: each takes seconds to begin.

    Whatever ends the block early, an error or a signal, ends them at once: nobody takes the rows they work on.
    """

    def __init__(self, jobs: int) -> None:
        """Takes how many work at a time; they begin when there are cases."""
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._strangers = multiprocessing.active_children()

    def __enter__(self) -> Workers:
        """Enters the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the processes."""
        if kind is not None:
            for process in multiprocessing.active_children():
                if process not in self._strangers:
                    process.terminate()
        self._end()

    def rows_of(self, cases: list[Case]) -> Iterator[Row]:
        """Yields rows as they become known; cases that ask for it get a process of their own, one at a time.

        Raises:
            BrodmannError: A training failed, or a process was killed.
            Interrupted: A signal came to a process.
        """
        together, alone = ([case for case in cases if case.alone is apart] for apart in (False, True))
        yield from self._carried_out(together, self.jobs)
        if alone:
            self._end()  # others would take memory beside them
            yield from self._carried_out(alone, 1, cases_each=1)
            self._end()

    def _carried_out(self, cases: list[Case], count: int, cases_each: int | None = None) -> Iterator[Row]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, context, _start, (os.getpid(),), max_tasks_per_child=cases_each)
        waiting = iter(cases)
        running: set[Future[Row]] = set()
        try:
            while True:
                # No more than one case in hand for each worker: what is lost in a kill is what was running.
                for case in waiting:
                    running.add(self._pool.submit(work, case, count))
                    if len(running) >= count:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    row = future.result()
                    if "interrupted" in row:
                        raise Interrupted(row["interrupted"])
                    yield row
        except BrokenProcessPool:
            raise BrodmannError(
                "A worker of the benchmark was killed, perhaps for memory: run fewer at a time with --jobs 1; rows "
                'that are done are kept. A script calls run_recipes under `if __name__ == "__main__":`, since workers '
                "read it too."
            ) from None

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def work(case: Case, jobs: int) -> Row:
    """Carries out a case as one of ``jobs`` workers; returns its row, or the signal that interrupted it."""
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


def _start(parent: int) -> None:
    torch.set_num_threads(1)
    import_extensions()
    torch.use_deterministic_algorithms(True, warn_only=True)

    def watch() -> None:
        # A worker whose parent was killed would wait for work for ever.
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
