"""The style of the project's figures, and how small pictures are laid out on a sheet.

A figure is ``WIDTH`` inches wide, the text width of the report, so that font sizes are those on
paper. Units are inches and points.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 6.7  # inches: A4 minus the margins
FONT = 8  # points
# Colours that people with any colour vision can tell apart: M. Okabe and K. Ito, "Color universal
# design" (2008), without the yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*"


def new_figure(height: float, title: str, source: str = "") -> Figure:
    """Return an empty figure; the second line of its title names the source of the numbers."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(f"{title}\n{source}".strip(), fontsize=FONT + 1)
    return figure


def style(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Give an axes its title, its labels and a light grid."""
    ax.set_title(title, fontsize=FONT)
    ax.set_xlabel(x, fontsize=FONT)
    ax.set_ylabel(y, fontsize=FONT)
    ax.tick_params(which="both", labelsize=FONT - 1)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and line style of a curve; the first 35 differ."""
    number = len(COLOURS)
    return {
        "color": COLOURS[index % number],
        "marker": MARKERS[index % number],
        "linestyle": ("-", "--", ":", "-.", (0, (5, 1)))[index // number % 5],
    }


def tile(maps: np.ndarray, columns: int, gap: float = np.nan, width: int = 1) -> np.ndarray:
    """Lay maps (N, h, w) or pictures (N, h, w, 3) out in rows.

    Args:
        maps: in reading order.
        columns: maps per row, if there are so many.
        gap: value between the maps.
        width: of the gap, in entries.
    """
    number, height, breadth = maps.shape[:3]
    columns = min(columns, number)
    rows = -(-number // columns)
    step_down, step_right = height + width, breadth + width
    sheet = np.full((rows * step_down - width, columns * step_right - width, *maps.shape[3:]), gap)
    for index, values in enumerate(maps):
        top, left = index // columns * step_down, index % columns * step_right
        sheet[top : top + height, left : left + breadth] = values
    return sheet


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, and as PDF beside it."""
    for suffix in (".png", ".pdf"):
        figure.savefig(path.with_suffix(suffix), dpi=200)


def show_signed(figure: Figure, ax: Axes, sheet: np.ndarray, name: str) -> None:
    """Show weights on a scale that is white at 0 and ends at the 99.5 % quantile; gaps are grey."""
    limit = max(float(np.nanquantile(np.abs(sheet), 0.995)), 1e-12)
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.85")
    shown = ax.imshow(sheet, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_title(name, fontsize=FONT)
    ax.set_axis_off()
    bar = figure.colorbar(shown, ax=ax, location="bottom", aspect=40, pad=0.02, extend="both")
    bar.set_label("weight", fontsize=FONT)
    bar.ax.tick_params(which="both", labelsize=FONT - 1)
