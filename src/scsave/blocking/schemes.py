"""Blocking schemes: what decides the blocks, each an option of configs/blocking, all through one partitioner."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from anndata import AnnData
from pydantic import NonNegativeInt, PositiveInt

from scsave import keys
from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.transport import balanced_sizes, partition
from scsave.errors import UserError

PAPER_BLOCK_SIZE = 3200
PAPER_N_BLOCKS = 6


@dataclass(frozen=True)
class BlockingContext:
    """What a scheme may look at: never a validation or test cell."""

    genes: list[str]
    train: AnnData  # training cells, X = log1p, columns in the order of `genes`
    organism: str = "human"
    gene_ids: list[str] | None = None
    cache: Path = Path("data/cache")
    seed: int = 0

    @classmethod
    def of(cls, train: AnnData, organism: str, cache: Path, seed: int) -> "BlockingContext":
        """Of training cells, whose `var` may name Ensembl ids."""
        gene_ids = list(train.var[keys.GENE_ID]) if keys.GENE_ID in train.var else None
        return cls(list(train.var_names), train, organism, gene_ids, cache, seed)


def choose_n_blocks(n_genes: int, block_size: int | Literal["auto"] = "auto", n_blocks: int | None = None) -> int:
    """L = ceil(G / K). `auto`: K = 3200 where that gives at least six blocks, else six (G, if fewer) equal blocks.

    UserError where both are given, or one of them is larger than the number of genes.
    """
    if n_blocks is not None:
        if block_size != "auto":
            raise UserError(
                f"blocking.block_size={block_size} and blocking.n_blocks={n_blocks} are both given: leave one out"
            )
        if not 1 <= n_blocks <= n_genes:
            raise UserError(f"blocking.n_blocks={n_blocks}, but there are {n_genes} genes: ask for 1 to {n_genes}")
        return n_blocks
    if block_size == "auto":
        return min(max(-(-n_genes // PAPER_BLOCK_SIZE), PAPER_N_BLOCKS), n_genes)
    if not 1 <= block_size <= n_genes:
        raise UserError(f"blocking.block_size={block_size}, but there are {n_genes} genes: at most {n_genes}, or auto")
    return -(-n_genes // block_size)


@dataclass(kw_only=True)
class BlockingScheme(ABC):
    """Common options. `seed: null` takes the seed of the run."""

    block_size: PositiveInt | Literal["auto"] = "auto"
    n_blocks: PositiveInt | None = None
    seed: NonNegativeInt | None = None

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @abstractmethod
    def __call__(self, context: BlockingContext) -> GeneBlocks: ...

    def _seed(self, context: BlockingContext) -> int:
        return context.seed if self.seed is None else self.seed


class VectorScheme(BlockingScheme):
    """A scheme that only says where each gene lies; the transport partitioner makes the blocks."""

    @abstractmethod
    def gene_vectors(self, context: BlockingContext) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """(G, d) vectors, (G,) bool which genes have one, and what to record about them."""

    def __call__(self, context: BlockingContext) -> GeneBlocks:
        n_genes = len(context.genes)
        n_blocks = choose_n_blocks(n_genes, self.block_size, self.n_blocks)
        vectors, found, info = self.gene_vectors(context)
        seed = self._seed(context)
        assignment, transport = assign_with_gaps(vectors, found, n_blocks, seed)
        info = {
            "n_genes": n_genes,
            "without_vector": int(n_genes - found.sum()),
            "coverage": float(found.mean()),
            "seed": seed,
            **transport,
            **info,
        }
        return GeneBlocks(tuple(context.genes), assignment, self.name, info)


def assign_with_gaps(
    vectors: np.ndarray, found: np.ndarray, n_blocks: int, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """(G,) blocks: genes with a vector by transport, the others last, at random, into the room that is left.

    Both the genes with a vector and all genes together are spread evenly: sizes differ by at most one.
    """
    n_genes, n_found = len(found), int(found.sum())
    assignment = np.full(n_genes, -1, dtype=np.int64)
    info: dict[str, Any] = {}
    if n_found:
        result = partition(vectors[found], min(n_blocks, n_found), seed)
        assignment[found] = result.assignment
        info = {
            "solver": result.solver,
            "objective": [float(value) for value in result.objective],
            "converged": result.converged,
        }
    room = balanced_sizes(n_genes, n_blocks) - np.bincount(assignment[found], minlength=n_blocks)
    places = np.repeat(np.arange(n_blocks), room)
    assignment[~found] = np.random.default_rng(seed).permutation(places)
    return assignment, info


@dataclass(kw_only=True)
class Coexpression(VectorScheme):
    """Loadings of the genes on the principal components of standardised log1p expression of training cells.

    The inner product of two genes' vectors is their correlation as far as `n_components` components carry it; a gene
    that does not vary in the training cells has no vector.
    """

    n_components: PositiveInt = 50
    max_cells: PositiveInt = 20_000

    def gene_vectors(self, context: BlockingContext) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rng = np.random.default_rng(self._seed(context))
        x = context.train.X
        if x.shape[0] > self.max_cells:
            x = x[np.sort(rng.choice(x.shape[0], self.max_cells, replace=False))]
        loadings, found = correlation_loadings(x, self.n_components, rng)
        return loadings, found, {"n_components": loadings.shape[1], "cells": int(x.shape[0])}


def correlation_loadings(x: Any, n_components: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(G, d) loadings V S / sqrt(N - 1) of x (N, G), sparse or dense, with genes at unit variance; (G,) which vary."""
    from scipy import sparse
    from sklearn.decomposition import PCA

    x = sparse.csr_matrix(x, dtype=np.float64)
    n_cells, n_genes = x.shape
    mean = np.asarray(x.mean(0)).ravel()
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
    found = variance > 1e-12 * np.maximum(mean**2, 1e-12)
    n_found = int(found.sum())
    width = min(n_components, n_cells - 1, n_found - 1)
    if width < 1:
        return np.zeros((n_genes, 1)), np.zeros(n_genes, dtype=bool)
    scaled = x[:, found] @ sparse.diags_array(1 / np.sqrt(variance[found]))
    scaled.data = np.minimum(scaled.data, 10.0)  # a gene seen in a handful of cells is not a component of its own
    pca = PCA(width, svd_solver="arpack", random_state=np.random.RandomState(rng.integers(2**31))).fit(scaled)
    loadings = np.zeros((n_genes, width))
    loadings[found] = pca.components_.T * np.sqrt(pca.explained_variance_)
    return loadings, found


