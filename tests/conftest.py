"""Common settings: deterministic threads, float64 where oracles compare exactly."""

from __future__ import annotations

import os
import signal

# Read as PyTorch is loaded. Threads that wait for others of their process would take the cores from other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import pytest
import torch
from hypothesis import Phase

from .settings import default_dtype

torch.set_num_threads(1)
hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no failure
hypothesis.settings.register_profile("brief", deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
hypothesis.settings.load_profile("patient")
# In a shell's background it is ignored: tests send it and wait for its effect.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton: tests/test_cuda.py needs no device


@pytest.fixture
def every_epoch(monkeypatch):
    """Writes a checkpoint at the end of every epoch, however short it is."""
    monkeypatch.setattr("brodmann.training.trainer.BRIEF", 0.0)


@pytest.fixture
def double():
    """Computes in float64 for the duration of a test."""
    with default_dtype(torch.float64):
        yield
