"""Figures: whole files, the right numbers in them, nothing cut off, no global state."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from brodmann import BrodmannError, figures
from brodmann.figures.classes_in_areas import _information
from brodmann.figures.drawing import plain_decades, whole_numbers
from brodmann.rows import evenly_spaced
from brodmann.telemetry import Alignment, AreaUsage

Figure = pytest.importorskip("matplotlib.figure").Figure

Draw = Callable[[Path], None]


def history(epochs: int, score: str = "accuracy") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "train_loss": 2.0 / epoch**2, "validation_loss": 2.2 / epoch, "seconds": epoch}
        rows.append(row | {f"train_{score}": 1 - 0.5 / epoch, f"validation_{score}": 1 - 0.6 / epoch})
    return rows


def usage(layers: int, areas: int) -> list[AreaUsage]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(layers):
        counts = torch.randint(0, 40, (areas,), generator=generator) * (torch.arange(areas) % 3 > 0)
        share = counts / counts.sum()
        entropy = float(torch.special.entr(share).sum())
        rows.append(
            AreaUsage(f"layers.{index}", tuple(counts.tolist()), entropy, math.exp(entropy), int((counts == 0).sum()))
        )
    return rows


def grown(epochs: int, routers: int, areas: int = 8) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        counts = [tuple(max(0, 10 * epoch - 30 * area) + (area == 0) for area in range(areas))] * routers
        rows.append({"epoch": epoch, "area_counts": counts, "tension": [3.0 / epoch - 0.2] * routers})
    return rows


def choices(layers: int, areas: int, samples: int = 300) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"layers.{i}": torch.randint(0, areas, (samples,), generator=generator) for i in range(layers)}


def target(classes: int, samples: int = 300) -> torch.Tensor:
    return torch.arange(samples) % classes


def aligned(layers: int) -> list[Alignment]:
    return [Alignment(f"layers.{i}", 1 - 1.3 * i / layers, 10.0 ** (-i / 8), 1.0) for i in range(layers)]


def alignments(epochs: int, layers: int, weights: bool = True) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        cosines = {f"layers.{i}": 1 - (layers - i) / (layers + epoch) for i in range(layers)}
        rows.append({"epoch": epoch, "alignment": cosines, "weight_alignment": cosines if weights else {}})
    return rows


def names(classes: int, length: int = 1) -> list[str]:
    return [f"{'class ' * length}{index}" for index in range(classes)]


def long_names(layers: int) -> list[dict[str, Any]]:
    cosines = {f"body.nodes.encoder_layers_{layer}_self_attn_out_proj": 0.5 for layer in range(layers)}
    return [{"epoch": 1, "alignment": cosines}]


CASES: dict[str, Draw] = {
    "curves": lambda p: figures.learning_curves(p, history(20)),
    "curves, one epoch": lambda p: figures.learning_curves(p, history(1)),
    "curves, r2": lambda p: figures.learning_curves(p, history(50, "r2")),
    "curves, labels": lambda p: figures.learning_curves(p, history(9, "label_accuracy")),
    "curves, loss alone": lambda p: figures.learning_curves(p, [{"epoch": 1, "train_loss": 0.0}]),
    "curves beside": lambda p: figures.learning_curves(p, history(9), beside={"backpropagation": history(12)}),
    "curves, loss beside": lambda p: figures.learning_curves(
        p, [{"epoch": 1, "train_loss": 1.0}], beside={"backpropagation": [{"epoch": 1, "train_loss": 2.0}]}
    ),
    "curves, not a number": lambda p: figures.learning_curves(
        p, [{"epoch": 1, "train_loss": math.nan, "validation_accuracy": None}]
    ),
    "usage, one layer": lambda p: figures.area_usage(p, usage(1, 16)),
    "usage, two layers": lambda p: figures.area_usage(p, usage(2, 256)),
    "usage, many layers": lambda p: figures.area_usage(p, usage(12, 16)),
    "usage, 128 layers": lambda p: figures.area_usage(p, usage(128, 64)),
    "usage, unequal layers": lambda p: figures.area_usage(p, usage(3, 4) + usage(3, 9)),
    "growth": lambda p: figures.growth(p, grown(20, 1)),
    "growth, one epoch": lambda p: figures.growth(p, grown(1, 2)),
    "growth, many routers": lambda p: figures.growth(p, grown(60, 9)),
    "classes": lambda p: figures.areas_by_class(p, choices(2, 16), target(10), names(10)),
    "classes, one area": lambda p: figures.areas_by_class(p, choices(1, 1), target(2), names(2)),
    "classes, three layers": lambda p: figures.areas_by_class(p, choices(3, 200), target(10), names(10)),
    "classes, deep": lambda p: figures.areas_by_class(p, choices(20, 16), target(10), names(10)),
    "classes, many": lambda p: figures.areas_by_class(p, choices(1, 64), target(40), names(40, 6)),
    "classes, with dollar signs": lambda p: figures.areas_by_class(p, choices(1, 4), target(3), ["$_$", "$x^$", "$1"]),
    "alignment": lambda p: figures.alignment(p, aligned(2)),
    "alignment, deep": lambda p: figures.alignment(p, aligned(128)),
    "alignment by epoch": lambda p: figures.alignment_by_epoch(p, alignments(9, 4)),
    "alignment by epoch, deep": lambda p: figures.alignment_by_epoch(p, alignments(60, 128)),
    "alignment by epoch, errors alone": lambda p: figures.alignment_by_epoch(p, alignments(1, 1, weights=False)),
    "alignment by epoch, long names": lambda p: figures.alignment_by_epoch(p, long_names(6)),
    "alignment by epoch, many long names": lambda p: figures.alignment_by_epoch(p, long_names(9)),
    "alignment, vanished": lambda p: figures.alignment(p, [Alignment("layers.0", 0.0, 0.0, 0.0)]),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    kept: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kw: (kept.append(figure), save(figure, *args, **kw)))
    return kept


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error")
def test_a_figure_is_one_whole_png_in_which_all_is_to_be_read(name: str, tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "new" / "figure.png"
    CASES[name](path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB\x60\x82")
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    (figure,) = drawn
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    slack = 0.03
    assert box.x0 >= -slack
    assert box.y0 >= -slack
    assert box.x1 <= width + slack
    assert box.y1 <= height + slack
    renderer = figure.canvas.get_renderer()
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            boxes = [label.get_window_extent(renderer) for label in axis.get_ticklabels() if label.get_text()]
            boxes = [box for box in boxes if box.width and panel.get_window_extent().expanded(1.05, 1.05).overlaps(box)]
            for index, box in enumerate(boxes):
                assert not any(box.shrunk(0.98, 0.9).overlaps(other) for other in boxes[index + 1 :])


def test_equal_data_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        CASES["curves beside"](tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_curves_hold_the_history(tmp_path: Path, drawn: list[Any]) -> None:
    rows = history(5)
    figures.learning_curves(tmp_path / "a.png", rows, beside={"twin": history(3)}, name="areas")
    loss, score = drawn[0].axes
    assert [list(line.get_ydata()) for line in loss.lines][:2] == [
        [row["train_loss"] for row in rows],
        [row["validation_loss"] for row in rows],
    ]
    assert list(score.lines[1].get_ydata()) == [100 * row["validation_accuracy"] for row in rows]
    assert len(score.lines) == 4
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["areas, training", "areas, validation", "twin, training", "twin, validation"]


@pytest.mark.parametrize("layers", [2, 12])
def test_layers_of_any_name_are_named_in_the_legend(layers: int, tmp_path: Path, drawn: list[Any]) -> None:
    cosines = {f"_part${layer}$": 0.5 for layer in range(layers)}
    figures.alignment_by_epoch(tmp_path / "a.png", [{"epoch": 1, "alignment": cosines, "weight_alignment": cosines}])
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == [r"_part\$0\$", *([r"_part\$1\$"] if layers == 2 else ["layers between", r"_part\$11\$"])]


def test_bars_and_map_hold_the_shares(tmp_path: Path, drawn: list[Any]) -> None:
    rows = usage(4, 6)
    figures.area_usage(tmp_path / "bars.png", rows[:2])
    figures.area_usage(tmp_path / "map.png", rows)
    expected = [[100 * count / sum(row.counts) for count in row.counts] for row in rows]
    for panel, shares in zip(drawn[0].axes, expected[:2], strict=True):
        assert [bar.get_height() for bar in panel.patches] == pytest.approx(shares)
    image = drawn[1].axes[0].images[0].get_array()
    assert image.tolist() == [pytest.approx(shares) for shares in expected]
    assert f"{rows[1].effective:.1f} effective areas of 6" in drawn[0].axes[1].get_title(loc="left")
    assert f"{rows[0].dead} never chosen" == drawn[0].axes[0].get_title(loc="right")
    assert [text.get_text() for text in drawn[1].axes[1].texts] == [f"{row.effective:.1f}" for row in rows]


def test_routers_are_counted_as_routers_for_not_every_layer_has_one(tmp_path: Path, drawn: list[Any]) -> None:
    areas = {f"blocks.{index}.mlp": torch.arange(6) % 2 for index in (2, 5)}
    figures.area_usage(tmp_path / "a.png", [AreaUsage(name, (3, 3), math.log(2), 2.0, 0) for name in areas])
    figures.areas_by_class(tmp_path / "b.png", areas, torch.arange(6) % 3)
    for figure in drawn:
        titles = [panel.get_title(loc="left") for panel in figure.axes[:2]]
        assert [text.partition(":")[0] for text in titles] == ["router 1", "router 2"]


def test_many_areas_are_one_outline_with_the_highest_bars(tmp_path: Path, drawn: list[Any]) -> None:
    """A patch for each of a million areas would take an hour."""
    for areas in (100, 5000):
        counts = torch.randint(0, 9, (areas,)).tolist()
        figures.area_usage(tmp_path / "bars.png", [AreaUsage("router", tuple(counts), 0.0, 1.0, 0)])
        (outline,) = drawn[-1].axes[0].patches
        shares = [100 * count / sum(counts) for count in counts]
        values, edges, _ = outline.get_data()
        assert (edges[0], edges[-1]) == (-0.5, areas - 0.5)
        spans = [slice(int(begin + 0.5), int(end + 0.5)) for begin, end in itertools.pairwise(edges)]
        assert list(values) == pytest.approx([max(shares[span]) for span in spans])
        assert len(values) <= 2048


def test_rows_of_classes_add_up_and_areas_are_ordered_by_main_class(tmp_path: Path, drawn: list[Any]) -> None:
    area = torch.tensor([5, 5, 5, 2, 2, 2, 9, 9, 5])
    of = torch.tensor([1, 1, 1, 0, 0, 0, 2, 2, 2])
    figures.areas_by_class(tmp_path / "a.png", {"layers.0": area}, of, ["a", "b", "c"])
    panel = drawn[0].axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["2", "5", "9"]
    shares = panel.images[0].get_array()
    assert shares.tolist() == [[100, 0, 0], [0, 100, 0], [0, pytest.approx(100 / 3), pytest.approx(200 / 3)]]


def test_classes_are_seen_where_each_spreads_over_many_areas(tmp_path: Path, drawn: list[Any]) -> None:
    of = target(3)
    spread = {"layers.0": of * 100 + torch.arange(300) // 3, "layers.1": of * 100 + torch.arange(300) // 6}
    figures.areas_by_class(tmp_path / "a.png", spread, of)
    few, more = (panel.images[0] for panel in drawn[0].axes[:2])
    assert few.norm(few.get_array()).max() == pytest.approx(0.5)
    assert more.norm(more.get_array()).max() == 1.0


def test_rows_of_a_sample_have_its_class_or_one_each(tmp_path: Path, drawn: list[Any]) -> None:
    area = torch.tensor([[0, 0], [1, 0]])  # two rows each
    for of in ([0, 1], [[0, 0], [1, 1]], [[0, 1], [1, 0]]):
        figures.areas_by_class(tmp_path / "a.png", {"layers.0": area}, torch.tensor(of), ["a", "b"])
    shares = [figure.axes[0].images[0].get_array().tolist() for figure in drawn]
    assert shares == [[[100, 0], [50, 50]], [[100, 0], [50, 50]], [[100, 0], [50, 50]]]
    with pytest.raises(BrodmannError, match="got 4 x 1 classes for 2 x 2 rows: count areas and classes of the same"):
        figures.areas_by_class(tmp_path / "a.png", {"layers.0": area}, torch.arange(4) % 2, ["a", "b"])


def test_names_are_drawn_letter_by_letter(tmp_path: Path, drawn: list[Any]) -> None:
    figures.areas_by_class(tmp_path / "a.png", choices(1, 4), target(2), ["$10-$20", "$x$"])
    panel = drawn[0].axes[0]
    assert [label._preprocess_math(label.get_text()) for label in panel.get_yticklabels()] == [
        ("$10-$20", False),
        ("$x$", False),
    ]


def test_information_is_that_of_the_textbook() -> None:
    assert _information(torch.eye(8, dtype=torch.float64)) == pytest.approx((3.0, 3.0))
    assert _information(torch.ones(4, 5, dtype=torch.float64)) == pytest.approx((0.0, 2.0), abs=1e-12)


def test_of_many_layers_the_first_the_last_and_some_between_are_drawn() -> None:
    assert evenly_spaced(3, 4).tolist() == [0, 1, 2]
    assert evenly_spaced(64, 4).tolist() == [0, 21, 42, 63]
    assert evenly_spaced(9, 1).tolist() == [0]


@pytest.mark.parametrize(
    "draw",
    [
        lambda p: figures.learning_curves(p, []),
        lambda p: figures.growth(p, history(3)),
        lambda p: figures.area_usage(p, []),
        lambda p: figures.areas_by_class(p, {}, target(2), names(2)),
        lambda p: figures.areas_by_class(p, choices(1, 4, 30), target(2, 29), names(2)),
        lambda p: figures.areas_by_class(p, choices(1, 4, 360), target(2, 5), names(2)),
        lambda p: figures.areas_by_class(p, choices(1, 4), target(3), names(2)),
        lambda p: figures.alignment(p, []),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(BrodmannError, match=r"expected|Expected"):
        draw(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_kind_of_file_that_cannot_be_drawn_is_told_from_settings(tmp_path: Path) -> None:
    figures.learning_curves(str(tmp_path / "a.svg"), history(3))
    with pytest.raises(BrodmannError, match=r"'foo' is not supported .* end in .png, .svg or .pdf"):
        figures.learning_curves(tmp_path / "a.foo", history(3))


def test_the_growth_of_many_areas_shows_the_largest_and_the_rest_together(drawn: list[Any], tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, "area_counts": [[1] * 300 + [100 * epoch, 0]], "tension": [0.5], "began": 1}
        for epoch in (1, 2, 3)
    ]
    figures.growth(tmp_path / "a.png", rows)
    above = drawn[0].axes[0]
    bands = above.collections
    assert len(bands) == 65
    assert above.get_ylabel() == "samples (%; grey: smaller areas)"
    assert max(path.vertices[:, 1].max() for path in bands[-1].get_paths()) == pytest.approx(100.0)
    largest = bands[-2].get_paths()[0].vertices[:, 1]  # the last in order
    assert largest.max() - 63 * 100 / 600 == pytest.approx(100 * 300 / 600)


@pytest.mark.parametrize("counts", [[(6, 4)], [(10, 0), (6, 4)]])
def test_every_epoch_shows_in_the_growth_the_last_too(
    counts: list[tuple[int, int]], drawn: list[Any], tmp_path: Path
) -> None:
    rows = [{"epoch": epoch, "area_counts": [one], "tension": [0.5]} for epoch, one in enumerate(counts, 1)]
    figures.growth(tmp_path / "a.png", rows)
    above, below = drawn[0].axes
    first, second = above.collections
    last = len(counts)
    for band, share in ((first, 30), (second, 80)):
        assert any(path.contains_point((last, share)) for path in band.get_paths())
    assert above.get_xlim() == below.get_xlim() == (0.5, last + 0.5)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BrodmannError, match=r"pip install 'brodmann\[figures\]'"):
        figures.alignment(tmp_path / "a.png", aligned(2))


def test_settings_of_the_users_that_matplotlib_cannot_follow_are_named(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    settings = {"text.usetex": True, "text.latex.preamble": r"\nothing"}
    refusal = pytest.raises(BrodmannError, match=r"cannot draw .*a\.png: .* or look at your matplotlibrc\.")
    with matplotlib.rc_context(settings), refusal:
        figures.alignment(tmp_path / "a.png", aligned(2))
    assert not list(tmp_path.iterdir())
    code = "from brodmann.figures.drawing import new_figure; new_figure(1, 1)"
    environment = {**os.environ, "MPLBACKEND": "none-such"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "BrodmannError: Matplotlib cannot be used: " in found.stderr


def test_importing_loads_no_matplotlib_and_drawing_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from brodmann import figures; "
        "assert 'matplotlib' not in sys.modules; "
        f"figures.learning_curves(Path({str(tmp_path / 'a.png')!r}), [{{'epoch': 1, 'train_loss': 1.0}}]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_in_letters_that_the_font_lacks_are_told_by_numbers(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pictures = []
    for number, classes in enumerate((["猫", "Größe", "개"], ["0", "Größe", "2"])):
        path = tmp_path / f"{number}.png"
        figures.areas_by_class(path, choices(1, 4), target(3), classes)
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]
    assert not [one for one in recwarn if "Glyph" in str(one.message)]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (1, [1]),
        (6, [1, 2, 3, 4, 5, 6]),
        (12, [2, 4, 6, 8, 10, 12]),
        (25, [5, 10, 15, 20, 25]),
        (50, [10, 20, 30, 40, 50]),
        (128, [20, 40, 60, 80, 100, 120]),
    ],
)
def test_whole_numbers_stand_where_one_counts(last: int, expected: list[int]) -> None:
    panel = Figure().add_subplot()
    panel.set_xlim(0.5, last + 0.5)
    whole_numbers(panel.xaxis)
    assert [tick for tick in panel.get_xticks() if 0.5 < tick < last + 0.5] == expected


@pytest.mark.parametrize(("low", "same"), [(1e-6, "$"), (1e-4, "0")])
def test_labels_of_a_logarithmic_axis_are_of_one_kind(low: float, same: str) -> None:
    panel = Figure().add_subplot()
    panel.plot([0, 1], [low, 1e-1])
    panel.set_yscale("log")
    panel.set_ylim(low, 1e-1)
    plain_decades(panel.yaxis)
    assert {panel.yaxis.get_major_formatter()(tick, 0)[0] for tick in (low, 1e-3, 1e-2)} == {same}


def test_names_are_drawn_where_the_font_that_is_asked_for_is_not_there(
    tmp_path: Path, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import rcParams

    monkeypatch.setitem(rcParams, "font.family", ["A font that nobody has"])
    figures.areas_by_class(tmp_path / "a.png", choices(1, 4), target(2), ["cat", "dog"])
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["cat", "dog"]