@dataclass(kw_only=True)
class Random(BlockingScheme):
    """Balanced blocks drawn at random: the control of every other scheme."""

    def __call__(self, context: BlockingContext) -> GeneBlocks:
        n_genes = len(context.genes)
        n_blocks = choose_n_blocks(n_genes, self.block_size, self.n_blocks)
        seed = self._seed(context)
        places = np.repeat(np.arange(n_blocks), balanced_sizes(n_genes, n_blocks))
        assignment = np.random.default_rng(seed).permutation(places)
        return GeneBlocks(tuple(context.genes), assignment, self.name, {"n_genes": n_genes, "seed": seed})


@dataclass(kw_only=True)
class Gene:
    """K = 1, one token a gene: the naive attention that the paper compares with."""

    name: ClassVar[str] = "gene"

    def __call__(self, context: BlockingContext) -> GeneBlocks:
        n_genes = len(context.genes)
        return GeneBlocks(tuple(context.genes), np.arange(n_genes), self.name, {"n_genes": n_genes})


@dataclass(kw_only=True)
class Single:
    """L = 1: all genes in one token, no attention between blocks."""

    name: ClassVar[str] = "single"

    def __call__(self, context: BlockingContext) -> GeneBlocks:
        n_genes = len(context.genes)
        return GeneBlocks(tuple(context.genes), np.zeros(n_genes, dtype=np.int64), self.name, {"n_genes": n_genes})
