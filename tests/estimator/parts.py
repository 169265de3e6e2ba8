"""What the tests of estimators share: a look at the trainings that a call makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from brodmann.training import Trainer


def trainers_of(call: Callable[[], Any]) -> list[Trainer]:
    """Returns what trained while a function ran."""
    seen: list[Trainer] = []
    with pytest.MonkeyPatch.context() as patch:
        run = Trainer.run
        patch.setattr(Trainer, "run", lambda trainer: (seen.append(trainer), run(trainer))[1])
        call()
    return seen
