"""What tests of data sets share: no network, the bundled set, torchvision present and absent."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from brodmann.data import Dataset, load

from .sources import FakeSource


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("torchvision.datasets")
    for name in ("CIFAR10", "CIFAR100", "SVHN", "SEMEION", "USPS", "STL10", "MNIST"):
        setattr(module, name, type(name, (FakeSource,), {"calls": []}))
    parent = types.ModuleType("torchvision")
    parent.datasets = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", parent)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    return module
