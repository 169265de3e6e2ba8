"""What runs on this machine, what does not, and why."""

from __future__ import annotations

import importlib.util
import os
import platform

import torch

from . import __version__
from .data import data_directory
from .errors import BrodmannError
from .kernels.build import build
from .kernels.library import multiplies_bfloat16


def _triton() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not active: triton is not installed"
    state = "active" if torch.cuda.is_available() else "not active: no accelerator"
    return f"{state}. Tested in Triton's interpreter, not yet run on a GPU: `make gpu-check` does that"


def _data_folder() -> str:
    try:
        return str(data_directory())
    except BrodmannError as error:  # no home
        return f"none: {error}"


def diagnose() -> dict[str, str]:
    """Returns what to know when something is slow or missing; builds the kernels if they are not yet built."""
    kernels = build()
    active = kernels.library is not None
    return {
        "brodmann": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "compiled kernels": f"{'active' if active else 'not active: pure PyTorch'}. {kernels.why}",
        "bfloat16 products": "active: the processor has a fast instruction for them"
        if active and multiplies_bfloat16()
        else "not active, since they are no faster here: bfloat16 weights are widened to float32",
        "kernels lie in": str(kernels.path) if kernels.path else "-",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none: CUDA is not available",
        "triton kernels": _triton(),
        "data folder": _data_folder(),
    }
