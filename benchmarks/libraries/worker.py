"""Trains networks of one library: reads a job per line from standard input and answers it by a line of JSON.

`libraries.py` starts it, as `worker.py LIBRARY CORES`, with the interpreter in which that library is installed. It
needs NumPy and the library, nothing else. Not more than so many cores are used; 0 leaves this to the system.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from learner import Learner, Task

Build = Callable[[Task], Learner]
Job = dict[str, Any]
Data = dict[str, np.ndarray]

WARM_UP = 5
BLOCK = 10
"""Steps between two readings of the clock."""
LEAST_BLOCKS, MOST_BLOCKS = 3, 100


def peak_memory() -> int | None:
    """Returns the largest memory that this process has had so far, in bytes, or None where the system does not say.

    `getrusage` would count what the process had that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def grown(before: int | None) -> int | None:
    """Returns by how much the peak has risen since."""
    now = peak_memory()
    return None if before is None or now is None else now - before


def batches(samples: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the rows of every batch; those that are left over at the end of an epoch are left out."""
    draw = np.random.default_rng(seed)
    for _ in range(epochs):
        order = draw.permutation(samples)
        yield from (order[at : at + size] for at in range(0, samples - size + 1, size))


def train(build: Build, task: Task, job: Job, data: Data) -> dict[str, Any]:
    """Trains a network; returns its predictions of the validation and the test part."""
    learner = build(task)
    x, y = data["x_train"], data["y_train"]
    for rows in batches(len(x), job["batch"], job["epochs"], task.seed):
        learner.step(learner.batch(x[rows], y[rows]))
    return {part: learner.predict(data[f"x_{part}"]).tolist() for part in ("validation", "test")}


def measure(build: Build, task: Task, job: Job, data: Data) -> dict[str, Any]:
    """Times steps on a few batches that are ready; returns milliseconds of a step, block by block, and the memory."""
    before = peak_memory()
    learner = build(task)
    x, y = data["x_train"], data["y_train"]
    ready = [learner.batch(x[rows], y[rows]) for rows in batches(len(x), job["batch"], 1, task.seed)]
    turns = itertools.cycle(ready)
    times: list[float] = []

    def block(steps: int) -> float:
        began = time.perf_counter()
        for batch in itertools.islice(turns, steps):
            learner.step(batch)
        learner.finish()
        return 1e3 * (time.perf_counter() - began) / steps

    block(WARM_UP)
    until = time.perf_counter() + job["seconds"]
    while len(times) < LEAST_BLOCKS or (time.perf_counter() < until and len(times) < MOST_BLOCKS):
        times.append(round(block(BLOCK), 4))
    return {"milliseconds": times, "training": grown(before)}


def answer(build: Build, job: Job, data: Data) -> dict[str, Any]:
    """Does what a job asks for; a library's error is an answer too."""
    x = data["x_train"]
    extent = float(x.min()), float(x.max())
    task = Task(tuple(job["sizes"]), job["lr"], job["seed"], extent, job["settings"])
    try:
        return {"train": train, "time": measure}[job["do"]](build, task, job, data)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some libraries print

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=out, flush=True)

    library, cores = sys.argv[1], int(sys.argv[2])
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    before = peak_memory()
    try:
        build = importlib.import_module(f"with_{library}").build
    except ModuleNotFoundError as error:
        return tell(missing=error.name)
    except Exception as error:
        return tell(error=f"{type(error).__name__}: {error}")
    tell(imported=grown(before))
    read, data = "", {}
    for line in sys.stdin:
        job = json.loads(line)
        if job["data"] != read:
            with np.load(job["data"]) as file:
                read, data = job["data"], dict(file)
        tell(**answer(build, job, data))
    return None


if __name__ == "__main__":
    main()
