"""Can a classifier tell generated cells from real ones? Classifier two-sample tests (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

FOLDS = 5
C_GENES = 0.01  # inverse ridge weight on unit-variance genes: far more genes than cells


def folds_of(x: np.ndarray, y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row of `x` then `y`, (N + M,): both samples are spread evenly, a row found in both is in one fold.

    Such twins, apart, would teach the classifier the wrong answer (equal samples get an AUC far below 0.5). Repeats
    within a sample stay apart: a generator that repeats itself can be told by that.
    """
    _, row = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)
    row = row.reshape(-1)
    shared = np.zeros((2, row.max() + 1), dtype=bool)
    shared[0, row[: len(x)]] = shared[1, row[len(x) :]] = True
    alone = row.max() + 1 + np.arange(len(row))
    _, unit, kind = np.unique(np.where(shared.all(axis=0)[row], row, alone), return_index=True, return_inverse=True)
    side = np.where(shared.all(axis=0)[row[unit]], 2, unit >= len(x))  # 0: in x, 1: in y, 2: in both
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
    cells = np.concatenate([x, y])
    generated = np.repeat([1, 0], [len(x), len(y)])
    fold = folds_of(x, y, folds, seed)
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


def c2st_auc_genes(x: np.ndarray, y: np.ndarray, seed: int, folds: int = FOLDS) -> float:
    """Cross-validated AUC of ridge logistic regression on genes, each divided by its sd in the training folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make() -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=C_GENES, max_iter=300, tol=1e-3))

    return cross_validated_auc(x, y, make, folds, seed)
