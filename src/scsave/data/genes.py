"""Genes of a file: their symbols and Ensembl ids, added up where a name occurs twice, and which are kept on the way in."""

import re

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave import keys
from scsave.data.read import RawCells, Rows
from scsave.data.settings import DataSettings
from scsave.errors import UserError, listed

_ENSEMBL = re.compile(r"^ENS([A-Z]{3})?G\d{6,}")
_SYMBOL = re.compile(r"^[A-Za-z][A-Za-z0-9.@_/-]*$")


def symbol_column(var: pd.DataFrame) -> str | None:
    """The first column of var that holds symbols by their looks: words, no Ensembl ids, hardly any of them twice."""
    for name in var.columns:
        values = var[name].dropna().astype(str)
        symbols = values[values.str.match(_SYMBOL) & ~values.str.match(_ENSEMBL)]
        if symbols.nunique() > len(var) / 2:
            return str(name)
    return None


def name_kind(names: pd.Index, gene_id: str, organism: str, where: str, column: str | None) -> str:
    """`symbol` or `ensembl`; raises UserError where the names are not what `gene_id` and `organism` say.

    `column`: where var seems to hold symbols, for the message.
    """
    words = pd.Series(names.astype(str))
    ensembl = words.str.match(_ENSEMBL)
    share = float(ensembl.mean())
    if gene_id == "symbol" and share > 0.5:
        there = column or "<the var column that holds symbols>, if there is one"
        raise UserError(
            f"{where}: {share:.0%} of the gene names look like Ensembl ids ({words[ensembl].iloc[0]}), not symbols; "
            f"set data.gene_id=ensembl, and data.symbol_key={there}"
        )
    if gene_id == "ensembl" and share < 0.5:
        raise UserError(
            f"{where}: {1 - share:.0%} of the gene names look like symbols ({words[~ensembl].iloc[0]}), "
            "not Ensembl ids; set data.gene_id=symbol"
        )
    if column is not None and words.str.fullmatch(r"\d+").mean() > 0.5:
        raise UserError(
            f"{where}: the gene names are numbers ({', '.join(words[:3])}, ...: positions or Entrez ids), but var has "
            f"symbols in '{column}'; set data.symbol_key={column}"
        )
    mouse = float(words.str.startswith("ENSMUSG").mean())
    if share > 0.5 and (mouse > 0.5) != (organism == "mouse"):
        found = "mouse" if mouse > 0.5 else "human"
        raise UserError(f"{where}: the Ensembl ids look {found}; set data.organism={found}")
    return "ensembl" if share > 0.5 else "symbol"


def prepare_genes(
    var: pd.DataFrame, source: DataSettings, where: str, annotation: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, sp.csr_matrix | None]:
    """Genes under unique symbols, with `gene_id` where known, and the map of counts (G, G') onto them.

    `var` is that of the matrix that is read. A column that it lacks (raw may name ids alone) is taken from `annotation`,
    the file's var, by name. `symbol_key` names the genes whatever the index holds; under `gene_id=auto` an index of
    symbols does without that column.
    The map adds up genes of one name (`duplicate_genes=sum`) and leaves `drop_genes` out; None: no change.
    Raises UserError for a column that is not there, names of another kind, and names that occur twice.
    """
    if not len(var):
        raise UserError(f"{where}: the file names no genes; check it, and data.layer")

    full = var
    if annotation is not None:
        full = var.join(annotation.loc[~annotation.index.duplicated(), annotation.columns.difference(var.columns)])

    def column(key: str, option: str) -> np.ndarray:
        if key not in full:
            raise UserError(f"{where}: no column '{key}' in var ({listed(full, 40)}); set {option}")
        values = full[key].astype(object).to_numpy()
        return np.where(pd.isna(values) | (values == ""), var.index.astype(str), values).astype(str)

    # who names a column of symbols says that the names may be none
    given = source.symbol_key
    gene_id = "auto" if given is not None and source.gene_id == "symbol" else source.gene_id
    kind = name_kind(var.index, gene_id, source.organism, where, symbol_column(full) if given is None else None)
    out = pd.DataFrame(index=pd.Index(var.index.astype(str), name="gene"))
    ids = next((key for key in (keys.GENE_ID, "gene_ids") if key in var), None)
    if source.gene_id_key is not None:
        out[keys.GENE_ID] = column(source.gene_id_key, "data.gene_id_key")
    elif kind == "ensembl":
        out[keys.GENE_ID] = out.index.str.replace(r"\.\d+$", "", regex=True)
    elif ids is not None:
        out[keys.GENE_ID] = var[ids].astype(str).to_numpy()
    if given is not None and (given in full or kind == "ensembl" or source.gene_id != "auto"):
        out.index = pd.Index(column(given, "data.symbol_key"), name="gene")
    twice = out.index[out.index.duplicated()].unique()
    if len(twice) and source.duplicate_genes == "error":
        raise UserError(
            f"{where}: {len(twice)} gene names occur more than once ({listed(twice, 5)}); rename them or add their "
            "counts up with data.duplicate_genes=sum"
        )
    codes, unique = pd.factorize(out.index)
    dropped = pd.Index(unique).str.match(source.drop_genes) if source.drop_genes else np.zeros(len(unique), dtype=bool)
    keep = np.flatnonzero(~dropped)
    if not len(keep):
        raise UserError(f"{where}: data.drop_genes='{source.drop_genes}' drops every gene; narrow it")
    if len(keep) == len(out):
        return out, None
    ones = np.ones(len(codes), dtype=np.float32)
    mapper = sp.csr_matrix((ones, (np.arange(len(codes)), codes)), shape=(len(codes), len(unique)))
    return out[~out.index.duplicated()].iloc[keep], sp.csr_matrix(mapper[:, keep])


def detected_most(
    raw: RawCells, matrix: Rows, keep: np.ndarray, mapper: sp.csr_matrix | None, max_genes: int
) -> np.ndarray:
    """Positions of the `max_genes` mapped genes that most cells express, in file order, (max_genes,)."""
    seen = np.zeros(matrix.shape[1], dtype=np.int64)
    for _, part in raw.chunks(matrix, keep, "counting the cells of each gene"):
        seen += np.bincount(part.indices, weights=part.data > 0, minlength=len(seen)).astype(np.int64)
    seen = seen if mapper is None else mapper.T @ seen
    return np.sort(np.argsort(-seen, kind="stable")[:max_genes])
