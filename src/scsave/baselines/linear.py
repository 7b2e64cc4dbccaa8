"""Linear baselines of perturbation response: lines in the control mean over cell types, and regressions on gene vectors."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from anndata import AnnData
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from scsave.baselines.gene_sets import GeneSets
from scsave.baselines.levels import Levels, Pairs
from scsave.errors import UserError
from scsave.genes.space import GeneLookup, Missing
from scsave.keys import Columns

FEWEST = 3  # types or perturbations that a penalty can be chosen on, each left out in turn


@dataclass(kw_only=True)
class GeneSlope(Levels):
    """Gene by gene, the treated mean as a line in the control mean over the other types, its slope shrunk to 1.

    With `w` of `SimilarShift` and weighted means `c_w`, `s_w`:
    `b = (sum_t w_t (c_t - c_w)(s_t - s_w) + k) / (sum_t w_t (c_t - c_w)^2 + k)`, and the prediction is
    `max(0, s_w + b (c - c_w))`. `k = inf` is `SimilarShift` cut off at zero. With `shrinkage=auto`, `k` is the one of
    `grid` that predicts the training types best (mean squared error, each left out in turn).
    """

    shrinkage: NonNegativeFloat | Literal["auto"] = "auto"
    temperature: PositiveFloat = 0.05
    name: str = "gene_slope"
    grid: ClassVar[tuple[float, ...]] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)

    def type_change(self, profile: np.ndarray, cell_type: str, target: str) -> np.ndarray:
        pairs = self.pairs(target)
        return self.treated_mean(profile, pairs, self.chosen_shrinkage(pairs)) - profile

    def chosen_shrinkage(self, pairs: Pairs) -> float:
        """`shrinkage`, or the best of `grid` over the training types; `inf` where there are too few to choose on."""
        if self.shrinkage != "auto":
            return float(self.shrinkage)
        if len(pairs) < FEWEST:
            return float(np.inf)

        def left_out_error(shrinkage: float) -> float:
            predicted = [self.treated_mean(pairs.control[i], pairs.without(i), shrinkage) for i in range(len(pairs))]
            return float(np.mean((np.array(predicted) - pairs.treated) ** 2))

        return min(self.grid, key=left_out_error)

    def treated_mean(self, profile: np.ndarray, pairs: Pairs, shrinkage: float) -> np.ndarray:
        """Predicted mean under the target, (G,), at strength `shrinkage`."""
        weights = pairs.weights(profile, self.temperature, pairs.cells)
        control, treated = weights @ pairs.control, weights @ pairs.treated  # (G,), (G,)
        if np.isinf(shrinkage):
            return np.maximum(treated + profile - control, 0)
        around = pairs.control - control  # (T, G)
        together = weights @ (around * (pairs.treated - treated)) + shrinkage
        alone = weights @ around**2 + shrinkage
        slope = np.divide(together, alone, out=np.ones_like(alone), where=alone > 0)
        return np.maximum(treated + slope * (profile - control), 0)


@dataclass(kw_only=True)
class FromVectors(GeneSets):
    """Knows genes by their vectors, so that it can predict a gene that training never perturbed."""

    vectors: Any
    missing: Missing = "error"

    def learn(self, train: AnnData, columns: Columns, seed: int) -> None:
        self.lookup = GeneLookup(vectors=self.vectors, missing=self.missing)
        self.lookup.bind(train, columns.organism)
        self.learn_vectors()

    def learn_vectors(self) -> None:
        """What a class computes from `sets`, `changes` and `vector`."""

    def vector(self, genes: list[str]) -> np.ndarray:
        """Vectors of the genes, (n, D), NaN rows for those without one (`missing=mean`); else raises UserError."""
        array, found = self.lookup.vectors_of(genes)
        array[~found] = np.nan
        return array


@dataclass(kw_only=True)
class NearestText(FromVectors):
    """Each gene answers as the single perturbation of training whose text vector is nearest (cosine), added up.

    A gene perturbed alone in training answers as itself; `neighbours` > 1 averages the nearest ones. A gene without a
    vector (`missing=mean`) takes the mean change of the singles.
    """

    neighbours: PositiveInt = 1
    name: str = "nearest_text"

    def learn_vectors(self) -> None:
        if not self.singles:
            raise UserError(f"method={self.name} copies single perturbations, but training has none")
        self.candidates = sorted(self.singles)
        self.known = unit(self.vector(self.candidates))  # (P1, D)

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.sum([self.single(gene) for gene in genes], axis=0)

    def single(self, gene: str) -> np.ndarray:
        """Change of one gene's perturbation, (G,)."""
        if gene in self.singles:
            return self.singles[gene]
        return np.mean([self.singles[name] for name in self.nearest(gene)], axis=0)

    def nearest(self, gene: str) -> list[str]:
        """The `neighbours` training genes nearest to `gene`, best first; all of them where it has no vector."""
        closeness = self.known @ unit(self.vector([gene]))[0]
        if np.isnan(closeness).all():
            return self.candidates
        order = np.argsort(-np.nan_to_num(closeness, nan=-np.inf), kind="stable")
        return [self.candidates[i] for i in order[: self.neighbours]]


