"""Means of each combination of conditions, and main effects for the combinations that training never showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave.data import perturbations
from scsave.errors import UserError
from scsave.stats.moments import group_means


def missing_columns(obs: pd.DataFrame, columns: list[str]) -> None:
    """Raises UserError where a condition column that the method was fitted on is not in `obs`."""
    if absent := [column for column in columns if column not in obs]:
        raise UserError(f"conditions: no column {', '.join(absent)}; columns given: {', '.join(map(str, obs.columns))}")


def combinations(obs: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Code of each cell's combination, (N,), and the combinations, one a row in the order first met."""
    missing_columns(obs, columns)
    if not columns:
        return np.zeros(len(obs), dtype=np.int64), pd.DataFrame(index=[0])
    grouped = obs[columns].groupby(columns, observed=True, sort=False, dropna=False)
    codes = grouped.ngroup().to_numpy()  # (N,)
    first = pd.Series(np.arange(len(obs))).groupby(codes).first().to_numpy()
    return codes, obs[columns].iloc[first].reset_index(drop=True)


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
        values: np.ndarray | sp.spmatrix,
        obs: pd.DataFrame,
        columns: list[str],
        gene_column: str | None = None,
        control: str | None = None,
    ) -> CombinationMeans:
        """From `values` (N, D) of the training cells and their `obs`."""
        codes, table = combinations(obs, columns)
        sizes = np.bincount(codes, minlength=len(table))
        return cls(columns, table, sizes, group_means(values, codes, len(table)), gene_column, control)

    def predict(self, wanted: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Means of the combinations in `wanted` (W, C), (W, D), and their place in training, (W,), -1 where unseen."""
        place = self.locate(wanted)
        means = self.means[np.maximum(place, 0)]
        if (unseen := place < 0).any():
            means[unseen] = self._main_effects(wanted[unseen])
        return means, place

    def locate(self, wanted: pd.DataFrame) -> np.ndarray:
        """Place of each combination among those of training, (W,); -1 where training has none."""
        missing_columns(wanted, self.columns)
        if not self.columns:
            return np.zeros(len(wanted), dtype=np.int64)
        known = pd.MultiIndex.from_frame(self.table.astype(object))
        return known.get_indexer(pd.MultiIndex.from_frame(wanted[self.columns].astype(object)))

    def _main_effects(self, wanted: pd.DataFrame) -> np.ndarray:
        weight = np.sqrt(self.sizes)[:, None]  # cells of a combination share its row: weighted least squares
        effects = np.linalg.lstsq(self._design(self.table) * weight, self.means * weight, rcond=None)[0]
        return self._design(wanted) @ effects

    def _design(self, rows: pd.DataFrame) -> np.ndarray:
        parts = [np.ones((len(rows), 1))]
        for column in self.columns:
            known = self.table[column]
            if column == self.gene_column:
                parts.append(self._gene_hot(rows[column]))
            elif pd.api.types.is_numeric_dtype(known):
                spread = float(known.std(ddof=0)) or 1.0
                parts.append(((rows[column].to_numpy(np.float64) - known.mean()) / spread)[:, None])
            else:
                levels = pd.Index(sorted(known.astype(str).unique()))
                codes = levels.get_indexer(rows[column].astype(str))
                if (codes < 0).any():
                    unknown = rows[column].astype(str)[codes < 0].iloc[0]
                    raise UserError(
                        f"condition {column}: training has no level '{unknown}'; it has {', '.join(levels)}"
                    )
                parts.append(np.eye(len(levels))[codes])
        return np.hstack(parts)  # (W, 1 + levels)

    def _gene_hot(self, labels: pd.Series) -> np.ndarray:
        parsed = [perturbations.parse(label, self.control) for label in self.table[self.gene_column]]
        genes = sorted({gene for label in parsed for gene in label})
        sets = [perturbations.parse(label, self.control) for label in labels]
        return np.array([[float(gene in names) for gene in genes] for names in sets]).reshape(len(sets), len(genes))
