"""Classifier two-sample tests: can generated cells be told from real ones (Lopez-Paz & Oquab 2017)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scsave.stats.agreement import NAN, mean_of
from scsave.stats.resample import subsample

FOLDS = 5
C_GENES = 0.01  # inverse ridge weight on unit-variance genes: far more genes than cells
UNSEEN = 1e-6  # log1p value below which a gene is not expressed; a count is never less
POOLED_CELLS, POOLED_FEWEST = 500, 50  # cells a side of the pooled test, and how many it needs


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
