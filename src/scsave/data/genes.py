"""Which genes does a file hold, under which names, and which of them are kept on the way in?"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave import keys
from scsave.data.raw import RawCells
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.source import DataSource

_ENSEMBL = re.compile(r"^ENS([A-Z]{3})?G\d{6,}")


def name_kind(names: pd.Index, gene_id: str, organism: str, where: str) -> str:
    """`symbol` or `ensembl`; raises UserError where the names are not what `gene_id` and `organism` say."""
    text = pd.Series(names.astype(str))
    ensembl = text.str.match(_ENSEMBL)
    share = float(ensembl.mean())
    if gene_id == "symbol" and share > 0.5:
        raise UserError(
            f"{where}: {share:.0%} of the gene names look like Ensembl ids ({text[ensembl].iloc[0]}), not symbols; "
            "set data.gene_id=ensembl, and data.symbol_key to the var column that holds symbols, if there is one"
        )
    if gene_id == "ensembl" and share < 0.5:
        raise UserError(
            f"{where}: {1 - share:.0%} of the gene names look like symbols ({text[~ensembl].iloc[0]}), "
            "not Ensembl ids; set data.gene_id=symbol"
        )
    mouse = float(text.str.startswith("ENSMUSG").mean())
    if share > 0.5 and (mouse > 0.5) != (organism == "mouse"):
        found = "mouse" if mouse > 0.5 else "human"
        raise UserError(f"{where}: the Ensembl ids look {found}; set data.organism={found}")
    return "ensembl" if share > 0.5 else "symbol"


def prepare_genes(var: pd.DataFrame, source: "DataSource", where: str) -> tuple[pd.DataFrame, sp.csr_matrix | None]:
    """Genes under unique symbols, with `gene_id` where known, and the map of counts (G, G') onto them.

    The map adds up genes of one name (`duplicate_genes=sum`) and leaves `drop_genes` out; None: no change.
    """
    # who names a column of symbols says that the names may be none
    gene_id = "auto" if source.symbol_key is not None and source.gene_id == "symbol" else source.gene_id
    kind = name_kind(var.index, gene_id, source.organism, where)
    names = pd.Index(var.index.astype(str), name="gene")
    out = pd.DataFrame(index=names)
    if kind == "ensembl":
        out[keys.GENE_ID] = names.str.replace(r"\.\d+$", "", regex=True)
        if source.symbol_key is not None:
            if source.symbol_key not in var:
                there = ", ".join(map(str, var.columns)) or "none"
                raise UserError(f"{where}: no column '{source.symbol_key}' in var ({there}); set data.symbol_key")
            symbols = var[source.symbol_key].astype(object).to_numpy()
            absent = pd.isna(symbols) | (symbols == "")
            out.index = pd.Index(np.where(absent, names, symbols).astype(str), name="gene")
    else:
        found = [c for c in (source.gene_id_key, keys.GENE_ID, "gene_ids") if c is not None and c in var]
        if found:
            out[keys.GENE_ID] = var[found[0]].astype(str).to_numpy()
    twice = out.index[out.index.duplicated()].unique()
    if len(twice) and source.duplicate_genes == "error":
        shown = ", ".join(map(str, twice[:5])) + (", ..." if len(twice) > 5 else "")
        raise UserError(
            f"{where}: {len(twice)} gene names occur more than once ({shown}); rename them or add their counts up "
            "with data.duplicate_genes=sum"
        )
    codes, unique = pd.factorize(out.index)
    keep = (
        np.flatnonzero(~pd.Index(unique).str.match(source.drop_genes)) if source.drop_genes else np.arange(len(unique))
    )
    if not len(keep):
        raise UserError(f"{where}: data.drop_genes='{source.drop_genes}' drops every gene; narrow it")
    if len(keep) == len(out):
        return out, None
    ones = np.ones(len(codes), dtype=np.float32)
    mapper = sp.csr_matrix((ones, (np.arange(len(codes)), codes)), shape=(len(codes), len(unique)))
    return out[~out.index.duplicated()].iloc[keep], sp.csr_matrix(mapper[:, keep])


def detected_most(
    raw: RawCells, matrix: Any, keep: np.ndarray, mapper: sp.csr_matrix | None, max_genes: int
) -> np.ndarray:
    """Positions of the `max_genes` mapped genes that most cells express, in file order, (max_genes,)."""
    seen = np.zeros(matrix.shape[1], dtype=np.int64)
    for _, part in raw.chunks(matrix, keep, "counting the cells of each gene"):
        seen += np.bincount(part.indices, weights=part.data > 0, minlength=len(seen)).astype(np.int64)
    seen = seen if mapper is None else mapper.T @ seen
    return np.sort(np.argsort(-seen, kind="stable")[:max_genes])
