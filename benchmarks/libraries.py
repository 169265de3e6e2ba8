"""Brodmann beside other libraries: the same perceptron, batches and search; test accuracy, time of a step and memory.

Run: python benchmarks/libraries.py [--sets mnist letter] [--libraries brodmann pytorch ...] [--only accuracy | time]
[--python LIBRARY=INTERPRETER ...] [--out runs/libraries.jsonl] [--page docs/results.md]
Libraries whose requirements exclude one another may each have an environment of their own, whose interpreter --python
names; all others run in the present one. What is not installed is left out, with a notice. --out keeps every result:
the same command goes on, and makes times anew. Times want an idle machine.

Rates are searched on the validation part, with seed 0: 0.001 and 0.003 (Forward-Forward, whose example has 0.02: 0.01
and 0.03), then the next smaller or larger as long as the best is at the edge; then, at the best rate, what an adapter
has to choose from. Without decay, by Adam.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from output import markdown, put

from brodmann.data import load
from brodmann.files import write_bytes

HERE = Path(__file__).parent
WORKER = HERE / "libraries" / "worker.py"
PACKAGES = {  # of an adapter: what pip installs
    "brodmann": "brodmann",
    "pytorch": "torch",
    "scikit_learn": "scikit-learn",
    "biotorch": "biotorch",
    "fflib": "fflib",
    "pcx": "pcx",
    "jpc": "a clone of jpc",
}
EPOCHS = {"mnist": 3}
USUAL_EPOCHS = 10
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
BATCH = 128
TIMED_SAMPLES = 8 * BATCH


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        library: The name of its adapter.
        settings: For the adapter.
        choices: Settings of the library's own that are searched: the first value is the one at which rates are.
        rates: The first two that are tried.
    """

    library: str
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    rates: tuple[float, float] = (1e-3, 3e-3)


METHODS = {
    "Brodmann, Kolen-Pollack, 1 area": Method("brodmann", {"areas": 1}),
    "Brodmann, Kolen-Pollack, 16 areas": Method("brodmann", {"areas": 16}),
    "Brodmann, sign-symmetric": Method("brodmann", {"areas": 1, "feedback": "sign"}),
    "Brodmann, fixed random": Method("brodmann", {"areas": 1, "feedback": "random"}),
    "Brodmann, direct": Method("brodmann", {"areas": 1, "feedback": "direct"}),
    "Brodmann, transpose": Method("brodmann", {"areas": 1, "feedback": "transpose"}),
    "PyTorch, autograd": Method("pytorch"),
    "scikit-learn, MLPClassifier": Method("scikit_learn"),
    "BioTorch, backpropagation": Method("biotorch", {"mode": "backpropagation"}),
    "BioTorch, uniform sign-symmetric (usf)": Method("biotorch", {"mode": "usf"}),
    "BioTorch, batchwise random sign-symmetric (brsf)": Method("biotorch", {"mode": "brsf"}),
    "BioTorch, fixed random sign-symmetric (frsf)": Method("biotorch", {"mode": "frsf"}),
    "BioTorch, fixed random (fa)": Method("biotorch", {"mode": "fa"}),
    "BioTorch, direct (dfa)": Method("biotorch", {"mode": "dfa"}),
    "fflib, Forward-Forward": Method("fflib", {}, {"threshold": (2, 0.5, 20)}, (1e-2, 3e-2)),
    "pcx, predictive coding": Method("pcx", {"iterations": 8}, {"rate of units": (0.05, 0.01, 0.3)}),
    "jpc, predictive coding": Method("jpc", {"loss": "mse"}),
}
Row = dict[str, Any]
Settings = dict[str, Any]


