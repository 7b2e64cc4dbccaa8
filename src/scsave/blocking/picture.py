"""The blocks at a glance: cohesion, expression and variable genes of each block, with its most enriched set."""

from pathlib import Path

import pandas as pd

from scsave.blocking.blocks import GeneBlocks

SHOWN = 40  # blocks that fit on a page


def draw_blocks(table: pd.DataFrame, blocks: GeneBlocks, summaries: pd.DataFrame, path: Path) -> None:
    """One row a block (the first 40), from `describe.describe`; the last panel compares the schemes of `summaries`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = table.head(SHOWN)
    figure = Figure(figsize=(14, 2.2 + 0.32 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4, width_ratios=[3, 2, 2, 2])
    columns = ["cohesion", "mean_expression", "variable"]
    titles = ["cohesion (1 - within / between)", "mean log1p expression", "share of variable genes"]
    labels = [
        f"{block}: {sets.split(' (')[0] or 'no set enriched'} [{size}]"
        for block, sets, size in zip(shown.index, shown["top_sets"], shown["size"], strict=True)
    ]
    for axis, column, title in zip(axes, columns, titles, strict=False):
        axis.barh(range(len(shown)), shown[column].fillna(0), color="#4477aa")
        axis.set_title(title, fontsize=9)
        axis.invert_yaxis()
        axis.set_yticks(range(len(shown)), labels if axis is axes[0] else [""] * len(shown), fontsize=8)
    axes[3].barh(range(len(summaries)), summaries["cohesion"].fillna(0), color="#aa7744")
    ari = [f"{row.scheme} (ARI {row.ari:.2f})" for row in summaries.itertuples()]
    axes[3].set_yticks(range(len(summaries)), ari, fontsize=8)
    axes[3].invert_yaxis()
    axes[3].set_title("mean cohesion, by scheme", fontsize=9)
    more = f", the first {SHOWN} shown" if len(table) > SHOWN else ""
    figure.suptitle(f"{blocks.scheme}: {blocks.n_genes} genes in {blocks.n_blocks} blocks{more}", fontsize=11)
    figure.savefig(path, dpi=150)
