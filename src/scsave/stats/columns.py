"""Statistics of each gene (column) of sparse expression: sums, maxima, and the moments that a decoder starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scsave import keys
from scsave.stats.moments import group_means, row_blocks

if TYPE_CHECKING:
    from anndata import AnnData


def column_sums(matrix: sp.csr_matrix, rows: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of each column, (G,) each, without the copies of the matrix that scipy's own make."""
    total, square = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for _, part in row_blocks(matrix, size=rows):
        values = part.data.astype(np.float64)
        total += np.bincount(part.indices, values, matrix.shape[1])
        square += np.bincount(part.indices, values**2, matrix.shape[1])
    return total, square


def column_max(matrix: sp.csr_matrix, rows: int = 1024) -> np.ndarray:
    """Largest value of each column of a matrix without negative ones, (G,)."""
    largest = np.zeros(matrix.shape[1], dtype=matrix.dtype)
    for _, part in row_blocks(matrix, size=rows):
        np.maximum(largest, part.toarray().max(axis=0), out=largest)
    return largest


@dataclass(frozen=True)
class GeneMoments:
    """Statistics of the training cells, (G,) float32 each."""

    scale: np.ndarray  # largest log1p value
    scaled_mean: np.ndarray  # of log1p values divided by the scale
    share: np.ndarray  # of all counts of the cells, genes that were not selected counted in
    count_mean: np.ndarray
    count_variance: np.ndarray  # within combinations of conditions: what is left to the likelihood


def gene_moments(train: AnnData, combination: np.ndarray) -> GeneMoments:
    """Of prepared cells; `combination` (N,) numbers the combination of conditions of each."""
    counts, x, n = train.layers[keys.COUNTS], train.X, train.n_obs
    scale = np.maximum(column_max(x), 1e-6)
    total, square = column_sums(counts)
    cells = np.bincount(combination)  # (combinations,)
    within = group_means(counts, combination, len(cells))  # (combinations, G)
    between = (cells[:, None] * within**2).sum(0) / n  # (G,)
    share = total / train.obs[keys.LIBRARY].sum()
    columns = (scale, column_sums(x)[0] / n / scale, share, total / n, square / n - between)
    return GeneMoments(*(column.astype(np.float32) for column in columns))


def library_range(train: AnnData) -> list[float]:
    """Smallest and largest library size of the cells: generated ones stay between."""
    library = train.obs[keys.LIBRARY].to_numpy()
    return [float(library.min()), float(library.max())]
