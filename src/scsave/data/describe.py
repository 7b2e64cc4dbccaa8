"""What is in a data set: cells, genes, conditions with counts, and what a split makes of it."""

import json

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.source import DataSource
from scsave.data.splits.split import Split

SHOWN = 12  # levels of a column that are listed


def summary(data: AnnData, source: DataSource) -> dict[str, str]:
    """One line of text for each thing worth knowing of prepared cells."""
    counts, record = data.layers[keys.COUNTS], data.uns[keys.UNS]
    library = data.obs[keys.LIBRARY]
    dropped = ", ".join(f"{name} {n:,}" for name, n in record["dropped_cells"].items() if n) or "none"
    out = {
        "cells x genes": f"{data.n_obs:,} x {data.n_vars:,}, {counts.nnz / np.prod(data.shape):.1%} not zero",
        "library size": f"median {library.median():,.0f}, from {library.min():,.0f} to {library.max():,.0f} "
        f"({record['library']})",
        "cells dropped": dropped,
        "sum of the source": record["checksum"] or "none (made or packaged)",
    }
    for column in source.obs_keys:
        out[f"{column}{role(column, source)}"] = levels(data.obs[column])
    return out


def role(column: str, source: DataSource) -> str:
    """What a column is for, in brackets."""
    roles = [
        name
        for name, is_it in (
            ("condition", column in source.conditions),
            ("cell type", column == source.cell_type_key),
            ("batch", column == source.batch_key),
            (f"perturbation, control is {source.control}", column == source.perturbation_key),
        )
        if is_it
    ]
    return f" ({'; '.join(roles)})" if roles else ""


def levels(column: pd.Series) -> str:
    """Levels with their cells, most frequent first, or the range of a numeric column."""
    if column.dtype != "category":
        return f"numeric, {column.min():.4g} to {column.max():.4g}"
    counts = column.value_counts()
    shown = ", ".join(f"{level} {n:,}" for level, n in counts[:SHOWN].items())
    return f"{len(counts)} levels: {shown}" + (f", ... (smallest {counts.iloc[-1]:,})" if len(counts) > SHOWN else "")


def split_summary(split: Split) -> dict[str, str]:
    """Cells in each group of a split, and what the strategy noted."""
    out = {f"split {split.name}: {group}": f"{len(rows):,} cells" for group, rows in split.groups.items()}
    notes = {k: v for k, v in split.info.items() if k != "seed"}
    return out | ({"split notes": json.dumps(notes, default=str)[:400]} if notes else {})
