"""Gene vectors: one vector a gene, found by any of the gene's names, and the sources that give them.

What a method needs for a condition column of perturbed genes is `source.bind(data).lookup(genes, organism, gene_ids)`.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import NonNegativeInt, PositiveInt

from scsave import keys
from scsave.errors import UserError
from scsave.files import write_npz
from scsave.genes.names import Match, kind_of, match_genes, read_names, read_orthologs
from scsave.genes.packaged import VECTORS, info_array, packaged_file, read_npz, text_array, words_of


@dataclass(frozen=True, eq=False)
class GeneVectors:
    """One vector for each of n named genes (human symbols), found by any of a gene's names."""

    genes: tuple[str, ...]
    vectors: np.ndarray  # (n, d) float32
    source: str
    info: dict[str, Any] = field(default_factory=dict)
    names: str | None = None  # table of names in place of the packaged one
    orthologs: str | None = None  # table mouse -> human

    def __post_init__(self) -> None:
        if len(self.genes) != len(self.vectors):
            raise ValueError(f"{len(self.genes)} genes, but {len(self.vectors)} vectors")

    @cached_property
    def index(self) -> pd.Index:
        return pd.Index(self.genes, dtype=object)

    @property
    def width(self) -> int:
        """d."""
        return self.vectors.shape[1]

    def match(self, genes: Sequence[str], organism: str = "human", gene_ids: Sequence[str] | None = None) -> Match:
        """Which row each gene has, and by which of its names."""
        orthologs = read_orthologs(self.orthologs) if self.orthologs else None
        return match_genes(genes, self.index, read_names(self.names), organism, gene_ids, orthologs)

    def lookup(
        self, genes: Sequence[str], organism: str = "human", gene_ids: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(G, d) float32, zero where unknown; (G,) bool, True where known."""
        match = self.match(genes, organism, gene_ids)
        vectors = self.vectors[np.maximum(match.row, 0)].astype(np.float32)
        vectors[~match.found] = 0.0
        return vectors, match.found

    def coverage(
        self, genes: Sequence[str], organism: str = "human", gene_ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Share of the genes with a vector, and how many were found in which way."""
        match = self.match(genes, organism, gene_ids)
        return {"vectors": self.source, "coverage": match.coverage, "found_by": match.counts}

    def save(self, path: Path) -> None:
        """Plain arrays, float32."""
        write_npz(path, genes=text_array(list(self.genes)), vectors=self.vectors, info=info_array(self.info))

    @classmethod
    def load(cls, path: Path, source: str, **more: Any) -> "GeneVectors":
        """Inverse of `save`; UserError where the file is absent or is something else."""
        arrays = read_npz(path)
        if missing := {"genes", "vectors", "info"} - set(arrays):
            raise UserError(f"{path}: no array {', '.join(sorted(missing))}; it does not hold gene vectors")
        vectors = arrays["vectors"].astype(np.float32)
        return cls(tuple(words_of(arrays["genes"])), vectors, source, json.loads(words_of(arrays["info"])[0]), **more)


def enough(match: Match, genes: Sequence[str], what: str, least: float) -> None:
    """UserError where fewer than `least` of the genes are known."""
    if match.coverage < least:
        raise UserError(
            f"{what}: {match.found.sum()} of {len(genes)} genes are known ({match.coverage:.1%}, at least {least:.0%} "
            f"are needed); the names look like {kind_of(genes)} (e.g. {', '.join(map(str, list(genes)[:3]))}): "
            "give human or mouse symbols, or human Ensembl ids, check data.organism, data.gene_id and data.symbol_key, "
            "or take blocking=coexpression, which needs no knowledge"
        )


@dataclass(kw_only=True)
class VectorSource(ABC):
    """Options that all sources share; `names` and `orthologs` are tables in place of the packaged ones (`genes.names`)."""

    cache: str = "data/cache"
    names: str | None = None
    orthologs: str | None = None

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def read(self) -> GeneVectors:
        """The vectors; slow the first time where they have to be made."""

    def load(self) -> GeneVectors:
        """The vectors, read once."""
        if not hasattr(self, "_loaded"):
            self._loaded = self.read()
        return self._loaded

    def bind(self, data: AnnData) -> Self:
        """Called with the data before anything is looked up; only sources that the data carry need it."""
        return self

    def lookup(
        self, genes: Sequence[str], organism: str = "human", gene_ids: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `GeneVectors.lookup`."""
        return self.load().lookup(genes, organism, gene_ids)

    def _kept(self, key: str, make: Callable[[], GeneVectors]) -> GeneVectors:
        """What `make` gives, made once and kept in the cache; `key` tells it from others of this source."""
        path = self._cache_folder / f"{self.name}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not path.is_file():
            make().save(path)
        return GeneVectors.load(path, self.name, **self._tables)

    @property
    def _tables(self) -> dict[str, str | None]:
        return {"names": self.names, "orthologs": self.orthologs}

    @property
    def _cache_folder(self) -> Path:
        return Path(self.cache) / "gene_vectors"


@dataclass(kw_only=True)
class Packaged(VectorSource):
    """The vectors that ship with the project (data/README.md), or a file of the same kind at `path`."""

    path: str | None = None

    @property
    def name(self) -> str:
        return "packaged" if self.path is None else Path(self.path).name

    def read(self) -> GeneVectors:
        path = packaged_file(VECTORS) if self.path is None else Path(self.path)
        return GeneVectors.load(path, self.name, **self._tables)


@dataclass(kw_only=True)
class RandomVectors(VectorSource):
    """Control: a Gaussian vector for each gene that the names table has; knows the genes, and nothing about them."""

    width: PositiveInt = 64
    seed: NonNegativeInt = 0
    name = "random"

    def read(self) -> GeneVectors:
        genes = tuple(read_names(self.names).table["symbol"])
        rng = np.random.default_rng(self.seed)
        vectors = rng.standard_normal((len(genes), self.width), dtype=np.float32) / np.float32(np.sqrt(self.width))
        return GeneVectors(genes, vectors, self.name, {"seed": self.seed, "width": self.width}, **self._tables)


@dataclass(kw_only=True)
class DataVectors(VectorSource):
    """Vectors that the data themselves carry: simulated data (their truth), or any file with `varm["gene_vectors"]`."""

    key: str = "gene_vectors"
    name = "data"
    in_data = True  # nothing can be looked up where the data are not

    def bind(self, data: AnnData) -> Self:
        """Takes the vectors of `data`; UserError where there are none."""
        truth = data.uns.get(keys.SIMULATED, {})
        if self.key in data.varm:
            genes, vectors = data.var_names, data.varm[self.key]
        elif self.key in truth:
            genes, vectors = truth["genes"], truth[self.key]
        else:
            there = ", ".join(data.varm) or "none"
            raise UserError(
                f"vectors=data: the data carry no varm['{self.key}'] (varm has: {there}) and are not simulated; "
                "take vectors=packaged"
            )
        genes = tuple(str(gene) for gene in genes)
        self._loaded = GeneVectors(genes, np.asarray(vectors, dtype=np.float32), self.name, **self._tables)
        return self

    def read(self) -> GeneVectors:
        raise UserError("vectors=data: looked up before the data were there; take vectors=packaged here")
