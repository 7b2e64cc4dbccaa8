"""From predicted log1p expression to cells in the layout that every task reads, and back to group means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys

ROWS = 65_536  # cells at a time


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


def group_sums(expression: np.ndarray | sp.spmatrix, codes: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the rows of each group, (groups, D) float64; rows with code -1 belong to none."""
    total = np.zeros((groups, expression.shape[1]))
    for start in range(0, len(codes), ROWS):  # scipy widens the values of a product's matrices
        part = codes[start : start + ROWS]
        rows = np.flatnonzero(part >= 0)
        indicator = sp.csr_matrix((np.ones(len(rows)), (part[rows], rows)), shape=(groups, len(part)))
        found = indicator @ expression[start : start + ROWS]
        total += found.toarray() if sp.issparse(found) else found
    return total


def group_means(expression: np.ndarray | sp.spmatrix, codes: np.ndarray, groups: int) -> np.ndarray:
    """Mean of the rows of each group, (groups, D) float64; NaN for a group without rows."""
    sizes = np.bincount(codes[codes >= 0], minlength=groups)
    with np.errstate(invalid="ignore"):
        return group_sums(expression, codes, groups) / sizes[:, None]


def mean_expression(data: AnnData) -> np.ndarray:
    """Mean log1p expression of the cells, (G,) float64."""
    return group_means(data.X, np.zeros(data.n_obs, dtype=np.int64), 1)[0]
