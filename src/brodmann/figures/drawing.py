"""The common looks of all figures, and how they are written (extra ``figures``).

Matplotlib is imported when a figure is drawn, without pyplot: no global state, no window system.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from ..files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008), told apart with every common form of colour blindness."""
GREY, INK = "#8A8A8A", "#262626"
MAP = "Blues"
DPI = 200


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of this size in inches, with a canvas of its own."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BrodmannError("Figures need matplotlib: pip install 'brodmann[figures]'.") from None
    except ValueError as error:  # it reads the user's settings when it is imported
        raise BrodmannError(f"Matplotlib cannot be used: {error}. Check MPLBACKEND and matplotlibrc.") from None
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def shades(count: int) -> list[Any]:
    """Returns ``count`` shades of one colour map, from pale to dark."""
    from matplotlib import colormaps

    return [colormaps[MAP](0.35 + 0.65 * place / max(1, count - 1)) for place in range(count)]


def write_figure(path: str | Path, figure: Any) -> None:
    """Writes a figure as the path's suffix says: png, svg or pdf.

    Raises:
        BrodmannError: It cannot be written; or drawn, for example if a matplotlibrc asks for LaTeX and there is none.
    """
    from matplotlib import rc_context

    buffer = io.BytesIO()
    kind = Path(path).suffix.lstrip(".") or "png"
    # Without versions, dates and random names inside, equal data gives equal bytes.
    empty = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "brodmann", "svg.fonttype": "none"}):
        try:
            figure.savefig(buffer, format=kind, facecolor="white", metadata=empty.get(kind))
        except (RuntimeError, ValueError, OSError) as error:
            why = str(error).partition("\n")[0]
            raise BrodmannError(
                f"Matplotlib cannot draw {path}: {why}. Let its name end in .png, .svg or .pdf, or look at your "
                "matplotlibrc."
            ) from None
    write_bytes(Path(path), buffer.getvalue())


def tidy(panel: Any, x: str, y: str, *, grid: bool = True) -> None:
    """Gives a panel its labels and the common looks."""
    panel.set_xlabel(x, fontsize=8.5, color=INK)
    panel.set_ylabel(y, fontsize=8.5, color=INK)
    panel.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.7)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom") and grid)
        spine.set_linewidth(0.7)
        spine.set_color(INK)
    if grid:
        panel.grid(visible=True, color="#E3E3E3", linewidth=0.6)
        panel.set_axisbelow(True)
    else:
        panel.tick_params(length=0)


def title(panel: Any, text: str, *, side: str = "left", colour: str = INK) -> None:
    """Writes a small title above one side of a panel."""
    panel.set_title(text, fontsize=8, color=colour, loc=side)


def legend_below(figure: Any, handles: Iterable[Any], labels: Iterable[str], columns: int = 2, **style: Any) -> None:
    """Names lines below all panels, in this many columns, or in fewer if they would be wider than the figure."""
    common = {"fontsize": 7.5, "frameon": False, "labelcolor": INK}
    named = list(handles), list(map(literal, labels))
    for count in range(columns, 0, -1):
        legend = figure.legend(*named, loc="outside lower center", ncols=count, **common | style)
        if count == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def tidy_bar(bar: Any, label: str) -> None:
    """Gives a bar of colours its label and the common looks."""
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.7)
    bar.outline.set_visible(False)


def require(rows: Sequence[Any] | Mapping[str, Any], what: str) -> None:
    """Raises a `BrodmannError` if there is nothing to draw."""
    if not rows:
        raise BrodmannError(f"There is nothing to draw: expected at least {what}.")


def can_draw(name: str) -> bool:
    """Whether the font at hand, or one that the user's settings name beside it, has every letter of a name."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = []
    for family in FontProperties().get_family():
        try:
            fonts.append(get_font(findfont(FontProperties(family=[family]), fallback_to_default=False)))
        except ValueError:  # it is not installed
            continue
    fonts = fonts or [get_font(findfont(FontProperties()))]  # which Matplotlib then draws with
    return all(letter.isspace() or any(font.get_char_index(ord(letter)) for font in fonts) for letter in name)


def literal(name: str) -> str:
    """Returns a name as Matplotlib draws it letter by letter, dollar signs too."""
    return name.replace("$", r"\$")


def name_ticks(axis: Any, names: Sequence[str], most: int) -> None:
    """Names every row or column if there is room, else every k-th."""
    step = math.ceil(len(names) / most)
    axis.set_ticks(range(0, len(names), step), labels=list(names)[::step])


def separate(panel: Any, columns: int, rows: int) -> None:
    """Draws thin white lines between cells, if cells are large enough for them."""
    if columns * rows > 1000:
        return
    panel.set_xticks([index - 0.5 for index in range(1, columns)], minor=True)
    panel.set_yticks([index - 0.5 for index in range(1, rows)], minor=True)
    panel.grid(visible=True, which="minor", color="white", linewidth=0.6)
    panel.tick_params(which="minor", length=0)


def whole_numbers(axis: Any) -> None:
    """Puts ticks only at whole numbers, at a distance that one counts by: 1, 2 or 5, tens of them, and so on."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=9, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))


def plain_decades(axis: Any) -> None:
    """Labels a logarithmic axis with plain numbers, and inside a decade at 2 and 5 if it spans few of them.

    Powers of ten stand on one that reaches numbers with many zeros: all of its labels look alike.
    """
    from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    narrow = high / low < 300
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=9))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    powers = FuncFormatter(lambda value, _: f"{value:.0e}") if narrow else LogFormatterMathtext()
    axis.set_major_formatter(plain if low >= 1e-4 and high <= 1e6 else powers)
    axis.set_minor_locator(NullLocator())
