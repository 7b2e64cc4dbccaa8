"""How well are unseen genetic perturbations predicted? Scores per perturbation and group (evaluation.md)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.gene_selection import variable_genes
from scsave.data.perturbations import parse
from scsave.errors import UserError
from scsave.metrics import distribution
from scsave.metrics.aggregate import NAN, bootstrap_interval, mean_of
from scsave.metrics.differential import group_moments, moments, overlap, typical_error, welch_t
from scsave.metrics.perturbation_level import (
    centroid_mean,
    de_weights,
    discrimination,
    l2_distance,
    non_dropout_de,
    weighted_scores,
)
from scsave.metrics.registry import checked, rows
from scsave.stats.agreement import pearson
from scsave.stats.pca import expression, fit_pca
from scsave.stats.resample import half


@dataclass(frozen=True)
class GeneticScores:
    """Values by perturbation and by group of perturbations; a group without perturbations is all NaN."""

    per_perturbation: pd.DataFrame  # perturbation x metric
    groups: dict[str, dict[str, float]]  # group, `all` first -> metric -> mean over its perturbations
    intervals: dict[str, dict[str, tuple[float, float]]]  # the same -> bootstrap 95% interval of that mean
    counts: dict[str, int]  # group -> perturbations scored


class GeneticScorer:
    """Scores predicted cells of test perturbations against their real cells.

    `train` is every cell that training may see, control among them, with labels in `obs[perturbation_key]`;
    `control_pred` and `control_truth` are control cells that predictions start from and that truth is measured from
    (two halves, or the same cells twice); `real` are the cells of the test perturbations. `groups` names perturbations
    of `real`; every one of `real` is in `all`. Labels must be canonical (`scsave.data.perturbations`).
    Above `max_cells` a side, the energy distance sees a random subset.
    """

    def __init__(
        self,
        train: AnnData,
        control_pred: AnnData,
        control_truth: AnnData,
        real: AnnData,
        perturbation_key: str,
        groups: dict[str, list[str]],
        control: str,
        n_top_genes: int = 2000,
        n_components: int = 30,
        seed: int = 0,
        max_cells: int = 1000,
    ):
        self.key, self.control, self.seed, self.max_cells = perturbation_key, control, seed, max_cells
        self.genes = list(train.var_names)
        if not control_pred.n_obs or not control_truth.n_obs:
            raise UserError(f"genetic scoring needs control cells ({perturbation_key} = '{control}'), found none")
        train_x = expression(train, "training cells")
        self.variable = np.arange(len(self.genes))
        if n_top_genes < len(self.genes):
            self.variable = variable_genes(train, np.arange(train.n_obs), n_top_genes)
        self.projection = fit_pca(train_x[:, self.variable], n_components, seed)
        self._control_pred = moments(expression(control_pred, "control cells", self.genes))
        self._control_truth = moments(expression(control_truth, "control cells", self.genes))
        self._hold(expression(real, "real cells", self.genes), self._labels(real, "real cells"))
        self.reference = self._centroids(train_x, self._labels(train, "training cells"))
        self.groups = self._known(groups)

    def _labels(self, cells: AnnData, what: str) -> np.ndarray:
        if self.key not in cells.obs:
            raise UserError(f"{what}: no column {self.key} in obs; columns: {', '.join(map(str, cells.obs.columns))}")
        return cells.obs[self.key].astype(str).to_numpy(dtype=object)

    def _hold(self, x: sp.csr_matrix, labels: np.ndarray) -> None:
        """Make the cells `x` (N, G), `labels` (N,) the truth."""
        kept = labels != self.control
        self._x, self._cell_labels = x[kept], labels[kept]
        if not kept.any():
            raise UserError(f"genetic scoring needs perturbed cells, found none in {self.key} but '{self.control}'")
        self._codes, names = pd.factorize(self._cell_labels, sort=True)
        self.perturbations = [str(name) for name in names]
        self._real = group_moments(self._x, self._codes, len(names))
        self.real_t = welch_t(self._real, self._control_truth)  # (P, G) as GEARS ranks genes and weights are made
        self._fudge = typical_error(self._real, self._control_truth)  # (P,)
        self._real_moderated = welch_t(self._real, self._control_truth, self._fudge)  # (P, G) for overlaps
        self.delta_truth = self._real.mean - self._control_truth.mean  # (P, G)
        place = {gene: position for position, gene in enumerate(self.genes)}
        self._targets = [
            np.array([place[g] for g in parse(name, self.control) if g in place], dtype=np.int64) for name in names
        ]

    def _centroids(self, x: sp.csr_matrix, labels: np.ndarray) -> np.ndarray:
        """Systema's reference from the perturbations of training; from the real ones if training has control only."""
        perturbed = labels != self.control
        if not perturbed.any():
            return centroid_mean(self._real)
        codes, names = pd.factorize(labels[perturbed], sort=True)
        return centroid_mean(group_moments(x[perturbed], codes, len(names)))

    def _known(self, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        known = set(self.perturbations)
        for group, names in groups.items():
            if absent := sorted(set(names) - known):
                raise UserError(
                    f"group {group}: no real cells for {len(absent)} perturbations ({', '.join(absent[:3])})"
                )
        return {keys.ALL: self.perturbations} | {group: list(names) for group, names in groups.items()}

    @property
    def info(self) -> dict[str, Any]:
        return {
            "perturbations": len(self.perturbations),
            "cells_per_perturbation": {name: int(n) for name, n in zip(self.perturbations, self._real.n, strict=True)},
            "perturbations_per_group": {group: len(names) for group, names in self.groups.items()},
            "control_cells": [int(self._control_pred.n), int(self._control_truth.n)],
            "targets_on_panel": sum(len(genes) > 0 for genes in self._targets),
            "genes": len(self.genes),
            "variable_genes": len(self.variable),
            "components": int(self.projection.components.shape[1]),
            "max_cells": self.max_cells,
            "seed": self.seed,
        }

    def score(self, predicted: AnnData) -> GeneticScores:
        """Scores of `predicted`, cells labelled by the test perturbations, any number of each and in any order.

        Raises UserError for a test perturbation without cells, an unknown one, other genes or NaN. Control cells among
        them are left out.
        """
        return self._score(
            expression(predicted, "predicted cells", self.genes), self._labels(predicted, "predicted cells")
        )

    def _score(self, x: sp.csr_matrix, labels: np.ndarray) -> GeneticScores:
        kept = labels != self.control
        x, codes = x[kept], pd.Index(self.perturbations).get_indexer(labels[kept])
        if (codes < 0).any():
            raise UserError(f"predicted cells: '{labels[kept][codes < 0][0]}' is no test perturbation")
        if missing := sorted(set(range(len(self.perturbations))) - set(codes)):
            names = ", ".join(self.perturbations[p] for p in missing[:3])
            raise UserError(f"predicted cells: none for {len(missing)} test perturbations ({names})")
        values = self._values(x, codes)
        table = pd.DataFrame(checked("genetic", one) for one in values)
        table.index = pd.Index(self.perturbations, name=self.key)
        return self._grouped(table)

    def _grouped(self, table: pd.DataFrame) -> GeneticScores:
        means, intervals, counts = {}, {}, {}
        for group, names in self.groups.items():
            part = table.reindex(names)
            means[group] = {name: mean_of(part[name].to_numpy()) for name in table}
            intervals[group] = {name: bootstrap_interval(part[name].to_numpy(), self.seed) for name in table}
            counts[group] = int(part.notna().any(axis=1).sum())
        return GeneticScores(table, means, intervals, counts)

    def _values(self, x: sp.csr_matrix, codes: np.ndarray) -> list[dict[str, float]]:
        predicted, real, control = group_moments(x, codes, len(self.perturbations)), self._real, self._control_truth
        t, delta = welch_t(predicted, self._control_pred, self._fudge), predicted.mean - self._control_pred.mean
        l2 = l2_distance(predicted.mean, real.mean, control.mean)
        rank = discrimination(delta, self.delta_truth, self._targets)
        generated, truth = self._project(x), self._project(self._x)
        found = []
        for p in range(len(self.perturbations)):
            top = non_dropout_de(self.real_t[p], real.mean[p], control.mean)
            error = (predicted.mean[p, top] - real.mean[p, top]) ** 2
            found.append(
                {
                    "l2_top1000": l2[p],
                    "pcc_delta": pearson(self.delta_truth[p], delta[p]),
                    "pcc_delta_centroid": pearson(real.mean[p] - self.reference, predicted.mean[p] - self.reference),
                    "mse_de20": float(error.mean()) if len(top) else NAN,
                    "discrimination": rank[p],
                    "overlap_20": overlap(self._real_moderated[p], t[p], 20),
                    "overlap_100": overlap(self._real_moderated[p], t[p], 100),
                    "energy": self._energy(generated[codes == p], truth[self._codes == p]),
                }
                | weighted_scores(self.delta_truth[p], delta[p], de_weights(self.real_t[p]))
            )
        return found

    def _project(self, x: sp.csr_matrix) -> np.ndarray:
        return self.projection(x[:, self.variable])

    def _energy(self, generated: np.ndarray, real: np.ndarray) -> float:
        sides = (side[distribution.subsample(len(side), self.max_cells, self.seed)] for side in (generated, real))
        return distribution.energy_distance(distribution.squared(*sides))

    def ceiling(self) -> GeneticScores:
        """The split-half ceiling: each half of a perturbation's real cells as a prediction of the other, averaged.

        A half has fewer cells than the truth that methods are held against, so this is a cautious ceiling. NaN for
        perturbations with one cell.
        """
        counts = np.asarray(self._real.n)[self._codes]
        x, labels = self._x[counts > 1], self._cell_labels[counts > 1]
        nothing = pd.DataFrame(NAN, index=pd.Index(self.perturbations, name=self.key), columns=list(rows("genetic")))
        if not len(labels):
            return self._grouped(nothing)
        first = half(labels, self.seed)
        tables = []
        for predicted, truth in ((first, ~first), (~first, first)):
            scorer = copy.copy(self)
            scorer._hold(x[truth], labels[truth])
            scorer.groups = {keys.ALL: scorer.perturbations}
            tables.append(scorer._score(x[predicted], labels[predicted]).per_perturbation)
        return self._grouped((tables[0] + tables[1]).div(2).reindex(self.perturbations))
