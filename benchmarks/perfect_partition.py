"""The most that a partition can bring on a mixture of two sets: a dense network for each set against one for both.

Run: python benchmarks/perfect_partition.py [--sets mnist cifar10-jpeg] [--seeds 3] [--json]
The mixture is that of `brodmann bench interference`: one pass, batches of 16, no labels of sets. A network for each set
is what areas that share nothing become under a router that never errs: each learns one set and is scored on it. All are
dense networks under autograd by Adam, with 256 hidden units. Learning rate, decay and dropout are chosen on validation
parts from one grid, for the mixture and for each set, by the first seed. The test part is read once for each seed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence

import torch
from output import Result, markdown, show

from brodmann.bench.case import Case
from brodmann.bench.streams import stream_of
from brodmann.runs import RunOptions
from brodmann.runs.assembly import build_learner
from brodmann.streams import NetworkLearner, Task, learn_stream

SETTINGS = ("lr", "decay", "dropout")
CLASSES = 10  # of each set


def mixture(sets: Sequence[str], seed: int, *, trial: bool) -> Task:
    """Returns the mixture as one task, scored on validation parts in a trial."""
    options = RunOptions(dataset=sets[0], seed=seed)
    detail = {"stream": "mixture", "others": list(sets[1:])}
    return stream_of(Case("interference", "dense", options, trial=trial, detail=detail)).tasks[0]


def apart(task: Task) -> list[Task]:
    """Returns a task for each set of a mixture."""
    own = [task.y // CLASSES == number for number in range(len(task.parts))]
    return [Task(task.x[rows], task.y[rows], [part]) for rows, part in zip(own, task.parts, strict=True)]


def scores(task: Task, seed: int, settings: dict[str, float]) -> list[float]:
    """Returns the accuracies in % on the parts of a task, after one pass of a new network."""
    torch.manual_seed(seed)
    options = RunOptions(rule="backprop", areas=1, width=256, **settings)
    learner = NetworkLearner(build_learner(options, task.x.shape[1], 2 * CLASSES))
    return [100 * score for score in learn_stream(learner, [task], batch_size=16, seed=seed)[0]]


def best(task: Task, grid: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the settings with the highest mean accuracy on the parts of a task."""
    return max(grid, key=lambda settings: statistics.mean(scores(task, 0, settings)))


def measured(sets: Sequence[str], seeds: int, grid: Sequence[dict[str, float]]) -> Result:
    """Returns settings and accuracies of one network for both sets, and of a network for each."""
    trial = mixture(sets, 0, trial=True)
    settings = {
        "one network for both": [best(trial, grid)],
        "a network for each": [best(task, grid) for task in apart(trial)],
    }
    accuracies: dict[str, list[list[float]]] = {name: [] for name in settings}
    for seed in range(seeds):
        whole = mixture(sets, seed, trial=False)
        for name, tasks in zip(settings, ([whole], apart(whole)), strict=True):
            found = [scores(task, seed, chosen) for task, chosen in zip(tasks, settings[name], strict=True)]
            accuracies[name].append(list(itertools.chain(*found)))
    return {"sets": list(sets), "settings": settings, "accuracies": accuracies}


def table(result: Result) -> str:
    """Returns a row for each kind of networks: settings, means, and each seed in brackets."""
    rows = []
    for name, accuracies in result["accuracies"].items():
        settings = "; ".join(", ".join(map(str, found.values())) for found in result["settings"][name])
        means = [
            f"{statistics.mean(one):.2f} ({', '.join(f'{seed:.2f}' for seed in one)})"
            for one in zip(*accuracies, strict=True)
        ]
        rows.append([name, settings, *means])
    return markdown(["networks", ", ".join(SETTINGS), *result["sets"]], rows)


def main() -> None:
    """Prints the table, or its numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs=2, default=["mnist", "cifar10-jpeg"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.00012, 0.00024, 0.00048])
    parser.add_argument("--decay", type=float, nargs="+", default=[0.01, 0.03])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.2, 0.4])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    values = itertools.product(*(getattr(options, name) for name in SETTINGS))
    grid = [dict(zip(SETTINGS, each, strict=True)) for each in values]
    show(measured(options.sets, options.seeds, grid), table, as_json=options.json)


if __name__ == "__main__":
    main()