class Worker:
    """A process that trains networks of one library.

    Raises:
        ImportError: The library is not installed, or cannot be imported.
    """

    def __init__(self, library: str, interpreter: str, threads: int, *, pinned: bool = False) -> None:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            [interpreter, str(WORKER), library, str(threads if pinned else 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **limits},
            text=True,
        )
        self.greeting = self.read()
        if missing := self.greeting.get("missing"):
            self.close()
            raise ImportError(
                f"{library} is left out: {interpreter} has no {missing}. Install {PACKAGES[library]} there, or name "
                f"another interpreter: --python {library}=INTERPRETER."
            )
        if error := self.greeting.get("error"):
            self.close()
            raise ImportError(f"{library} is left out: it cannot be imported by {interpreter} ({error}).")

    def read(self) -> Row:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"the process ended with status {self.process.wait()}"}

    def ask(self, **job: Any) -> Row:
        """Returns the answer to a job; one that failed has ``error``."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            print(json.dumps(job), file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        self.process.communicate()  # at the end of its input it stops


def save(name: str, folder: Path) -> tuple[Row, dict[str, np.ndarray]]:
    """Writes a data set for the workers; returns where it is and how large, and its parts."""
    split = load(name).split(validation=0.1, seed=0)
    names = [f"{kind}_{part}" for kind in "xy" for part in ("train", "validation", "test")]
    arrays = {part: getattr(split, part).numpy() for part in names}
    path = folder / f"{name}.npz"
    np.savez(path, **arrays)
    return {"data": str(path), "inputs": split.x_train.shape[1], "outputs": split.outputs}, arrays


def save_few(task: Row, arrays: dict[str, np.ndarray], folder: Path) -> Row:
    """Writes a few samples, by which the memory of a process hardly grows."""
    path = folder / "few.npz"
    np.savez(path, x_train=arrays["x_train"][:TIMED_SAMPLES], y_train=arrays["y_train"][:TIMED_SAMPLES])
    return task | {"data": str(path)}


def search(
    method: Method, accuracy: Callable[[float, dict[str, Any]], float]
) -> tuple[float, dict[str, Any], list[Row]]:
    """Returns the rate and the settings of the best validation accuracy, and all that was tried.

    Args:
        method: What is searched.
        accuracy: A function of a rate and settings.
    """
    tried: list[Row] = []
    settings = method.settings | {name: values[0] for name, values in method.choices.items()}

    def score(place: int) -> float:
        tried.append({"rate": RATES[place], "settings": dict(settings), "validation": accuracy(RATES[place], settings)})
        return tried[-1]["validation"]

    found = {place: score(place) for place in map(RATES.index, method.rates)}
    while True:
        best = max(found, key=lambda place: found[place])
        beyond = [place for place in (best - 1, best + 1) if place in range(len(RATES)) and place not in found]
        if not beyond:
            break
        found |= {place: score(place) for place in beyond}
    for name, values in method.choices.items():
        scores = {values[0]: found[best]}
        for value in values[1:]:
            settings[name] = value
            scores[value] = score(best)
        settings[name] = max(scores, key=lambda value: scores[value])
    return RATES[best], settings, tried


def measure_accuracy(
    name: str, worker: Worker, task: Row, truth: dict[str, np.ndarray], hidden: list[int], epochs: int, seeds: int
) -> Row:
    """Searches the rate of a method, trains with every seed, and returns a row."""
    method = METHODS[name]
    common = {"data": task["data"], "sizes": [task["inputs"], *hidden, task["outputs"]], "batch": BATCH}
    answers: dict[str, Row] = {}

    def train(rate: float, settings: Settings, seed: int) -> Row:
        key = json.dumps((rate, settings, seed))
        if key not in answers:
            answers[key] = worker.ask(do="train", **common, lr=rate, settings=settings, seed=seed, epochs=epochs)
        return answers[key]

    def right(answer: Row, part: str) -> float:
        """Returns the share of right predictions, 0 of a training that failed, as by divergence."""
        return float(np.mean(np.array(answer[part]) == truth[f"y_{part}"])) if part in answer else 0.0

    rate, settings, tried = search(method, lambda rate, settings: right(train(rate, settings, 0), "validation"))
    final = [train(rate, settings, seed) for seed in range(seeds)]
    row = {"rate": rate, "settings": settings, "tried": tried, "test": [right(answer, "test") for answer in final]}
    errors = [answer["error"] for answer in answers.values() if "error" in answer]
    return row | ({"errors": errors} if errors else {})


def measure_time(name: str, interpreter: str, threads: int, task: Row, options: argparse.Namespace) -> Row:
    """Times a step of a method in new processes, one after the other; returns a row, of the first one's memory.

    Raises:
        ImportError: The library is not installed, or cannot be imported.
    """
    method = METHODS[name]
    settings = method.settings | {name: values[0] for name, values in method.choices.items()}
    sizes = [task["inputs"], *options.hidden, task["outputs"]]
    job = {"data": task["data"], "sizes": sizes, "batch": BATCH, "lr": 1e-3, "settings": settings, "seed": 0}
    row: Row = {}
    for _ in range(options.processes):
        with closing(Worker(method.library, interpreter, threads, pinned=True)) as worker:
            answer = worker.ask(do="time", **job, seconds=options.seconds)
        if "error" in answer:
            return answer
        row.setdefault("milliseconds", []).append(answer["milliseconds"])
        row.setdefault("imported", worker.greeting["imported"])
        row.setdefault("training", answer["training"])
    return row


class Rows:
    """Results by what they are of; kept in a file, if there is one, to which several runs may add at the same time."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self.rows[json.dumps(row["key"])] = row

    def get(self, key: list[Any]) -> Row | None:
        return self.rows.get(json.dumps(key))

    def add(self, key: list[Any], row: Row) -> None:
        self.rows[json.dumps(key)] = {"key": key, **row}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(self.rows[json.dumps(key)]) + "\n")


def failed(row: Row | None) -> bool:
    """Returns whether there is no result: of a method that was not measured, or every training of which failed."""
    return row is None or not any(row["test"])


def accuracy_cell(row: Row | None) -> str:
    if row is None or failed(row):
        return "-" if row is None else "fails"
    test = [100 * share for share in row["test"]]
    spread = f" ± {statistics.stdev(test):.2f}" if len(test) > 1 else ""
    return f"{statistics.mean(test):.2f}{spread}"


def rate_cell(name: str, row: Row | None) -> str:
    chosen = [f"{setting} {row['settings'][setting]}" for setting in METHODS[name].choices] if row else []
    return ", ".join([f"{row['rate']:g}", *chosen]) if row else "-"


