"""Scores of generated cells: a scorer that compares every row of a table with the same real test cells."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, concat

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.cells import Space, combination_labels, expression, grouping_columns, library_size, most_variable
from scsave.metrics.fidelity import Fidelity, Sample, fit_classifier
from scsave.metrics.gene_level import level_tests
from scsave.metrics.registry import NEUTRAL, checked, rows
from scsave.stats.agreement import mean_of
from scsave.stats.mapped import stacked
from scsave.stats.moments import moments, parts
from scsave.stats.pca import fit_pca
from scsave.stats.resample import draw_like, half, proportional, resample_like

CORRELATED = 200  # most variable genes whose correlations are compared
MIN_TEST_CELLS = 2  # a combination with fewer is not scored on its own

GroupScores = dict[str, dict[str, float]]  # group -> metric -> value


def without_counts(cells: AnnData, rows: np.ndarray) -> AnnData:
    """X, obs and var of the cells at `rows`, in memory; of mapped cells a part is read at a time."""
    (x,) = stacked(((sp.csr_matrix(part),) for _, part in parts(cells.X, rows=rows)), None)
    obs = cells.obs.iloc[rows].copy()
    for name in obs.columns[obs.dtypes == "category"]:
        obs[name] = obs[name].cat.remove_unused_categories()
    return AnnData(x, obs, cells.var)


class GenerationScorer:
    """Scores cells against the test cells.

    `train` and `test` are prepared cells over the same genes (`rows`: those at these positions of each alone); `conditions`
    are the columns that make a combination (a numeric one with many values makes none). The training cells are split, within
    combinations, into a reference half (neutral PCA, label classifier) and another half, from which `real_sample` is drawn. A
    combination that training lacks gives half of its *test* cells to `real_sample`, before anything is scored: `scorer.test`
    is what remains, and what methods must be asked for. `protocols` are those that `score` computes; the neutral PCA is always
    fitted. Above `max_cells` cells a side and group, whatever needs pairs of cells or a classifier sees a random subset; above
    `max_train_cells` training or `max_test_cells` test cells, a random subset of them, the same share of each combination,
    stands for all: cells of all would not fit for large sets.
    Raises UserError for missing columns, genes that differ, NaN and empty sides.
    """

    def __init__(
        self,
        train: AnnData,
        test: AnnData,
        conditions: list[str],
        label_key: str | None,
        n_top_genes: int = 2000,
        n_components: int = 30,
        seed: int = 0,
        max_cells: int = 2000,
        max_train_cells: int = 50_000,
        max_test_cells: int = 10_000,
        protocols: tuple[str, ...] = (NEUTRAL,),
        rows: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        rows = rows or (np.arange(train.n_obs), np.arange(test.n_obs))
        if not all(map(len, rows)):
            raise UserError(f"scoring needs cells, found {len(rows[0])} for training and {len(rows[1])} to test")
        self.protocols, self.genes, self.seed = tuple(protocols), list(train.var_names), seed
        obs = train.obs.iloc[rows[0]], test.obs.iloc[rows[1]]
        self.grouped_by = grouping_columns(pd.concat([one.reindex(columns=conditions) for one in obs]), conditions)
        used, labels = [], []
        for at, one, what, most in zip(rows, obs, ("training", "test"), (max_train_cells, max_test_cells), strict=True):
            label = combination_labels(one, self.grouped_by, f"{what} cells")
            chosen = proportional(label, most, seed) if len(label) > most else np.arange(len(label))
            used.append(at[chosen])
            labels.append(label[chosen])
        self._train, self._train_labels = without_counts(train, used[0]), labels[0]
        self._reference = half(self._train_labels, seed)
        self.test, self._unseen_real = self._take_unseen(test, used[1], labels[1])
        self._real = self._sample(self.test, "test cells")
        self._real_levels = level_tests(self._real.x, self._real.obs, self.grouped_by)

        present = pd.Series(self._real.labels).value_counts().sort_index()
        self.cells_per_combination = {str(label): int(m) for label, m in present.items()}
        self.groups = [label for label, m in self.cells_per_combination.items() if m >= MIN_TEST_CELLS]
        self.fidelity = self._fit(label_key, n_top_genes, n_components, max_cells)
        self.info = self._describe()

    def _take_unseen(self, test: AnnData, rows: np.ndarray, labels: np.ndarray) -> tuple[AnnData, AnnData]:
        """Test cells to score against, and the half of the combinations unseen in training that `real` is made of."""
        unseen = np.flatnonzero(~pd.Series(labels).isin(set(self._train_labels)))
        self.unseen = sorted(set(labels[unseen]))
        second = pd.Series(labels[unseen]).groupby(labels[unseen]).cumcount().to_numpy() % 2 == 1  # odd one stays
        given = unseen[draw_like(labels[unseen], labels[unseen][second], self.seed)]
        return without_counts(test, np.delete(rows, given)), without_counts(test, rows[given])

    def _sample(self, cells: AnnData, what: str) -> Sample:
        labels = combination_labels(cells.obs, self.grouped_by, what)
        return Sample(expression(cells, what, self.genes), cells.obs, labels, library_size(cells, what))

    def _fit(self, label_key: str | None, n_top_genes: int, n_components: int, max_cells: int) -> Fidelity:
        x = expression(self._train, "training cells")
        variable = most_variable(self._train, n_top_genes)
        reference, real = x[self._reference][:, variable], self._real.x[:, variable]
        neutral = fit_pca(reference, n_components, self.seed)
        spaces = {NEUTRAL: Space(variable, neutral, max_cells, self.seed)}
        if further := [name for name in self.protocols if name != NEUTRAL]:
            fitted = fit_pca(real, n_components, self.seed)
            spaces |= dict.fromkeys(further, Space(variable, fitted, max_cells, self.seed))
        classifier = None
        if label_key in self.grouped_by:  # methods are asked for no other label
            names = self._train.obs[label_key].astype(str).to_numpy()[self._reference]
            classifier = fit_classifier(neutral(reference), names)
        # of the other half too: the PCA spreads the cells that it was fitted on, so that nothing would be near them
        rest = np.setdiff1d(np.flatnonzero(~self._reference), self._real_rows())
        near = rest[draw_like(self._train_labels[rest], self._real.labels, self.seed)]
        near_test = draw_like(self._real.labels, self._train_labels[near], self.seed)
        return Fidelity(
            spaces=spaces,
            correlated=np.argsort(-moments(x).variance, kind="stable")[:CORRELATED],
            classifier=classifier,
            label_key=label_key if classifier is not None else None,
            nearby=(neutral(x[near][:, variable]), neutral(real[near_test])),
            nearby_labels=set(self._train_labels[near]),
        )

    def _describe(self) -> dict[str, Any]:
        fitted, skipped = self.fidelity, sorted(set(self.cells_per_combination) - set(self.groups))
        sizes = self.cells_per_combination | {keys.POOLED: len(self._real)}
        max_cells = fitted.spaces[NEUTRAL].max_cells
        unseen = combination_labels(self._unseen_real.obs, self.grouped_by, "test cells")
        real = pd.Series(np.concatenate([self._train_labels[self._real_rows()], unseen])).value_counts()
        return {
            "test_cells": len(self._real),
            "grouped_by": self.grouped_by,
            "cells_per_combination": self.cells_per_combination,
            "real_cells_per_combination": {label: int(real.get(label, 0)) for label in self.cells_per_combination},
            "scored_combinations": len(self.groups),
            "skipped_combinations": len(skipped),
            "skipped": skipped,
            "unseen_combinations": self.unseen,
            "reference_cells": int(self._reference.sum()),
            "nearby_cells": len(fitted.nearby[0]),
            "genes": len(self.genes),
            "variable_genes": len(fitted.spaces[NEUTRAL].variable),
            "components": {name: int(space.projection.components.shape[1]) for name, space in fitted.spaces.items()},
            "max_cells": max_cells,
            "capped_groups": [label for label, m in sizes.items() if m > max_cells],
            "label_key": fitted.label_key,
            "seed": self.seed,
        }

    def _real_rows(self) -> np.ndarray:
        """Positions of the training cells of `real_sample`."""
        other = np.flatnonzero(~self._reference)
        return other[draw_like(self._train_labels[other], self._real.labels, self.seed)]

    def real_sample(self) -> AnnData:
        """A second real sample: the noise floor.

        Cells of the other half of training, as many of each combination as there are test cells or, where that half has
        fewer, all it has; for a combination that training lacks, the half of its cells taken out of the test set.
        """
        return self._row("real", self._train[self._real_rows()], self._unseen_real)

    def train_resample(self) -> AnnData:
        """Training cells of the test cells' combinations, drawn with replacement; none for a combination never seen."""
        drawn = resample_like(self._train_labels, self._real.labels, self.seed)
        with warnings.catch_warnings():  # repeated names are the point; they are made unique below
            warnings.filterwarnings("ignore", message="Observation names are not unique")
            return self._row("train_resample", self._train[drawn])

    def _row(self, name: str, *parts: AnnData) -> AnnData:

        parts = [part for part in parts if part.n_obs] or list(parts[:1])
        cells = concat([part[:, self.genes].copy() for part in parts])
        cells.obs_names_make_unique()
        # what real data lacks is missing from these rows; from any other row it is a mistake
        cells.uns[keys.UNS] = {"name": name, "partial": True}
        return cells

    def score(self, cells: AnnData) -> dict[str, GroupScores]:
        """Protocol -> group -> metric -> value: exactly the registry's rows.

        Groups are the combinations with at least 2 test cells, `all` (aggregated as the registry says) and `pooled`
        (every metric, all test cells at once). NaN where a group has fewer cells than a metric needs.
        `cells` may be in any order. Raises UserError for a combination without cells or unknown to the test cells,
        genes that differ, missing columns and NaN.
        """
        sample = self._sample(cells, "generated cells")
        self._check_combinations(sample.labels, partial=bool(cells.uns.get(keys.UNS, {}).get("partial", False)))
        levels = level_tests(sample.x, sample.obs, self.grouped_by, like=self._real_levels)
        by_group = {label: (sample.of(label), self._real.of(label)) for label in self.groups}
        found = {}
        for protocol in self.protocols:
            pooled = self.fidelity.scores(sample, self._real, protocol)
            if protocol == NEUTRAL:
                pooled |= self.fidelity.of_all(sample, self._real, pooled, levels, self._real_levels)
            scores = {label: self.fidelity.scores(*sides, protocol) for label, sides in by_group.items()}
            everything = {
                name: mean_of([group[name] for group in scores.values()]) if row.aggregate == "mean" else pooled[name]
                for name, row in rows("generation", protocol).items()
            }
            scores = {keys.ALL: everything, keys.POOLED: pooled} | scores
            found[protocol] = {group: checked("generation", values, protocol) for group, values in scores.items()}
        return found

    def _check_combinations(self, labels: np.ndarray, partial: bool) -> None:
        found, real, columns = set(labels), set(self._real.labels), ", ".join(self.grouped_by)
        missing = [] if partial else sorted(real - found)
        for lost, said in ((sorted(found - real), "{} have no test cell"), (missing, "none for {}")):
            if lost:
                of = said.format(f"{len(lost)} combinations of {columns}")
                raise UserError(
                    f"generated cells: {of} ({', '.join(lost[:3])}); ask for the conditions of the test cells"
                )
