"""The look of every picture, and writing it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

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


def level_colors(n: int) -> list:
    """Colours of `n` levels, told apart up to 20: up to ten by the colour-blind too, then dark ones before pale ones."""
    import seaborn as sns

    if n <= 10:
        return sns.color_palette("colorblind", n)
    pairs = sns.color_palette("tab20", 20)
    return [*pairs[::2], *pairs[1::2]][:n] if n <= 20 else sns.husl_palette(n)


def scatter_levels(
    ax, at: np.ndarray, codes: np.ndarray, names: Sequence[str], colors: Sequence, size: float = 6
) -> None:
    """Points (N, 2), coloured and named by `codes` (N,), -1 being left out; in random order, so that none hides another."""
    order = np.random.default_rng(0).permutation(len(at))
    order = order[codes[order] >= 0]
    ax.scatter(*at[order].T, s=size, c=np.asarray(colors)[codes[order]], linewidths=0, alpha=0.8)
    for name, color in zip(names, colors, strict=True):
        ax.scatter([], [], s=14, color=color, label=str(name))
    tidy(ax)


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
