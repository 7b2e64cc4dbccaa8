"""One sample of cells against another: the generation metrics of one group in one protocol (evaluation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave.metrics import distribution
from scsave.metrics.differential import moments
from scsave.metrics.gene_level import LevelTests, corr_frobenius, de_overlap, library_w1, moment_scores
from scsave.metrics.registry import CFGEN_LEGACY, NEUTRAL, rows
from scsave.metrics.two_sample import c2st_auc, c2st_auc_genes
from scsave.stats.pca import Projection

NAN = float("nan")


@dataclass(frozen=True)
class Sample:
    """One side of a comparison: real test cells, or the cells of one row of a table. (N,) or (N, .) each."""

    x: sp.csr_matrix  # (N, G) log1p
    obs: pd.DataFrame
    labels: np.ndarray  # combination
    library: np.ndarray  # library sizes

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, label: str) -> Sample:
        """The cells of one combination."""
        cells = np.flatnonzero(self.labels == label)
        return Sample(self.x[cells], self.obs.iloc[cells], self.labels[cells], self.library[cells])


@dataclass(frozen=True)
class Fidelity:
    """What is fitted on real cells once, so that every row and group of a table is measured alike."""

    projections: dict[str, Projection]  # by protocol
    variable: np.ndarray  # positions of the genes that the projections see
    correlated: np.ndarray  # positions of the genes whose correlations are compared
    classifier: Any  # names cells from neutral components; None without labels
    label_key: str | None
    max_cells: int
    seed: int

    def distances(self, generated: Sample, real: Sample, protocol: str) -> dict[str, float]:
        """The metrics that every protocol has; `cfgen_legacy` leaves generated cells uncentred."""
        project = self.projections[protocol]
        generated, real = self._cap(generated.x), self._cap(real.x)
        d = distribution.squared(
            project(generated[:, self.variable], centred=protocol != CFGEN_LEGACY), project(real[:, self.variable])
        )
        shared = {
            "w1": distribution.w1(d),
            "w2": distribution.w2(d),
            "mmd2_rbf": distribution.mmd2_rbf(d),
            "mmd2_unbiased": distribution.mmd2_unbiased(d),
            "energy": distribution.energy_distance(d),
        }
        return shared | distribution.manifold_scores(d) if protocol == NEUTRAL else shared

    def two_sample(self, generated: Sample, real: Sample) -> dict[str, float]:
        """Can classifiers tell the samples apart."""
        x, y = (self._cap(sample.x)[:, self.variable] for sample in (generated, real))
        project = self.projections[NEUTRAL]
        return {
            "c2st_auc": c2st_auc(project(x), project(y), self.seed),
            "c2st_auc_genes": c2st_auc_genes(x.toarray(), y.toarray(), self.seed),
        }

    def genes(self, generated: Sample, real: Sample) -> dict[str, float]:
        """Are genes, libraries and labels right."""
        return moment_scores(moments(generated.x), moments(real.x)) | {
            "corr_frobenius": corr_frobenius(generated.x[:, self.correlated], real.x[:, self.correlated]),
            "library_w1": library_w1(generated.library, real.library),
            "label_accuracy": self._label_accuracy(generated),
        }

    def _label_accuracy(self, generated: Sample) -> float:
        if self.classifier is None:
            return NAN
        named = self.classifier.predict(self.projections[NEUTRAL](generated.x[:, self.variable]))
        return float((named == generated.obs[self.label_key].astype(str).to_numpy()).mean())

    def _cap(self, x: sp.csr_matrix) -> sp.csr_matrix:
        return x[distribution.subsample(x.shape[0], self.max_cells, self.seed)]

    def group(
        self, generated: Sample, real: Sample, protocol: str, levels: tuple[LevelTests, LevelTests] | None = None
    ) -> dict[str, float]:
        """Every row of `protocol` for one group; NaN where a side has fewer cells than the row asks for.

        `levels`, DE statistics of both sides by condition level, are given for all cells at once only.
        """
        expected = rows("generation", protocol)
        fewest = min(len(generated), len(real))
        values: dict[str, float] = {}
        if fewest:
            values |= self.distances(generated, real, protocol)
        if fewest and protocol == NEUTRAL:
            values |= self.genes(generated, real)
            if fewest >= expected["c2st_auc"].min_cells:
                values |= self.two_sample(generated, real)
            if levels is not None:
                values["de_overlap_100"] = de_overlap(*levels)
        enough = {name for name, row in expected.items() if fewest >= (row.min_cells or 1)}
        return dict.fromkeys(expected, NAN) | {name: value if name in enough else NAN for name, value in values.items()}
