"""PyTorch's own generators, which all threads share: one thread at a time draws from them, as a seed decides."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor

from .recording import recorder_here

_alone = threading.RLock()


def _renew() -> None:
    """Gives a forked process a lock of its own: the thread that held the inherited one is not there to release it."""
    global _alone
    _alone = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Draws:
    """A random stream that starts from a seed, or from the present state of the generators, and can be continued later.

    It covers the CPU's generator and that of a device that has its own.

    Attributes:
        seed: Seed from which the generators start.
        device: Device on which dropout, say, draws its masks.
        states: States of the generators, the CPU's first; None: at the seed.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        """Starts from a seed; default device the CPU."""
        self.seed, self.device = int(seed), device or torch.device("cpu")
        self.states: list[Tensor] | None = None

    @classmethod
    def from_here(cls, device: torch.device) -> Draws:
        """Starts from the present state of the generators."""
        draws = cls(0, device)
        draws.states = draws.now()
        return draws

    def now(self) -> list[Tensor]:
        """Returns the present state of the generators."""
        return [generator.get_state() for generator in self._generators()]

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Continues the stream inside the block, then restores the generators.

        Threads wait for each other: otherwise a seed would not decide what is drawn.
        """
        recorder = recorder_here()
        drawn = 0 if recorder is None else recorder.draws
        with _alone:
            outside = self.now()
            if self.states is not None:
                self.go_to(self.states)
            else:
                for generator in self._generators():
                    generator.manual_seed(self.seed)
            try:
                yield
            finally:
                self.states = self.now()
                self.go_to(outside)
        if recorder is not None and recorder.draws != drawn:
            recorder.refuse("random numbers are drawn from another place of their stream")

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Restores the generators if the block fails: a second attempt then draws the same numbers."""
        before = self.now()
        try:
            yield
        except BaseException:
            self.go_to(before)
            raise

    def go_to(self, states: list[Tensor]) -> None:
        """Sets the generators to states that `now` returned."""
        for generator, state in zip(self._generators(), states, strict=False):  # some lack the state of a device
            generator.set_state(state)

    def _generators(self) -> list[torch.Generator]:
        """Returns the generators, as far as the device gives access to its own."""
        of_device = getattr(getattr(torch, self.device.type, None), "default_generators", ())
        return [torch.default_generator, *of_device[self.device.index or 0 :][:1]]


@contextmanager
def undisturbed(device: torch.device | None = None) -> Iterator[None]:
    """Restores the generators after the block; threads wait for each other, as in `Draws`."""
    draws = Draws(0, device)
    with _alone:
        before = draws.now()
        try:
            yield
        finally:
            draws.go_to(before)


class Borrowed:
    """NumPy's and Python's generators: if they are seeded inside the block, they are restored after it.

    Only the first time of many is slow, as NumPy takes longer to return its state than to take a new seed.
    """

    def __init__(self) -> None:
        """Leaves them as they are."""
        self._outside: tuple[Any, Any] | None = None

    def __enter__(self) -> Borrowed:
        """Returns itself."""
        return self

    def seed(self, seed: int) -> None:
        """Lets a seed decide what is drawn from now on."""
        if self._outside is None:
            self._outside = numpy.random.get_state(), random.getstate()
        numpy.random.seed(seed % 2**32)
        random.seed(seed)

    def __exit__(self, *failure: object) -> None:
        """Restores them."""
        if self._outside is not None:
            of_numpy, of_python = self._outside
            numpy.random.set_state(of_numpy)
            random.setstate(of_python)
            self._outside = None


@contextmanager
def drawing_by(seed: int) -> Iterator[None]:
    """Seeds the generators of PyTorch, NumPy and Python inside the block, then restores them."""
    with Borrowed() as others, Draws(seed).going_on():
        others.seed(seed)
        yield


def generator_states() -> tuple[object, ...]:
    """Returns the states of the generators of PyTorch's CPU, NumPy and Python, for comparisons."""
    _, numbers, *rest = numpy.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numpy.asarray(numbers).tobytes(), *rest, random.getstate()
