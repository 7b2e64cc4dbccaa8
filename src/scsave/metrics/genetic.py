"""Scores of predicted genetic perturbations, for each perturbation and group of perturbations (evaluation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.perturbations import parse
from scsave.errors import UserError
from scsave.metrics import perturbation_level as level
from scsave.metrics.cells import Space, check_columns, expression
from scsave.metrics.differential import overlap, typical_error, welch_t
from scsave.metrics.distribution import energy_distance, squared
from scsave.metrics.registry import checked, rows
from scsave.stats.agreement import NAN, bootstrap_interval, mean_of, pearson
from scsave.stats.moments import Moments, group_moments, moments
from scsave.stats.resample import half


@dataclass(frozen=True)
class GeneticScores:
    """Values by perturbation and by group of perturbations; a group without perturbations is all NaN."""

    per_perturbation: pd.DataFrame  # perturbation x metric
    groups: dict[str, dict[str, float]]  # group, `all` first -> metric -> mean over its perturbations
    intervals: dict[str, dict[str, tuple[float, float]]]  # the same -> bootstrap 95% interval of that mean
    counts: dict[str, int]  # group -> perturbations scored

    @classmethod
    def of(cls, table: pd.DataFrame, groups: dict[str, list[str]], seed: int) -> GeneticScores:
        """Means and intervals of `table` (perturbation x metric) over the perturbations of each group."""
        means, intervals, counts = {}, {}, {}
        for group, names in groups.items():
            part = table.reindex(names)
            means[group] = {name: mean_of(part[name].to_numpy()) for name in table}
            intervals[group] = {name: bootstrap_interval(part[name].to_numpy(), seed) for name in table}
            counts[group] = int(part.notna().any(axis=1).sum())
        return cls(table, means, intervals, counts)


@dataclass(frozen=True)
class Truth:
    """Real cells of P perturbations, and how their means differ from those of control cells."""

    names: list[str]  # (P,)
    x: sp.csr_matrix  # (N, G)
    codes: np.ndarray  # (N,) perturbation of each cell
    real: Moments  # (P, G)
    change: np.ndarray  # (P, G)
    t: np.ndarray  # (P, G) Welch's t, as GEARS ranks genes and weights are made
    fudge: np.ndarray  # (P,) median standard errors
    moderated: np.ndarray  # (P, G) for overlaps

    @classmethod
    def of(cls, x: sp.csr_matrix, labels: np.ndarray, control: Moments) -> Truth:
        codes, names = pd.factorize(labels, sort=True)
        real = group_moments(x, codes, len(names))
        fudge = typical_error(real, control)
        t, moderated = welch_t(real, control), welch_t(real, control, fudge)
        return cls([str(name) for name in names], x, codes, real, real.mean - control.mean, t, fudge, moderated)


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
        self.key, self.control, self.seed, self.genes = perturbation_key, control, seed, list(train.var_names)
        if not control_pred.n_obs or not control_truth.n_obs:
            raise UserError(f"genetic scoring needs control cells ({perturbation_key} = '{control}'), found none")
        train_x = expression(train, "training cells")
        self.space = Space.fit(train, train_x, n_top_genes, n_components, seed, max_cells)
        both = (expression(cells, "control cells", self.genes) for cells in (control_pred, control_truth))
        self._control_pred, self._control_truth = map(moments, both)
        x, labels = self._perturbed(real, "real cells")
        if not len(labels):
            raise UserError(f"genetic scoring needs perturbed cells, found none in {perturbation_key} but '{control}'")
        self.truth = Truth.of(x, labels, self._control_truth)
        self.reference = self._centroids(train_x, self._labels(train, "training cells"))
        self.groups = {keys.ALL: self.perturbations} | {group: list(names) for group, names in groups.items()}
        for group, names in groups.items():
            if absent := sorted(set(names) - set(self.perturbations)):
                shown = ", ".join(absent[:3])
                raise UserError(f"group {group}: no real cells for {len(absent)} perturbations ({shown})")

    @property
    def perturbations(self) -> list[str]:
        return self.truth.names

    @property
    def info(self) -> dict[str, Any]:
        counts = zip(self.perturbations, self.truth.real.n, strict=True)
        return {
            "perturbations": len(self.perturbations),
            "cells_per_perturbation": {name: int(n) for name, n in counts},
            "perturbations_per_group": {group: len(names) for group, names in self.groups.items()},
            "control_cells": [int(self._control_pred.n), int(self._control_truth.n)],
            "targets_on_panel": sum(len(genes) > 0 for genes in self._targets(self.perturbations)),
            "genes": len(self.genes),
            **self.space.info,
        }

    def _labels(self, cells: AnnData, what: str) -> np.ndarray:
        check_columns(cells.obs, [self.key], what)
        return cells.obs[self.key].astype(str).to_numpy(dtype=object)

    def _perturbed(self, cells: AnnData, what: str) -> tuple[sp.csr_matrix, np.ndarray]:
        """Expression (N, G) and labels (N,) of the cells that are not control."""
        x, labels = expression(cells, what, self.genes), self._labels(cells, what)
        return x[labels != self.control], labels[labels != self.control]

    def _centroids(self, x: sp.csr_matrix, labels: np.ndarray) -> np.ndarray:
        """Systema's reference from the perturbations of training; from the real ones if training has control only."""
        perturbed = labels != self.control
        if not perturbed.any():
            return level.centroid_mean(self.truth.real)
        codes, names = pd.factorize(labels[perturbed], sort=True)
        return level.centroid_mean(group_moments(x[perturbed], codes, len(names)))

    def _targets(self, names: list[str]) -> list[np.ndarray]:
        """Positions of the genes that each perturbation perturbs, where they are measured."""
        place = pd.Index(self.genes).get_indexer
        found = (place(list(parse(name, self.control))) for name in names)
        return [genes[genes >= 0] for genes in found]

    def score(self, predicted: AnnData) -> GeneticScores:
        """Scores of `predicted`, cells labelled by the test perturbations, any number of each and in any order.

        Raises UserError for a test perturbation without cells, an unknown one, other genes or NaN. Control cells among
        them are left out.
        """
        x, labels = self._perturbed(predicted, "predicted cells")
        return GeneticScores.of(self._table(x, labels, self.truth), self.groups, self.seed)

    def _table(self, x: sp.csr_matrix, labels: np.ndarray, truth: Truth) -> pd.DataFrame:
        """Perturbation x metric, for predicted cells `x` (N, G)."""
        codes = pd.Index(truth.names).get_indexer(labels)
        if (codes < 0).any():
            raise UserError(f"predicted cells: '{labels[codes < 0][0]}' is no test perturbation")
        if missing := sorted(set(range(len(truth.names))) - set(codes)):
            shown = ", ".join(truth.names[p] for p in missing[:3])
            raise UserError(f"predicted cells: none for {len(missing)} test perturbations ({shown})")
        values = [checked("genetic", one) for one in self._values(x, codes, truth)]
        return pd.DataFrame(values, index=pd.Index(truth.names, name=self.key))

    def _values(self, x: sp.csr_matrix, codes: np.ndarray, truth: Truth) -> list[dict[str, float]]:
        predicted, real, control = group_moments(x, codes, len(truth.names)), truth.real, self._control_truth
        t, change = welch_t(predicted, self._control_pred, truth.fudge), predicted.mean - self._control_pred.mean
        l2 = level.l2_distance(predicted.mean, real.mean, control.mean)
        rank = level.discrimination(change, truth.change, self._targets(truth.names))
        found = []
        for p in range(len(truth.names)):
            top = level.non_dropout_de(truth.t[p], real.mean[p], control.mean)
            error = (predicted.mean[p, top] - real.mean[p, top]) ** 2
            sides = self.space(x[codes == p]), self.space(truth.x[truth.codes == p])
            values = {
                "l2_top1000": l2[p],
                "pcc_delta": pearson(truth.change[p], change[p]),
                "pcc_delta_centroid": pearson(real.mean[p] - self.reference, predicted.mean[p] - self.reference),
                "mse_de20": float(error.mean()) if len(top) else NAN,
                "discrimination": rank[p],
                "overlap_20": overlap(truth.moderated[p], t[p], 20),
                "overlap_100": overlap(truth.moderated[p], t[p], 100),
                "energy": energy_distance(squared(*sides)),
            }
            found.append(values | level.weighted_scores(truth.change[p], change[p], level.de_weights(truth.t[p])))
        return found

    def ceiling(self) -> GeneticScores:
        """The split-half ceiling: each half of a perturbation's real cells as a prediction of the other, averaged.

        A half has fewer cells than the truth that methods are held against, so this is a cautious ceiling. NaN for
        perturbations with one cell.
        """
        truth, names = self.truth, pd.Index(self.perturbations, name=self.key)
        several = truth.real.n[truth.codes] > 1
        x, labels = truth.x[several], np.array(truth.names, dtype=object)[truth.codes[several]]
        table = pd.DataFrame(NAN, index=names, columns=list(rows("genetic")))
        if len(labels):
            first = half(labels, self.seed)
            one, two = (
                self._table(x[side], labels[side], Truth.of(x[~side], labels[~side], self._control_truth))
                for side in (first, ~first)
            )
            table = (one + two).div(2).reindex(names)
        return GeneticScores.of(table, self.groups, self.seed)
