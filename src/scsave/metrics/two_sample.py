"""Classifier two-sample tests: can generated cells be told from real ones (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scsave.stats.resample import subsample

FOLDS = 5
C_GENES = 0.01  # inverse ridge weight on unit-variance genes: far more genes than cells
UNSEEN = 1e-6  # log1p value below which a gene is not expressed; a count is never less
POOLED_CELLS, POOLED_DRAWS, POOLED_FEWEST = 500, 5, 50  # cells a side of the pooled test, draws, fewest cells a side


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


def cross_validated_auc(x: np.ndarray, y: np.ndarray, make: Callable[[], Any], folds: int, seed: int) -> float:
    """Mean over folds of the AUC of a classifier for `x` against `y`; NaN if there are too few cells for the folds."""
    from sklearn.metrics import roc_auc_score

    if min(len(x), len(y)) < 2 * folds:
        return float("nan")
    cells, fold = np.concatenate([x, y]), folds_of(x, y, folds, seed)
    generated = np.repeat([1, 0], [len(x), len(y)])
    scores = []
    for held_out in range(folds):
        test = fold == held_out
        if len(set(generated[test])) < 2 or len(set(generated[~test])) < 2:
            continue  # all of one sample are twins: such a fold has no AUC
        model = make().fit(cells[~test], generated[~test])
        scores.append(roc_auc_score(generated[test], model.predict_proba(cells[test])[:, 1]))
    return float(np.mean(scores)) if scores else float("nan")


def c2st_auc(x: np.ndarray, y: np.ndarray, seed: int, folds: int = FOLDS) -> float:
    """Cross-validated AUC of gradient-boosted trees on `x` (N, D) and `y` (M, D), usually principal components."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def make() -> Any:
        return HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=10, early_stopping=False, random_state=seed)

    return cross_validated_auc(x, y, make, folds, seed)


def c2st_pooled(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Mean of `c2st_auc` over five draws of at most 500 cells a side, equally many of `x` (N, D) and of `y` (M, D).

    The AUC grows with the number of cells that the trees learn from; at a fixed number it can be compared between data
    sets. Where all cells are drawn each time, one draw says it all. NaN with fewer than 50 cells on a side.
    """
    cells = min(POOLED_CELLS, len(x), len(y))
    if cells < POOLED_FEWEST:
        return float("nan")
    found, draws = [], POOLED_DRAWS if max(len(x), len(y)) > cells else 1
    for draw in range(seed, seed + draws):
        of_x, of_y = subsample(len(x), cells, draw), subsample(len(y), cells, draw + POOLED_DRAWS)
        found.append(c2st_auc(x[of_x], y[of_y], draw))
    return float(np.mean(found))


def c2st_auc_genes(x: np.ndarray, y: np.ndarray, seed: int, folds: int = FOLDS) -> float:
    """Cross-validated AUC of ridge logistic regression on genes, each divided by its sd in the training folds.

    Values below `UNSEEN` count as 0: a gene that is never counted has no sd to divide by.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make() -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=C_GENES, max_iter=300, tol=1e-3))

    x, y = (np.where(np.abs(side) < UNSEEN, 0, side) for side in (x, y))
    return cross_validated_auc(x, y, make, folds, seed)
