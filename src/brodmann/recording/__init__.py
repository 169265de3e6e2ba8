"""Recording what a function of tensors computes, and computing it again without the Python between its operations.

A recorder listens to PyTorch's operations; the kernels of this package, and what looks at numbers, tell it of
themselves.
"""

from .call import Call
from .leaving import DoesNotFit, Outdated
from .memory import View
from .mode import Mode
from .numbers import Answer, Rate
from .program import Program
from .recorder import Recorder
from .reporting import asked, recorder_here, replayed

__all__ = [
    "Answer",
    "Call",
    "DoesNotFit",
    "Mode",
    "Outdated",
    "Program",
    "Rate",
    "Recorder",
    "View",
    "asked",
    "recorder_here",
    "replayed",
]
