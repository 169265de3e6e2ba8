"""What a task returned, as the row of its case: checked, and with the scores that follow from its answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..files import entry_as_json
from .case import Case, Row, is_score
from .packing import pack

ADDED = ("tested", "correct", "wall_seconds", "jobs", "code", "torch", "interrupted")
"""Fields beside the case's own that tasks leave to `row_of` and to the runner."""


def row_of(case: Case, returned: Any) -> Row:
    """Returns the whole row of a case, as JSON gives it back: numbers of NumPy and PyTorch as Python's.

    Raises:
        BrodmannError: The task returned no row, one that lacks what the audit looks at, one whose score (``test``, or
            ``validation`` of a trial) is no number from 0 to 1 or does not follow from ``right``, one that writes over
            fields of others, or one that a file of rows cannot hold.
    """
    task, own = f"task '{case.task}'", case.row()
    if not isinstance(returned, dict):
        raise _incomplete(task, returned)
    for name in (*own, *ADDED):
        if name in returned:
            remedy = "return 'right' in its place" if name in ("tested", "correct") else "choose another name"
            raise BrodmannError(f"The {task} must not return '{name}', which the benchmark itself writes: {remedy}.")
    others = {name: value for name, value in returned.items() if name != "right"}
    row = {name: entry_as_json(f"The row of the {task}", name, value) for name, value in others.items()}
    if not isinstance(row.get("digest"), str) or not isinstance(row.get("test_reads"), int):
        raise _incomplete(task, row)
    score = "validation" if case.trial else "test"
    if "right" in returned:
        right = _answers(task, returned["right"])
        share = float(right.double().mean())
        if not is_score(told := row.setdefault(score, share)) or abs(told - share) > 1e-6:
            raise BrodmannError(
                f"The {task} returned {told!r} as '{score}', but by its 'right' it is {share}: leave it out."
            )
        row[score] = share
        if not case.trial:
            row |= {"tested": len(right), "correct": pack(right.numpy())}
    if not is_score(row.get(score)):
        raise BrodmannError(
            f"The {task} must return '{score}', the accuracy, as a number from 0 to 1, got {row.get(score)!r}."
        )
    return own | row


def _incomplete(task: str, returned: Any) -> BrodmannError:
    return BrodmannError(
        f"The {task} must return a dictionary with 'digest', the digest of its data, and 'test_reads', how often it "
        f"read the test part, got {returned!r}."
    )


def _answers(task: str, right: Any) -> Tensor:
    """Returns which samples were right, (samples,)."""
    try:
        answers = torch.as_tensor(right).cpu()
    except (TypeError, ValueError, RuntimeError):
        answers = torch.empty(0)
    if answers.dtype != torch.bool or answers.ndim != 1 or not len(answers):
        came = f"{answers.dtype} {tuple(answers.shape)}" if len(answers.flatten()) else type(right).__name__
        raise BrodmannError(
            f"The {task} must return 'right', which samples were right, as a boolean tensor or list with an entry for "
            f"each sample, got {came}."
        )
    return answers
