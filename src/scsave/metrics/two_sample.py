"""Can a classifier tell generated cells from real ones? Classifier two-sample tests (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

FOLDS = 5
C_GENES = 0.01  # inverse ridge weight on unit-variance genes: far more genes than cells


def folds_of(x: np.ndarray, y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row of `x` then `y`, (N + M,); equal rows share one, samples are spread evenly.

    A resample repeats cells, and equal inputs hold each cell twice: apart, such twins would tell the answer.
    """
    both = np.concatenate([x, y])
    _, twin = np.unique(both, axis=0, return_inverse=True)
    twin = twin.reshape(-1)
    in_x = np.bincount(twin[: len(x)], minlength=twin.max() + 1) > 0
    in_y = np.bincount(twin[len(x) :], minlength=twin.max() + 1) > 0
    shuffled = np.random.default_rng(seed).permutation(len(in_x))
    order = shuffled[np.argsort((in_x * 2 + in_y)[shuffled], kind="stable")]
    fold = np.empty(len(in_x), dtype=np.int64)
    fold[order] = np.arange(len(in_x)) % folds
    return fold[twin]


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
