"""`brodmann train`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from ..errors import BrodmannError, warn
from ..files import expanded
from ..losses.scores import SCORES
from ..runs import Run, RunOptions, continue_run, inspect_run, start_run
from ..training import Callback, Interrupted, ProgressBar, TensorBoard
from ..training.signals import interrupting_sigterm
from .output import say, say_json, say_table


@dataclass(frozen=True)
class Train(RunOptions):
    """Trains a network without backpropagation, or with it as the baseline."""

    dataset: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[DATASET]")]] = "digits"
    """Name of a data set, or path of an .npz, .csv or .tsv file; see `brodmann data list`. Put it before --width
    and --channels, which take all words that follow."""
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
    """Also train a twin by backpropagation: a dense network with as many parameters as the network uses for one sample,
    or convolutions with the same channels."""
    tensorboard: bool = False
    """Write TensorBoard events too."""
    json: bool = False
    """Print the result as one JSON object instead of a table."""
    figures: bool = True
    """Draw figures into the run folder."""

    def run(self) -> None:
        """Trains, prints the result, draws the figures."""
        if self.tensorboard:
            TensorBoard.check_installed()  # before an old run goes
        folder = self._folder()
        result = self._trained(folder)
        if not self.json:
            _print_results([result, result["backpropagation"]] if "backpropagation" in result else [result])
        problem = _draw(folder, self.data_dir) if self.figures else None
        if self.json:
            say_json(result if problem is None else {**result, "problem": problem})
            return
        if problem is not None:
            say(f"No figures: {problem}")
        say(f"Everything is in {folder}")

    def _folder(self) -> Path:
        """Returns the folder of the run that goes on, or of a new one."""
        if self.resume is not None:
            return self.resume
        if self.checkpoint is not None:
            raise BrodmannError("--checkpoint needs --resume: name the run folder that holds the checkpoint.")
        return self._prepared()

    def _trained(self, folder: Path) -> dict[str, Any]:
        """Trains a run to its end, and returns its result; ends the program if a signal comes first."""
        with_events = self.tensorboard or _goes_on_with_events(folder)

        def callbacks(place: Path, options: RunOptions) -> list[Callback]:
            extra: list[Callback] = [TensorBoard(place / "tensorboard")] if with_events else []
            return [ProgressBar(f"{Path(options.dataset).name} {options.rule}"), *extra]

        try:
            return continue_run(folder, checkpoint=self.checkpoint, callbacks=callbacks, data_dir=self.data_dir)
        except Interrupted as stop:
            command = Run.read(folder).resume_command()
            print(f"{stop} after a whole step; go on with `{command}`.", file=sys.stderr)
            sys.exit(128 + stop.number)

    def _prepared(self) -> Path:
        """Returns the folder of a new run; if it cannot begin, or a signal comes first, none is left behind."""
        options, folder = self._options(), self.out
        try:
            with interrupting_sigterm():
                folder = folder or free_folder(options)
                start_run(options, folder, data_dir=self.data_dir, compare=self.compare, overwrite=self.overwrite)
        except BaseException as error:
            if self.out is None and folder is not None:
                with contextlib.suppress(OSError):  # something is in it already
                    folder.rmdir()  # claimed in vain
            if isinstance(error, Interrupted):
                print(f"{error} before the training began.", file=sys.stderr)
                sys.exit(128 + error.number)
            raise
        return folder

    def _options(self) -> RunOptions:
        return RunOptions(**{field.name: getattr(self, field.name) for field in fields(RunOptions)})

    def check_resumed(self, arguments: list[str]) -> None:
        """Raises if the arguments of the command ask for what the run to be resumed does not have.

        They are read once more with the run's own options as the defaults: what differs then was given.
        """
        assert self.resume is not None
        run = Run.read(self.resume)
        given = tyro.cli(Train, args=arguments, default=Train(**vars(run.options)))
        for name, value in vars(given._options()).items():
            own = getattr(run.options, name)
            if value != own:
                option = "the data set" if name == "dataset" else f"--{name.replace('_', '-')}"
                raise BrodmannError(
                    f"--resume keeps the run's own options, in which {option} is {own}: leave {value} out, or start a "
                    "new run."
                )
        if self.out not in (None, self.resume) or self.overwrite or (self.compare and not run.compare):
            raise BrodmannError("--resume continues the run as it is: leave out --out, --overwrite and --compare.")


def _goes_on_with_events(folder: Path) -> bool:
    """Whether a run has events and can go on writing them; warns if TensorBoard is gone, which nobody asked for."""
    if not (expanded(folder) / "tensorboard").is_dir():
        return False
    try:
        TensorBoard.check_installed()
    except BrodmannError as error:
        warn(f"The events of this run are not continued: {error}")
        return False
    return True


def free_folder(options: RunOptions) -> Path:
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


def _draw(folder: Path, data_dir: str | None) -> str | None:
    """Draws the figures of a run; returns what kept it from that, if anything did."""
    try:
        inspect_run(folder, data_dir).draw()
    except BrodmannError as error:
        return str(error)
    return None


def _print_results(results: list[dict[str, Any]]) -> None:
    metric = next(name for name in SCORES if f"test_{name}" in results[0])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("rule", "areas", "width", "test", "validation", "active", "total", "seconds"):
        table.add_column(name)
    for row in results:
        sizes, scores = row.get("channels") or row["width"], (row[f"test_{metric}"], row[f"validation_{metric}"])
        table.add_row(
            row["rule"],
            str(row["areas"]),
            row.get("builder") or ", ".join(map(str, sizes if isinstance(sizes, Sequence) else [sizes])),
            *("-" if score is None else f"{score:.4f}" for score in scores),
            f"{row['active_parameters']:,}",
            f"{row['total_parameters']:,}",
            f"{row['train_seconds']:.2f}",
        )
    say_table(table)
    say(f"{metric} on the test and validation parts; active and total count parameters", "dim")
    use = results[0]["effective_areas"]
    if use:
        where = "" if len(use) == 1 else " per layer"
        say(f"effective areas{where}: " + ", ".join(f"{value:.1f}" for value in use))
