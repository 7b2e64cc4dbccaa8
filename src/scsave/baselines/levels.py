"""Means of control and treated training cells by cell type: what the baselines of response to a drug or cytokine learn."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.baselines.base import Response
from scsave.baselines.scales import Scale
from scsave.data.perturbations import canonical_names
from scsave.data.splits.split import Split
from scsave.data.targets import Targets, labels
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.stats.moments import group_moments, mean_expression

NEGLIGIBLE = 1e-9  # weight of a target in one between others
EVERY_CELL = "all cells"  # the one type of a data set that names none
FOR_SETS = (
    "; for sets of genes take method=perturbed_mean, matching_mean, additive, bilinear, nearest_text or set_process"
)


@dataclass(frozen=True)
class Pairs:
    """Control and treated cells of the T training types that have both: means and variances (T, G), numbers (T,)."""

    types: list[str]
    control: np.ndarray
    treated: np.ndarray
    n_control: np.ndarray
    n_treated: np.ndarray
    control_variance: np.ndarray | None = None
    treated_variance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.types)

    @property
    def change(self) -> np.ndarray:
        return self.treated - self.control

    @property
    def cells(self) -> np.ndarray:
        """Cells of each type, (T,)."""
        return self.n_control + self.n_treated

    @property
    def noise(self) -> np.ndarray:
        """Sampling variance of `change`, (T, G)."""
        return self.control_variance / self.n_control[:, None] + self.treated_variance / self.n_treated[:, None]

    def at(self, rows: np.ndarray) -> Pairs:
        """The pairs at positions `rows`, in that order."""
        arrays = {name: array for name, array in vars(self).items() if name != "types" and array is not None}
        return Pairs([self.types[i] for i in rows], **{name: array[rows] for name, array in arrays.items()})

    def without(self, index: int) -> Pairs:
        """The pairs of the other types."""
        return self.at(np.delete(np.arange(len(self)), index))

    def on(self, scale: Scale) -> Pairs:
        """The same as log rates, variances to first order."""
        return dataclasses.replace(
            self,
            control=scale.level(self.control),
            treated=scale.level(self.treated),
            control_variance=self.control_variance * scale.slope(self.control) ** 2,
            treated_variance=self.treated_variance * scale.slope(self.treated) ** 2,
        )

    def weights(self, profile: np.ndarray, temperature: float, cells: np.ndarray) -> np.ndarray:
        """`exp((r_t - max r) / temperature) sqrt(cells_t)`, adding to 1, (T,): near types and large ones count more.

        `r_t` is the Pearson correlation of type t's control mean with `profile` (G,).
        """
        r = correlation(self.control, profile[None])[:, 0]
        weights = np.exp((r - r.max()) / temperature) * np.sqrt(cells)
        return weights / weights.sum()


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of the rows of a (n, G) and b (m, G): (n, m); 0 for a constant row."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 0)


@dataclass(kw_only=True)
class Levels(Response):
    """Moments of every (cell type, level) of the training cells; a class turns them into the change of one type."""

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        self._learn_columns(data, columns)
        self.of_genes = columns.kind == "genes"
        self._learn_means(data[split.train], columns)
        self._closed_form(self.mean.size, len(split.train))

    def _learn_means(self, train: AnnData, columns: Columns) -> None:
        """`mean`, `variance` (M, G) and `n` (M,) of the groups, named by `type_of_group` and `level_of_group`.

        A level is the label of a target (`scsave.data.targets`), `targets` reads those of other numbers off them.
        """
        levels = pd.Series(labels(train.obs, columns))
        self.targets = None if self.of_genes else Targets.of(train.obs, columns)
        levels = canonical_names(levels, self.control) if self.of_genes else levels
        if self.control not in set(levels):
            found = ", ".join(sorted(set(levels))[:8])
            raise UserError(f"method={self.name}: no training cell has {self.key}={self.control}; levels: {found}")
        index = pd.MultiIndex.from_arrays([self._types(train.obs), levels.to_numpy()])
        codes, groups = index.factorize()
        found = group_moments(train.X, codes, len(groups))
        self.type_of_group, self.level_of_group = (list(groups.get_level_values(i)) for i in (0, 1))
        self.n, self.mean, self.variance = np.asarray(found.n, dtype=np.float64), found.mean, found.variance

    def change_of(self, cells: AnnData, target: str) -> np.ndarray:
        return self.type_change(mean_expression(cells), str(self._types(cells.obs)[0]), target)

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        """Predicted change, (G,), of a type whose control cells average to `profile` (G,)."""
        raise NotImplementedError

    def pairs(self, target: str, start: str | None = None, at_least: int = 1) -> Pairs:
        """The types with `at_least` cells under `start` (by default control) and under `target`, in order of appearance.

        Raises UserError where there is none, and for a target that training lacks.
        """
        start = self.control if start is None else start
        if target not in self.level_of_group and self.further and self.targets is not None:
            return self.between(self.targets.weights(target), start, at_least)
        if target not in self.level_of_group:
            seen = ", ".join(sorted(set(self.level_of_group) - {self.control})) or "none"
            raise UserError(
                f"method={self.name}: no training cell has {self.key}={target}; levels seen in training: {seen}"
                f"{FOR_SETS if self.of_genes else ''}"
            )
        at = {group: i for i, group in enumerate(zip(self.type_of_group, self.level_of_group, strict=True))}
        enough = {group: i for group, i in at.items() if self.n[i] >= at_least}
        both = [name for name, level in enough if level == start and (name, target) in enough]
        if not both:
            raise UserError(
                f"method={self.name}: no training {self.type_key or 'group'} has {at_least} or more cells under both "
                f"{self.key}={start} and {self.key}={target}"
            )
        a, b = ([enough[name, level] for name in both] for level in (start, target))
        return Pairs(both, self.mean[a], self.mean[b], self.n[a], self.n[b], self.variance[a], self.variance[b])

    def between(self, weights: dict[str, float], start: str, at_least: int) -> Pairs:
        """The types that have every one of some targets, and the weighted mean of those as the treated cells: a dose between
        two. UserError where no type has them all."""
        at = {group: i for i, group in enumerate(zip(self.type_of_group, self.level_of_group, strict=True))}
        weights = {level: weight for level, weight in weights.items() if abs(weight) > NEGLIGIBLE}
        needed = dict.fromkeys([start, *weights])
        whole = [t for t in dict.fromkeys(self.type_of_group)
                 if all((t, level) in at and self.n[at[t, level]] >= at_least for level in needed)]  # fmt: skip
        if not whole:
            raise UserError(
                f"method={self.name}: no training {self.type_key or 'group'} has cells under each of {'; '.join(needed)}"
            )
        a, w = [at[t, start] for t in whole], np.array(list(weights.values()))
        b = np.array([[at[t, level] for level in weights] for t in whole])  # (T, targets)
        treated, n = np.einsum("l,tlg->tg", w, self.mean[b]), self.n[b].min(axis=1)
        variance = np.einsum("l,tlg->tg", w**2, self.variance[b])
        return Pairs(whole, self.mean[a], treated, self.n[a], n, self.variance[a], variance)

    def groups(self, control: AnnData) -> list[np.ndarray]:
        self._types(control.obs)
        return super().groups(control)

    def _types(self, obs: pd.DataFrame) -> np.ndarray:
        """Cell type of each cell, (N,) str. UserError where the column is missing."""
        if self.type_key is None:
            return np.full(len(obs), EVERY_CELL, dtype=object)
        if self.type_key not in obs:
            raise UserError(f"control cells: no column '{self.type_key}'; columns: {', '.join(map(str, obs.columns))}")
        return obs[self.type_key].astype(str).to_numpy()
