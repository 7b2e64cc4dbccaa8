"""Baselines of genetic perturbation that need no knowledge of the genes: centroids of training, averaged or added up.

Each predicts a change of the mean, (G,) in log1p space, from the set of perturbed genes, measured from the training control
cells. Route `shift` moves every control cell by it; route `carry` has what SAVE's head has besides its own prediction: control
cells whose mean is pooled with training's (`response/pooling.py`), and counts made of the change (`response/carry.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.baselines.base import ROUTE, Baseline
from scsave.baselines.carry import carried_cells
from scsave.baselines.pooling import to_pooled
from scsave.baselines.predicted import shifted_cells
from scsave.baselines.response import CARRY
from scsave.data.perturbations import canonical, parse
from scsave.errors import UserError
from scsave.stats.moments import group_moments

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns


class Genetic(Baseline):
    """Changes of the P training perturbations, (P, G); a class turns them into the change of a set of genes."""

    tasks: ClassVar[frozenset[str]] = frozenset({"perturbation"})
    routes: ClassVar[tuple[str, ...]] = (ROUTE, CARRY)

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        if columns.perturbation is None or columns.control is None:
            raise UserError(f"baseline={self.name}: {columns.name} names no perturbation_key and control")
        if columns.kind != "genes":
            raise UserError(
                f"baseline={self.name} is for perturbed genes, but '{columns.perturbation}' of {columns.name} "
                "holds plain levels; use baseline=mean_shift, similar_shift, gene_slope or matching_mean"
            )
        self.key, self.control = columns.perturbation, columns.control
        train = data[split.train]
        levels = train.obs[self.key].astype(str)
        names = {level: canonical(level, self.control) for level in levels.unique()}
        codes, labels = pd.factorize(levels.map(names), sort=True)
        if self.control not in labels:
            raise UserError(f"baseline={self.name}: no training cell has {self.key}={self.control}")
        found = group_moments(train.X, codes, len(labels))
        means, at = found.mean, labels.get_loc(self.control)  # (P + 1, G)
        self.training_control = means[at], found.variance[at], int(found.n[at])
        self.sets = [parse(label, self.control) for label in labels.delete(at)]
        self.changes = np.delete(means, at, axis=0) - means[at]  # (P, G)
        if not self.sets:
            raise UserError(f"baseline={self.name}: training has control cells only, no perturbed ones")
        self.singles = {
            genes[0]: change for genes, change in zip(self.sets, self.changes, strict=True) if len(genes) == 1
        }
        self._closed_form(means.size, train.n_obs)
        self.learn(columns, data)

    def learn(self, columns: Columns, data: AnnData) -> None:
        """What a class adds to the changes; `data` only for its gene names."""

    def respond(self, control: AnnData, target: str, seed: int, route: str = ROUTE) -> AnnData:
        genes = parse(target, self.control)
        change = self.change(genes) if genes else np.zeros(control.n_vars)
        if route == CARRY:
            change = change + (to_pooled(control, *self.training_control) if genes else 0.0)
            return carried_cells(control, change, self.key, target, seed, self.name)
        return shifted_cells(control, change, self.key, target, self.name)

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
        """Predicted change, (G,), of the perturbation of `genes` (at least one)."""
        raise NotImplementedError


@dataclass(kw_only=True)
class PooledControl(Genetic):
    """No change, but from the pooled mean of control: what starting from better known control cells gives alone."""

    name: ClassVar[str] = "pooled_control"
    routes: ClassVar[tuple[str, ...]] = (CARRY,)

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.zeros(self.changes.shape[1])


@dataclass(kw_only=True)
class PerturbedMean(Genetic):
    """The mean of the changes of all training perturbations, whatever is asked for."""

    name: ClassVar[str] = "perturbed_mean"

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
        return self.changes.mean(axis=0)


@dataclass(kw_only=True)
class Additive(Genetic):
    """`x_c + sum_g (x_g - x_c)` over the single perturbations of training.

    A gene without a single perturbation in training adds the mean change of the singles (`unseen=mean`; of all
    perturbations where there are no singles) or nothing (`zero`).
    """

    unseen: Literal["mean", "zero"] = "mean"
    name: ClassVar[str] = "additive"

    def learn(self, columns: Columns, data: AnnData) -> None:
        known = np.array(list(self.singles.values())) if self.singles else self.changes
        self.default = known.mean(axis=0) if self.unseen == "mean" else np.zeros(self.changes.shape[1])

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.sum([self.singles.get(gene, self.default) for gene in genes], axis=0)
