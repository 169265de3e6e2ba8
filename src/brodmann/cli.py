"""The command line: thin, every command is one call into the library."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from . import __version__, bench
from .bench.estimate import core_hours
from .bench.tuner import TRIALS
from .callbacks import ProgressBar, TensorBoard
from .data import available, fetch, load_inputs
from .doctor import diagnose
from .errors import BrodmannError, unknown_name
from .inspection import inspect_run
from .options import RunOptions
from .runs import continue_run, read_options, read_run, read_targets, run_data, start_run
from .scoring import evaluate
from .training import Callback, Interrupted

OUT = Console()


@dataclass(frozen=True)
class Train(RunOptions):
    """Trains a network without backpropagation, or with it as the baseline."""

    dataset: tyro.conf.Positional[str] = "digits"
    """Name of a data set, or path of an .npz or .csv file; see `brodmann data list`."""
    data_dir: str | None = None
    """Folder of the data (default: BRODMANN_DATA, then a cache folder)."""
    out: Path | None = None
    """Run folder (default: runs/DATASET-RULE-N with the next free N)."""
    overwrite: bool = False
    """Replace the run folder if it exists."""
    resume: Path | None = None
    """Go on with this run; all other options come from the run itself."""
    checkpoint: str | None = None
    """With --resume: name of the checkpoint to go back to (default: the newest)."""
    compare: bool = False
    """Also train the backpropagation twin at equal active parameters."""
    tensorboard: bool = False
    """Write TensorBoard events too."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    figures: bool = True
    """Draw figures into the run folder."""

    def run(self) -> None:
        """Trains, prints the result, draws the figures."""
        if self.resume is not None:
            folder = self.resume
            self._check_resumed(*read_options(folder))
        else:
            if self.checkpoint is not None:
                raise BrodmannError("--checkpoint goes with --resume: name the run folder that holds it.")
            options = self._options()
            folder = self.out or _free_folder(options)
            try:
                start_run(options, folder, data_dir=self.data_dir, compare=self.compare, overwrite=self.overwrite)
            except BrodmannError:
                if self.out is None:
                    folder.rmdir()  # claimed in vain
                raise

        def watchers(place: Path, options: RunOptions) -> list[Callback]:
            extra: list[Callback] = [TensorBoard(place / "tensorboard")] if self.tensorboard else []
            return [ProgressBar(f"{options.dataset} {options.rule}"), *extra]

        try:
            result = continue_run(folder, checkpoint=self.checkpoint, callbacks=watchers, data_dir=self.data_dir)
        except Interrupted as stop:
            print(f"{stop} after a whole step; go on with `brodmann train --resume {folder}`.", file=sys.stderr)
            sys.exit(128 + stop.number)
        _print_results([result, result["backpropagation"]] if "backpropagation" in result else [result])
        if self.figures:
            _draw(folder, self.data_dir)
        OUT.print(f"Everything is in {folder}")
        if self.json:
            print(json.dumps(result))

    def _options(self) -> RunOptions:
        return RunOptions(**{field.name: getattr(self, field.name) for field in fields(RunOptions)})

    def _check_resumed(self, stored: RunOptions, compared: bool) -> None:
        """Raises where an option was given that the run to be resumed does not have."""
        for name, value in vars(self._options()).items():
            own = getattr(stored, name)
            if value not in (own, getattr(RunOptions, name)):
                option = "the data set" if name == "dataset" else f"--{name.replace('_', '-')}"
                raise BrodmannError(
                    f"--resume goes on with the run's own options, and there {option} is {own}: leave {value} out, or "
                    "start a new run."
                )
        if self.out not in (None, self.resume) or self.overwrite or self.compare > compared:
            raise BrodmannError("--resume goes on with the run as it is: leave --out, --overwrite and --compare out.")


