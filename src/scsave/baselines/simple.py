"""Baselines of perturbation response that average what training cells did: over cell types, or over perturbations."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from anndata import AnnData
from pydantic import PositiveFloat

from scsave.baselines.gene_sets import GeneSets
from scsave.baselines.levels import Levels
from scsave.data.perturbations import canonical, parse
from scsave.keys import Columns


@dataclass(kw_only=True)
class NoChange(Levels):
    """The control cells themselves."""

    name: str = "no_change"

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        return np.zeros_like(profile)


@dataclass(kw_only=True)
class MeanShift(Levels):
    """`mean_t (s_t - c_t)` over the other types: each type counts once (`weight=types`) or by its cells (`cells`)."""

    weight: Literal["types", "cells"] = "types"
    name: str = "mean_shift"

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        weights = np.ones(len(pairs)) if self.weight == "types" else pairs.cells
        return np.average(pairs.change, axis=0, weights=weights)


@dataclass(kw_only=True)
class SimilarShift(Levels):
    """`sum_t w_t (s_t - c_t)`, `w_t ~ exp((r_t - max r) / temperature) sqrt(n_t)`.

    `r_t` is the Pearson correlation of the control profile of type t with the one predicted for, `n_t` its cells.
    """

    temperature: PositiveFloat = 0.05
    name: str = "similar_shift"

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        return pairs.weights(profile, self.temperature, pairs.cells) @ pairs.change


@dataclass(kw_only=True)
class MatchingMean(Levels):
    """Control cells moved so that their mean is the mean of the matching training centroids, whatever their own mean.

    In order: the same cell type under the target; the other types under the target, each counting once; for a set of
    genes, the mean over its genes of the centroid of each gene's own perturbation, and the mean of all perturbed
    centroids for a gene without one (Systema's matching mean, Vinas Torne et al. 2025).
    """

    name: str = "matching_mean"

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        if self.of_genes:
            target = canonical(target, self.control)
        return self.centroid(cell_type, target) - profile

    def centroid(self, cell_type: str, target: str) -> np.ndarray:
        """Mean expression expected under `target`, (G,)."""
        for kind, level, mean in zip(self.type_of_group, self.level_of_group, self.mean, strict=True):
            if (kind, level) == (cell_type, target):
                return mean
        if target in self.level_of_group or not self.of_genes:
            return self.pairs(target).treated.mean(axis=0)
        levels = np.array(self.level_of_group, dtype=object)
        perturbed = {level: self.mean[levels == level].mean(axis=0) for level in set(levels) - {self.control}}
        overall = np.mean([perturbed[level] for level in sorted(perturbed)], axis=0)
        return np.mean([perturbed.get(gene, overall) for gene in parse(target, self.control)], axis=0)


@dataclass(kw_only=True)
class PooledControl(GeneSets):
    """No change, but from the pooled mean of control: what starting from better known control cells gives alone."""

    carry: bool = True  # a shift has no use for the pooled mean
    name: str = "pooled_control"

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.zeros(len(self.genes))


@dataclass(kw_only=True)
class PerturbedMean(GeneSets):
    """The mean of the changes of all training perturbations, whatever is asked for."""

    name: str = "perturbed_mean"

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        return self.changes.mean(axis=0)


@dataclass(kw_only=True)
class Additive(GeneSets):
    """`x_c + sum_g (x_g - x_c)` over the single perturbations of training.

    A gene without a single perturbation in training adds the mean change of the singles (`unseen=mean`; of all
    perturbations where there are no singles) or nothing (`zero`).
    """

    unseen: Literal["mean", "zero"] = "mean"
    name: str = "additive"

    def learn(self, train: AnnData, columns: Columns, seed: int) -> None:
        known = np.array(list(self.singles.values())) if self.singles else self.changes
        self.default = known.mean(axis=0) if self.unseen == "mean" else np.zeros(len(self.genes))

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.sum([self.singles.get(gene, self.default) for gene in genes], axis=0)
