"""Baselines of perturbation response: what the other cell types did, carried over to this one's control cells.

Each predicts a change of the mean, (G,) in log1p space. Route `shift` moves every control cell by it; route `carry` makes
counts of it as SAVE does (`response/carry.py`), so that distances between distributions compare the predicted means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave.baselines.base import ROUTE, Baseline
from scsave.baselines.carry import carried_groups
from scsave.baselines.predicted import shifted_cells
from scsave.errors import UserError
from scsave.stats.moments import group_means, mean_expression

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns

CARRY = "carry"
EVERY_CELL = "all cells"  # the one type of a data set that names none


@dataclass(frozen=True)
class Pairs:
    """Control and treated means of the T training types that have both, (T, G), and their numbers of cells, (T,)."""

    types: list[str]
    control: np.ndarray
    treated: np.ndarray
    cells: np.ndarray

    def __len__(self) -> int:
        return len(self.types)

    def without(self, index: int) -> Pairs:
        keep = np.arange(len(self)) != index
        types = [name for i, name in enumerate(self.types) if i != index]
        return Pairs(types, self.control[keep], self.treated[keep], self.cells[keep])


class Response(Baseline):
    """Means of every (cell type, level) of the training cells; a class turns them into the change of one type."""

    tasks: ClassVar[frozenset[str]] = frozenset({"perturbation"})
    routes: ClassVar[tuple[str, ...]] = (ROUTE,)

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        if columns.perturbation is None or columns.control is None:
            raise UserError(f"baseline={self.name}: {columns.name} names no perturbation_key and control")
        self.key, self.control, self.type_key = columns.perturbation, columns.control, columns.cell_type
        sets = "; for sets of genes take baseline=perturbed_mean, matching_mean, additive, bilinear or nearest_text"
        self.advice = sets if columns.kind == "genes" else ""
        train = data[split.train]
        levels = train.obs[self.key].astype(str).to_numpy()
        if self.control not in levels:
            raise UserError(f"baseline={self.name}: no training cell has {self.key}={self.control}")
        index = pd.MultiIndex.from_arrays([self._types(train.obs), levels], names=["type", "level"])
        codes, groups = index.factorize()
        groups = groups.set_names(index.names)
        self.means = pd.DataFrame(group_means(train.X, codes, len(groups)), index=groups)  # (groups, G)
        self.cells = pd.Series(np.bincount(codes, minlength=len(groups)), index=groups)
        self._closed_form(self.means.size, train.n_obs)

    def respond(self, control: AnnData, target: str, seed: int, route: str = ROUTE) -> AnnData:
        if route not in self.routes:
            raise UserError(f"baseline={self.name}: no route '{route}'; it has: {', '.join(self.routes)}")
        types = self._types(control.obs)
        groups = [np.flatnonzero(types == name) for name in np.unique(types)]

        def change_of(cells: AnnData) -> np.ndarray:
            return self.change(mean_expression(cells), str(self._types(cells.obs)[0]), target)

        if route == CARRY:
            return carried_groups(control, groups, change_of, self.key, target, seed, self.name)
        change = np.zeros(control.shape)  # (N, G)
        for here in groups:
            change[here] = change_of(control[here])
        return shifted_cells(control, change, self.key, target, self.name)

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        """Predicted change, (G,), of a type whose control cells average to `profile` (G,)."""
        raise NotImplementedError

    def pairs(self, target: str) -> Pairs:
        """Raises UserError where no training type has both control cells and cells under `target`."""
        levels = self.means.index.get_level_values("level")
        if target not in levels:
            known = ", ".join(sorted(set(levels) - {self.control})) or "none"
            raise UserError(
                f"baseline={self.name}: no training cell has {self.key}={target}; levels seen in training: "
                f"{known}{self.advice}"
            )
        control, treated = self.means.xs(self.control, level="level"), self.means.xs(target, level="level")
        both = [name for name in control.index if name in treated.index]
        if not both:
            raise UserError(f"no training {self.type_key} has cells under both {self.control} and {target}")
        cells = self.cells.xs(self.control, level="level")[both] + self.cells.xs(target, level="level")[both]
        return Pairs(both, control.loc[both].to_numpy(), treated.loc[both].to_numpy(), cells.to_numpy(np.float64))

    def _types(self, obs: pd.DataFrame) -> np.ndarray:
        if self.type_key is None:
            return np.full(len(obs), EVERY_CELL, dtype=object)
        if self.type_key not in obs:
            raise UserError(f"control cells: no column '{self.type_key}'; columns: {', '.join(map(str, obs.columns))}")
        return obs[self.type_key].astype(str).to_numpy()


@dataclass(kw_only=True)
class NoChange(Response):
    """The control cells themselves."""

    name: ClassVar[str] = "no_change"

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        return np.zeros_like(profile)


@dataclass(kw_only=True)
class MeanShift(Response):
    """`mean_t (s_t - c_t)` over the other types: each type counts once (`weight=types`) or by its cells (`cells`)."""

    weight: Literal["types", "cells"] = "types"
    name: ClassVar[str] = "mean_shift"
    routes: ClassVar[tuple[str, ...]] = (ROUTE, CARRY)

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        weights = np.ones(len(pairs)) if self.weight == "types" else pairs.cells
        return np.average(pairs.treated - pairs.control, axis=0, weights=weights)


@dataclass(kw_only=True)
class SimilarShift(Response):
    """`sum_t w_t (s_t - c_t)`, `w_t ~ exp((r_t - max r) / temperature) sqrt(n_t)`.

    `r_t` is the Pearson correlation of the control profile of type t with the one predicted for, `n_t` its cells.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.05
    name: ClassVar[str] = "similar_shift"
    routes: ClassVar[tuple[str, ...]] = (ROUTE, CARRY)

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        return similarity_weights(profile, pairs, self.temperature) @ (pairs.treated - pairs.control)