@dataclass(frozen=True)
class Evaluate:
    """Scores a finished run on its test part."""

    run_folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Run folder."""
    data_dir: str | None = None
    """Folder of the data, if not where it was."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Prints loss and accuracy."""
        network, options, _, _ = read_run(self.run_folder)
        _, split = run_data(self.run_folder, self.data_dir)
        dtype = network.dtype
        target = split.y_test.to(dtype) if split.y_test.is_floating_point() else split.y_test
        scores = {f"test_{name}": value for name, value in evaluate(network, split.x_test.to(dtype), target).items()}
        if self.json:
            print(json.dumps({"dataset": options.dataset, "rule": options.rule, **scores, "run": str(self.run_folder)}))
            return
        OUT.print(f"{options.dataset}, {options.rule}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))


@dataclass(frozen=True)
class Predict:
    """Predicts for every sample of a file (.npz with x or x_test, .npy, .csv)."""

    run_folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Run folder."""
    file: tyro.conf.Positional[Path]
    """Samples, raw as in the data set."""
    json: bool = False
    """Print one JSON object instead of a line per sample."""

    @torch.no_grad()
    def run(self) -> None:
        """Prints a class name (or the target values) per sample."""
        network, _, preprocessing, config = read_run(self.run_folder)
        x = load_inputs(self.file, preprocessing)
        outputs = network(x.to(network.dtype))
        if config["regression"]:
            scale = read_targets(self.run_folder)
            predictions: list[Any] = (outputs if scale is None else scale.undo(outputs)).tolist()
        else:
            predictions = [config["classes"][index] for index in outputs.argmax(1).tolist()]
        if self.json:
            print(json.dumps({"run": str(self.run_folder), "predictions": predictions}))
            return
        for prediction in predictions:
            print(" ".join(map(str, prediction)) if isinstance(prediction, list) else prediction)


@dataclass(frozen=True)
class Inspect:
    """Shows areas, alignment of errors and curves of a finished run, as tables and figures."""

    run_folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Run folder."""
    data_dir: str | None = None
    """Folder of the data, if not where it was."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> None:
        """Prints the tables, draws the figures."""
        inspection = inspect_run(self.run_folder, self.data_dir)
        if self.json:
            print(json.dumps(inspection.as_dict()))
            return
        if inspection.usage:
            table = Table("layer", "areas", "in use", "effective", "entropy (nats)", title="Use of areas (test part)")
            for row in inspection.usage:
                areas, layer = len(row.counts), row.layer or "whole network"
                table.add_row(layer, str(areas), str(areas - row.dead), f"{row.effective:.2f}", f"{row.entropy:.3f}")
            OUT.print(table)
        if inspection.alignment:
            table = Table("layer", "cosine", "norm ratio", "error norm", title="Error against the true gradient")
            for line in inspection.alignment:
                table.add_row(line.layer, f"{line.cosine:.4f}", f"{line.norm_ratio:.3g}", f"{line.error_norm:.3g}")
            OUT.print(table)
        for path in inspection.figures:
            OUT.print(f"figure: {path}", soft_wrap=True)


@dataclass(frozen=True)
class DataList:
    """Lists data sets and whether they are on this machine."""

    data_dir: str | None = None
    """Folder of the data."""

    def run(self) -> None:
        """Prints a table."""
        table = Table("name", "kind", "here", "where")
        for row in available(self.data_dir):
            table.add_row(row.name, row.kind, "yes" if row.present else "no", str(row.where))
        OUT.print(table)


@dataclass(frozen=True)
class DataFetch:
    """Downloads a data set. No other command ever downloads."""

    name: tyro.conf.Positional[str]
    """Name of the data set."""
    data_dir: str | None = None
    """Folder to put it into."""

    def run(self) -> None:
        """Downloads."""
        OUT.print(f"{self.name} is in {fetch(self.name, self.data_dir)}")


DataCommand = Annotated[DataList, tyro.conf.subcommand("list")] | Annotated[DataFetch, tyro.conf.subcommand("fetch")]


@dataclass(frozen=True)
class Data:
    """Lists and fetches data sets."""

    command: tyro.conf.OmitSubcommandPrefixes[DataCommand]

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()


@dataclass(frozen=True)
class Doctor:
    """Tells what runs on this machine, what does not, and why."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Prints a line per finding."""
        findings = diagnose()
        if self.json:
            print(json.dumps(findings))
            return
        for name, finding in findings.items():
            OUT.print(f"{name:17} {finding}", soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Bench:
    """Runs a benchmark: ten, depth, scale, convergence, interference, or all. It can be killed and started again."""

    name: tyro.conf.Positional[str]
    """Name of the recipe, or all."""
    quick: bool = False
    """A small version, on digits and semeion."""
    seeds: int | None = None
    """Seeds of each row (default: the recipe's own)."""
    sets: tuple[str, ...] | None = None
    """Data sets (default: the recipe's own that are on this machine)."""
    methods: tuple[str, ...] | None = None
    """Methods, as tables call them (default: all of the recipe)."""
    protocols: tuple[str, ...] = ("tuned", "paper")
    """Protocols of the recipe ten."""
    jobs: int = 1
    """Trainings at a time, one thread each; times count as measured with 1 alone."""
    trials: int = TRIALS
    """Settings that a search tries per method and data set."""
    search: bool = False
    """Search again where the package holds chosen settings."""
    out: Path | None = None
    """Folder of the rows (default: runs/bench, or runs/bench-quick)."""
    data_dir: Path | None = None
    """Folder of the data (default: BRODMANN_DATA, then a cache folder)."""
    estimate: bool = False
    """Only print how many core-hours it will take."""

    def run(self) -> None:
        """Runs what is missing, then writes the report."""
        seeds = 1 if self.seeds is None else self.seeds
        if min(self.jobs, self.trials, seeds) < 1 or max(self.jobs, self.trials, seeds) > 10_000:
            raise BrodmannError("Expected --jobs, --trials and --seeds of 1 to 10,000.")
        if unknown := set(self.protocols) - {"tuned", "paper"}:
            raise unknown_name("protocol", sorted(unknown)[0], ("tuned", "paper"))
        if self.data_dir is not None:
            os.environ["BRODMANN_DATA"] = str(self.data_dir.resolve())  # the workers inherit it
        names = list(bench.RECIPES) if self.name == "all" else [self.name]
        plan = bench.Plan(self.quick, self.seeds, self.protocols, self.sets, self.methods)
        if self.estimate:
            cases = [case for name in names for case in bench.cases_of(name, plan)]
            hours = core_hours(cases, self.trials, search=self.search or self.quick)
            for name, value in hours.items():
                OUT.print(f"{name:14} {value:8.2f} core-hours")
            OUT.print(f"{'in all':14} {sum(hours.values()):8.2f} core-hours on this machine, idle")
            return
        folder = self.out or Path("runs") / ("bench-quick" if self.quick else "bench")
        try:
            bench.run_recipes(names, plan, folder, jobs=self.jobs, trials=self.trials, search=self.search)
        except (KeyboardInterrupt, Interrupted) as stop:
            print("stopped; the same command goes on from here.", file=sys.stderr)
            sys.exit(128 + (stop.number if isinstance(stop, Interrupted) else 2))
        _print_report(bench.write_report(folder))


@dataclass(frozen=True)
class Report:
    """Writes the report of a benchmark: one HTML page, Markdown tables, figures."""

    folder: tyro.conf.Positional[Path]
    """Folder of the rows."""

    def run(self) -> None:
        """Writes it."""
        _print_report(bench.write_report(self.folder))


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 2 on a user's error, 128 + signal when stopped."""
    try:
        if (sys.argv[1:] if arguments is None else arguments) == ["--version"]:
            print(f"brodmann {__version__}")
            return
        command: Any = tyro.cli(
            Command,
            prog="brodmann",
            description="Train deep networks without backpropagation, by Selective Adaptive Learning. "
            "`brodmann COMMAND --help` lists a command's options, `brodmann --version` says which one this is.",
            args=arguments,
        )
        command.run()
        sys.stdout.flush()
    except BrodmannError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except MemoryError:
        print("error: There is not enough memory: use fewer areas, layers, units or samples.", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # who reads our lines has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # names too long, folders that cannot be read or emptied
        print(f"error: Cannot use {error.filename}: {error.strerror}. Choose another path.", file=sys.stderr)
        sys.exit(2)


def _free_folder(options: RunOptions) -> Path:
    """Makes the next free run folder: another command that starts at the same moment gets the one after."""
    stem = f"{Path(options.dataset).stem}-{options.rule}".replace(":", "-")
    number = 0
    while True:
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BrodmannError(f"Cannot write {folder}: {error.strerror}. Choose a folder with --out.") from None
        return folder


def _draw(folder: Path, data_dir: str | None) -> None:
    try:
        inspect_run(folder, data_dir)
    except BrodmannError as error:
        OUT.print(f"No figures: {error}")


def _print_report(report: bench.Report) -> None:
    for problem in report.problems:
        OUT.print(f"problem: {problem}", soft_wrap=True, highlight=False)
    OUT.print(f"{report.page}\n{report.markdown}\n{report.figures}", soft_wrap=True, highlight=False)


def _print_results(results: list[dict[str, Any]]) -> None:
    metric = "test_accuracy" if "test_accuracy" in results[0] else "test_r2"
    held_out = metric.replace("test", "validation")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rule", overflow="fold")
    for name in ("areas", "width", "test", "validation", "active", "total", "seconds"):
        table.add_column(name, no_wrap=True)
    for row in results:
        table.add_row(
            row["rule"],
            str(row["areas"]),
            str(row["width"]),
            f"{row[metric]:.4f}",
            "-" if row[held_out] is None else f"{row[held_out]:.4f}",
            f"{row['active_parameters']:,}",
            f"{row['total_parameters']:,}",
            f"{row['train_seconds']:.2f}",
        )
    OUT.print(table)
    OUT.print(
        f"{metric.removeprefix('test_')} on test and validation part; active and total are numbers of parameters",
        style="dim",
    )
    use = results[0]["effective_areas"]
    if use:
        where = "" if len(use) == 1 else " per layer"
        OUT.print(f"effective areas{where}: " + ", ".join(f"{value:.1f}" for value in use))
