"""How good are generated cells? A scorer that holds every row of a table against the same real cells."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.gene_selection import variable_genes
from scsave.errors import UserError
from scsave.metrics.aggregate import mean_of
from scsave.metrics.differential import moments
from scsave.metrics.fidelity import Fidelity, Sample
from scsave.metrics.gene_level import LevelTests, level_tests
from scsave.metrics.registry import NEUTRAL, PROTOCOLS, checked, rows
from scsave.stats.pca import expression, fit_pca, library_size
from scsave.stats.resample import combination_labels, draw_like, half, resample_like, thinned

CORRELATED = 200  # most variable genes whose correlations are compared
MIN_TEST_CELLS = 2  # a combination with fewer is not scored on its own

GroupScores = dict[str, dict[str, float]]  # group -> metric -> value


class GenerationScorer:
    """Scores cells against the test cells.

    `train` and `test` are prepared cells over the same genes; `conditions` are the columns that make a combination.
    The training cells are split, within combinations, into a reference half (neutral PCA, label classifier) and
    another half, from which `real_sample` is drawn. A combination that training lacks gives half of its *test* cells to
    `real_sample`, before anything is scored: `scorer.test` is what remains, and what methods must be asked for.
    Above `max_cells` cells a side and group, whatever needs pairs of cells or a classifier sees a random subset; above
    `max_train_cells` training cells, a random subset of them, the same share of each combination, stands for all.
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
    ):
        if not train.n_obs or not test.n_obs:
            raise UserError(f"scoring needs cells, found {train.n_obs} for training and {test.n_obs} to test")
        self.conditions, self.genes, self.seed = list(conditions), list(train.var_names), seed
        labels = combination_labels(train.obs, self.conditions, "training cells")
        if train.n_obs > max_train_cells:  # a dense reference of all would not fit for large sets
            chosen = thinned(labels, max_train_cells, seed)
            train, labels = train[chosen], labels[chosen]
        self._train = train.copy() if train.is_view else train
        self._train_labels = labels
        self._reference = half(self._train_labels, seed)
        self.test, self._unseen_real = self._take_unseen(test)
        self._real = self._sample(self.test, "test cells")

        present = pd.Series(self._real.labels).value_counts().sort_index()
        self.cells_per_combination = {str(label): int(m) for label, m in present.items()}
        self.groups = [label for label, m in self.cells_per_combination.items() if m >= MIN_TEST_CELLS]
        self.fidelity = self._fit(label_key, n_top_genes, n_components, max_cells)
        self.info = self._describe()

    def _take_unseen(self, test: AnnData) -> tuple[AnnData, AnnData]:
        """Test cells to score against, and the half of the combinations unseen in training that `real` is made of."""
        labels = combination_labels(test.obs, self.conditions, "test cells")
        unseen = np.flatnonzero(~pd.Series(labels).isin(set(self._train_labels)))
        self.unseen = sorted(set(labels[unseen]))
        second = pd.Series(labels[unseen]).groupby(labels[unseen]).cumcount().to_numpy() % 2 == 1  # odd one stays
        given = unseen[draw_like(labels[unseen], labels[unseen][second], self.seed)]
        return test[np.setdiff1d(np.arange(test.n_obs), given)].copy(), test[given]

    def _sample(self, cells: AnnData, what: str) -> Sample:
        labels = combination_labels(cells.obs, self.conditions, what)
        return Sample(expression(cells, what, self.genes), cells.obs, labels, library_size(cells, what))

    def _fit(self, label_key: str | None, n_top_genes: int, n_components: int, max_cells: int) -> Fidelity:
        x = expression(self._train, "training cells")
        variable = np.arange(len(self.genes))
        if n_top_genes < len(self.genes):
            variable = variable_genes(self._train, np.arange(self._train.n_obs), n_top_genes)
        reference = x[self._reference][:, variable]
        neutral = fit_pca(reference, n_components, self.seed)
        cfgen = fit_pca(self._real.x[:, variable], n_components, self.seed)
        classifier = None
        if label_key in self.conditions:  # a label that methods are not told can't be asked of their cells
            names = self._train.obs[label_key].astype(str).to_numpy()[self._reference]
            classifier = fit_classifier(neutral(reference), names)
        return Fidelity(
            projections=dict.fromkeys(PROTOCOLS, cfgen) | {NEUTRAL: neutral},
            variable=variable,
            correlated=np.argsort(-moments(x).variance, kind="stable")[:CORRELATED],
            classifier=classifier,
            label_key=label_key if classifier is not None else None,
            max_cells=max_cells,
            seed=self.seed,
        )

    def _describe(self) -> dict[str, Any]:
        fitted, skipped = self.fidelity, sorted(set(self.cells_per_combination) - set(self.groups))
        sizes = self.cells_per_combination | {keys.POOLED: len(self._real)}
        real = pd.Series(combination_labels(self.real_sample().obs, self.conditions, "real cells")).value_counts()
        return {
            "test_cells": len(self._real),
            "cells_per_combination": self.cells_per_combination,
            "real_cells_per_combination": {label: int(real.get(label, 0)) for label in self.cells_per_combination},
            "scored_combinations": len(self.groups),
            "skipped_combinations": len(skipped),
            "skipped": skipped,
            "unseen_combinations": self.unseen,
            "reference_cells": int(self._reference.sum()),
            "genes": len(self.genes),
            "variable_genes": len(fitted.variable),
            "components": {name: int(p.components.shape[1]) for name, p in fitted.projections.items()},
            "max_cells": fitted.max_cells,
            "capped_groups": [label for label, m in sizes.items() if m > fitted.max_cells],
            "label_key": fitted.label_key,
            "seed": self.seed,
        }

    def real_sample(self) -> AnnData:
        """A second real sample: the noise floor.

        Cells of the other half of training, as many of each combination as there are test cells or, where that half has
        fewer, all it has; for a combination that training lacks, the half of its cells taken out of the test set.
        """
        other = np.flatnonzero(~self._reference)
        drawn = other[draw_like(self._train_labels[other], self._real.labels, self.seed)]
        return self._row("real", self._train[drawn], self._unseen_real)

    def train_resample(self) -> AnnData:
        """Training cells of the test cells' combinations, drawn with replacement; none for a combination never seen."""
        drawn = resample_like(self._train_labels, self._real.labels, self.seed)
        with warnings.catch_warnings():  # repeated names are the point; they are made unique below
            warnings.filterwarnings("ignore", message="Observation names are not unique")
            return self._row("train_resample", self._train[drawn])

    def _row(self, name: str, *parts: AnnData) -> AnnData:
        from anndata import concat

        parts = [part for part in parts if part.n_obs] or list(parts[:1])
        cells = concat([part[:, self.genes].copy() for part in parts])
        cells.obs_names_make_unique()
        # what real data lacks is missing from these rows; from any other row it is a mistake
        cells.uns[keys.UNS] = {"name": name, "partial": True}
        return cells

    def score(self, cells: AnnData, protocols: tuple[str, ...] = PROTOCOLS) -> dict[str, GroupScores]:
        """Protocol -> group -> metric -> value: exactly the registry's rows.

        Groups are the combinations with at least 2 test cells, `all` (aggregated as the registry says) and `pooled`
        (every metric, all test cells at once). NaN where a group has fewer cells than a metric needs.
        `cells` may be in any order. Raises UserError for a combination without cells or unknown to the test cells,
        genes that differ, missing columns and NaN.
        """
        sample = self._sample(cells, "generated cells")
        self._check_combinations(sample.labels, partial=bool(cells.uns.get(keys.UNS, {}).get("partial", False)))
        levels = level_tests(sample.x, sample.obs, self.conditions, like=self._real_levels), self._real_levels
        by_group = {label: (sample.of(label), self._real.of(label)) for label in self.groups}
        return {protocol: self._protocol(sample, by_group, levels, protocol) for protocol in protocols}

    def _protocol(
        self,
        sample: Sample,
        by_group: dict[str, tuple[Sample, Sample]],
        levels: tuple[LevelTests, LevelTests],
        protocol: str,
    ) -> GroupScores:
        pooled = self.fidelity.group(sample, self._real, protocol, levels)
        scores = {label: self.fidelity.group(*sides, protocol) for label, sides in by_group.items()}
        everything = {
            name: mean_of([group[name] for group in scores.values()]) if row.aggregate == "mean" else pooled[name]
            for name, row in rows("generation", protocol).items()
        }
        scores = {keys.ALL: everything, keys.POOLED: pooled} | scores
        return {group: checked("generation", values, protocol) for group, values in scores.items()}

    @cached_property
    def _real_levels(self) -> LevelTests:
        return level_tests(self._real.x, self._real.obs, self.conditions)

    def _check_combinations(self, labels: np.ndarray, partial: bool) -> None:
        found, asked = set(labels), "ask for the conditions of the test cells"
        if extra := sorted(found - set(self._real.labels)):
            raise UserError(
                f"generated cells: {len(extra)} combinations of {', '.join(self.conditions)} have no test cell "
                f"({', '.join(extra[:3])}); {asked}"
            )
        if (missing := sorted(set(self._real.labels) - found)) and not partial:
            raise UserError(
                f"generated cells: none for {len(missing)} combinations of {', '.join(self.conditions)} "
                f"({', '.join(missing[:3])}); {asked}"
            )


def fit_classifier(components: np.ndarray, names: np.ndarray) -> Any:
    """Logistic regression that names cells from their components (N, D); None if there is one name only."""
    if len(set(names)) < 2:
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(components, names)
