"""How near are genes to one another, by what is written about them? Their vectors as points of a small space."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError


@dataclass(frozen=True)
class NoVectors:
    """Stands for vectors that came with the training data, which a checkpoint does without: it knows no further gene."""

    width: int

    def lookup(self, genes: list[str], organism: str, gene_ids: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(genes), self.width)), np.zeros(len(genes), dtype=bool)


@dataclass
class TextSpace:
    """Genes in the first `size` principal components of the vectors that can be looked up, unit total variance.

    A perturbed gene without a vector is an error, or with `missing=mean` sits at the average vector and is counted in
    `without`. With `told=False` every gene is the same point and nothing is looked up.
    """

    vectors: Any
    size: int
    missing: str = "error"
    told: bool = True
    without: list[str] = field(default_factory=list)

    def learn(self, train: AnnData, perturbed: list[str], organism: str) -> None:
        """The space of the panel's and the perturbed genes; only names are read of `train`."""
        self.organism, self.at = organism, {}
        self.ids = dict(train.var[keys.GENE_ID].astype(str)) if keys.GENE_ID in train.var else {}
        self.centre, self.axes, self.spread = np.zeros(1), np.zeros((1, 1)), 1.0
        if not self.told:
            return
        self.vectors = self.vectors.bind(train)
        known, has = self._looked_up(perturbed)
        panel = list(train.var_names)
        array, found = self.vectors.lookup(panel, organism, self._ids_of(panel))
        cloud = np.vstack([np.asarray(array, dtype=np.float64)[found], known[has]])
        if not len(cloud):
            cloud = np.zeros((1, known.shape[1]))
        self.centre = cloud.mean(axis=0)  # (D,)
        _, scale, axes = np.linalg.svd(cloud - self.centre, full_matrices=False)
        rank = max(1, min(self.size, int((scale > 1e-8 * max(scale[0], 1e-300)).sum())))
        self.axes = axes[:rank]  # (q, D)
        self.spread = float(np.sqrt((scale[:rank] ** 2).sum() / len(cloud))) or 1.0
        self._remember([gene for gene, is_known in zip(panel, found, strict=True) if is_known], array[found])
        self._remember(perturbed, known, has)

    def _ids_of(self, genes: list[str]) -> list[str] | None:
        return [self.ids.get(gene, "") for gene in genes] if self.ids else None

    def _looked_up(self, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, D), and which genes have one (n,) bool."""
        array, found = self.vectors.lookup(genes, self.organism, self._ids_of(genes))
        absent = [gene for gene, has in zip(genes, found, strict=True) if not has]
        if absent and self.missing == "error":
            raise UserError(self._unknown(absent))
        self.without = sorted({*self.without, *absent})
        return np.array(array, dtype=np.float64), np.asarray(found, dtype=bool)

    def _unknown(self, genes: list[str]) -> str:
        """One line: which genes have no vector, and what they may have been meant to be."""
        listed = self.vectors.load().genes if hasattr(self.vectors, "load") else ()
        names = {name.casefold(): name for name in sorted({*self.at, *listed})}
        near = [names[name] for name in get_close_matches(genes[0].casefold(), names, 4, 0.7)]
        meant = f" (names like {genes[0]}: {', '.join(near)})" if near else ""
        return (
            f"no gene vector for {', '.join(genes[:8])}{meant}; correct the name, or train with other vectors "
            "(vectors=...) or with response.genes.missing=mean, which takes the average vector"
        )

    def _remember(self, genes: list[str], vectors: np.ndarray, found: np.ndarray | None = None) -> None:
        placed = (np.asarray(vectors, dtype=np.float64) - self.centre) @ self.axes.T / self.spread
        if found is not None:
            placed[~found] = 0.0  # the centre
        self.at |= dict(zip(genes, placed, strict=True))

    def place(self, genes: list[str]) -> np.ndarray:
        """Coordinates (n, q); a gene not met yet is looked up."""
        if not self.told:
            self.at |= dict.fromkeys(genes, np.zeros(1))
        new = [gene for gene in dict.fromkeys(genes) if gene not in self.at]
        if new:
            self._remember(new, *self._looked_up(new))
        return np.array([self.at[gene] for gene in genes]).reshape(len(genes), len(self.axes))

    def nearest(self, genes: list[str], among: list[str]) -> tuple[list[str], np.ndarray]:
        """Of each gene, which other one of `among` is nearest, and its distance (n,); NaN where there is no other."""
        here, there = self.place(genes), self.place(among)
        distance = np.linalg.norm(here[:, None] - there[None], axis=-1)  # (n, m)
        distance[np.array(genes)[:, None] == np.array(among)[None]] = np.inf
        if not len(among) or not np.isfinite(distance).any(axis=1).all():
            return [""] * len(genes), np.full(len(genes), np.nan)
        return [among[i] for i in distance.argmin(axis=1)], distance.min(axis=1)

    # --- files ---
    def state(self) -> dict[str, Any]:
        names = list(self.at)
        coordinates = np.array([self.at[name] for name in names]).reshape(len(names), len(self.axes))
        return {
            "organism": self.organism,
            "ids": self.ids,
            "without": self.without,
            "spread": self.spread,
            "centre": torch.from_numpy(self.centre.copy()),
            "axes": torch.from_numpy(self.axes.copy()),
            "genes": names,
            "at": torch.from_numpy(coordinates),
        }

    def restore(self, state: dict[str, Any]) -> None:
        state = dict(state)
        names, at = state.pop("genes"), state.pop("at").numpy()
        for name, value in state.items():
            setattr(self, name, value.numpy() if isinstance(value, torch.Tensor) else value)
        self.at = dict(zip(names, at, strict=True))
        if getattr(self.vectors, "in_data", False):
            self.vectors = NoVectors(len(self.centre))
