"""What the tests of this folder share: samples, a small body, and how a refusal is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from brodmann import AreaLinear, BrodmannError, Sequential

X, Y = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


def body() -> Sequential:
    return Sequential(AreaLinear(6, 3, areas=1, feedback=None))


def each_of(cases: list[tuple[Callable[[], object], str]]) -> Any:
    """Runs a test over what users may get wrong and what they are told, which names it."""
    return pytest.mark.parametrize(("act", "message"), cases, ids=[message[:50] for _, message in cases])


def message_of(act: Callable[[], object]) -> str:
    """Returns what users are told of what they got wrong."""
    with pytest.raises(BrodmannError) as caught:
        act()
    return str(caught.value)
