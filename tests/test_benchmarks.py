"""The benchmarks run to their end on small sizes. What they measure is nobody's assertion."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from brodmann.data import load
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
    "recurrent.py --kinds GRU --batches 2 --units 8 --repeats 2 --json",
    "starts.py --depths 3 --seeds 1 --epochs 1",
    "perfect_partition.py --sets digits digits --seeds 1 --lr 1e-3 --decay 0.1 --dropout 0",
    pytest.param(
        "libraries.py --sets digits --libraries pytorch --epochs 1 --hidden 8 --seeds 1 --threads 1 "
        "--processes 1 --seconds 0.01",
        marks=pytest.mark.slow,
    ),
    pytest.param("language.py --steps 2 --seeds 1 --width 8 --depth 1 --characters 20000", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_runs_to_its_end(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script, *arguments = shlex.split(command)
    if script in ("recurrent.py", "step_time.py") and not library.active():
        pytest.skip("steps are captured, and their limit is measured by a compiled program")
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


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS / "libraries")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("libraries")


@pytest.mark.parametrize(("adapter", "settings"), [("brodmann", {"areas": 4}), ("pytorch", {}), ("scikit_learn", {})])
def test_an_adapter_learns_and_is_timed(libraries: Any, adapter: str, settings: dict[str, Any]) -> None:
    worker = importlib.import_module("worker")
    build = importlib.import_module(f"with_{adapter}").build
    split = load("digits").split(validation=0.1, seed=0)
    parts = [f"{kind}_{part}" for kind in "xy" for part in ("train", "validation", "test")]
    data = {part: getattr(split, part).numpy() for part in parts}
    job = {"sizes": [64, 32, 32, 10], "lr": 1e-2, "seed": 0, "settings": settings, "batch": 64}
    answer = worker.answer(build, {"do": "train", "epochs": 4, **job}, data)
    assert (answer["test"] == data["y_test"]).mean() > 0.8
    assert len(answer["validation"]) == len(data["y_validation"])
    timed = worker.answer(build, {"do": "time", "seconds": 0.0, **job}, data)
    assert min(timed["milliseconds"]) > 0.0
    assert "error" in worker.answer(build, {"do": "train", "epochs": 1, **job, "settings": None, "sizes": []}, data)


def test_batches_are_whole_and_hold_every_sample_once(libraries: Any) -> None:
    batches = list(importlib.import_module("worker").batches(samples=10, size=3, epochs=2, seed=0))
    assert [len(rows) for rows in batches] == [3] * 6
    assert len({*batches[0], *batches[1], *batches[2]}) == 9


def test_a_library_that_is_not_installed_is_left_out_with_a_notice(libraries: Any) -> None:
    if importlib.util.find_spec("jpc"):
        pytest.skip("it is installed")
    with pytest.raises(ImportError, match=r"jpc is left out: .* has no \w+\. Install .* --python jpc=INTERPRETER"):
        libraries.Worker("jpc", sys.executable, threads=1)


def test_a_search_goes_beyond_an_edge_and_then_chooses_settings(libraries: Any) -> None:
    method = libraries.Method("x", {"a": 1}, {"b": (1, 2, 3)})
    rate, settings, tried = libraries.search(
        method, lambda rate, settings: 1 - abs(rate - 1e-4) - abs(settings["b"] - 2)
    )
    assert (rate, settings) == (1e-4, {"a": 1, "b": 2})
    assert [trial["rate"] for trial in tried] == [1e-3, 3e-3, 3e-4, 1e-4, 3e-5, 1e-4, 1e-4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--python", "nothing=python"], "one of brodmann, .* got 'nothing'"),
        (["--python", "jpc"], "path of an interpreter for jpc, got ''"),
        (["--python", "jpc=/nowhere/python"], "path of an interpreter for jpc, got '/nowhere/python'"),
        (["--libraries", "nothing"], "invalid choice"),
    ],
)
def test_arguments_of_libraries_are_checked(
    libraries: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["libraries.py", *arguments])
    with pytest.raises(SystemExit):
        libraries.read_arguments()
    assert re.search(message, capsys.readouterr().err)


def test_rows_of_libraries_are_kept_and_shown(libraries: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["libraries.py", "--sets", "digits", "--libraries", "fflib", "pytorch"])
    options = libraries.read_arguments()
    rows = libraries.Rows(tmp_path / "new" / "rows.jsonl")
    found = {"rate": 0.003, "settings": {"threshold": 2}, "test": [0.5, 0.7, 0.6]}
    rows.add(libraries.accuracy_key(options, "digits", "fflib, Forward-Forward"), found)
    time = {"milliseconds": [[3.0, 1.0, 2.0], [2.0], [9.0]], "imported": 2e6, "training": 1e6}
    rows.add(libraries.time_key(options, 1, "fflib, Forward-Forward"), {"milliseconds": [[9.0]]})
    nothing = {"rate": 0.003, "settings": {}, "test": [0.0], "errors": ["a reason"]}
    rows.add(libraries.accuracy_key(options, "digits", "PyTorch, autograd"), nothing)
    rows.add(libraries.time_key(options, 1, "fflib, Forward-Forward"), time)
    text = libraries.table(libraries.Rows(tmp_path / "new" / "rows.jsonl"), options)
    assert "| fflib, Forward-Forward | 60.00 ± 10.00 | 0.003, threshold 2 | 2.00 | - | 2 + 1 |" in text
    assert "| PyTorch, autograd | fails | 0.003 | - | - | - |" in text
