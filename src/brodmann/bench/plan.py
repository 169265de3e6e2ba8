"""Plan: how much of a recipe to run."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import as_names, check_whole
from ..errors import BrodmannError, unknown_name
from .facts import data_facts, is_here
from .streams import STREAMS

PROTOCOLS = ("tuned", "paper")
QUICK = ("digits", "semeion")


@dataclass(frozen=True)
class Plan:
    """How much of a recipe to run.

    Attributes:
        quick: A small version of everything, on digits and semeion.
        seeds: Seeds of each row. Default None: the recipe's own, 2 if quick.
        protocols: Which of `PROTOCOLS` the recipe `ten` runs.
        sets: Data sets, or None for those of the recipe.
        methods: Names of methods, or None for all of the recipe.
        streams: Which of the streams of `STREAMS` the recipe `interference` runs, or None for all of them and the
            conflict between classes.

    Raises:
        BrodmannError: There is no such stream or protocol, names are no list of them, or the seeds are no positive
            whole number.
    """

    quick: bool = False
    seeds: int | None = None
    protocols: tuple[str, ...] = PROTOCOLS
    sets: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    streams: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.seeds is not None:
            check_whole(seeds=self.seeds)
        for kind in ("protocols", "sets", "methods", "streams"):
            if (names := getattr(self, kind)) is not None:
                object.__setattr__(self, kind, tuple(as_names(kind, names)))
        for kind, names, known in (("stream", self.streams or (), STREAMS), ("protocol", self.protocols, PROTOCOLS)):
            for name in names:
                if name not in known:
                    raise unknown_name(kind, name, known)

    def datasets(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the data sets asked for, or else those of the usual ones that are on this machine."""
        if self.sets is not None:
            for name in self.sets:
                if not data_facts(name).is_classification:
                    raise BrodmannError(
                        f"The recipes compare classifiers, and '{name}' has real targets: leave it out of --sets."
                    )
            return self.sets
        return tuple(name for name in (QUICK if self.quick else usual) if is_here(name))

    def seeds_for(self, dataset: str, usual: int = 10, large: int = 5) -> range:
        """Returns the seeds: as many as asked for, 2 if quick, else ``large`` for a large data set, or ``usual``."""
        if self.seeds is not None:
            return range(self.seeds)
        return range(2 if self.quick else large if data_facts(dataset).is_large else usual)
