"""Workers: processes that carry out cases, and go when they are not needed any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from brodmann.bench.journal import read_journal

RECIPES = """
import os, time
from pathlib import Path
from brodmann.bench import RECIPES, Case
from brodmann.bench.tasks import TASKS
from brodmann.errors import BrodmannError
from brodmann.runs import RunOptions

def counted(case):
    return {"digest": "d", "test_reads": 1 - case.trial, "right": [True], "process": os.getpid()}

def lasting(case):
    Path("lasting").touch()
    time.sleep(600)

def failing(case):
    while not Path("lasting").exists():
        time.sleep(0.1)
    raise BrodmannError("it does not fit")

TASKS.update(counted=counted, lasting=lasting, failing=failing)
options = RunOptions("digits")
RECIPES["rounds"] = lambda plan: [Case("rounds", "m", options, "tuned", task="counted", searched=True)]
RECIPES["failure"] = lambda plan: [Case("failure", name, options, task=name) for name in ("lasting", "failing")]
"""


def bench(folder: Path, *arguments: str, **extra: float) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(RECIPES)
    command = [sys.executable, "-m", "brodmann", "--import", "mine.py", "bench", *arguments, "--out", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **extra)


def test_workers_serve_all_rounds_of_a_search_and_the_results(tmp_path: Path) -> None:
    done = bench(tmp_path, "rounds", "--trials", "10")  # eight settings at once, then one at a time
    assert done.returncode == 0, done.stderr
    rows = [row for name in ("trials", "rows") for row in read_journal(tmp_path / "out" / f"{name}.jsonl")]
    assert len(rows) == 2 * 10 + 1
    assert len({row["process"] for row in rows}) == 1


def test_a_case_that_fails_ends_the_bench_without_waiting_for_others(tmp_path: Path) -> None:
    try:
        done = bench(tmp_path, "failure", "--jobs", "2", timeout=300)
    except subprocess.TimeoutExpired:
        pytest.fail("it waits for a case whose row nobody takes")
    assert done.returncode == 2
    assert "failure, digits, failing, seed 0: it does not fit" in done.stderr
