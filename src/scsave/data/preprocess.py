"""Counts checked and normalised (method section 0); variable genes, chosen on training cells alone; cells and genes selected."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.obs import numbers
from scsave.errors import UserError, listed
from scsave.stats.mapped import folder_of, stacked
from scsave.stats.moments import moments, parts

TOTALS = (
    "data.normalised_by is for a file that keeps log1p(counts per 10,000) and no counts: it names the obs column that holds "
    "each cell's total counts (UMIs) before normalisation"
)
CHUNK = 4_000_000  # entries checked at a time: bounds the memory of the checks, not their result
LOGGED = 30  # no log1p value is as large: e^30 counts
ROWS = 8192  # cells read at a time for the moments of genes
BINS = 20  # of mean expression, as in Seurat and scanpy
WHOLE = 1e-3  # distance from a whole number that float32 leaves
FIRST = 50  # cells that a guess is tried on
# Absolute and relative distance from whole: of float32 values times totals that were rounded themselves, or with each other.
COARSE, FINE = (0.01, 1e-3), (1e-3, 1e-5)
MOST_SMALLEST = 10  # the count that a cell's rarest molecule has, at most


def log1p_normalise(counts: sp.csr_matrix, library: np.ndarray) -> sp.csr_matrix:
    """log(1 + counts / library * 1e4), (N, G); shares the index arrays of `counts`, so costs one data array."""
    scale = (keys.TARGET_SUM / np.asarray(library, dtype=np.float64)).astype(np.float32)
    data = np.repeat(scale, np.diff(counts.indptr))
    data *= counts.data
    np.log1p(data, out=data)
    return sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape, copy=False)


def with_log1p(parts: Iterable[sp.csr_matrix], library: np.ndarray) -> Iterator[tuple[sp.csr_matrix, sp.csr_matrix]]:
    """Counts (N, G) that come in parts of their rows, each part with its log1p."""
    for part in parts:
        own, library = np.split(library, [part.shape[0]])
        yield part, log1p_normalise(part, own)


def undo_log1p(part: sp.csr_matrix, obs: pd.DataFrame, rows: np.ndarray, column: str, where: str) -> sp.csr_matrix:
    """Counts from log1p(counts / total * 1e4), (n, G), the totals being in `obs[column]`; whole up to rounding.

    Raises UserError where what comes out is not whole: then this is not how the values were made.
    """
    if column not in obs:
        there = listed(obs.columns, 40)
        raise UserError(f"{where}: no column '{column}' in obs ({there}); {TOTALS}")
    part = part.astype(np.float64)
    per_cell = numbers(obs[column].iloc[rows], column, where, TOTALS).to_numpy() / keys.TARGET_SUM
    values = np.expm1(part.data) * np.repeat(per_cell, np.diff(part.indptr))
    whole = np.round(values)
    if not (np.abs(values - whole) <= 0.25).all():
        raise UserError(
            f"{where}: the counts cannot be recovered: turned back with the totals in '{column}', a value is not whole "
            f"({values[np.abs(values - whole).argmax()]:.4g}); {TOTALS}; a file with counts needs data.normalised_by=null"
        )
    return sp.csr_matrix((whole, part.indices, part.indptr), shape=part.shape)


def recovered_counts(matrix: sp.spmatrix | np.ndarray, obs: pd.DataFrame) -> tuple[sp.csr_matrix | None, str | None]:
    """Counts behind log1p values (N, G), and the column of `obs` with the cells' totals; None where they are not whole.

    A numeric column that makes every value of log1p(counts / total * 1e4) whole is the total (`pbmc68k_reduced` of scanpy
    keeps it as n_counts). Without one, the values have to be of all genes, so that every cell sums to the same; then a
    cell's counts are the smallest whole numbers in the proportions of its values (of which one is 1 in nearly every cell).
    """
    logged = sp.csr_matrix(matrix, dtype=np.float64)
    logged.eliminate_zeros()
    data = logged.data
    if not len(data) or not np.isfinite(data).all() or data.min() < 0 or data.max() >= LOGGED:
        return None, None
    linear = sp.csr_matrix((np.expm1(data), logged.indices, logged.indptr), shape=logged.shape)
    for name in obs.columns[[pd.api.types.is_numeric_dtype(column) for _, column in obs.items()]]:
        total = obs[name].to_numpy(np.float64)
        if not (np.isfinite(total).all() and (total > 0).all()):
            continue
        factor = total / keys.TARGET_SUM
        if _whole(linear[:FIRST], factor[:FIRST], COARSE).all() and _whole(linear, factor, COARSE).all():
            counts = _times(linear, factor)
            if (total * 1.001 >= counts.sum(axis=1).A1).all():
                return counts, str(name)
    total = linear.sum(axis=1).A1
    if (np.diff(linear.indptr) == 0).any() or np.ptp(total) > 1e-3 * total.mean():
        return None, None
    one = 1 / np.minimum.reduceat(linear.data, linear.indptr[:-1])  # makes the smallest value of a cell 1
    factor = np.full(len(one), np.nan)
    for smallest in range(1, MOST_SMALLEST + 1):
        left = np.flatnonzero(np.isnan(factor))
        fits = _whole(linear[left], one[left] * smallest, FINE) if len(left) else np.empty(0, dtype=bool)
        factor[left[fits]] = one[left[fits]] * smallest
        if smallest == 1 and fits.mean() < 0.5:
            break  # not the shape of log1p counts at all
    return (None, None) if np.isnan(factor).any() else (_times(linear, factor), None)


def _times(values: sp.csr_matrix, factor: np.ndarray) -> sp.csr_matrix:
    """`values` (N, G) times the `factor` of each row (N,), rounded."""
    whole = np.round(values.data * np.repeat(factor, np.diff(values.indptr))).astype(np.float32)
    return sp.csr_matrix((whole, values.indices, values.indptr), shape=values.shape)


def _whole(values: sp.csr_matrix, factor: np.ndarray, within: tuple[float, float]) -> np.ndarray:
    """Rows (N,) bool whose values times `factor` (N,) are all whole and not zero, `within` absolute and relative error."""
    product = values.data * np.repeat(factor, np.diff(values.indptr))
    off = (np.abs(product - np.round(product)) > np.minimum(within[0] + within[1] * product, 0.25)) | (product < 0.5)
    row = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    return np.bincount(row, off, minlength=values.shape[0]) == 0


def check_counts(values: np.ndarray, where: str, hint: str, tolerance: float = WHOLE) -> None:
    """Raises UserError, with the number of bad values, unless the stored ones, (nnz,), are finite, positive and whole."""
    infinite, negative, off, example = 0, 0, 0, None
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        infinite += int((~np.isfinite(part)).sum())
        negative += int((part < 0).sum())
        with np.errstate(invalid="ignore"):
            fraction = np.abs(part - np.round(part)) > tolerance
        if example is None and fraction.any():
            example = part[fraction][0]
        off += int(fraction.sum())
    if infinite:
        found = f"{infinite:,} entries are NaN or infinite, of {len(values):,}"
        raise UserError(f"{where}: {found}, so these are not counts; {hint}")
    if negative:
        found = f"found the negative value {values.min():.4g} ({negative:,} of {len(values):,} values are negative)"
        raise UserError(f"{where}: {found}: scaled data, not counts; {hint}")
    if off:
        top = values.max()
        if top < LOGGED and off > 0.3 * len(values):
            raise UserError(f"{where}: values such as {example:.4g}, none above {top:.4g}: already logged; {hint}")
        found = f"{off:,} of {len(values):,} values are not whole numbers, such as {example:.6g}"
        raise UserError(f"{where}: {found}; data.round_counts=true rounds expected counts; {hint}")


def as_counts(matrix: sp.spmatrix | np.ndarray, where: str, hint: str, round_counts: bool) -> sp.csr_matrix:
    """CSR float32 with sorted indices and no stored zero, checked to be counts, (N, G).

    `round_counts` allows expected counts (fractions among whole numbers), never logged values.
    """
    counts = sp.csr_matrix(matrix, dtype=np.float32)
    counts.sum_duplicates()
    fractions = round_counts and len(counts.data) and counts.data.max() >= LOGGED
    check_counts(counts.data, where, hint, tolerance=np.inf if fractions else WHOLE)
    counts.data = np.round(counts.data)
    counts.eliminate_zeros()
    return counts


def check_library(given: np.ndarray, total: np.ndarray, cells: pd.Index, column: str, where: str) -> np.ndarray:
    """The library sizes of a column, (n,), where none is below the counts that are there, `total` (n,)."""
    good = np.isfinite(given) & (given >= total * 0.999)
    if not good.all():
        worst = int(np.flatnonzero(~good)[0])
        raise UserError(
            f"{where}: '{column}' is no library size: cell {cells[worst]} has {total[worst]:.0f} counts "
            f"but '{column}' says {given[worst]:.6g}; set data.library_key=null to add the counts up"
        )
    return given


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
    counts = data.layers[keys.COUNTS]
    chosen = (part[:, keep] for _, part in parts(counts)) if (folder := folder_of(counts)) else counts[:, keep]
    return prepared(chosen, data.obs, data.var.iloc[keep], data.uns, folder)


def select_cells(data: AnnData, rows: np.ndarray) -> AnnData:
    """The cells at positions `rows`, in that order, copied in two thirds of the memory of `data[rows].copy()`."""
    counts = data.layers[keys.COUNTS]
    chosen = (part for _, part in parts(counts, rows=rows)) if (folder := folder_of(counts)) else counts[rows]
    return prepared(chosen, data.obs.iloc[rows], data.var, data.uns, folder)


def prepared(
    counts: Any, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any], folder: Path | None = None
) -> AnnData:
    """Prepared cells of `counts` (N, G), whose X shares their index arrays; the numbers that X had before selecting.

    Counts that come in parts of their rows lie in files of `folder` where they are large (`scsave.stats.mapped`).
    """
    library = obs[keys.LIBRARY].to_numpy()
    if sp.issparse(counts):
        counts = sp.csr_matrix(counts)
        x = log1p_normalise(counts, library)
    else:
        counts, x = stacked(with_log1p(counts, library), folder)
    data = AnnData(obs=obs.copy(), var=var.copy(), layers={keys.COUNTS: counts}, uns=dict(uns))
    data.X = x
    return data
