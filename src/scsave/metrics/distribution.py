"""Two samples of cells compared: Wasserstein, MMD, energy, precision and recall, and can a classifier tell them apart
(Lopez-Paz & Oquab 2017); evaluation.md, "Generation".

`x` is the generated or predicted sample, (N, D), `y` the real one, (M, D). Every distance takes memory of
O((N + M)^2) and exact transport time of O(N^3): callers cap the samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from scsave.stats.agreement import NAN, mean_of
from scsave.stats.resample import subsample

CFGEN_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
MEDIAN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NEIGHBOURS = 5
FOLDS = 5
C_GENES = 0.01  # inverse ridge weight on unit-variance genes: far more genes than cells
UNSEEN = 1e-6  # log1p value below which a gene is not expressed; a count is never less
POOLED_CELLS, POOLED_FEWEST = 500, 50  # cells a side of the pooled test, and how many it needs


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


def distances(d: Squared) -> dict[str, float]:
    """The distances that tasks share: w1, w2, mmd2_unbiased and energy."""
    return {"w1": w1(d), "w2": w2(d), "mmd2_unbiased": mmd2_unbiased(d), "energy": energy_distance(d)}


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

    return float(ot.emd2(np.full(rows, 1 / rows), np.full(columns, 1 / columns), cost, numItermax=10_000_000))


def w1(d: Squared) -> float:
    """1-Wasserstein distance, euclidean ground distance."""
    return transport_cost(np.sqrt(d.xy))


def w2(d: Squared) -> float:
    """2-Wasserstein distance, the root of the squared-distance transport cost."""
    return float(np.sqrt(transport_cost(d.xy)))


def mmd2_rbf(d: Squared, scales: tuple[float, ...] = CFGEN_SCALES) -> float:
    """Biased MMD^2 (V-statistic), the sum of Gaussian kernels with standard deviations `scales`, as in CFGen's code."""

    def mean_kernel(part: np.ndarray) -> float:
        return sum(float(np.exp(-part / (2 * scale**2)).mean()) for scale in scales)

    return mean_kernel(d.xx) + mean_kernel(d.yy) - 2 * mean_kernel(d.xy)


def median_distance(d: np.ndarray) -> float:
    """Median of the distances between different cells, from their squares `d` (M, M)."""
    return float(np.sqrt(np.median(d[np.triu_indices_from(d, k=1)])))


def mmd2_unbiased(d: Squared) -> float:
    """Unbiased MMD^2 (U-statistic), mean over Gaussian kernels of a bandwidth x {1/4, 1/2, 1, 2, 4}.

    The bandwidth is the median distance of *real* cells, so that every method is measured with one kernel. NaN with
    fewer than two cells on a side.
    """
    n, m = d.xy.shape
    if min(n, m) < 2:
        return float("nan")
    bandwidth = median_distance(d.yy) or median_distance(d.xx) or 1.0  # identical real cells have no scale of their own
    total = 0.0
    for factor in MEDIAN_FACTORS:
        gamma = 1 / (2 * (factor * bandwidth) ** 2)
        xx = (np.exp(-gamma * d.xx).sum() - n) / (n * (n - 1))  # the diagonal is 1 for each cell
        yy = (np.exp(-gamma * d.yy).sum() - m) / (m * (m - 1))
        total += xx + yy - 2 * np.exp(-gamma * d.xy).mean()
    return float(total / len(MEDIAN_FACTORS))


def energy_distance(d: Squared) -> float:
    """2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic: not negative, 0 for equal samples."""
    return float(2 * np.sqrt(d.xy).mean() - np.sqrt(d.xx).mean() - np.sqrt(d.yy).mean())


def manifold_scores(d: Squared, k: int = NEIGHBOURS) -> dict[str, float]:
    """precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020) at `k` neighbours.

    A cell's ball reaches to its k-th nearest other cell of its own sample. NaN with k or fewer cells on a side.
    """
    if min(d.xy.shape) <= k:
        return dict.fromkeys(("precision", "recall", "density", "coverage"), float("nan"))
    in_real = d.xy <= np.partition(d.yy, k, axis=1)[:, k]  # (N, M) generated cell i in the ball of real cell j
    in_generated = d.xy <= np.partition(d.xx, k, axis=1)[:, [k]]  # (N, M) real cell j in the ball of generated cell i
    return {
        "precision": float(in_real.any(axis=1).mean()),
        "recall": float(in_generated.any(axis=0).mean()),
        "density": float(in_real.sum(axis=1).mean() / k),
        "coverage": float(in_real.any(axis=0).mean()),
    }


