"""How well is a response predicted? Scores against the real cells of a held-out type (evaluation.md)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave.data.gene_selection import variable_genes
from scsave.errors import UserError
from scsave.metrics import distribution
from scsave.metrics.aggregate import mean_of
from scsave.metrics.differential import moments, overlap, top_genes, typical_error, welch_t
from scsave.metrics.registry import checked
from scsave.stats.agreement import pearson, r2
from scsave.stats.pca import expression, fit_pca
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
    return float((np.sign(real) == np.sign(predicted)).mean()) if len(real) else float("nan")


class ResponseScorer:
    """Scores predicted cells of one held-out type against its real cells under the target.

    `train` is every cell that training may see (the held-out type's controls included, its target cells not): the PCA
    is fitted there. `control_pred` and `control_truth` are two halves of the held-out type's control cells
    (`split_control`); a prediction must start from the first. `real` are the held-out cells under the target. All are
    prepared cells over the same genes. DE genes are the top-100 of `real` against `control_truth` by the moderated |t|,
    whose scale (the median standard error of that comparison) predictions are ranked with too.
    Above `max_cells` a side, distances between distributions see a random subset.
    """

    def __init__(
        self,
        train: AnnData,
        control_pred: AnnData,
        control_truth: AnnData,
        real: AnnData,
        n_top_genes: int = 2000,
        n_components: int = 30,
        seed: int = 0,
        max_cells: int = 1000,
    ):
        for what, cells in (("control", control_pred), ("control (truth)", control_truth), ("real", real)):
            if not cells.n_obs:
                raise UserError(f"response: there are no {what} cells to score against")
        self.genes, self.seed, self.max_cells = list(train.var_names), seed, max_cells
        train_x = expression(train, "training cells")
        self.variable = np.arange(len(self.genes))
        if n_top_genes < len(self.genes):
            self.variable = variable_genes(train, np.arange(train.n_obs), n_top_genes)
        self.projection = fit_pca(train_x[:, self.variable], n_components, seed)
        self._control_pred = moments(expression(control_pred, "control cells", self.genes))
        control_truth_x = expression(control_truth, "control cells", self.genes)
        self._control_truth = moments(control_truth_x)
        self._real_x = expression(real, "real cells", self.genes)
        self._hold(self._real_x)

    def against(self, control_pred: AnnData, control_truth: AnnData) -> ResponseScorer:
        """The same scorer with other control cells."""
        other = copy.copy(self)
        other._control_pred = moments(expression(control_pred, "control cells", self.genes))
        other._control_truth = moments(expression(control_truth, "control cells", self.genes))
        other._hold(self._real_x)
        return other

    def _hold(self, real: sp.csr_matrix) -> None:
        """Make `real` (N, G) the truth."""
        self._real = moments(real)
        self._components = self._project(real)
        self._fudge = float(typical_error(self._real, self._control_truth))
        self.real_t = welch_t(self._real, self._control_truth, self._fudge)  # (G,)
        self.delta_truth = self._real.mean - self._control_truth.mean  # (G,)
        self._de = top_genes(self.real_t, DE_GENES)

    @property
    def de_genes(self) -> list[str]:
        """Names of the DE genes of the real response, strongest first."""
        return [self.genes[position] for position in self._de]

    @property
    def info(self) -> dict[str, Any]:
        return {
            "control_cells": [int(self._control_pred.n), int(self._control_truth.n)],
            "real_cells": int(self._real.n),
            "genes": len(self.genes),
            "variable_genes": len(self.variable),
            "components": int(self.projection.components.shape[1]),
            "de_genes": len(self._de),
            "max_cells": self.max_cells,
            "seed": self.seed,
        }

    def predicted_de(self, predicted: AnnData, k: int = 20) -> list[str]:
        """Names of the top-`k` DE genes of `predicted` against the control cells that it started from."""
        x = expression(predicted, "predicted cells", self.genes)
        return [self.genes[position] for position in top_genes(welch_t(moments(x), self._control_pred, self._fudge), k)]

    def score(self, predicted: AnnData) -> dict[str, float]:
        """Every response row of the registry. Raises UserError for no cells, other genes or NaN."""
        if not predicted.n_obs:
            raise UserError("response: the prediction has no cells")
        return self._score(expression(predicted, "predicted cells", self.genes))

    def _score(self, x: sp.csr_matrix) -> dict[str, float]:
        return checked("response", self._means(x) | self._changes(x) | self._distances(x))

    def _means(self, x: sp.csr_matrix) -> dict[str, float]:
        """What needs no second control: agreement of means, and of changes in the one-control reading."""
        mean, de = moments(x).mean, self._de
        values = mean_scores(self._real.mean, mean)
        values |= {f"{name}_de100": v for name, v in mean_scores(self._real.mean[de], mean[de]).items()}
        own = self._control_pred.mean
        return values | {"pcc_delta_one_control": pearson(self._real.mean - own, mean - own)}

    def _changes(self, x: sp.csr_matrix) -> dict[str, float]:
        """Agreement of changes and of DE genes, each side against its own control."""
        predicted, de = moments(x), self._de
        delta = predicted.mean - self._control_pred.mean
        t = welch_t(predicted, self._control_pred, self._fudge)
        values = change_scores(self.delta_truth, delta)
        values |= {f"{name}_de100": v for name, v in change_scores(self.delta_truth[de], delta[de]).items()}
        return values | {
            "de_overlap_20": overlap(self.real_t, t, 20),
            "de_overlap_100": overlap(self.real_t, t, 100),
            "sign_agreement": sign_agreement(self.delta_truth[de], delta[de]),
        }

    def _distances(self, x: sp.csr_matrix) -> dict[str, float]:
        d = distribution.squared(self._project(x), self._components)
        return {
            "w1": distribution.w1(d),
            "w2": distribution.w2(d),
            "mmd2_unbiased": distribution.mmd2_unbiased(d),
            "energy": distribution.energy_distance(d),
        }

    def _project(self, x: sp.csr_matrix) -> np.ndarray:
        return self.projection(x[distribution.subsample(x.shape[0], self.max_cells, self.seed)][:, self.variable])

    def ceiling(self) -> dict[str, float]:
        """The split-half ceiling: each half of the real cells as a prediction of the other, averaged.

        A half has fewer cells than the truth that methods are held against, so this is a cautious ceiling. NaN with
        fewer than two real cells.
        """
        n = self._real_x.shape[0]
        if n < 2:
            return checked("response", dict.fromkeys(self._score(self._real_x), float("nan")))
        first = half(np.zeros(n), self.seed)
        scores = []
        for predicted, truth in ((first, ~first), (~first, first)):
            scorer = copy.copy(self)
            scorer._hold(self._real_x[truth])
            scores.append(scorer._score(self._real_x[predicted]))
        return {name: mean_of([one[name] for one in scores]) for name in scores[0]}


class CrossedScorer:
    """`ResponseScorer` in both directions: each half of the control cells is once where a prediction starts from.

    Changes and DE genes are scored for each half's prediction against the other half's truth, and averaged. Means,
    distances and the one-control reading are of both halves' predictions together, against all control cells.
    """

    def __init__(self, train: AnnData, control: AnnData, real: AnnData, **options: Any):
        """`train`, `real` and `options` as for `ResponseScorer`; `control` is halved by its `seed`."""
        self.halves = split_control(control, options.get("seed", 0))
        self.whole = ResponseScorer(train, control, control, real, **options)
        self.directions = [self.whole.against(*self.halves), self.whole.against(*self.halves[::-1])]

    @property
    def info(self) -> dict[str, Any]:
        return self.whole.info | {"control_cells": [half.n_obs for half in self.halves]}

    @property
    def de_genes(self) -> list[str]:
        return self.whole.de_genes

    def score(self, first: AnnData, second: AnnData) -> dict[str, float]:
        """Every response row, for cells predicted from the first and from the second half."""
        parts = [expression(cells, "predicted cells", self.whole.genes) for cells in (first, second)]
        if not all(part.shape[0] for part in parts):
            raise UserError("response: the prediction has no cells")
        return self._score(parts)

    def _score(self, parts: list[sp.csr_matrix]) -> dict[str, float]:
        changes = [scorer._changes(x) for scorer, x in zip(self.directions, parts, strict=True)]
        pooled = sp.vstack(parts, format="csr")
        averaged = {name: mean_of([one[name] for one in changes]) for name in changes[0]}
        return checked("response", self.whole._means(pooled) | averaged | self.whole._distances(pooled))

    def ceiling(self) -> dict[str, float]:
        """Each half of the real cells as a prediction of the other, as in `ResponseScorer.ceiling`."""
        x = self.whole._real_x
        if x.shape[0] < 2:
            return dict.fromkeys(self._score([x, x]), float("nan"))
        first = half(np.zeros(x.shape[0]), self.whole.seed)
        scores = []
        for predicted, truth in ((first, ~first), (~first, first)):
            other = copy.copy(self)
            other.whole, *other.directions = (copy.copy(scorer) for scorer in (self.whole, *self.directions))
            for scorer in (other.whole, *other.directions):
                scorer._hold(x[truth])
            scores.append(other._score([x[predicted]] * 2))
        return {name: mean_of([one[name] for one in scores]) for name in scores[0]}
