"""Gene names: current symbols, earlier and alternative symbols, Ensembl ids, mouse genes and other case, matched."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from scsave.errors import UserError
from scsave.genes.packaged import NAMES, packaged_file

WAYS = ("symbol", "ensembl", "alias", "ortholog", "case")  # in the order in which they are tried
ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{6,}(\.\d+)?$")


@dataclass(frozen=True, eq=False)
class GeneNames:
    """Human genes by all their names. Table columns: symbol, name, ensembl, aliases (the last two `|`-separated)."""

    table: pd.DataFrame

    @cached_property
    def by_ensembl(self) -> pd.Series:
        """Ensembl id -> current symbol; ids of several genes are left out."""
        return _one_to_one(self.table, "ensembl")

    @cached_property
    def by_alias(self) -> pd.Series:
        """Alias or earlier symbol -> current symbol; neither current symbols nor names of several genes are aliases."""
        aliases = _one_to_one(self.table, "aliases")
        return aliases[~aliases.index.isin(self.table["symbol"])]

    @cached_property
    def aliases_of(self) -> pd.Series:
        """Current symbol -> alias, one row for each: to find genes in a list that uses an earlier symbol."""
        return pd.Series(self.by_alias.index, index=self.by_alias.to_numpy())

    @property
    def full_names(self) -> pd.Series:
        """Current symbol -> full name."""
        return self.table.set_index("symbol")["name"]


def _one_to_one(table: pd.DataFrame, column: str) -> pd.Series:
    pairs = table[["symbol", column]].assign(key=table[column].str.split("|")).explode("key")
    pairs = pairs[pairs["key"].fillna("") != ""].drop_duplicates(["key", "symbol"])
    pairs = pairs[~pairs["key"].duplicated(keep=False)]
    return pairs.set_index("key")["symbol"]


@cache
def read_names(path: Path | str | None = None) -> GeneNames:
    """The packaged names, or a table of the same columns (TSV, may be gzipped)."""
    where = Path(path) if path else packaged_file(NAMES)
    try:
        table = pd.read_csv(where, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: not a table of gene names ({type(error).__name__}: {error})") from None
    missing = {"symbol", "name", "ensembl", "aliases"} - set(table.columns)
    if missing:
        raise UserError(f"{where}: no column {', '.join(sorted(missing))}; there are {', '.join(table.columns)}")
    return GeneNames(table)


@cache
def read_orthologs(path: Path | str) -> pd.Series:
    """Mouse symbol -> human symbol, from a TSV whose first column is mouse and second is human (may be gzipped).

    Mouse genes of several human genes are left out, as it is not known which is meant.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, comment="#")
        pairs = table.iloc[:, :2].set_axis(["mouse", "human"], axis=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table of orthologs (mouse<TAB>human): {error}") from None
    pairs = pairs[(pairs["mouse"] != "") & (pairs["human"] != "")].drop_duplicates()
    return pairs[~pairs["mouse"].duplicated(keep=False)].set_index("mouse")["human"]


@dataclass(frozen=True, eq=False)
class Match:
    """Where each of G genes is in a list of known genes, and how it was found."""

    row: np.ndarray  # (G,) place among the known genes, -1 where it is not there
    way: np.ndarray  # (G,) one of WAYS, or "" where it is not there

    @property
    def found(self) -> np.ndarray:
        """(G,) bool."""
        return self.row >= 0

    @property
    def coverage(self) -> float:
        return float(self.found.mean()) if len(self.row) else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How many genes were found in each way, and how many not at all."""
        counts = {way: int((self.way == way).sum()) for way in WAYS}
        return {way: n for way, n in counts.items() if n} | {"none": int((~self.found).sum())}


def match_genes(
    genes: Sequence[str],
    known: pd.Index,
    names: GeneNames,
    organism: str = "human",
    gene_ids: Sequence[str] | None = None,
    orthologs: pd.Series | None = None,
) -> Match:
    """Finds genes among the known human symbols: by symbol, Ensembl id, alias, ortholog, then symbol without case.

    Each way only looks for what the ways before it did not find. A mouse gene is matched by ortholog where a table is
    given, then without case (Actb -> ACTB); its own symbol is never taken for a human alias (mouse Cd14 is not).
    """
    asked = pd.Series([str(gene) for gene in genes], dtype=object)
    bare = asked.str.replace(r"\.\d+$", "", regex=True)  # Ensembl ids without their version
    folded = pd.Series(known, index=known.astype(str).str.casefold())
    case = asked.str.casefold().map(folded[~folded.index.duplicated()])
    mito = lambda symbols: symbols.str.replace(r"^MT-", "MT", regex=True)  # noqa: E731  NCBI: ND1, alias MTND1
    if organism == "human":
        ids = bare if gene_ids is None else pd.Series(list(gene_ids), dtype=object).astype(str)
        ids = ids.str.replace(r"\.\d+$", "", regex=True)
        current = asked.map(names.by_alias)
        older = names.aliases_of[names.aliases_of.isin(known)]  # the known genes are older than the symbols asked for
        older = older[~older.index.duplicated()]
        steps = [("symbol", asked), ("ensembl", ids.map(names.by_ensembl)), ("ensembl", bare.map(names.by_ensembl))]
        steps += [("alias", current), ("alias", mito(asked).map(names.by_alias))]
        steps += [("alias", asked.map(older)), ("alias", current.map(older)), ("case", case)]
    else:
        steps = [("symbol", asked)]
        if orthologs is not None:
            mapped = asked.map(orthologs)
            steps += [("ortholog", mapped), ("ortholog", mapped.map(names.by_alias))]
        steps += [("case", case), ("case", mito(asked.str.upper()).map(names.by_alias))]
    row, way = np.full(len(asked), -1, dtype=np.int64), np.full(len(asked), "", dtype=object)
    for label, candidates in steps:
        place = known.get_indexer(pd.Index(candidates.to_numpy(object)))
        new = (row < 0) & (place >= 0)
        row[new], way[new] = place[new], label
    return Match(row, way)


def kind_of(genes: Sequence[str]) -> str:
    """What the names look like, for a message."""
    names = pd.Series([str(gene) for gene in genes], dtype=object)
    if not len(names):
        return "nothing (no gene is left)"
    if names.str.match(ENSEMBL).mean() > 0.5:
        species = "mouse " if names.str.startswith("ENSMUSG").mean() > 0.5 else ""
        return f"{species}Ensembl ids"
    if names.str.fullmatch(r"\d+").mean() > 0.5:
        return "numbers (Entrez ids or positions)"
    if names.str.fullmatch(r"[A-Z][a-z0-9]+.*").mean() > 0.5:
        return "mouse symbols"
    return "symbols"
