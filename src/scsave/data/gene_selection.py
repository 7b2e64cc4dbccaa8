"""Highly variable genes, chosen on training cells alone; and cells or genes selected without touching X."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import log1p_normalise
from scsave.errors import UserError
from scsave.stats.moments import moments

ROWS = 8192  # cells read at a time
BINS = 20  # of mean expression, as in Seurat and scanpy


def gene_moments(expression: sp.csr_matrix, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, unbiased variance of counts-per-10k, and cells detected, each (G,), over `rows` of log1p values (N, G)."""
    found = moments(expression, rows, np.expm1, ROWS)
    return found.mean, found.variance, np.rint(found.positive * len(rows)).astype(np.int64)


def normalised_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Seurat's score, (G,): log(variance / mean), standardised within 20 bins of log(1 + mean)."""
    mean = np.where(mean == 0, 1e-12, mean)
    with np.errstate(divide="ignore"):
        dispersion = np.log(np.where(variance == 0, np.nan, variance / mean))
    table = pd.DataFrame({"mean": np.log1p(mean), "dispersion": dispersion})
    grouped = table.groupby(pd.cut(table["mean"], bins=BINS), observed=True)["dispersion"]
    centre, spread = grouped.transform("mean"), grouped.transform("std")
    alone = spread.isna()  # a bin of one gene: scanpy gives it a score of 1
    spread[alone], centre[alone] = centre[alone], 0.0
    return ((table["dispersion"] - centre) / spread).to_numpy()


def variable_genes(data: AnnData, train: np.ndarray, n_top_genes: int, min_cells: int = 0) -> np.ndarray:
    """Positions of the most variable genes of the training cells, in file order, (n,).

    Seurat's dispersion (Satija et al. 2015; scanpy's flavor `seurat`) on counts-per-10k: it needs one pass over sparse
    rows, no extra package and no loess. Genes seen in fewer than `min_cells` training cells are never chosen.
    """
    mean, variance, detected = gene_moments(data.X, np.asarray(train))
    score = np.nan_to_num(normalised_dispersion(mean, variance), nan=-np.inf)
    score[detected < max(min_cells, 1)] = -np.inf
    order = np.argsort(-score, kind="stable")[:n_top_genes]
    return np.sort(order[np.isfinite(score[order])])


def select_genes(data: AnnData, train: np.ndarray, n_top_genes: int | None, min_cells: int = 0) -> AnnData:
    """Cells with the chosen genes only, in file order; `X` and `library_size` as they were. (N, G) -> (N, G').

    `train` are positions of training cells: no other cell has a say. With `n_top_genes=None`, every gene seen in at
    least `min_cells` training cells (all genes at 0). Raises UserError where none is left.
    """
    if n_top_genes is None or n_top_genes >= data.n_vars:
        if min_cells <= 0:
            return data
        keep = np.flatnonzero(gene_moments(data.X, np.asarray(train))[2] >= min_cells)
    else:
        keep = variable_genes(data, train, n_top_genes, min_cells)
    if not len(keep):
        raise UserError(f"no gene is seen in data.min_cells={min_cells} of the {len(train)} training cells; lower it")
    if len(keep) == data.n_vars:
        return data
    return prepared(data.layers[keys.COUNTS][:, keep], data.obs, data.var.iloc[keep], data.uns)


def select_cells(data: AnnData, rows: np.ndarray) -> AnnData:
    """The cells at positions `rows`, in that order, copied in two thirds of the memory of `data[rows].copy()`."""
    return prepared(data.layers[keys.COUNTS][rows], data.obs.iloc[rows], data.var, data.uns)


def prepared(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> AnnData:
    """Prepared cells of `counts` (N, G), whose X shares their index arrays; the numbers that X had before selecting."""
    data = AnnData(obs=obs.copy(), var=var.copy(), layers={keys.COUNTS: sp.csr_matrix(counts)}, uns=dict(uns))
    data.X = log1p_normalise(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy())
    return data
