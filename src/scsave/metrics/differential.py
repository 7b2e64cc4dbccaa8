"""Which genes differ between two groups of cells? Gene moments, Welch's t and top-k sets, without a loop over genes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

Matrix = np.ndarray | sp.spmatrix | sp.sparray

UNMOVED = 1e-9  # |score| up to which a gene does not differ, whatever the order of summation


@dataclass(frozen=True)
class Moments:
    """Per gene over `n` cells, each (G,) or (groups, G), float64; `variance` is unbiased (0 for n < 2)."""

    n: np.ndarray | int
    mean: np.ndarray
    variance: np.ndarray
    positive: np.ndarray  # share of values above 0


def moments(x: Matrix) -> Moments:
    """Moments of the genes of `x`, (N, G) dense or sparse. NaN means if there are no cells."""
    n = x.shape[0]
    if n == 0:
        nothing = np.full(x.shape[1], np.nan)
        return Moments(0, nothing, nothing, nothing)
    return _from_sums(n, *_sums(x, sp.csr_array(np.ones((1, n)))), rows=False)


def group_moments(x: Matrix, groups: np.ndarray, n_groups: int) -> Moments:
    """Moments by group: `x` (N, G), `groups` (N,) in 0..n_groups-1. A group without cells has mean and variance 0."""
    n = np.bincount(groups, minlength=n_groups).astype(np.float64)
    member = sp.csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(n_groups, len(groups)))
    return _from_sums(n, *_sums(x, member), rows=True)


def _sums(x: Matrix, member: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, sums of squares and counts above 0 over the members of each group, (groups, G) each."""
    x = x.astype(np.float64)
    sums = _dense(member @ x)
    above = _dense(member @ (x > 0).astype(np.float64))
    return sums, _dense(member @ (x.multiply(x) if sp.issparse(x) else x**2)), above


def rest_of(inside: Moments, everything: Moments) -> Moments:
    """Moments of the cells outside each group, (groups, G), from those inside it and those of all the cells around it.

    `everything` holds one set of cells, (G,), or one for each group, (groups, G).
    """
    n_in = np.asarray(inside.n, dtype=np.float64)[:, None]
    n_all = np.asarray(everything.n, dtype=np.float64).reshape(-1, 1)
    n_out = n_all - n_in
    safe = np.maximum(n_out, 1)
    mean = (n_all * everything.mean - n_in * inside.mean) / safe
    squares_all = np.maximum(n_all - 1, 0) * everything.variance + n_all * everything.mean**2
    squares_in = np.maximum(n_in - 1, 0) * inside.variance + n_in * inside.mean**2
    variance = np.maximum(squares_all - squares_in - n_out * mean**2, 0) / np.maximum(n_out - 1, 1)
    variance[variance < 1e-12 * np.maximum(mean**2, 1)] = 0
    positive = (n_all * everything.positive - n_in * inside.positive) / safe
    return Moments(n_out[:, 0], mean, variance, positive)


def _dense(a: Matrix) -> np.ndarray:
    return a.toarray() if sp.issparse(a) else np.asarray(a)


def _from_sums(n: np.ndarray | int, total: np.ndarray, squares: np.ndarray, above: np.ndarray, rows: bool) -> Moments:
    cells = np.maximum(np.asarray(n, dtype=np.float64), 1).reshape(-1, 1)
    mean = total / cells
    variance = np.maximum(squares - cells * mean**2, 0) / np.maximum(cells - 1, 1)
    variance[variance < 1e-12 * np.maximum(mean**2, 1)] = 0  # what rounding leaves of a constant gene
    found = (mean, variance, above / cells)
    return Moments(n, *found) if rows else Moments(n, *(part[0] for part in found))


def standard_error(a: Moments, b: Moments) -> np.ndarray:
    """Standard error of the difference of means of two groups, per gene; a group of one cell has variance 0."""
    n_a, n_b = (np.asarray(m.n, dtype=np.float64).reshape(-1, 1) if np.ndim(m.n) else float(m.n) for m in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(a.variance / n_a + b.variance / n_b)


def typical_error(a: Moments, b: Moments) -> np.ndarray:
    """Median over genes of the standard errors above 0: one number for each row of groups, () or (groups,)."""
    error = standard_error(a, b)
    with warnings.catch_warnings():  # a row without any variance has none
        warnings.filterwarnings("ignore", message="All-NaN slice")
        return np.nan_to_num(np.nanmedian(np.where(error > 0, error, np.nan), axis=-1))


def welch_t(a: Moments, b: Moments, fudge: float | np.ndarray = 0.0) -> np.ndarray:
    """Difference of means over its standard error plus `fudge`, for each gene; 0 where nothing differs.

    With `fudge` 0 it is Welch's t, +-inf for a difference without any variance. Above 0 it is the moderated statistic
    of SAM (Tusher et al. 2001). Ranks of *predicted* genes need that: a model that moves a gene that no control cell
    shows, by however little, would have it on top with an infinite t.
    """
    difference = a.mean - b.mean
    difference = np.where(np.abs(difference) <= UNMOVED, 0, difference)
    fudge = np.asarray(fudge)[:, None] if np.ndim(fudge) else fudge
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / (standard_error(a, b) + fudge)
    return np.where(difference == 0, 0, t)


def top_genes(score: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` largest |score|, largest first, ties by position; never a gene that does not differ."""
    order = np.argsort(-np.abs(score), kind="stable")[:k]
    return order[np.abs(score[order]) > UNMOVED]


def overlap(truth: np.ndarray, predicted: np.ndarray, k: int) -> float:
    """|top-k of `truth` ∩ top-k of `predicted|` / k' by |score|, k' = min(k, genes of the truth that differ at all).

    NaN if no gene of the truth differs.
    """
    real = top_genes(truth, k)
    if not len(real):
        return float("nan")
    return len(np.intersect1d(real, top_genes(predicted, k))) / len(real)
