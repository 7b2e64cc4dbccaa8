"""The look of every picture: panels that can be read at 600 pixels, colours, one legend for all panels; and writing it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scsave.files import replacing

CONTROL, REAL, GENERATED, OTHER, GREY = "#5A5A5A", "#4C72B0", "#DD8452", "#8C8C8C", "#D9D9D9"
MARKERS = "osD^vPX*<>dph8"
_ALSO: list[str] = []  # further endings that `save` writes, set by `formats`
_RC = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.titlesize": 9, "figure.dpi": 110}


def figure(rows: int, columns: int, width: float, height: float):
    """A figure without a screen and its axes (rows, columns); `width` and `height` are of one panel, in inches."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(_RC)
    return plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained", squeeze=False)


def panels(n: int, width: float = 3.4, height: float = 2.8, wrap: int = 2):
    """A figure of `n` panels, `wrap` beside each other, and the panels in a list."""
    fig, axes = figure(-(-n // wrap), min(n, wrap), width, height)
    for ax in axes.flat[n:]:
        ax.axis("off")
    return fig, list(axes.flat[:n])


def level_colors(n: int) -> list:
    """Colours of `n` levels, told apart up to 20: up to ten by the colour-blind too, then dark ones before pale ones."""
    import seaborn as sns

    if n <= 10:
        known = sns.color_palette("colorblind", 10)
        known[7] = (0.13, 0.13, 0.13)  # its grey is that of the cells that a panel is not about
        return known[:n]
    pairs = sns.color_palette("tab20", 20)
    return [*pairs[::2], *pairs[1::2]][:n] if n <= 20 else sns.husl_palette(n)


def legend_below(fig, axes: Sequence, title: str = "") -> None:
    """One legend for all panels, below them."""
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    for ax in (ax for ax in axes if ax.get_legend()):
        ax.get_legend().remove()
    ncols = max(1, min(len(handles), 90 // (max(map(len, handles), default=1) + 6)))
    look = {"loc": "outside lower center", "ncols": ncols, "frameon": False, "fontsize": 8}
    fig.legend(handles.values(), handles, title=title, **look)


@contextmanager
def formats(*endings: str) -> Iterator[None]:
    """Within it every picture is written with these endings too: `with formats(".pdf")`."""
    before, _ALSO[:] = list(_ALSO), endings
    try:
        yield
    finally:
        _ALSO[:] = before


def save(fig, path: Path) -> Path:
    """Writes the picture, each file whole or not at all; returns `path`."""
    import matplotlib.pyplot as plt

    for target in (path, *(path.with_suffix(ending) for ending in _ALSO)):
        with replacing(target) as partial:
            fig.savefig(partial, dpi=150)
    plt.close(fig)
    return path
