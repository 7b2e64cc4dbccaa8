"""Blocks of genes: the (block, slot) of each gene by its name, with padding of the short blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from scsave.errors import UserError


@dataclass(frozen=True, eq=False)
class GeneBlocks:
    """Equal-size, non-overlapping blocks of G named genes: L blocks of at most K slots.

    The slot of a gene within its block follows from the names alone (alphabetical), so that weights tied to a slot
    stay with their gene whatever the order of `genes`.
    """

    genes: tuple[str, ...]
    assignment: np.ndarray  # (G,) block of each gene
    scheme: str
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", tuple(str(gene) for gene in self.genes))
        object.__setattr__(self, "assignment", np.asarray(self.assignment, dtype=np.int64))
        if not self.genes:
            raise ValueError("blocks need at least one gene")
        if len(self._index) != len(self.genes):
            raise ValueError("gene names of blocks must be unique")
        if self.assignment.shape != (len(self.genes),):
            raise ValueError(f"{len(self.genes)} genes, but an assignment of shape {self.assignment.shape}")
        if self.assignment.min() < 0 or self.sizes.min() == 0:
            raise ValueError("blocks must be numbered from 0 without gaps")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {gene: position for position, gene in enumerate(self.genes)}

    @property
    def n_genes(self) -> int:
        return len(self.genes)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(L,) genes in each block."""
        return np.bincount(self.assignment)

    @property
    def n_blocks(self) -> int:
        """L."""
        return len(self.sizes)

    @property
    def block_size(self) -> int:
        """K, the size of the largest block."""
        return int(self.sizes.max())

    @cached_property
    def slot(self) -> np.ndarray:
        """(G,) place of each gene in its block."""
        order = np.lexsort((np.asarray(self.genes), self.assignment))
        first = np.cumsum(self.sizes) - self.sizes
        slot = np.empty(self.n_genes, dtype=np.int64)
        slot[order] = np.arange(self.n_genes) - first[self.assignment[order]]
        return slot

    @cached_property
    def position(self) -> np.ndarray:
        """(G,) block * K + slot."""
        return self.assignment * self.block_size + self.slot

    @cached_property
    def gather(self) -> np.ndarray:
        """(L * K,) gene at each slot; G where the slot is padding."""
        gather = np.full(self.n_blocks * self.block_size, self.n_genes, dtype=np.int64)
        gather[self.position] = np.arange(self.n_genes)
        return gather

    def lookup(self, genes: Sequence[str]) -> np.ndarray:
        """(n,) places of the named genes in `genes`; UserError for a gene that is in no block."""
        missing = [gene for gene in genes if gene not in self._index]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(genes)} genes are in no block (scheme {self.scheme!r}, {self.n_genes} genes): "
                f"{', '.join(missing[:5])}; give the data the genes that the blocks were made for"
            )
        return np.fromiter((self._index[gene] for gene in genes), dtype=np.int64, count=len(genes))

    def reindex(self, genes: Sequence[str]) -> "GeneBlocks":
        """The same blocks and slots, with genes in another order; UserError unless they are the same genes."""
        order = self.lookup(genes)
        if len(order) != self.n_genes:
            absent = sorted(set(self.genes) - set(genes))
            raise UserError(
                f"{len(absent)} of the {self.n_genes} genes in blocks are not in the data: {', '.join(absent[:5])}"
            )
        return GeneBlocks(tuple(genes), self.assignment[order], self.scheme, self.info)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as checkpoints need."""
        return {
            "scheme": self.scheme,
            "genes": list(self.genes),
            "assignment": self.assignment.tolist(),
            "info": self.info,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GeneBlocks":
        return cls(tuple(values["genes"]), np.asarray(values["assignment"]), values["scheme"], dict(values["info"]))
