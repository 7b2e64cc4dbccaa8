"""Blocks from what is known about genes: their texts (`semantic`, the paper's) or their gene sets (`pathway`)."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy import sparse

from scsave.blocking.schemes import BlockingContext, PositiveInt, VectorScheme
from scsave.genes.sets import GeneSets
from scsave.genes.vectors import Packaged, VectorSource, enough

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True)
class Semantic(VectorScheme):
    """Text vectors (paper). UserError where fewer than `min_coverage` of the genes have one."""

    vectors: VectorSource = field(default_factory=Packaged)
    min_coverage: Share = 0.05

    def gene_vectors(self, context: BlockingContext) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        known = self.vectors.bind(context.train).load()
        match = known.match(context.genes, context.organism, context.gene_ids)
        enough(match, context.genes, f"gene vectors {known.source!r} ({len(known.genes)} genes)", self.min_coverage)
        vectors = known.vectors[np.maximum(match.row, 0)]
        return vectors, match.found, {"vectors": known.source, "width": known.width, "found_by": match.counts}


@dataclass(kw_only=True)
class Pathway(VectorScheme):
    """Membership in gene sets, rare sets weighing more, rows of unit length, reduced to `n_components` numbers."""

    gene_sets: GeneSets = field(default_factory=GeneSets)
    n_components: PositiveInt = 100
    min_coverage: Share = 0.05

    def gene_vectors(self, context: BlockingContext) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        member, titles, match = self.gene_sets.membership(context.genes, context.organism, context.gene_ids)
        enough(match, context.genes, f"gene sets {self.gene_sets.name!r}", self.min_coverage)
        vectors, found = membership_vectors(member, self.n_components, self._seed(context))
        info = {"gene_sets": self.gene_sets.name, "sets_used": len(titles), "found_by": match.counts}
        return vectors, found, info


def membership_vectors(member: sparse.csr_array, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(G, d) vectors whose inner product is the idf-weighted cosine of two genes' sets, as far as d carries it.

    member (S, G). (G,) bool: which genes are in a set at all.
    """
    from sklearn.utils.extmath import randomized_svd

    n_sets, n_genes = member.shape
    size = np.asarray(member.sum(1)).ravel()
    weighted = sparse.csr_matrix(member.T @ sparse.diags_array(np.sqrt(np.log(n_genes / np.maximum(size, 1)) + 1e-12)))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    found = length > 0
    unit = sparse.diags_array(1 / np.where(found, length, 1.0)) @ weighted
    width = min(n_components, n_sets, n_genes)
    if width < 1 or not found.any():
        return np.zeros((n_genes, 1)), np.zeros(n_genes, dtype=bool)
    left, scale, _ = randomized_svd(sparse.csr_matrix(unit), width, random_state=np.random.RandomState(seed % 2**32))
    return left * scale, found
