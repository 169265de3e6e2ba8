"""Run: a folder that holds everything about one training.

``config.json`` options, ``environment.json`` versions and machine, ``metrics.jsonl`` a row per epoch, checkpoints,
``preprocessing.json`` and ``targets.json`` what inputs and targets were scaled by, ``model.safetensors`` the trained
network, ``result.json`` the outcome, ``figures/``.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..baselines import Backpropagation
from ..checks import rows_not_finite
from ..data import Dataset, Preprocessing, Split, data_directory, load_inputs
from ..data.inputs import process_samples
from ..data.targets import TargetScale
from ..errors import BrodmannError, CheckpointError, MissingDataError, UnknownNameError, warn
from ..files import expanded, read_json, write_json
from ..kernels.build import build
from ..network import Network
from ..training import outputs_of
from .assembly import in_dtype_of, loss_of, split_data
from .extensions import import_extensions
from .loading import load_data
from .options import BASELINES, RunOptions
from .version import code_version


@dataclass(frozen=True)
class Run:
    """What a run folder is about, and what it holds.

    Attributes:
        folder: Folder of the run.
        options: What decides its outcome.
        data_dir: Where its data lay at the start, None for the usual place.
        compare: Whether its twin is trained too.
        digest: Digest of its raw data: data that has changed since is refused.
        classes: Names of the classes, None if targets are real numbers.
        columns: Names of the columns of a table, None for other data.
    """

    folder: Path
    options: RunOptions
    data_dir: str | None
    compare: bool
    digest: str
    classes: tuple[str, ...] | None
    columns: tuple[str, ...] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Returns the run of a folder, finished or not.

        Raises:
            BrodmannError: The folder is not a run, or its configuration is damaged.
        """
        folder = expanded(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise BrodmannError(f"{folder} is not a run folder: expected {path}.")
        config = read_json(path)
        known = {field.name for field in fields(RunOptions)}
        keys = {"options", "data_dir", "compare", "digest", "classes"}
        options = config.get("options") if isinstance(config, dict) else None
        if not isinstance(options, dict) or not keys <= set(config) or not set(options) <= known:
            raise BrodmannError(f"{path} is damaged, or was not written by this version.")
        if not isinstance(options.get("dataset"), str):
            raise BrodmannError(f"{path} is damaged: expected the name of a data set, got {options.get('dataset')!r}.")
        classes, columns = config["classes"], config.get("columns")
        if not all(names is None or isinstance(names, list) for names in (classes, columns)):
            raise CheckpointError(f"{path} is damaged: expected lists of the names of classes and columns.")
        return cls(
            folder,
            RunOptions(**options),
            config["data_dir"],
            config["compare"],
            config["digest"],
            classes and tuple(classes),
            columns and tuple(columns),
        )

    @property
    def is_classification(self) -> bool:
        """Whether targets are classes."""
        return self.classes is not None

    def config(self) -> dict[str, Any]:
        """Returns what ``config.json`` holds."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}

    def write(self) -> None:
        """Writes the configuration and the environment."""
        write_json(self.folder / "config.json", self.config())
        write_json(self.folder / "environment.json", _environment())

    def split(self, data_dir: str | None = None) -> Split:
        """Returns the data of the run, split as it was.

        Args:
            data_dir: Folder of the data, if it was moved since the start.

        Raises:
            MissingDataError: It is not there.
            BrodmannError: It has changed since the run began.
        """
        return split_data(self.options, self.data(data_dir))

    def test_part(self, data_dir: str | None = None) -> tuple[Tensor, Tensor]:
        """Returns samples and targets of the test part, processed by what the folder holds, in the run's numbers."""
        data, scale = self.data(data_dir), self.targets()
        y = data.y_test if scale is None else scale(data.y_test)
        return in_dtype_of(self.options, self.preprocessing()(data.x_test), y)

    def data(self, data_dir: str | None = None) -> Dataset:
        """Returns the raw data of the run, see `split`."""
        options, place = self.options, data_dir or self.data_dir
        try:
            data = load_data(options, place)
        except MissingDataError as error:
            try:  # a user's file that lies elsewhere now
                data = load_data(options, place, str(data_directory(place) / Path(options.dataset).name))
            except BrodmannError:
                raise MissingDataError(f"{error} If it has moved, name its folder with --data-dir.") from None
        if data.digest != self.digest:
            raise BrodmannError(
                f"The data set '{data.name}' has changed since this run began (digest {data.digest[:12]}, expected "
                f"{self.digest[:12]}): restore it, or start a new run."
            )
        return data

    def learner(self) -> Network | Backpropagation:
        """Returns the trained learner.

        Raises:
            BrodmannError: The run is not finished, or its network is damaged.

        Warns:
            UserWarning: The user's files have changed since the run began.
        """
        path = self.folder / "model.safetensors"
        if not path.is_file():
            raise BrodmannError(f"{self.folder} is not finished: resume it with `{self.resume_command()}`.")
        self.warn_of_other_code("what it learned may compute otherwise now")
        with self.naming_imports():
            loss = loss_of(self.options, self.is_classification)
            if self.options.rule in BASELINES:
                return Backpropagation.load(path, loss)
            return Network.load(path, loss=loss)

    def imported(self) -> dict[str, str]:
        """Returns the user's files and modules that it began with, and digests of them; none if that is lost."""
        try:
            environment = read_json(self.folder / "environment.json")
        except BrodmannError:  # it only serves to warn and to hint: nothing that it holds is needed
            return {}
        found = environment.get("imported") if isinstance(environment, dict) else None
        return found if isinstance(found, dict) else {}

    def resume_command(self) -> str:
        """Returns the command line that goes on with it."""
        own = "".join(f" --import {shlex.quote(name)}" for name in self.imported())
        return f"brodmann{own} train --resume {shlex.quote(str(self.folder))}"

    @contextmanager
    def naming_imports(self) -> Iterator[None]:
        """Adds to errors about unregistered names, raised inside, which imports of the run are missing."""
        try:
            yield
        except UnknownNameError as error:
            absent = self.imported().keys() - import_extensions().keys()
            if not absent:
                raise
            asked = " ".join(f"--import {shlex.quote(name)}" for name in sorted(absent))
            raise BrodmannError(f"{error} This run imported files of its own: use `brodmann {asked} ...`.") from None

    def warn_of_other_code(self, outcome: str) -> None:
        """Warns if the user's files have changed since it began, and says what comes of it."""
        now = import_extensions()
        for name, digest in self.imported().items():
            if now.get(name, digest) != digest:
                warn(f"{name} has changed since this run began: {outcome}.")

    def preprocessing(self) -> Preprocessing:
        """Returns what turns raw inputs into those that the learner takes."""
        return Preprocessing.from_dict(read_json(self.folder / "preprocessing.json"))

    @property
    def _scales_targets(self) -> bool:
        return not self.is_classification and self.options.scales_targets

    def targets(self) -> TargetScale | None:
        """Returns what the targets were scaled by, None if they were not.

        Raises:
            BrodmannError: The file that says so is missing or damaged.
        """
        return TargetScale.from_dict(read_json(self.folder / "targets.json")) if self._scales_targets else None

    def predict(self, samples: str | Path | ArrayLike) -> list[Any]:
        """Returns what the trained learner says of samples, as many as there are.

        That is the class: a whole number if all classes are named by one, else a name. Of real targets it is the
        value in its own units, and of labels the probability: a number, or a list if a sample has several.

        Args:
            samples: Raw ones, as in the data set: a file, see `brodmann.data.load_inputs`, or numbers ``(n, ...)``.

        Raises:
            BrodmannError: The run is not finished or damaged, or the samples are not such as it was trained on.
        """
        outputs = self._outputs(samples)
        if self.classes is None:
            if self.options.learns_labels:
                values = outputs.sigmoid()
            else:
                scale = self.targets()
                values = outputs if scale is None else scale.undo(outputs)
            return (values[:, 0] if values.shape[1] == 1 else values).tolist()
        whole = all(re.fullmatch("0|-?[1-9][0-9]*", name) for name in self.classes)
        classes = [int(name) for name in self.classes] if whole else self.classes
        return [classes[index] for index in outputs.argmax(1).tolist()]

    def predict_proba(self, samples: str | Path | ArrayLike) -> list[list[float]]:
        """Returns the probability of each class of ``classes``, or of each label, for every sample, see `predict`.

        Raises:
            BrodmannError: As `predict`, or outputs are no logarithms of probabilities, as under a squared error.
        """
        likely = self.is_classification and self.options.loss in (None, "cross-entropy")
        if not likely and not self.options.learns_labels:
            loss = self.options.loss or "mean-squared-error"
            raise BrodmannError(
                f"This run learned by {loss}, whose outputs are not probabilities: ask for predictions only."
            )
        outputs = self._outputs(samples)
        found: list[list[float]] = (outputs.sigmoid() if self.options.learns_labels else outputs.softmax(1)).tolist()
        return found

    def _outputs(self, samples: str | Path | ArrayLike) -> Tensor:
        """Returns what the learner makes of raw samples, (n, outputs)."""
        network, preprocessing = self.learner(), self.preprocessing()
        read = load_inputs if isinstance(samples, str | Path) else process_samples
        x = read(samples, preprocessing, self.columns)  # type: ignore[arg-type]
        outputs: Tensor = outputs_of(network, x.to(network.dtype))
        if bad := rows_not_finite(outputs):
            raise BrodmannError(
                f"The network has no finite answer for sample {bad[0]}, counted from 0: its values lie far beyond "
                "those of the training part. Look for a mistake in them."
            )
        if self.classes is not None and len(self.classes) != outputs.shape[1]:
            raise CheckpointError(
                f"{self.folder / 'config.json'} is damaged: expected the names of {outputs.shape[1]} classes."
            )
        return outputs

    def result(self) -> dict[str, Any] | None:
        """Returns the outcome; None before the end, or if a file is damaged: the last checkpoint makes it again."""
        try:
            with safe_open(self.folder / "model.safetensors", framework="pt"):
                result: dict[str, Any] = read_json(self.folder / "result.json")
                needed = ["preprocessing.json", *(["targets.json"] if self._scales_targets else [])]
                whole = {"rule", "areas", "width"} <= set(result)
                return result if whole and all((self.folder / name).is_file() for name in needed) else None
        except (BrodmannError, SafetensorError, OSError, TypeError):
            return None


def _environment() -> dict[str, Any]:
    return {
        "brodmann": code_version(),
        "kernels": build().why,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "scikit_learn": version("scikit-learn"),  # importing it takes a second
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "imported": import_extensions(),
    }