def authenticity(x: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> float:
    """Share of the cells `x` (N, D) nearer to one of `train` than to one of `held_out`, (M, D) each; ties count half.

    About 0.5 where nothing is copied; NaN where a sample is empty. With more cells of one kind it would be nearer by
    number alone, so that both must have equally many (ValueError).
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    if len(train) != len(held_out):
        raise ValueError(f"authenticity compares equal numbers of cells, got {len(train)} and {len(held_out)}")
    if not len(x) or not len(train):
        return float("nan")
    to_train, to_held_out = (pairwise_distances_argmin_min(x, side)[1] for side in (train, held_out))
    return float((to_train < to_held_out).mean() + (to_train == to_held_out).mean() / 2)


def folds_of(x: np.ndarray, y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row of `x` then `y`, (N + M,): both samples are spread evenly, a row found in both is in one fold.

    Such twins in two folds would teach the classifier the wrong answer (equal samples would get an AUC far below 0.5).
    Repeats within a sample are not kept together: a generator that repeats itself can be told by that.
    """
    _, row = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)
    row = row.reshape(-1)
    shared = np.isin(row, np.intersect1d(row[: len(x)], row[len(x) :]))  # (N + M,) has a twin in the other sample
    own = row.max() + 1 + np.arange(len(row))
    _, unit, kind = np.unique(np.where(shared, row, own), return_index=True, return_inverse=True)
    side = np.where(shared[unit], 2, unit >= len(x))  # 0: in x, 1: in y, 2: in both
    shuffled = np.random.default_rng(seed).permutation(len(unit))
    order = shuffled[np.argsort(side[shuffled], kind="stable")]
    fold = np.empty(len(unit), dtype=np.int64)
    fold[order] = np.arange(len(unit)) % folds
    return fold[kind.reshape(-1)]


def held_out_aucs(
    x: np.ndarray, y: np.ndarray, make: Callable[[], Any], seed: int, held_out: Sequence[int] = range(FOLDS)
) -> list[float]:
    """AUC of a classifier for `x` against `y` on each of the folds `held_out`, learnt on the others.

    Empty where there are too few cells for the folds; a fold without cells of both samples has no AUC.
    """
    from sklearn.metrics import roc_auc_score

    if min(len(x), len(y)) < 2 * FOLDS:
        return []
    cells, fold = np.concatenate([x, y]), folds_of(x, y, FOLDS, seed)
    generated, found = np.repeat([1, 0], [len(x), len(y)]), []
    for one in held_out:
        test = fold == one
        if len(set(generated[test])) == len(set(generated[~test])) == 2:  # else all cells of a sample are twins
            model = make().fit(cells[~test], generated[~test])
            found.append(float(roc_auc_score(generated[test], model.predict_proba(cells[test])[:, 1])))
    return found


def trees(seed: int) -> Any:
    """Small gradient-boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=10, early_stopping=False, random_state=seed)


def c2st_auc(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Cross-validated AUC of gradient-boosted trees on `x` (N, D) and `y` (M, D), usually principal components."""
    return mean_of(held_out_aucs(x, y, lambda: trees(seed), seed))


def c2st_pooled(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """The same on at most 500 cells a side, equally many of `x` (N, D) and of `y` (M, D), drawn anew for each fold.

    The AUC grows with the number of cells that the trees learn from; at a fixed number it can be compared between data
    sets. NaN with fewer than 50 cells on a side.
    """
    cells = min(POOLED_CELLS, len(x), len(y))
    if cells < POOLED_FEWEST:
        return NAN
    found, all_drawn = [], cells == max(len(x), len(y))
    for fold in range(FOLDS):
        draw = seed if all_drawn else seed + fold
        sides = x[subsample(len(x), cells, draw)], y[subsample(len(y), cells, draw + FOLDS)]
        found += held_out_aucs(*sides, lambda draw=draw: trees(draw), draw, [fold])
    return mean_of(found)


def c2st_auc_genes(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Cross-validated AUC of ridge logistic regression on genes, each divided by its sd in the training folds.

    Values below `UNSEEN` count as 0: a gene that is never counted has no sd to divide by.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make() -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=C_GENES, max_iter=300, tol=1e-3))

    x, y = (np.where(np.abs(side) < UNSEEN, 0, side) for side in (x, y))
    return mean_of(held_out_aucs(x, y, make, seed))
