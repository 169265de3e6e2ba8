"""Other systems: the library runs without what only Linux has. What they have in its place is imitated here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

IMITATED = """
import concurrent.futures, json, multiprocessing, os, signal, sys, types
import matplotlib.pyplot, numpy, rich.live, safetensors.torch, sklearn.datasets, sklearn.linear_model, torch, tyro
from torch.utils.data import DataLoader

sys.platform = sys.argv[1]
if sys.platform == "win32":
    sys.modules["fcntl"] = sys.modules["resource"] = None
    for name in ("fchmod", "register_at_fork", "sysconf"):
        delattr(os, name)
    del signal.SIGCHLD, signal.SIGPIPE
    open_of_posix = os.open

    def open_files_alone(path, *arguments, **keywords):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return open_of_posix(path, *arguments, **keywords)

    def lock(file, mode, length):
        assert (mode, length) == (2, 1)
        if "held" in os.environ:
            raise PermissionError(13, "Permission denied")

    class Process:
        def memory_info(self):
            return types.SimpleNamespace(peak_wset=2**30)

    os.open = open_files_alone
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=lock, LK_NBLCK=2)
    sys.modules["psutil"] = types.SimpleNamespace(
        Process=Process, virtual_memory=lambda: types.SimpleNamespace(total=2**34)
    )

from brodmann_command import main

for arguments in json.loads(sys.argv[2]):
    sys.argv = ["brodmann", *arguments]
    main()
"""


def run(system: str, *commands: list[str], succeeds: bool = True, **variables: str) -> str:
    """Runs commands as on another system, one after another in one process; returns what they print."""
    given = [sys.executable, "-c", IMITATED, system, json.dumps(commands)]
    done = subprocess.run(given, capture_output=True, text=True, check=False, env=os.environ | variables)
    assert (done.returncode == 0) == succeeds, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_commands_run_on_other_systems(system: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    settings = ["--epochs", "2", "--width", "16", "--areas", "4", "--threads", "1", "--out", folder]
    told = run(system, ["train", "digits", *settings], ["evaluate", folder], ["inspect", folder], ["doctor"])
    assert "RuntimeWarning" not in told  # nobody can mend there that PyTorch computes
    assert "not active: pure PyTorch. They are for Linux" in " ".join(told.split())
    assert (tmp_path / "run" / "figures").is_dir()


def test_a_folder_is_locked_on_windows(tmp_path: Path) -> None:
    settings = ["--epochs", "1", "--out", str(tmp_path), "--threads", "1"]
    told = run("win32", ["train", "digits", *settings], succeeds=False, held="")
    assert "Another process is working in" in told
