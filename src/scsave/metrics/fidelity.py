"""One sample of generated cells against real ones: the generation metrics of one group in one protocol (evaluation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave.metrics import distribution
from scsave.metrics.cells import Space
from scsave.metrics.distribution import POOLED_CELLS, POOLED_FEWEST, c2st_auc, c2st_auc_genes, c2st_pooled
from scsave.metrics.gene_level import LevelTests, corr_frobenius, de_overlap, library_w1, moment_scores
from scsave.metrics.registry import CFGEN_LEGACY, NEUTRAL, rows
from scsave.stats.agreement import NAN
from scsave.stats.moments import moments


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

    spaces: dict[str, Space]  # by protocol, the neutral one always among them
    correlated: np.ndarray  # positions of the genes whose correlations are compared
    classifier: Any  # names cells from neutral components; None without labels
    label_key: str | None
    nearby: tuple[np.ndarray, np.ndarray]  # neutral components of training and of as many test cells, (M, D) each
    nearby_labels: set[str]  # their combinations

    def scores(self, generated: Sample, real: Sample, protocol: str) -> dict[str, float]:
        """Every row of `protocol` for one group; NaN where a side has fewer cells than the row asks for."""
        expected, fewest, values = rows("generation", protocol), min(len(generated), len(real)), {}
        if fewest:
            values |= self._distances(generated, real, protocol)
        if fewest and protocol == NEUTRAL:
            values |= self._genes(generated, real)
            if fewest >= expected["c2st_auc"].min_cells:
                values |= self._two_sample(generated, real)
        scored = {name: value for name, value in values.items() if fewest >= expected[name].min_cells}
        return dict.fromkeys(expected, NAN) | scored

    def of_all(
        self, generated: Sample, real: Sample, pooled: dict[str, float], *levels: LevelTests
    ) -> dict[str, float]:
        """The neutral rows that take all cells at once, `pooled` those that do already; `levels`: DE statistics by condition
        level, generated and real."""
        if not len(generated):
            return {}
        x, y = (self._components(sample.x) for sample in (generated, real))
        most = min(POOLED_CELLS, self.spaces[NEUTRAL].max_cells)
        whole = POOLED_FEWEST <= len(x) == len(y) <= most  # then it is c2st_auc
        shared = pd.Series(generated.labels).isin(self.nearby_labels).to_numpy()  # no training cell is near the others
        return {
            "c2st_pooled": pooled["c2st_auc"] if whole else c2st_pooled(x, y, self.spaces[NEUTRAL].seed),
            "authenticity": distribution.authenticity(x[shared], *self.nearby),
            "de_overlap_100": de_overlap(*levels),
        }

    def _components(self, x: sp.csr_matrix) -> np.ndarray:
        """Neutral components of all the cells `x` (N, G)."""
        space = self.spaces[NEUTRAL]
        return space.projection(x[:, space.variable])

    def _distances(self, generated: Sample, real: Sample, protocol: str) -> dict[str, float]:
        """The metrics that every protocol has; `cfgen_legacy` leaves generated cells uncentred."""
        space = self.spaces[protocol]
        x = space.projection(space.capped(generated.x), centred=protocol != CFGEN_LEGACY)
        d = distribution.squared(x, space(real.x))
        values = distribution.distances(d) | {"mmd2_rbf": distribution.mmd2_rbf(d)}
        return values | distribution.manifold_scores(d) if protocol == NEUTRAL else values

    def _two_sample(self, generated: Sample, real: Sample) -> dict[str, float]:
        """Can classifiers tell the samples apart."""
        space = self.spaces[NEUTRAL]
        x, y = (space.capped(sample.x) for sample in (generated, real))
        return {
            "c2st_auc": c2st_auc(space.projection(x), space.projection(y), space.seed),
            "c2st_auc_genes": c2st_auc_genes(x.toarray(), y.toarray(), space.seed),
        }

    def _genes(self, generated: Sample, real: Sample) -> dict[str, float]:
        """Are genes, libraries and labels right."""
        accuracy = NAN
        if self.classifier is not None:
            named = self.classifier.predict(self._components(generated.x))
            accuracy = float((named == generated.obs[self.label_key].astype(str).to_numpy()).mean())
        return moment_scores(moments(generated.x), moments(real.x)) | {
            "corr_frobenius": corr_frobenius(generated.x[:, self.correlated], real.x[:, self.correlated]),
            "library_w1": library_w1(generated.library, real.library),
            "label_accuracy": accuracy,
        }


def fit_classifier(components: np.ndarray, names: np.ndarray) -> Any:
    """Logistic regression that names cells from their components (N, D); None if there is one name only."""
    if len(set(names)) < 2:
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(components, names)
