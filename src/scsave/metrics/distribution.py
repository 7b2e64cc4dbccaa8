"""How far apart are two samples of cells? Distances of distributions (evaluation.md, "Generation").

`x` is the generated or predicted sample, (N, D), `y` the real one, (M, D). Every function but the W's takes memory of
O((N + M)^2): callers cap the sample (see `subsample`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

CFGEN_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
MEDIAN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NEIGHBOURS = 5


@dataclass(frozen=True)
class Squared:
    """Squared euclidean distances within and between two samples, float64."""

    xx: np.ndarray  # (N, N)
    yy: np.ndarray  # (M, M)
    xy: np.ndarray  # (N, M)


def squared(x: np.ndarray, y: np.ndarray) -> Squared:
    """Squared distances of `x` (N, D) and `y` (M, D)."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return Squared(cdist(x, x, "sqeuclidean"), cdist(y, y, "sqeuclidean"), cdist(x, y, "sqeuclidean"))


def subsample(n: int, most: int, seed: int) -> np.ndarray:
    """Sorted positions of at most `most` of `n` cells, without replacement."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))


def transport_cost(cost: np.ndarray) -> float:
    """Exact optimal transport cost between uniform weights over rows and columns of `cost`, (N, M).

    With N = M an optimal plan is a permutation (Birkhoff), which the assignment solver finds three times as fast as the
    network simplex; else `ot.emd2`.
    """
    rows, columns = cost.shape
    if rows == columns:
        from scipy.optimize import linear_sum_assignment

        return float(cost[linear_sum_assignment(cost)].mean())
    import ot

    weights = np.full(rows, 1 / rows), np.full(columns, 1 / columns)
    return float(ot.emd2(*weights, cost, numItermax=10_000_000))


def w1(distances: Squared) -> float:
    """1-Wasserstein distance, euclidean ground distance."""
    return transport_cost(np.sqrt(distances.xy))


def w2(distances: Squared) -> float:
    """2-Wasserstein distance, the root of the squared-distance transport cost."""
    return float(np.sqrt(transport_cost(distances.xy)))


def mmd2_rbf(distances: Squared, scales: tuple[float, ...] = CFGEN_SCALES) -> float:
    """Biased MMD^2 (V-statistic), the sum of Gaussian kernels with standard deviations `scales`, as in CFGen's code."""

    def mean_kernel(d: np.ndarray) -> float:
        return sum(float(np.exp(-d / (2 * scale**2)).mean()) for scale in scales)

    return mean_kernel(distances.xx) + mean_kernel(distances.yy) - 2 * mean_kernel(distances.xy)


def median_distance(d: np.ndarray) -> float:
    """Median of the distances between different cells, from their squares `d` (M, M)."""
    return float(np.sqrt(np.median(d[np.triu_indices_from(d, k=1)])))


def mmd2_unbiased(distances: Squared, bandwidth: float | None = None) -> float:
    """Unbiased MMD^2 (U-statistic), mean over Gaussian kernels of `bandwidth` x {1/4, 1/2, 1, 2, 4}.

    The bandwidth is the median distance of *real* cells by default, so that every method is measured with one kernel.
    NaN with fewer than two cells on a side.
    """
    n, m = distances.xy.shape
    if min(n, m) < 2:
        return float("nan")
    bandwidth = median_distance(distances.yy) if bandwidth is None else bandwidth
    bandwidth = bandwidth or median_distance(distances.xx) or 1.0  # identical real cells have no scale of their own
    total = 0.0
    for factor in MEDIAN_FACTORS:
        gamma = 1 / (2 * (factor * bandwidth) ** 2)
        xx = (np.exp(-gamma * distances.xx).sum() - n) / (n * (n - 1))  # the diagonal is 1 for each cell
        yy = (np.exp(-gamma * distances.yy).sum() - m) / (m * (m - 1))
        total += xx + yy - 2 * np.exp(-gamma * distances.xy).mean()
    return float(total / len(MEDIAN_FACTORS))


def energy_distance(distances: Squared) -> float:
    """2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic: not negative, 0 for equal samples."""
    return float(2 * np.sqrt(distances.xy).mean() - np.sqrt(distances.xx).mean() - np.sqrt(distances.yy).mean())


def manifold_scores(distances: Squared, k: int = NEIGHBOURS) -> dict[str, float]:
    """precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020) at `k` neighbours.

    A cell's ball reaches to its k-th nearest other cell of its own sample. NaN with k or fewer cells on a side.
    """
    if min(distances.xy.shape) <= k:
        return dict.fromkeys(("precision", "recall", "density", "coverage"), float("nan"))
    x_radius = np.partition(distances.xx, k, axis=1)[:, k]  # position 0 is the cell itself
    y_radius = np.partition(distances.yy, k, axis=1)[:, k]
    in_real = distances.xy <= y_radius  # (N, M) generated cell i in the ball of real cell j
    in_generated = distances.xy <= x_radius[:, None]  # (N, M) real cell j in the ball of generated cell i
    return {
        "precision": float(in_real.any(axis=1).mean()),
        "recall": float(in_generated.any(axis=0).mean()),
        "density": float(in_real.sum(axis=1).mean() / k),
        "coverage": float(in_real.any(axis=0).mean()),
    }
