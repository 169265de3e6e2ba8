"""A case: one training that becomes one row of a benchmark."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..runs import RunOptions

Row = dict[str, Any]
LATER = ("target", "task", "channels", "builder", "loss", "gate_feedback")
"""Options that rows of the first journals lack: keys leave them out if they are not given."""


def is_score(value: Any) -> bool:
    """Whether a value is an accuracy as rows hold it: a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def row_name(row: Row) -> str:
    """Returns what people call a row: its recipe, data set, method and seed."""
    return f"{row['recipe']}, {row['dataset']}, {row['method']}, seed {row['seed']}"


class Planned(NamedTuple):
    """A row that there must be, as ``plan.json`` holds it: a list, by the row's key."""

    recipe: str
    protocol: str
    dataset: str
    method: str
    seed: int


@dataclass(frozen=True)
class Case:
    """One training, described so fully that its row can be computed again.

    Attributes:
        recipe: Name of the recipe that asked for it.
        method: What its rows are called in tables.
        options: Options of the training.
        protocol: ``"tuned"``: settings chosen by a search on validation parts; ``"paper"``: the published ones;
            ``"fixed"``: those of the recipe.
        task: How it is carried out, a name in `brodmann.bench.tasks.TASKS`.
        searched: Whether learning rate, decay and dropout still have to be chosen, see `brodmann.bench.tuner`.
        trial: Whether it is part of such a search: then the test part stays closed.
        alone: Whether it runs in a process of its own, so that its peak memory is its own.
        detail: Further settings of the task.
    """

    recipe: str
    method: str
    options: RunOptions
    protocol: str = "fixed"
    task: str = "train"
    searched: bool = False
    trial: bool = False
    alone: bool = False
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identifies the row: cases of equal settings are one and the same."""
        settings = asdict(self)
        for name in LATER:
            if settings["options"][name] is None:
                del settings["options"][name]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def planned(self) -> Planned:
        """Its row's place in the plan."""
        return Planned(self.recipe, self.protocol, self.options.dataset, self.method, self.options.seed)

    @classmethod
    def of_row(cls, row: Row, *, alone: bool) -> Case:
        """Returns the case that a row describes; whether it ran alone is not in the row."""
        own = {name: row[name] for name in ("recipe", "method", "protocol", "task", "trial", "detail")}
        return cls(options=RunOptions(**row["options"]), alone=alone, **own)

    def row(self) -> Row:
        """Returns the part of its row that is known before it runs."""
        return {
            "key": self.key,
            "recipe": self.recipe,
            "protocol": self.protocol,
            "dataset": self.options.dataset,
            "method": self.method,
            "seed": self.options.seed,
            "task": self.task,
            "trial": self.trial,
            "detail": self.detail,
            "options": asdict(self.options),
        }
