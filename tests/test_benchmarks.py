"""The benchmarks run to their end on small sizes. What they measure is nobody's assertion."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from brodmann.kernels import library

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
COMMANDS = [
    "memory.py --depth 3 --width 8 --batch 4 --json",
    "memory.py --encoder 1",
    "scale.py --parameters 1e7 --threads 1",
    "step_time.py --threads 1 --repeats 2 --rows '16 areas, lean' --json",
    pytest.param("inference.py --threads 1 --repeats 2 --json", marks=pytest.mark.slow),
    "defaults.py --sets digits --variants default growing --seeds 2 --epochs 1",
    "depth.py --depth 3 --seeds 1 --epochs 1",
    "convolutions.py --channels 2 --seeds 1 --epochs 1",
    "conversions.py --models encoder --methods autograd 'transpose, 1 area' --seeds 1 --epochs 1",
    "starts.py --depths 3 --seeds 1 --epochs 1",
    pytest.param("language.py --steps 2 --seeds 1 --width 8 --depth 1 --characters 20000", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_runs_to_its_end(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script, *arguments = shlex.split(command)
    if script == "step_time.py" and not library.active():
        pytest.skip("the limit of a step is measured by a compiled program")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of the processes that some of them start
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / script), *arguments])
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_results_have_a_place_for_every_table_and_keep_the_words_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    refresh = importlib.import_module("refresh")
    page = (BENCHMARKS.parent / "docs" / "results.md").read_text()
    for name in refresh.TABLES:
        changed = refresh.put(page, name, "| new |")
        block = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        assert changed == block.sub(r"\1| new |\2", page)
        assert changed != page
    with pytest.raises(SystemExit, match="no place for kernels"):
        refresh.put("a page", "kernels", "")
