"""Agreement of two vectors: Pearson correlation and R^2, with the conventions that tables need for constant vectors."""

import numpy as np

CONSTANT = 1e-9  # sd below which a vector is constant up to the order of summation


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of `a` and `b`, (G,); 0 if one of them is constant: no change agrees with no response.

    NaN with fewer than two entries.
    """
    if len(a) < 2:
        return float("nan")
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
        return float("nan")
    return _explained(((truth - predicted) ** 2).sum(), ((truth - np.mean(truth)) ** 2).sum())


def weighted_r2(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    """`r2` with a weight for each entry, `sklearn.metrics.r2_score(..., sample_weight=weights)`; NaN if all are 0."""
    if weights.sum() <= 0:
        return float("nan")
    mean = float(weights @ truth / weights.sum())
    return _explained(weights @ (truth - predicted) ** 2, weights @ (truth - mean) ** 2)


def _explained(residual: float, total: float) -> float:
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return float(1 - residual / total)
