"""Description of a data set: cells, genes, conditions with counts, its split; and of a file nobody has said anything about."""

import json
import re

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.genes import symbol_column
from scsave.data.preprocess import check_counts
from scsave.data.read import RawCells
from scsave.data.settings import DataSettings
from scsave.data.splits.split import Split
from scsave.errors import UserError

SHOWN = 12  # levels of a column that are listed
MOST_LEVELS = 200  # a text column with more is a name of cells, not a label
LOOKED_AT = 256  # cells whose values are looked at
# what columns and levels are called, for a proposal
_TYPE = re.compile(r"cell.?type|^type$|annot|cluster|louvain|leiden|label", re.I)
_CALLED = re.compile(r"cell.?type", re.I)
_BATCH = re.compile(r"batch|donor|patient|sample|replicate|individual|lane|tech|study|^ind$|gem", re.I)
_PERTURBATION = re.compile(r"perturb|guide|gene|condition|treat|stim|drug|compound|disease|status|state", re.I)
_CONTROL = re.compile(
    r"^(ctrl|control|nt|non.?targeting|unperturbed|vehicle|dmso|healthy|normal|unstim.*|untreated)$", re.I
)


def summary(data: AnnData, source: DataSettings) -> dict[str, str]:
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
    roles = {
        source.cell_type_key: "cell type",
        source.batch_key: "batch",
        source.perturbation_key: f"perturbation, control is {source.control}",
    }
    for column in source.obs_keys:
        named = [*(["condition"] if column in source.conditions else []), *([roles[column]] if column in roles else [])]
        out[column + (f" ({'; '.join(named)})" if named else "")] = levels(data.obs[column])
    return out


def levels(column: pd.Series) -> str:
    """Levels with their cells, most frequent first, or the range of a column of many numbers."""
    lost = f", {column.isna().sum():,} cells without" if column.isna().any() else ""
    if pd.api.types.is_float_dtype(column) or (pd.api.types.is_numeric_dtype(column) and column.nunique() > SHOWN):
        return f"numeric, {column.min():.4g} to {column.max():.4g}{lost}"
    counts = column.value_counts()
    shown = ", ".join(f"{level} {n:,}" for level, n in counts[:SHOWN].items())
    more = f", ... (smallest {counts.iloc[-1]:,})" if len(counts) > SHOWN else ""
    return f"{len(counts)} levels: {shown}{more}{lost}"


def split_summary(split: Split) -> dict[str, str]:
    """Cells in each group of a split, and what the strategy noted."""
    out = {f"split {split.name}: {group}": f"{len(rows):,} cells" for group, rows in split.groups.items()}
    notes = {k: v for k, v in split.info.items() if k != "seed"}
    return out | ({"split notes": json.dumps(notes, default=str)[:400]} if notes else {})


def file_summary(raw: RawCells, path: str) -> dict[str, str]:
    """What a file holds, before any option says what its columns are for: tables, matrices, and a command to begin with."""
    names = ", ".join(map(str, raw.var.index[:5]))
    out = {"cells x genes": f"{len(raw.obs):,} x {len(raw.var):,}", "genes": f"{names}, ..."}
    held = {name: matrix_kind(raw, name) for name in raw.matrices}
    out |= {f"matrix {name}": kind for name, kind in held.items()}
    out |= {f"obs {name}": levels(raw.obs[name]) for name in raw.obs}
    return out | {"to begin with": proposal(raw, path, [name for name, kind in held.items() if kind == "counts"])}


def matrix_kind(raw: RawCells, name: str) -> str:
    """`counts`, or what the first cells of a matrix hold instead."""
    try:
        _, matrix, _ = raw.matrix([name], "matrix")
        check_counts(matrix[:LOOKED_AT].data, "no counts", "")
    except UserError as error:
        return str(error).rstrip("; ")
    return "counts"


def proposal(raw: RawCells, path: str, counts: list[str]) -> str:
    """The `python train.py` that the names of the columns and levels suggest; a guess, to be read before it is run."""
    label = {
        name: [str(level) for level in raw.obs[name].dropna().unique()]
        for name in map(str, raw.obs)
        if not pd.api.types.is_float_dtype(raw.obs[name]) and 1 < raw.obs[name].nunique() <= MOST_LEVELS
    }
    controls = {name: [level for level in found if _CONTROL.match(level)] for name, found in label.items()}
    perturbation = next((n for n in label if controls[n] and _PERTURBATION.search(n)), None)
    rest = [name for name in label if name != perturbation]
    kinds = [name for name in rest if _TYPE.search(name)]
    # first the one called so and nothing else, then one whose name holds it, then the finest
    rank = {n: (bool(_CALLED.fullmatch(n)), bool(_CALLED.search(n)), len(label[n])) for n in kinds}
    kind = max(kinds, key=rank.get, default=None)
    batch = next((name for name in rest if name != kind and _BATCH.search(name)), None)
    conditions = [name for name in (perturbation, kind) if name]
    task = ["task=perturbation"] if perturbation else ["task=batch_correction"] if batch and not kind else []
    conditions = conditions or [name for name in [batch] if name] or rest[:1] or ["<a column>"]
    given = [*task, f"data.path={path}", f"data.conditions=[{','.join(conditions)}]"]
    given += [f"data.cell_type_key={kind}"] if kind else []
    given += [f"data.batch_key={batch}"] if batch else []
    if perturbation:
        given += [f"data.perturbation_key={perturbation}", f"data.control={controls[perturbation][0]}"]
    if counts and counts[0] != "X" and "X" not in counts:
        given.append(f"data.layer={counts[0]}")
    symbols = symbol_column(raw.var)
    if symbols and (raw.var.index.astype(str).str.match(r"ENS|\d+$").mean() > 0.5):
        given.append(f"data.symbol_key={symbols}")
    return "python train.py data=h5ad " + " ".join(f"'{o}'" if re.search(r"[^\w./=-]", o) else o for o in given)
