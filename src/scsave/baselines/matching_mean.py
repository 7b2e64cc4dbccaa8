"""The mean of the training cells that match what is asked for, whatever the control cells look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from anndata import AnnData

from scsave.baselines.response import Response
from scsave.data.perturbations import canonical, parse

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns


@dataclass(kw_only=True)
class MatchingMean(Response):
    """Control cells moved so that their mean is the mean of the matching training centroids.

    In order: the same cell type under the target; the other types under the target, each counting once; for a set of
    genes, the mean over its genes of the centroid of each gene's own perturbation, and the mean of all perturbed
    centroids for a gene without one (Systema's matching mean, Vinas Torne et al. 2025).
    """

    name: ClassVar[str] = "matching_mean"

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        super().fit(data, split, columns, seed)
        self.of_genes = columns.kind == "genes"
        if self.of_genes:
            names = {level: canonical(level, self.control) for level in self.means.index.levels[1]}
            self.means = self.means.rename(index=names, level="level")
            self.cells = self.cells.rename(index=names, level="level")

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        if self.of_genes:
            target = canonical(target, self.control)
        return self.centroid(cell_type, target) - profile

    def centroid(self, cell_type: str, target: str) -> np.ndarray:
        """Mean expression expected under `target`, (G,)."""
        if (cell_type, target) in self.means.index:
            return self.means.loc[(cell_type, target)].to_numpy()
        levels = self.means.index.get_level_values("level")
        if target in levels or not self.of_genes:
            return self.pairs(target).treated.mean(axis=0)
        perturbed = self.means[levels != self.control].groupby(level="level").mean()
        genes = parse(target, self.control)
        return np.mean([perturbed.loc[gene] if gene in perturbed.index else perturbed.mean() for gene in genes], axis=0)
