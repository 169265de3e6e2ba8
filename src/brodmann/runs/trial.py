"""A trial before a training: what cannot be learned is refused before a folder is touched."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Split
from ..generators import undisturbed
from ..rows import evenly_spaced
from ..training import evaluate
from .assembly import device_of, placed, placed_learner
from .options import RunOptions


def try_out(options: RunOptions, split: Split) -> None:
    """Builds a learner that is then dropped, scores a few samples of every part, and makes a step that moves nothing.

    Raises:
        BrodmannError: A size or choice does not fit, or the loss refuses the targets, such as a user's loss
            that returns no number.
    """
    with undisturbed(device_of(options)):
        learner = placed_learner(options, split)
        parts = ((split.x_test, split.y_test), (split.x_validation, split.y_validation), (split.x_train, split.y_train))
        for x, y in parts:
            if len(x):
                rows = _telling_rows(y, options.pace(len(split.x_train)).batch_size)
                some = placed(options, x[rows], y[rows])
                evaluate(learner, *some)
        learner.learn_with_output(*some, lr=0.0)  # of the training part


def _telling_rows(y: Tensor, count: int) -> Tensor:
    """Returns about so many row numbers of targets (n, ...), with those of the smallest and the largest."""
    flat = y.reshape(len(y), -1)
    rows = {*evenly_spaced(len(y), count).tolist(), int(flat.amin(1).argmin()), int(flat.amax(1).argmax())}
    return torch.tensor(sorted(rows))
