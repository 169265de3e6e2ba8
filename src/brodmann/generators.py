"""PyTorch's own generators, which all threads share: one at a time draws from them what a seed says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_alone = threading.RLock()


class Draws:
    """A random stream that starts at a seed and can go on later, on the CPU and on a device with its own generator.

    Attributes:
        seed: Where they begin.
        states: Where the generators of processor and device stand, the latter None where there is none; None: at the
            seed.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        """Begins at a seed; ``device`` is where dropout, say, draws its masks. Default the processor."""
        self.seed = int(seed)
        self.device = None if device is None or device.type == "cpu" else device
        self.states: tuple[Tensor, Tensor | None] | None = None

    def now(self) -> tuple[Tensor, Tensor | None]:
        """Returns where the generators stand at this moment."""
        device = self.device
        return torch.get_rng_state(), None if device is None else torch.get_device_module(device).get_rng_state(device)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Draws from where they stood; leaves the generators as they were, for others and for the next time.

        Threads wait for each other: else a seed would not say what is drawn.
        """
        with _alone:
            outside = self.now()
            if self.states is not None:
                self._set(*self.states)
            else:
                torch.default_generator.manual_seed(self.seed)
                if self.device is not None:
                    torch.get_device_module(self.device).manual_seed(self.seed)
            try:
                yield
            finally:
                self.states = self.now()
                self._set(*outside)

    def _set(self, state: Tensor, on_device: Tensor | None) -> None:
        torch.set_rng_state(state)
        if on_device is not None and self.device is not None:
            torch.get_device_module(self.device).set_rng_state(on_device, self.device)