@dataclass(kw_only=True)
class GeneSlope(Response):
    """Gene by gene, the treated mean as a line in the control mean over the other types, its slope shrunk to 1.

    With `w` of `SimilarShift` and weighted means `c_w`, `s_w`:
    `b = (sum_t w_t (c_t - c_w)(s_t - s_w) + k) / (sum_t w_t (c_t - c_w)^2 + k)`, and the prediction is
    `max(0, s_w + b (c - c_w))`. `k = inf` is `SimilarShift` cut off at zero. With `shrinkage=auto`, `k` is the one of
    `grid` that predicts the training types best (mean squared error, each left out in turn).
    """

    shrinkage: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    temperature: Annotated[float, Field(gt=0)] = 0.05
    name: ClassVar[str] = "gene_slope"
    routes: ClassVar[tuple[str, ...]] = (ROUTE, CARRY)
    grid: ClassVar[tuple[float, ...]] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)

    def change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        return self.treated_mean(profile, pairs, self.chosen_shrinkage(pairs)) - profile

    def chosen_shrinkage(self, pairs: Pairs) -> float:
        """`shrinkage`, or the best of `grid` over the training types; `inf` where there are too few to tell."""
        if self.shrinkage != "auto":
            return float(self.shrinkage)
        if len(pairs) < 3:
            return float(np.inf)

        def left_out_error(shrinkage: float) -> float:
            predicted = [self.treated_mean(pairs.control[i], pairs.without(i), shrinkage) for i in range(len(pairs))]
            return float(np.mean((np.array(predicted) - pairs.treated) ** 2))

        return min(self.grid, key=left_out_error)

    def treated_mean(self, profile: np.ndarray, pairs: Pairs, shrinkage: float) -> np.ndarray:
        """Predicted mean under the target, (G,), at strength `shrinkage`."""
        weights = similarity_weights(profile, pairs, self.temperature)
        control, treated = weights @ pairs.control, weights @ pairs.treated  # (G,), (G,)
        if np.isinf(shrinkage):
            return np.maximum(treated + profile - control, 0)
        around = pairs.control - control  # (T, G)
        together = weights @ (around * (pairs.treated - treated)) + shrinkage
        alone = weights @ around**2 + shrinkage
        slope = np.divide(together, alone, out=np.ones_like(alone), where=alone > 0)
        return np.maximum(treated + slope * (profile - control), 0)


def similarity_weights(profile: np.ndarray, pairs: Pairs, temperature: float) -> np.ndarray:
    """Weights of the types, (T,), adding to 1: near types and large ones count more."""
    centred = pairs.control - pairs.control.mean(axis=1, keepdims=True)
    own = profile - profile.mean()
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(own)
    r = np.divide(centred @ own, norms, out=np.zeros(len(pairs)), where=norms > 0)  # (T,)
    weights = np.exp((r - r.max()) / temperature) * np.sqrt(pairs.cells)
    return weights / weights.sum()