@dataclass(kw_only=True)
class Bilinear(FromVectors):
    """`Y = G K P^T + b` (Ahlmann-Eltze, Huber & Anders 2025), Y the changes of the training perturbations, (G, P).

    `G` (genes x k): left singular vectors of `Y - b`. `P` (perturbations x q): the text vectors of the perturbed
    genes in their own principal components, scaled to unit total variance, and added up over the genes of a set. `b`
    is the change of one gene of average vector and counts once for each gene of a set, so on single perturbations it
    is the formula's constant. `K = G^T (Y - b) P (P^T P + ridge I)^-1`, `b` not penalised. With `ridge=auto`, the one
    of `grid` with the least squared leave-one-perturbation-out error.
    """

    n_genes: PositiveInt = 10
    n_text: PositiveInt = 10
    ridge: NonNegativeFloat | Literal["auto"] = "auto"
    name: str = "bilinear"
    grid: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 1e6)

    def learn_vectors(self) -> None:
        known = self.vector(self.seen)  # (S, D)
        self.centre = np.nanmean(known, axis=0)
        centred = np.nan_to_num(known - self.centre)
        _, scale, axes = np.linalg.svd(centred, full_matrices=False)
        rank = min(self.n_text, int((scale > 1e-8 * max(scale[0], 1e-300)).sum())) if len(scale) else 0
        self.axes = axes[:rank]  # (q, D)
        total = np.sqrt((scale[:rank] ** 2).sum() / len(known))
        self.scale = total if total > 0 else 1.0
        features = np.array([self.features(genes) for genes in self.sets])  # (P, 1 + q)
        constant = features[:, 0] @ self.changes / (features[:, 0] @ features[:, 0])  # b where K = 0, (G,)
        left, _, _ = np.linalg.svd((self.changes - features[:, :1] * constant).T, full_matrices=False)
        basis = left[:, : self.n_genes]  # (G, k)
        self.chosen = float(self.ridge) if self.ridge != "auto" else self.best_ridge(features, basis)
        solved = ridge_fit(features, self.changes, self.chosen)  # (1 + q, G)
        self.weights = np.vstack([solved[:1], solved[1:] @ basis @ basis.T])
        self.cost["parameters"] = int(basis.size + basis.shape[1] * rank + len(constant))

    def best_ridge(self, features: np.ndarray, basis: np.ndarray) -> float:
        """Of `grid`, by leave-one-perturbation-out squared error in the span of `basis`."""
        if len(features) < FEWEST:
            return self.grid[-1]
        coordinates = self.changes @ basis  # (P, k)
        return min(self.grid, key=lambda ridge: float((left_out_residuals(features, coordinates, ridge) ** 2).sum()))

    def features(self, genes: tuple[str, ...]) -> np.ndarray:
        """Number of genes, then the summed text coordinates, (1 + q,); a gene without a vector lies at the centre."""
        vectors = np.nan_to_num(self.vector(list(genes)) - self.centre)
        return np.concatenate([[len(genes)], (vectors @ self.axes.T / self.scale).sum(axis=0)])

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        return self.features(genes) @ self.weights


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length, (n, D)."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def ridge_fit(features: np.ndarray, values: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge coefficients (F, G) of `values` (P, G) on `features` (P, F), the first feature not penalised."""
    return np.linalg.pinv(_normal(features, ridge)) @ (features.T @ values)


def left_out_residuals(features: np.ndarray, values: np.ndarray, ridge: float) -> np.ndarray:
    """Error on each row when the ridge is fitted without it, (P, k): residual / (1 - leverage), exactly."""
    hat = features @ np.linalg.pinv(_normal(features, ridge)) @ features.T
    leverage = np.minimum(np.diag(hat), 1 - 1e-9)
    return (values - hat @ values) / (1 - leverage)[:, None]


def _normal(features: np.ndarray, ridge: float) -> np.ndarray:
    penalty = np.full(features.shape[1], ridge)
    penalty[0] = 0.0
    return features.T @ features + np.diag(penalty)
