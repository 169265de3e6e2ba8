"""What is measured of a run: figures, use of areas, and numbers of some samples that stand for all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from brodmann.cli import main
from brodmann.runs import Run, RunOptions, continue_run, inspect_run, inspection, start_run
from brodmann.telemetry import area_usage
from brodmann.training import records

from .parts import SMALL, metrics


def test_inspect_draws_figures_and_counts_samples(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(["train", str(table), "--width", "12", "--areas", "4", "--epochs", "2", "--out", str(run), "--compare"])
    capsys.readouterr()
    main(["inspect", str(run), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(sum(row["counts"]) == 60 for row in found["usage"])
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found["figures"])
    assert len(found["figures"]) == 5


def test_inspect_prints_its_tables_without_matplotlib(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    main(["train", str(table), "--width", "12", "--areas", "4", "--epochs", "1", "--out", run, "--no-figures"])
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    capsys.readouterr()
    main(["inspect", run])
    said = capsys.readouterr().out
    assert "Use of areas" in said
    assert "No figures: Figures need matplotlib: pip install 'brodmann[figures]'." in said
    main(["inspect", run, "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["figures"] == []


def test_numbers_of_some_samples_are_of_all_parts_of_a_file_that_is_sorted_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.arange(3600) // 1200
    x = np.random.default_rng(0).normal(size=(3600, 2)) + 4 * y[:, None]
    np.savez(tmp_path / "sorted.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    measured = []
    for place in (inspection, records):
        real = place.alignment
        monkeypatch.setattr(place, "alignment", lambda *given, real=real: measured.append(given[2]) or real(*given))
    start_run(RunOptions(str(tmp_path / "sorted.npz"), width=8, epochs=1), tmp_path / "run")
    result = continue_run(tmp_path / "run")
    inspect_run(tmp_path / "run")
    assert [(len(some), some.bincount().tolist()) for some in measured] == [(256, [86, 85, 85]), (512, [171, 170, 171])]
    run = Run.read(tmp_path / "run")
    (true,) = area_usage(run.learner(), run.split().x_train)
    assert result["effective_areas"] == [pytest.approx(true.effective, rel=0.05)]


def test_effective_areas_are_those_of_the_weights_that_are_kept(table: Path, tmp_path: Path) -> None:
    start_run(RunOptions(str(table), width=8, epochs=200, patience=2, lr=0.05), tmp_path / "run")
    result = continue_run(tmp_path / "run")
    assert result["epochs"] < 200  # so the last weights were not the best
    run = Run.read(tmp_path / "run")
    (kept,) = area_usage(run.learner(), run.split().x_train)
    assert result["effective_areas"] == [round(kept.effective, 3)]


def test_areas_that_grow_are_counted_by_epoch_and_drawn(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = ["train", str(table), *SMALL[:-1], "--figures", "--partition", "growing", "--tensorboard"]
    main([*whole, "--out", str(folder)])
    rows = metrics(folder)
    assert [len(row["area_counts"]) for row in rows] == [1, 1, 1]  # one route for all layers
    assert all(sum(row["area_counts"][0]) == 162 for row in rows)  # a tenth of 180 is held out
    assert all(len(row["tension"]) == 1 for row in rows)
    assert (folder / "figures" / "growth.png").is_file()
    assert list(folder.rglob("events.out.*"))
