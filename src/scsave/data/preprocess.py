"""Is this a matrix of counts, and what are its cells once normalised? (method section 0)"""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave import keys
from scsave.errors import UserError

CHUNK = 4_000_000  # entries checked at a time: bounds the memory of the checks, not their result


def log1p_normalise(counts: sp.csr_matrix, library: np.ndarray) -> sp.csr_matrix:
    """log(1 + counts / library * 1e4), (N, G); shares the index arrays of `counts`, so costs one data array."""
    scale = (keys.TARGET_SUM / np.asarray(library, dtype=np.float64)).astype(np.float32)
    data = np.repeat(scale, np.diff(counts.indptr))
    data *= counts.data
    np.log1p(data, out=data)
    return sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape, copy=False)


def undo_log1p(part: sp.csr_matrix, obs: pd.DataFrame, rows: np.ndarray, column: str, where: str) -> sp.csr_matrix:
    """Counts from log1p(counts / total * 1e4), (n, G), the totals being in `obs[column]`; whole up to rounding.

    Raises UserError where what comes out is not whole: then this is not how the values were made.
    """
    if column not in obs:
        there = ", ".join(map(str, obs.columns)) or "none"
        raise UserError(f"{where}: no column '{column}' in obs ({there}); data.normalised_by names the counts per cell")
    part = part.astype(np.float64)
    per_cell = obs[column].to_numpy(dtype=np.float64)[rows] / keys.TARGET_SUM
    values = np.expm1(part.data) * np.repeat(per_cell, np.diff(part.indptr))
    whole = np.round(values)
    if len(values) and np.abs(values - whole).max() > 0.25:
        raise UserError(
            f"{where}: log1p values times '{column}' are not whole ({values[np.abs(values - whole).argmax()]:.4g}), "
            "so the counts cannot be recovered; give a file with counts and data.normalised_by=null"
        )
    return sp.csr_matrix((whole, part.indices, part.indptr), shape=part.shape)


def check_counts(values: np.ndarray, where: str, hint: str, tolerance: float = 1e-3) -> None:
    """Raises UserError unless the stored values, (nnz,), are finite, non-negative and whole."""
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        if not np.isfinite(part).all():
            bad = int((~np.isfinite(part)).sum())
            raise UserError(f"{where}: {bad} entries are NaN or infinite, so these are not counts; {hint}")
        if part.min() < 0:
            raise UserError(f"{where}: found the negative value {part.min():.4g}: scaled data, not counts; {hint}")
        off = np.abs(part - np.round(part)) > tolerance
        if off.any():
            example, top = part[off][0], part.max()
            if top < 30 and off.mean() > 0.3:
                raise UserError(f"{where}: values such as {example:.4g}, none above {top:.4g}: already logged; {hint}")
            raise UserError(
                f"{where}: {off.mean():.1%} of the values are not whole numbers, such as {example:.6g}; {hint}, "
                "or round expected counts with data.round_counts=true"
            )


def as_counts(matrix: sp.spmatrix | np.ndarray, where: str, hint: str, round_counts: bool) -> sp.csr_matrix:
    """CSR float32 with sorted indices and no stored zero, checked to be counts, (N, G).

    `round_counts` allows expected counts (fractions among whole numbers), never logged values.
    """
    counts = sp.csr_matrix(matrix, dtype=np.float32)
    counts.sum_duplicates()
    fractions = round_counts and len(counts.data) and counts.data.max() >= 30
    check_counts(counts.data, where, hint, tolerance=np.inf if fractions else 1e-3)
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
