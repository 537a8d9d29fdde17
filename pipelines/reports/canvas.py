"""Common style of plots: colour-blind safe colours, sizes, titles."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct in hue and lightness.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
GREY = "#8c8c8c"
BLACK = "#222222"

WIDTH = 11.0  # inches
DPI = 110


def grid(rows: int, columns: int, *, height: float = 3.2, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its axes in reading order, each `height` inches high, without top and right spines."""
    figure = Figure(figsize=(width, height * rows + 0.6), dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def titled(figure: Figure, title: str, *, note: str = "") -> Figure:
    """Adds a title, and a note of one or more lines below it in smaller type; returns the figure."""
    lines = note.count("\n") + 1 if note else 0
    figure.suptitle(title + "\n" * lines, fontsize=13, x=0.01, ha="left", fontweight="bold")
    if note:
        figure.text(0.01, 1 - 0.29 / figure.get_figheight(), note, fontsize=9, color="#555555", va="top")
    return figure