def time_cell(row: Row | None) -> str:
    """Returns the median of the processes' medians: in some, a core of a virtual machine is slow throughout."""
    if row is None or "milliseconds" not in row:
        return "-"
    return f"{statistics.median(map(statistics.median, row['milliseconds'])):.2f}"


def memory_cell(row: Row | None) -> str:
    if row is None or row.get("imported") is None or row.get("training") is None:
        return "-"
    return f"{row['imported'] / 1e6:.0f} + {row['training'] / 1e6:.0f}"


def table(rows: Rows, options: argparse.Namespace) -> str:
    """Returns the results as a Markdown table."""
    head = ["method"]
    for name in options.sets:
        head += [f"{name}, %", "rate"]
    head += [f"step, {threads} thread{'s' if threads > 1 else ''}, ms" for threads in options.threads]
    lines = []
    for name, method in METHODS.items():
        if method.library in options.libraries:
            line = [name]
            for data in options.sets:
                row = rows.get(accuracy_key(options, data, name))
                line += [accuracy_cell(row), rate_cell(name, row)]
            timed = [rows.get(time_key(options, threads, name)) for threads in options.threads]
            lines.append([*line, *map(time_cell, timed), memory_cell(timed[0])])
    return markdown([*head, "memory, MB"], lines)


def report(line: str, errors: Sequence[str] = ()) -> None:
    print(line, *sorted(set(errors)), sep="\n  ", file=sys.stderr, flush=True)


def epochs_of(options: argparse.Namespace, data: str) -> int:
    return options.epochs or EPOCHS.get(data, USUAL_EPOCHS)


def accuracy_key(options: argparse.Namespace, data: str, name: str) -> list[Any]:
    return ["accuracy", data, name, options.hidden, epochs_of(options, data), options.seeds]


def time_key(options: argparse.Namespace, threads: int, name: str) -> list[Any]:
    return ["time", options.sets[0], name, options.hidden, threads]


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mnist", "letter"], help="steps are timed with the first")
    parser.add_argument("--libraries", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--python", nargs="+", default=[], metavar="LIBRARY=INTERPRETER", help="where it is installed")
    parser.add_argument("--only", choices=("accuracy", "time"))
    parser.add_argument("--epochs", type=int, help=f"default: {USUAL_EPOCHS}, of MNIST {EPOCHS['mnist']}")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256], help="units of the hidden layers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of timed steps")
    parser.add_argument("--processes", type=int, default=5, help="in which steps are timed, one after the other")
    parser.add_argument("--seconds", type=float, default=1.0, help="for which each of them times steps, at most")
    parser.add_argument("--out", type=Path, help="a file of results, which is continued")
    parser.add_argument("--page", type=Path, help="a page that has a place for the table")
    options = parser.parse_args()
    named = dict(entry.split("=", 1) if "=" in entry else (entry, "") for entry in options.python)
    for library, interpreter in named.items():
        if library not in PACKAGES:
            parser.error(f"--python: expected LIBRARY=INTERPRETER with one of {', '.join(PACKAGES)}, got {library!r}")
        if not Path(interpreter).is_file():
            parser.error(f"--python: expected the path of an interpreter for {library}, got {interpreter!r}")
    options.python = {library: named.get(library, sys.executable) for library in PACKAGES}
    return options


def measure(options: argparse.Namespace, library: str, tasks: dict[str, Any], few: Row, rows: Rows) -> None:
    """Adds what is measured of a library to the rows.

    Raises:
        ImportError: It is not installed, or cannot be imported.
    """
    names = [name for name, method in METHODS.items() if method.library == library]
    if options.only != "time":
        with closing(Worker(library, options.python[library], threads=1)) as worker:
            for data, (task, truth) in tasks.items():
                for name in names:
                    key = accuracy_key(options, data, name)
                    if failed(rows.get(key)):
                        epochs = epochs_of(options, data)
                        row = measure_accuracy(name, worker, task, truth, options.hidden, epochs, options.seeds)
                        rows.add(key, row)
                        report(f"{data}: {name}: {accuracy_cell(row)}", row.get("errors", []))
    if options.only != "accuracy":
        for threads in options.threads:
            for name in names:
                row = measure_time(name, options.python[library], threads, few, options)
                key = time_key(options, threads, name)
                rows.add(key, row)
                report(f"{threads} threads: {name}: {time_cell(row)} ms", [row["error"]] if "error" in row else [])


def main() -> None:
    """Measures, prints, and puts the table into its place."""
    options = read_arguments()
    rows = Rows(options.out)
    with tempfile.TemporaryDirectory() as folder:
        tasks = {name: save(name, Path(folder)) for name in options.sets}
        few = save_few(*tasks[options.sets[0]], Path(folder))
        for library in options.libraries:
            try:
                measure(options, library, tasks, few, rows)
            except ImportError as error:
                report(str(error))
    text = table(rows, options)
    print(text)
    if options.page:
        write_bytes(options.page, put(options.page.read_text(), "libraries", text).encode())


if __name__ == "__main__":
    main()
