"""The look of every plot: colours that colour-blind readers tell apart, the sizes, the title."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: apart in hue and in lightness.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
GREY = "#8c8c8c"
BLACK = "#222222"

WIDTH = 11.0  # inches
DPI = 110


def grid(rows: int, columns: int, *, height: float = 3.2, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure of rows × columns axes in reading order, each `height` inches high, framed at left and bottom only."""
    figure = Figure(figsize=(width, height * rows + 0.6), dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def titled(figure: Figure, title: str, *, note: str = "") -> Figure:
    """The figure with its title, and a line below it in smaller letters."""
    figure.suptitle(f"{title}\n" if note else title, fontsize=13, x=0.01, ha="left", fontweight="bold")
    if note:
        figure.text(0.01, 1 - 0.29 / figure.get_figheight(), note, fontsize=9, color="#555555", va="top")
    return figure
