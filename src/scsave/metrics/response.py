"""Scores of a predicted response to a drug, cytokine or disease, against real cells of a held-out type (evaluation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave.errors import UserError
from scsave.metrics.cells import Space, expression
from scsave.metrics.differential import overlap, top_genes, typical_error, welch_t
from scsave.metrics.distribution import distances, squared
from scsave.metrics.registry import checked, rows
from scsave.metrics.technical import DEPTH, depth_factor
from scsave.stats.agreement import NAN, means_of, pearson, r2
from scsave.stats.moments import Moments, moments
from scsave.stats.resample import half

DE_GENES = 100


def split_control(control: AnnData, seed: int) -> tuple[AnnData, AnnData]:
    """Two random halves of the control cells: what the prediction starts from, and what the truth is measured from."""
    if control.n_obs < 2:
        raise UserError(f"the control cells can't be halved: {control.n_obs} found, at least 2 needed")
    first = half(np.zeros(control.n_obs), seed)
    return control[first].copy(), control[~first].copy()


def mean_scores(real: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Agreement of gene means (G,), in all genes or some."""
    pcc = pearson(real, predicted)
    return {"pcc": pcc, "r2": r2(real, predicted), "r2_pearson_sq": pcc**2}


def change_scores(real: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Agreement of changes of gene means (G,)."""
    return {"pcc_delta": pearson(real, predicted), "r2_delta": r2(real, predicted)}


def sign_agreement(real: np.ndarray, predicted: np.ndarray) -> float:
    """Share of genes whose predicted change has the sign of the real one; no change disagrees. NaN without genes."""
    predicted = np.where(np.abs(predicted) <= 1e-9, 0, predicted)
    return float((np.sign(real) == np.sign(predicted)).mean()) if len(real) else NAN


@dataclass(frozen=True)
class Truth:
    """The real response: moments of cells under the target, and their change from control cells."""

    real: Moments
    change: np.ndarray  # (G,)
    fudge: float  # median standard error of that change, which moderates the t of truth and predictions
    t: np.ndarray  # (G,) moderated
    de: np.ndarray  # positions of the top-100 DE genes, strongest first

    @classmethod
    def of(cls, real: Moments, control: Moments) -> Truth:
        fudge = float(typical_error(real, control))
        t = welch_t(real, control, fudge)
        return cls(real, real.mean - control.mean, fudge, t, top_genes(t, DE_GENES))

    def means(self, predicted: np.ndarray, control: np.ndarray) -> dict[str, float]:
        """Agreement of means (G,), and of changes from the one `control` mean (G,)."""
        real, de = self.real.mean, self.de
        values = mean_scores(real, predicted)
        values |= {f"{name}_de100": value for name, value in mean_scores(real[de], predicted[de]).items()}
        return values | {"pcc_delta_one_control": pearson(real - control, predicted - control)}

    def changes(self, predicted: Moments, start: Moments) -> dict[str, float]:
        """Agreement of changes and DE genes, the predicted ones from the cells that the prediction started from."""
        change, t, de = predicted.mean - start.mean, welch_t(predicted, start, self.fudge), self.de
        values = change_scores(self.change, change)
        values |= {f"{name}_de100": value for name, value in change_scores(self.change[de], change[de]).items()}
        return values | {
            "de_overlap_20": overlap(self.t, t, 20),
            "de_overlap_100": overlap(self.t, t, 100),
            "sign_agreement": sign_agreement(self.change[de], change[de]),
        }


class ResponseScorer:
    """Scores predicted cells of one held-out type against its real cells under the target.

    `train` is every cell that training may see (the held-out type's controls included, its target cells not): the PCA
    is fitted there. `control` are the held-out type's control cells, `real` its cells under the target; all are prepared
    cells over the same genes. The control cells are halved, and each half is once where a prediction starts from: its
    change is compared with the real one as measured from the other half, so that control noise is not shared, and both
    directions are averaged. Means, distances and the reading with one control are of both predictions together, against
    all control cells. DE genes are the top-100 of `real` by the moderated |t|, whose scale (the median standard error)
    predictions are ranked with too. `space` is that of another scorer of the same
    training cells. Above `max_cells` a side, distances between distributions see a random subset.
    Raises UserError for empty sides, genes that differ and NaN.
    """

    def __init__(
        self,
        train: AnnData,
        control: AnnData,
        real: AnnData,
        n_top_genes: int = 2000,
        n_components: int = 30,
        seed: int = 0,
        max_cells: int = 1000,
        space: Space | None = None,
    ):
        if not real.n_obs:
            raise UserError("response: there are no real cells to score against")
        self.halves, self.genes, self.seed = split_control(control, seed), list(train.var_names), seed
        self.depth_factor = depth_factor(control, real, "response")
        self.space = space or Space.fit(
            train, expression(train, "training cells"), n_top_genes, n_components, seed, max_cells
        )
        self._control = moments(self._expression(control, "control cells"))
        self._starts = [moments(self._expression(part, "control cells")) for part in self.halves]
        self._real = self._expression(real, "real cells")
        self.truth, self._truths = self._measured(moments(self._real))

    def _expression(self, cells: AnnData, what: str) -> sp.csr_matrix:
        return expression(cells, what, self.genes)

    def _measured(self, real: Moments) -> tuple[Truth, list[Truth]]:
        """The response as measured from all control cells, and for each half as measured from the other."""
        return Truth.of(real, self._control), [Truth.of(real, other) for other in self._starts[::-1]]

    @property
    def de_genes(self) -> list[str]:
        """Names of the DE genes of the real response, strongest first."""
        return [self.genes[position] for position in self.truth.de]

    @property
    def info(self) -> dict[str, Any]:
        return {
            "control_cells": [part.n_obs for part in self.halves],
            "real_cells": self._real.shape[0],
            DEPTH: self.depth_factor,
            "genes": len(self.genes),
            "de_genes": len(self.truth.de),
            **self.space.info,
        }

    def predicted_de(self, predicted: AnnData, k: int = 20) -> list[str]:
        """Names of the top-`k` DE genes of `predicted` against the control cells."""
        found = moments(self._expression(predicted, "predicted cells"))
        return [self.genes[position] for position in top_genes(welch_t(found, self._control, self.truth.fudge), k)]

    def score(self, first: AnnData, second: AnnData) -> dict[str, float]:
        """Every response row, for cells predicted from the first and from the second half. UserError for no cells."""
        if not first.n_obs or not second.n_obs:
            raise UserError("response: the prediction has no cells")
        parts = [self._expression(cells, "predicted cells") for cells in (first, second)]
        return self._score(parts, self._real, self.truth, self._truths)

    def _score(
        self, parts: list[sp.csr_matrix], real: sp.csr_matrix, truth: Truth, truths: list[Truth]
    ) -> dict[str, float]:
        directions = zip(truths, parts, self._starts, strict=True)
        changes = [one.changes(moments(x), start) for one, x, start in directions]
        pooled = sp.vstack(parts, format="csr")
        apart = distances(squared(self.space(pooled), self.space(real)))
        return checked("response", truth.means(moments(pooled).mean, self._control.mean) | means_of(changes) | apart)

    def ceiling(self) -> dict[str, float]:
        """The split-half ceiling: each half of the real cells as a prediction of the other, averaged.

        A half has fewer cells than the truth that methods are held against, so this is a cautious ceiling. NaN with
        fewer than two real cells.
        """
        n, scores = self._real.shape[0], []
        if n < 2:
            return dict.fromkeys(rows("response"), NAN)
        first = half(np.zeros(n), self.seed)
        for predicted, truth in ((first, ~first), (~first, first)):
            real = self._real[truth]
            scores.append(self._score([self._real[predicted]] * 2, real, *self._measured(moments(real))))
        return means_of(scores)
