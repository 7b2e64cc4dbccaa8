"""Means of each combination of conditions (pseudobulks), and main effects for combinations that training lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scsave.data.perturbations import parse
from scsave.data.splits.strata import combinations
from scsave.errors import UserError
from scsave.stats.moments import group_means


@dataclass(frozen=True)
class CombinationMeans:
    """`mean(combination)` where training has it; else the main-effects model

    `y = b_0 + sum_k b_k[level]`, least squares over training cells (minimum norm where levels are confounded).
    A numeric column enters as one standardised slope, a set-of-genes column as one effect per gene, added up; a gene
    never perturbed in training adds nothing.
    """

    columns: list[str]
    table: pd.DataFrame  # (M, C) the combinations of training
    sizes: np.ndarray  # (M,) cells of each
    means: np.ndarray  # (M, D)
    gene_column: str | None = None
    control: str | None = None

    @classmethod
    def fit(
        cls,
        values: Any,
        obs: pd.DataFrame,
        columns: list[str],
        gene_column: str | None = None,
        control: str | None = None,
    ) -> CombinationMeans:
        """From `values` (N, D), dense or sparse, of the training cells and their `obs`."""
        codes, table = combinations(obs, columns, None, sort=False)
        means, sizes = group_means(values, codes, len(table)), np.bincount(codes, minlength=len(table))
        return cls(columns, table, sizes, means, gene_column, control)

    def predict(self, wanted: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Means of the combinations in `wanted` (W, C), (W, D), and their place in training, (W,), -1 where unseen."""
        place = np.zeros(len(wanted), dtype=np.int64)
        if self.columns:
            known = pd.MultiIndex.from_frame(self.table.astype(object))
            place = known.get_indexer(pd.MultiIndex.from_frame(wanted[self.columns].astype(object)))
        means = self.means[np.maximum(place, 0)]
        if (unseen := place < 0).any():
            means[unseen] = self._main_effects(wanted[unseen])
        return means, place

    def _main_effects(self, wanted: pd.DataFrame) -> np.ndarray:
        weight = np.sqrt(self.sizes)[:, None]  # cells of a combination share its row: weighted least squares
        effects = np.linalg.lstsq(self._design(self.table) * weight, self.means * weight, rcond=None)[0]
        return self._design(wanted) @ effects

    def _design(self, rows: pd.DataFrame) -> np.ndarray:
        parts = [np.ones((len(rows), 1)), *(self._encoded(rows[column], self.table[column]) for column in self.columns)]
        return np.hstack(parts)  # (W, 1 + levels)

    def _encoded(self, column: pd.Series, known: pd.Series) -> np.ndarray:
        """One column of the combinations (W,) as features, by its values in training. UserError for a new level."""
        if column.name == self.gene_column:
            genes = sorted({gene for label in known for gene in parse(label, self.control)})
            sets = [parse(label, self.control) for label in column]
            return np.array([[float(gene in names) for gene in genes] for names in sets]).reshape(len(sets), len(genes))
        if pd.api.types.is_numeric_dtype(known):
            spread = float(known.std(ddof=0)) or 1.0
            return ((column.to_numpy(np.float64) - known.mean()) / spread)[:, None]
        levels = pd.Index(sorted(known.astype(str).unique()))
        codes = levels.get_indexer(column.astype(str))
        if (codes < 0).any():
            unknown = column.astype(str)[codes < 0].iloc[0]
            raise UserError(f"condition {column.name}: training has no level '{unknown}'; it has {', '.join(levels)}")
        return np.eye(len(levels))[codes]
