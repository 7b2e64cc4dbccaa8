"""The look of every picture, and writing it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REAL, GENERATED, OTHER = "#4C72B0", "#DD8452", "#8C8C8C"
_ALSO: list[str] = []  # further endings that `save` writes, set by `formats`
_RC = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.titlesize": 9, "figure.dpi": 110}


def figure(rows: int, columns: int, width: float, height: float):
    """A figure without a screen; `width` and `height` are of one panel, in inches."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(_RC)
    return plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained")


def tidy(ax) -> None:
    """A scatter whose axes mean nothing."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def palette(n: int) -> list:
    """Colours of `n` lines: none is that of real cells."""
    import seaborn as sns

    return sns.color_palette("deep", 10)[1:][:n] if n <= 9 else sns.husl_palette(n)


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

    path.parent.mkdir(parents=True, exist_ok=True)
    for target in (path, *(path.with_suffix(ending) for ending in _ALSO)):
        partial = target.with_name(f"{target.stem}.partial{target.suffix}")
        fig.savefig(partial, dpi=150)
        os.replace(partial, target)
    plt.close(fig)
    return path
