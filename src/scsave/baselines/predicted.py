"""From predicted log1p expression to cells in the layout that every task reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys


def predicted_cells(
    expression: np.ndarray | sp.spmatrix, obs: pd.DataFrame, library: np.ndarray, var: pd.DataFrame, made_by: str
) -> AnnData:
    """Cells from log1p `expression` (N, G) and library sizes (N,).

    `X` is the expression as predicted, below zero too where a shift leads there; `layers[counts]` are the expected
    counts `expm1(max(X, 0)) * library / 1e4`, not integers.
    """
    x = sp.csr_matrix(expression, dtype=np.float32)
    per_cell = np.repeat(np.asarray(library, dtype=np.float64) / keys.TARGET_SUM, np.diff(x.indptr))
    counts = x.copy()  # its own index arrays: dropping zeros rewrites them
    counts.data = (np.expm1(np.maximum(x.data, 0)) * per_cell).astype(np.float32)
    counts.eliminate_zeros()
    obs = obs.copy()
    obs.index = pd.RangeIndex(len(obs)).astype(str) if obs.index.has_duplicates else obs.index.astype(str)
    obs[keys.LIBRARY] = np.asarray(library, dtype=np.float64)
    uns: dict[str, Any] = {keys.UNS: {"made_by": made_by}}
    return AnnData(X=x, obs=obs, var=var.copy(), layers={keys.COUNTS: counts}, uns=uns)


def shifted_cells(control: AnnData, change: np.ndarray, key: str, target: str, made_by: str) -> AnnData:
    """Every control cell moved by `change`, (G,) or (N, G), in log1p space: the mean moves by exactly that much."""
    moved = control.X.toarray() if sp.issparse(control.X) else np.asarray(control.X)
    moved = moved + change.astype(np.float32)  # (N, G)
    obs = control.obs.copy()
    obs[key] = pd.Categorical([target] * len(obs))
    return predicted_cells(moved, obs, control.obs[keys.LIBRARY].to_numpy(), control.var, made_by)
