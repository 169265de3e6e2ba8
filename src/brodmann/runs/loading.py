"""The data of a run: to begin, to train and to draw all need it, and a table of text takes seconds to be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data import Dataset, load
from ..data.catalogue import file_of
from ..data.csv_table import TABLES
from .options import RunOptions

KEPT = 2**27
"""Bytes up to which a table is kept in memory."""
_last: tuple[Any, Dataset] | None = None


def load_data(options: RunOptions, data_dir: str | None, dataset: str | None = None) -> Dataset:
    """Returns the raw data that options name; the last table is not read again while its file is the same.

    Args:
        options: Options of a run.
        data_dir: Where data lies; None for the usual place.
        dataset: Name or path, if it is not that of the options. Default None.

    Raises:
        MissingDataError: It is not there.
        BrodmannError: It is damaged, or no data set.
    """
    global _last
    name = dataset or options.dataset
    file = file_of(name, data_dir) if name.lower().endswith(TABLES) else None
    if file is None or not file.is_file():
        return load(name, data_dir, target=options.target, task=options.task)
    state = file.stat()
    same = state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns  # copying may keep the time of the content
    key = file.resolve(), *same, options.target, options.task
    last = _last  # once: another thread may load another table meanwhile
    if last is not None and last[0] == key and last[1].is_intact():
        data = last[1]
        own = {part: getattr(data, part).clone() for part in ("x_train", "y_train", "x_test", "y_test")}
        return replace(data, name=name, **own)  # whoever writes into them disturbs nobody
    data = load(name, data_dir, target=options.target, task=options.task)
    small = data.x_train.nbytes + data.x_test.nbytes <= KEPT
    _last = (key, data) if small else None
    return data
