"""Mean changes under training perturbations of sets of genes (CRISPR): what the baselines of genetic perturbation learn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.baselines.base import Response
from scsave.baselines.carry import to_pooled
from scsave.data.perturbations import canonical_names, parse
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.stats.moments import group_moments


@dataclass(kw_only=True)
class GeneSets(Response):
    """Changes of the P training perturbations from training control cells; a class turns them into the change of a set.

    With `carry=True` a prediction starts from control cells whose mean is pooled with training's (`carry.to_pooled`).
    """

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        """`sets`, `changes` (P, G), moments of control (G,) and of the perturbations (P, G), `n` (P,).

        UserError for levels of a drug, without training control cells, and without perturbed ones.
        """
        self._learn_columns(data, columns)
        if columns.kind != "genes":
            raise UserError(
                f"method={self.name} is for perturbed genes, but '{self.key}' of {columns.name} holds plain levels; use "
                "method=mean_shift, similar_shift, gene_slope, matching_mean or type_process"
            )
        train = data[split.train]
        codes, names = pd.factorize(canonical_names(train.obs[self.key], self.control), sort=True)
        if self.control not in names:
            raise UserError(
                f"method={self.name}: no training cell is control ({self.key}={self.control}); levels: "
                f"{', '.join(names[:8])}"
            )
        at = names.get_loc(self.control)
        self.sets = [parse(name, self.control) for name in names.delete(at)]
        if not self.sets:
            raise UserError(
                f"method={self.name}: training has control cells only, no perturbed cells in {self.key}; leave perturbations "
                "to learn from: hold out one (task.hold_out=<perturbation>)"
            )
        found = group_moments(train.X, codes, len(names))
        n = np.asarray(found.n, dtype=np.float64)
        self.base, self.base_variance, self.n_base = found.mean[at], found.variance[at], int(n[at])  # (G,), (G,)
        self.changes = np.delete(found.mean, at, axis=0) - found.mean[at]  # (P, G)
        self.set_variance, self.n = np.delete(found.variance, at, axis=0), np.delete(n, at)
        self.singles = {
            genes[0]: change for genes, change in zip(self.sets, self.changes, strict=True) if len(genes) == 1
        }
        self.seen = sorted({gene for genes in self.sets for gene in genes})
        self._closed_form(found.mean.size, train.n_obs)
        self.learn(train, columns, seed)

    def learn(self, train: AnnData, columns: Columns, seed: int) -> None:
        """What a class adds to the changes."""

    def change_of(self, cells: AnnData | None, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean of control cells under `target`; None stands for training's control cells."""
        genes = parse(target, self.control)
        if not genes:
            return np.zeros(len(self.genes))
        change = self.of_set(genes)
        if self.carry and cells is not None:
            change = change + to_pooled(cells, self.base, self.base_variance, self.n_base)
        return change

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        """Predicted change, (G,), of the perturbation of `genes` (at least one)."""
        raise NotImplementedError
