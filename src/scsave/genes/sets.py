"""Gene sets: any .gmt, or the packaged GO terms of 10 to 500 genes, and their membership among the genes of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt
from scipy import sparse

from scsave.errors import UserError
from scsave.files import write_npz
from scsave.genes.names import Match, match_genes, read_names, read_orthologs
from scsave.genes.packaged import SETS, packaged_file, read_npz, read_text, text_array, words_of


@dataclass(frozen=True, eq=False)
class SetTable:
    """S sets over n genes."""

    genes: tuple[str, ...]
    sets: tuple[str, ...]
    titles: tuple[str, ...]
    member: sparse.csr_array  # (S, n) bool
    source: str

    @cached_property
    def index(self) -> pd.Index:
        return pd.Index(self.genes, dtype=object)

    @cached_property
    def size(self) -> np.ndarray:
        """(S,) genes of each set, in the data or not."""
        return np.asarray(self.member.sum(1)).ravel()

    def membership(self, match: Match, least: int = 2) -> sparse.csr_array:
        """(S, G) float membership of the matched genes; a set with fewer than `least` of them is left empty."""
        chosen = sparse.csr_array(
            (np.ones(match.found.sum()), (match.row[match.found], np.flatnonzero(match.found))),
            shape=(len(self.genes), len(match.row)),
        )
        member = sparse.csr_array(self.member.astype(np.float64) @ chosen)
        member.data[:] = 1.0
        present = np.asarray(member.sum(1)).ravel() >= least
        return sparse.csr_array(sparse.diags_array(present.astype(np.float64)) @ member)

    def terms_of(self) -> pd.Series:
        """Gene -> the titles of its sets, the smallest set first, joined by `; `."""
        places = self.member.tocoo()
        table = pd.DataFrame({"gene": places.col, "set": places.row, "size": self.size[places.row]})
        table = table.sort_values(["gene", "size", "set"])
        titles = pd.Series(np.array(self.titles, dtype=object)[table["set"]], index=table["gene"])
        joined = titles.groupby(level=0).agg("; ".join)
        return pd.Series(joined.to_numpy(), index=self.index[joined.index])

    def save(self, path: Path) -> None:
        """Genes of a set as uint16 steps from one to the next: compresses to about a byte a membership."""
        member = self.member.sorted_indices()
        steps = np.diff(member.indices.astype(np.int64), prepend=0)
        starts = member.indptr[:-1][np.diff(member.indptr) > 0]
        steps[starts] = member.indices[starts]
        words = {name: text_array(list(getattr(self, name))) for name in ("genes", "sets", "titles")}
        write_npz(path, **words, sizes=np.diff(member.indptr).astype(np.uint16), steps=steps.astype(np.uint16))

    @classmethod
    def load(cls, path: Path, source: str) -> "SetTable":
        values = read_npz(path)
        if not {"genes", "sets", "titles", "sizes", "steps"} <= set(values):
            raise UserError(f"{path}: does not hold gene sets (arrays {', '.join(values)})")
        genes, sets = words_of(values["genes"]), words_of(values["sets"])
        indptr = np.concatenate([[0], np.cumsum(values["sizes"], dtype=np.int64)])
        run = np.cumsum(values["steps"], dtype=np.int64)
        before = np.concatenate([[0], run])[indptr[:-1]]
        indices = run - np.repeat(before, values["sizes"])
        member = sparse.csr_array((np.ones(len(indices), dtype=bool), indices, indptr), shape=(len(sets), len(genes)))
        return cls(tuple(genes), tuple(sets), tuple(words_of(values["titles"])), member, source)


def read_gmt(path: Path) -> SetTable:
    """Lines of `set<TAB>description<TAB>gene<TAB>gene...`; may be gzipped. UserError for anything else."""
    lines = [line.split("\t") for line in read_text(path, f"gene sets {path}").splitlines() if line.strip()]
    short = [number for number, line in enumerate(lines, 1) if len(line) < 3]
    if not lines or short:
        what = f"line {short[0]} has fewer than three columns" if short else "it is empty"
        raise UserError(f"{path}: not a .gmt of set<TAB>description<TAB>genes: {what}")
    table = pd.Series([line[2:] for line in lines]).explode()
    table = table[table.fillna("") != ""].astype(str)
    codes, genes = pd.factorize(table)
    ones, shape = np.ones(len(codes), dtype=np.int64), (len(lines), len(genes))
    member = sparse.csr_array((ones, (table.index.to_numpy(), codes)), shape=shape).astype(bool)
    sets = tuple(line[0] for line in lines)
    links = [line[1] if line[1] and "://" not in line[1] else line[0] for line in lines]
    return SetTable(tuple(genes), sets, tuple(links), member, path.name)


@dataclass(kw_only=True)
class GeneSets:
    """Gene sets from `path` (.gmt, .gmt.gz), or the packaged GO terms; sets of `min_genes` to `max_genes` are used."""

    path: str | None = None
    min_genes: PositiveInt = 10
    max_genes: PositiveInt = 500
    names: str | None = None
    orthologs: str | None = None

    def __post_init__(self) -> None:
        if self.min_genes > self.max_genes:
            raise UserError(f"blocking.gene_sets.min_genes={self.min_genes} is above max_genes={self.max_genes}")

    @property
    def name(self) -> str:
        return "packaged GO" if self.path is None else Path(self.path).name

    def read(self, cache: Path | None = None) -> SetTable:
        """All sets; once read, kept."""
        if not hasattr(self, "_table"):
            packaged = self.path is None
            self._table = SetTable.load(packaged_file(SETS), self.name) if packaged else read_gmt(Path(self.path))
        return self._table

    def membership(
        self, genes: Sequence[str], organism: str = "human", gene_ids: Sequence[str] | None = None
    ) -> tuple[sparse.csr_array, list[str], Match]:
        """(S, G) membership, the titles of the S sets, the match.

        Sets of `min_genes` to `max_genes` genes (whether in the data or not) of which at least two are in the data.
        """
        table = self.read()
        orthologs = read_orthologs(self.orthologs) if self.orthologs else None
        match = match_genes(genes, table.index, read_names(self.names), organism, gene_ids, orthologs)
        member = table.membership(match)
        sized = (table.size >= self.min_genes) & (table.size <= self.max_genes)
        kept = np.flatnonzero(sized & (np.diff(member.indptr) > 0))
        return member[kept], [table.titles[place] for place in kept], match
