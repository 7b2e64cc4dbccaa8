"""From values to the number in a table: Pearson correlation and R^2 of two vectors, means and bootstrap intervals of many."""

from collections.abc import Mapping, Sequence

import numpy as np

CONSTANT = 1e-9  # sd below which a vector is constant up to the order of summation
NAN = float("nan")


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of `a` and `b`, (G,); 0 if one of them is constant: no change agrees with no response.

    NaN with fewer than two entries.
    """
    if len(a) < 2:
        return NAN
    a, b = a - np.mean(a), b - np.mean(b)
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if min(norms) <= CONSTANT * np.sqrt(len(a)):
        return 0.0
    return float(np.clip(a @ b / (norms[0] * norms[1]), -1, 1))


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination, `sklearn.metrics.r2_score(truth, predicted)`; not symmetric.

    1 for an exact prediction of a constant truth and 0 for any other, as in sklearn; NaN with fewer than two entries.
    """
    if len(truth) < 2:
        return NAN
    return _explained(((truth - predicted) ** 2).sum(), ((truth - np.mean(truth)) ** 2).sum())


def weighted_r2(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    """`r2` with a weight for each entry, `sklearn.metrics.r2_score(..., sample_weight=weights)`; NaN if all are 0."""
    if weights.sum() <= 0:
        return NAN
    mean = float(weights @ truth / weights.sum())
    return _explained(weights @ (truth - predicted) ** 2, weights @ (truth - mean) ** 2)


def _explained(residual: float, total: float) -> float:
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return float(1 - residual / total)


def mean_of(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values that are there; NaN if none is."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else NAN


def means_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`mean_of` each name that the first of the rows has."""
    return {name: mean_of([row[name] for row in rows]) for name in rows[0]}


def bootstrap_interval(values: np.ndarray, seed: int, level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, NaN left out; (NaN, NaN) with fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return NAN, NAN
    means = values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
