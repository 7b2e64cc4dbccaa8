"""The picture of block attention: the reference, and what each other level changes in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scsave.results.style import figure, save

HALVES = ("half 1", "half 2")


def draw_attention(path: Path, labels: list[str], weights: dict[str, np.ndarray], column: str, most: int) -> Path:
    """A row a network (layers averaged): the reference, the noise between its halves, the levels that change most."""
    networks = list(dict.fromkeys(key.split("/")[0] for key in weights))
    mean = {
        name: np.mean([stack for key, stack in weights.items() if key.split("/")[0] == name], axis=0)
        for name in networks
    }  # (levels, L, L)
    at = {label: number for number, label in enumerate(labels)}
    others = [label for label in labels[1:] if label not in HALVES]
    moved = {label: max(np.abs(m[at[label]] - m[0]).max() for m in mean.values()) for label in others}
    shown = sorted(others, key=lambda label: -moved[label])[:most]
    fig, axes = figure(len(networks), 2 + len(shown), width=2.5, height=2.4)
    axes = np.asarray(axes).reshape(len(networks), -1)
    for row, (name, stack) in zip(axes, mean.items(), strict=True):
        noise = stack[at[HALVES[0]]] - stack[at[HALVES[1]]]
        changes = [noise, *(stack[at[label]] - stack[0] for label in shown)]
        limit = max(np.abs(change).max() for change in changes) or 1.0
        first = row[0].imshow(stack[0], cmap="viridis", vmin=0)
        row[0].set(title=f"{name}: {labels[0]}", ylabel="block", xlabel="looks at")
        fig.colorbar(first, ax=row[0], fraction=0.046)
        for ax, change, label in zip(row[1:], changes, ["noise: half - half", *shown], strict=True):
            last = ax.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set_title(label if label.startswith("noise") else f"{label}\nmax {np.abs(change).max():.3f}")
        fig.colorbar(last, ax=row[-1], fraction=0.046)
    fig.suptitle(f"attention between gene blocks by {column}: reference, then changes from it", fontsize=9)
    return save(fig, path)
