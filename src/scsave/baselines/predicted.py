"""From predicted log1p expression to cells in the layout that every task reads."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys

CELLS = 1024  # whose counts are computed at a time


def predicted_cells(
    expression: np.ndarray | sp.spmatrix, obs: pd.DataFrame, library: np.ndarray, var: pd.DataFrame, made_by: str
) -> AnnData:
    """Cells from log1p `expression` (N, G) and library sizes (N,).

    `X` is the expression as predicted, below zero too where a shift leads there; `layers[counts]` are the expected
    counts `expm1(max(X, 0)) * library / 1e4`, not integers.
    """
    x = sp.csr_matrix(expression, dtype=np.float32)
    counts = x.copy()  # its own index arrays: dropping zeros rewrites them
    for start in range(0, x.shape[0], CELLS):
        edges = x.indptr[start : start + CELLS + 1]
        part = slice(edges[0], edges[-1])
        per_cell = np.asarray(library[start : start + CELLS], dtype=np.float64) / keys.TARGET_SUM
        counts.data[part] = np.expm1(np.maximum(x.data[part], 0)) * np.repeat(per_cell, np.diff(edges))
    counts.eliminate_zeros()
    uns: dict[str, Any] = {keys.UNS: {"made_by": made_by}}
    return AnnData(X=x, obs=as_obs(obs, library), var=var.copy(), layers={keys.COUNTS: counts}, uns=uns)


def as_obs(obs: pd.DataFrame, library: np.ndarray) -> pd.DataFrame:
    """`obs` with unique cell names and the library sizes (N,)."""
    out = obs.copy()
    out.index = pd.RangeIndex(len(obs)).astype(str) if obs.index.has_duplicates else obs.index.astype(str)
    out[keys.LIBRARY] = np.asarray(library, dtype=np.float64)
    return out


def own_names(cells: AnnData) -> AnnData:
    """The cells as `generated_<digest>_<number>`: other cells get other names, and the same cells the same ones again."""
    counts = sp.csr_matrix(cells.layers[keys.COUNTS])
    digest = hashlib.sha256(cells.obs.to_csv(index=False).encode())
    for part in (counts.indptr, counts.indices, counts.data):
        digest.update(np.ascontiguousarray(part).tobytes())
    cells.obs_names = [f"generated_{digest.hexdigest()[:6]}_{number}" for number in range(cells.n_obs)]
    return cells


def target_obs(control: AnnData, key: str, target: str) -> pd.DataFrame:
    """`obs` of cells predicted from `control`: `key` says the target, `control_cell` the cell that each is made from."""
    obs = control.obs.copy()
    obs[key] = pd.Categorical([target] * len(obs))
    if keys.CONTROL_CELL not in obs:
        obs[keys.CONTROL_CELL] = control.obs_names.to_numpy()
    return obs


def shifted_cells(control: AnnData, change: np.ndarray, key: str, target: str, made_by: str) -> AnnData:
    """Every control cell moved by `change`, (G,) or (N, G), in log1p space: the mean moves by exactly that much."""
    moved = control.X.toarray() if sp.issparse(control.X) else np.asarray(control.X)
    moved = moved + change.astype(np.float32)  # (N, G)
    library = control.obs[keys.LIBRARY].to_numpy()
    return predicted_cells(moved, target_obs(control, key, target), library, control.var, made_by)
