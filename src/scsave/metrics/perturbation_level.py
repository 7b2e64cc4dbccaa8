"""Metrics of each perturbation: errors, weights and ranks over many perturbations at once (evaluation.md).

Profiles and changes are (P, G): one row per perturbation.
"""

import numpy as np
from scipy.spatial.distance import cdist

from scsave.metrics.differential import top_genes
from scsave.stats.agreement import weighted_r2
from scsave.stats.moments import Moments

CONTROL_GENES = 1000
NON_DROPOUT_GENES = 20
TIE = 1e-9


def l2_distance(predicted: np.ndarray, real: np.ndarray, control: np.ndarray, k: int = CONTROL_GENES) -> np.ndarray:
    """Euclidean distance of mean profiles over the `k` genes with the highest mean in `control` (G,); (P,)."""
    genes = np.argsort(-control, kind="stable")[:k]
    return np.linalg.norm(predicted[:, genes] - real[:, genes], axis=1)


def non_dropout_de(t: np.ndarray, real: np.ndarray, control: np.ndarray, k: int = NON_DROPOUT_GENES) -> np.ndarray:
    """GEARS's DE genes of one perturbation: top-`k` by |t| of genes seen in its cells, or in neither they nor control.

    `t`, `real` and `control` are (G,): statistics, mean of the perturbed cells, mean of control. Positions, (<= k,).
    """
    kept = (real != 0) | (control == 0)
    return top_genes(np.where(kept, t, 0), k)


def de_weights(t: np.ndarray) -> np.ndarray:
    """Weights of genes, (G,), sum 1: |t| scaled to [0, 1] by its extremes, squared (Mejia et al. 2025).

    Infinite statistics count as the largest finite one. All 0 where every |t| is the same.
    """
    size = np.abs(t)
    finite = size[np.isfinite(size)]
    size = np.minimum(size, finite.max() if len(finite) else 1.0)
    span = np.ptp(size)
    if span <= TIE:
        return np.zeros_like(size)
    weights = ((size - size.min()) / span) ** 2
    return weights / weights.sum()


def weighted_scores(real: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """R^2 and MSE of one change (G,) under `weights`; NaN if all weights are 0."""
    error = float(weights @ (real - predicted) ** 2 / weights.sum()) if weights.sum() > 0 else float("nan")
    return {"r2_weighted": weighted_r2(real, predicted, weights), "mse_weighted": error}


def discrimination(predicted: np.ndarray, real: np.ndarray, excluded: list[np.ndarray]) -> np.ndarray:
    """`1 - rank / P` for each predicted change, (P,): is the own real change nearest to it in L1 (Wu et al. 2024).

    `excluded[p]` are positions of the genes that p perturbs: knowing them is no skill. Rank 0 is the nearest; equal
    distances share the mean of their ranks. NaN with one perturbation: there is nothing to tell apart.
    """
    n = len(predicted)
    if n < 2:
        return np.full(n, np.nan)
    distance = cdist(predicted, real, "cityblock")  # (P, P)
    for p, genes in enumerate(excluded):
        if len(genes):
            distance[p] -= np.abs(predicted[p, genes] - real[:, genes]).sum(axis=1)
    own = np.diag(distance)[:, None]
    tolerance = TIE * np.maximum(np.abs(own), 1)
    nearer = (distance < own - tolerance).sum(axis=1)
    tied = (np.abs(distance - own) <= tolerance).sum(axis=1) - 1  # itself
    return 1 - (nearer + tied / 2) / n


def centroid_mean(by_perturbation: Moments) -> np.ndarray:
    """Mean of the perturbations' centroids, (G,): every perturbation weighs the same (Systema's reference)."""
    return by_perturbation.mean[np.asarray(by_perturbation.n) > 0].mean(axis=0)
