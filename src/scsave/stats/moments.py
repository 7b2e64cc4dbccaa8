"""Statistics of each gene over all cells or over groups of cells, from blocks of rows; and those that a decoder starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scsave import keys
from scsave.stats.mapped import folder_of, release

if TYPE_CHECKING:
    from anndata import AnnData

Matrix = np.ndarray | sp.spmatrix | sp.sparray

BLOCK = 8_192  # rows that are widened to float64 at a time
ROUNDING = 1e-12  # variance, relative to the squared mean, that rounding leaves of a constant gene


@dataclass(frozen=True)
class Moments:
    """Moments of each gene over `n` cells, (G,), or over the cells of each group, (groups, G), float64."""

    n: np.ndarray | int
    mean: np.ndarray
    variance: np.ndarray  # unbiased; 0 for fewer than two cells
    positive: np.ndarray  # share of values above 0


def parts(x: Matrix, size: int = BLOCK, rows: np.ndarray | None = None) -> Iterator[tuple[slice, Matrix]]:
    """Consecutive parts of `x` (N, G), or of its rows at positions `rows`, and where they are: no more is in memory."""
    n = x.shape[0] if rows is None else len(rows)
    places = [slice(start, start + size) for start in range(0, max(n, 1), size)]
    found = zip(places, map(x.__getitem__, places if rows is None else (rows[where] for where in places)), strict=True)
    return found if folder_of(x) is None else _let_go(found, x)


def _let_go(found: Iterator[tuple[slice, Matrix]], x: Matrix) -> Iterator[tuple[slice, Matrix]]:
    for one in found:
        yield one
        release(x)


def moments(x: Matrix, rows: np.ndarray | None = None, transform: Callable | None = None, size: int = BLOCK) -> Moments:
    """Moments of the genes of `x` (N, G), dense or sparse, or of its rows at positions `rows`. NaN means without cells.

    `transform` is applied to the values (float64) first; it must keep 0.
    """
    n = x.shape[0] if rows is None else len(rows)
    if n == 0:
        nothing = np.full(x.shape[1], np.nan)
        return Moments(0, nothing, nothing, nothing)
    sums = np.zeros((3, 1, x.shape[1]))
    for _, block in parts(x, size, rows):
        sums += _block_sums(block, np.zeros(block.shape[0], dtype=np.int64), 1, transform)
    found = _from_sums(np.array([n]), *sums)
    return Moments(n, found.mean[0], found.variance[0], found.positive[0])


def group_moments(x: Matrix, groups: np.ndarray, n_groups: int) -> Moments:
    """Moments by group: `x` (N, G), `groups` (N,) in 0..n_groups-1. A group without cells has mean and variance 0."""
    sums = np.zeros((3, n_groups, x.shape[1]))
    for where, block in parts(x):
        sums += _block_sums(block, groups[where], n_groups)
    return _from_sums(np.bincount(groups, minlength=n_groups).astype(np.float64), *sums)


def group_sums(x: Matrix, codes: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the rows of each group, (groups, G) float64; rows with code -1 belong to none."""
    total = np.zeros((groups, x.shape[1]))
    for where, block in parts(x):
        total += _dense(_members(codes[where], groups) @ block)
    return total


def group_means(x: Matrix, codes: np.ndarray, groups: int) -> np.ndarray:
    """Mean of the rows of each group, (groups, G) float64; NaN for a group without rows."""
    sizes = np.bincount(codes[codes >= 0], minlength=groups)
    with np.errstate(invalid="ignore"):
        return group_sums(x, codes, groups) / sizes[:, None]


def mean_expression(cells: AnnData) -> np.ndarray:
    """Mean log1p expression of `cells`, (G,) float64; NaN if there are none."""
    return group_means(cells.X, np.zeros(cells.n_obs, dtype=np.int64), 1)[0]


def rest_of(inside: Moments, everything: Moments) -> Moments:
    """Moments of the cells outside each group, (groups, G), from those inside it and those of all the cells around it.

    `everything` holds one set of cells, (G,), or one for each group, (groups, G).
    """
    n_in = np.asarray(inside.n, dtype=np.float64)[:, None]
    n_all = np.asarray(everything.n, dtype=np.float64).reshape(-1, 1)
    n_out = n_all - n_in
    mean = (n_all * everything.mean - n_in * inside.mean) / np.maximum(n_out, 1)
    squares_all = np.maximum(n_all - 1, 0) * everything.variance + n_all * everything.mean**2
    squares_in = np.maximum(n_in - 1, 0) * inside.variance + n_in * inside.mean**2
    positive = (n_all * everything.positive - n_in * inside.positive) / np.maximum(n_out, 1)
    return Moments(n_out[:, 0], mean, _variance(squares_all - squares_in, n_out, mean), positive)


def _block_sums(x: Matrix, codes: np.ndarray, groups: int, transform: Callable | None = None) -> np.ndarray:
    """Sums, sums of squares and numbers of values above 0 of the rows of each group, (3, groups, G)."""
    x, member = x.astype(np.float64), _members(codes, groups)
    if transform is not None and sp.issparse(x):
        x.data = transform(x.data)
    elif transform is not None:
        x = transform(x)
    squares = x.multiply(x) if sp.issparse(x) else x**2
    return np.stack([_dense(member @ part) for part in (x, squares, (x > 0).astype(np.float64))])


def _members(codes: np.ndarray, groups: int) -> sp.csr_array:
    """Indicator of the rows of each group, (groups, N); a code of -1 is in none."""
    rows = np.flatnonzero(codes >= 0)
    return sp.csr_array((np.ones(len(rows)), (codes[rows], rows)), shape=(groups, len(codes)))


def _from_sums(n: np.ndarray, total: np.ndarray, squares: np.ndarray, above: np.ndarray) -> Moments:
    cells = np.maximum(n, 1).reshape(-1, 1)
    mean = total / cells
    return Moments(n, mean, _variance(squares, cells, mean), above / cells)


def _variance(squares: np.ndarray, n: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Unbiased variance from the sum of squares over `n` cells."""
    variance = np.maximum(squares - n * mean**2, 0) / np.maximum(n - 1, 1)
    variance[variance < ROUNDING * np.maximum(mean**2, 1)] = 0
    return variance


def _dense(a: Matrix) -> np.ndarray:
    return a.toarray() if sp.issparse(a) else np.asarray(a)


def column_sums(matrix: sp.csr_matrix, rows: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of each column, (G,) each, without the copies of the matrix that scipy's own make."""
    total, square = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for _, part in parts(matrix, rows):
        values = part.data.astype(np.float64)
        total += np.bincount(part.indices, values, matrix.shape[1])
        square += np.bincount(part.indices, values**2, matrix.shape[1])
    return total, square


def column_max(matrix: sp.csr_matrix, rows: int = 1024) -> np.ndarray:
    """Largest value of each column of a matrix without negative ones, (G,)."""
    largest = np.zeros(matrix.shape[1], dtype=matrix.dtype)
    for _, part in parts(matrix, rows):
        np.maximum(largest, part.toarray().max(axis=0, initial=0), out=largest)
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
