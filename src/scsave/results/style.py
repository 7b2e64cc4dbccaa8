"""The look of every picture, and writing it."""

from __future__ import annotations

import os
from pathlib import Path

REAL, GENERATED, OTHER = "#4C72B0", "#DD8452", "#8C8C8C"
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


def save(fig, path: Path) -> Path:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    fig.savefig(partial, dpi=150)
    plt.close(fig)
    os.replace(partial, path)
    return path
