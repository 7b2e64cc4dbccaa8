"""Baselines of genetic perturbation that know genes by their text vectors, so that they can predict an unseen gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.genetic import Genetic
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.keys import Columns


class Vectors(Protocol):
    """What gives a gene its vector; `scsave.genes.vectors` has the implementations."""

    def lookup(self, genes: list[str], organism: str, gene_ids: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, D) and which genes have one (n,) bool."""


@dataclass(kw_only=True)
class Knowledge(Genetic):
    """Keeps the vectors of the training perturbations' genes, and looks up others when they are asked for."""

    vectors: Any
    missing: Literal["error", "mean"] = "error"

    def learn(self, columns: Columns, data: AnnData) -> None:
        self.organism = columns.organism
        ids = data.var[keys.GENE_ID].astype(str) if keys.GENE_ID in data.var else {}
        self.gene_ids = dict(ids)
        self.seen = sorted({gene for genes in self.sets for gene in genes})
        self.learn_vectors()

    def learn_vectors(self) -> None:
        """What a class computes from `sets`, `changes` and `vector`."""

    def vector(self, genes: list[str]) -> np.ndarray:
        """Vectors of the genes, (n, D), NaN rows for those without one (`missing=mean`); else raises UserError."""
        ids = [self.gene_ids.get(gene, "") for gene in genes] if self.gene_ids else None
        array, found = self.vectors.lookup(list(genes), self.organism, ids)
        array = np.array(array, dtype=np.float64)
        if not found.all():
            absent = [gene for gene, has in zip(genes, found, strict=True) if not has]
            if self.missing == "error":
                raise UserError(
                    f"baseline={self.name}: no text vector for {', '.join(absent[:8])}; give other gene vectors, or "
                    "baseline.missing=mean to take the average vector of the training genes"
                )
            array[~found] = np.nan
        return array


@dataclass(kw_only=True)
class NearestText(Knowledge):
    """Each gene answers as the single perturbation of training whose text vector is nearest (cosine), added up.

    A gene perturbed alone in training answers as itself; `neighbours` > 1 averages the nearest ones. A gene without a
    vector (`missing=mean`) takes the mean change of the singles.
    """

    neighbours: Annotated[int, Field(gt=0)] = 1
    name: ClassVar[str] = "nearest_text"

    def learn_vectors(self) -> None:
        if not self.singles:
            raise UserError(f"baseline={self.name} copies single perturbations, but training has none")
        self.genes = sorted(self.singles)
        self.known = unit(self.vector(self.genes))  # (P1, D)

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
        return np.sum([self.single(gene) for gene in genes], axis=0)

    def single(self, gene: str) -> np.ndarray:
        """Change of one gene's perturbation, (G,)."""
        if gene in self.singles:
            return self.singles[gene]
        near = self.nearest(gene)
        return np.mean([self.singles[name] for name in near], axis=0)

    def nearest(self, gene: str) -> list[str]:
        """The `neighbours` training genes nearest to `gene`, best first; all of them where it has no vector."""
        closeness = self.known @ unit(self.vector([gene]))[0]
        if np.isnan(closeness).all():
            return self.genes
        order = np.argsort(-np.nan_to_num(closeness, nan=-np.inf), kind="stable")
        return [self.genes[i] for i in order[: self.neighbours]]


@dataclass(kw_only=True)
class Bilinear(Knowledge):
    """`Y = G K P^T + b` (Ahlmann-Eltze, Huber & Anders 2025), Y the changes of the training perturbations, (G, P).

    `G` (genes x k): left singular vectors of `Y - b`. `P` (perturbations x q): the text vectors of the perturbed
    genes in their own principal components, scaled to unit total variance, and added up over the genes of a set. `b`
    is the change of one gene of average vector and counts once for each gene of a set, so on single perturbations it
    is the formula's constant. `K = G^T (Y - b) P (P^T P + ridge I)^-1`, `b` not penalised. With `ridge=auto`, the one
    of `grid` with the least squared leave-one-perturbation-out error.
    """

    n_genes: Annotated[int, Field(gt=0)] = 10
    n_text: Annotated[int, Field(gt=0)] = 10
    ridge: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    name: ClassVar[str] = "bilinear"
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
        if len(features) < 3:
            return self.grid[-1]
        coordinates = self.changes @ basis  # (P, k)
        return min(self.grid, key=lambda ridge: float((left_out_residuals(features, coordinates, ridge) ** 2).sum()))

    def features(self, genes: tuple[str, ...]) -> np.ndarray:
        """Number of genes, then the summed text coordinates, (1 + q,); a gene without a vector sits at the centre."""
        if not genes:
            return np.zeros(1 + len(self.axes))
        vectors = np.nan_to_num(self.vector(list(genes)) - self.centre)
        return np.concatenate([[len(genes)], (vectors @ self.axes.T / self.scale).sum(axis=0)])

    def change(self, genes: tuple[str, ...]) -> np.ndarray:
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
