"""Is this a matrix of counts with the columns asked for, and what are its cells once normalised? (method section 0)"""

import re

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError

_ENSEMBL = re.compile(r"^ENS([A-Z]{3})?G\d{6,}")
CHUNK = 4_000_000  # entries checked at a time: bounds the memory of the checks, not their result


def log1p_normalise(counts: sp.csr_matrix, library: np.ndarray) -> sp.csr_matrix:
    """log(1 + counts / library * 1e4), (N, G); shares the index arrays of `counts`, so costs one data array."""
    scale = (keys.TARGET_SUM / np.asarray(library, dtype=np.float64)).astype(np.float32)
    data = counts.data * np.repeat(scale, np.diff(counts.indptr))
    np.log1p(data, out=data)
    return sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape, copy=False)


def with_expression(data: AnnData) -> AnnData:
    """Prepared cells from `layers[counts]` and `obs[library_size]`: fills `X` (log1p)."""
    data.X = log1p_normalise(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy())
    return data


def check_counts(values: np.ndarray, where: str, hint: str, tolerance: float = 1e-3) -> None:
    """Raises UserError unless the stored values, (nnz,), are finite, non-negative and whole."""
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        if not np.isfinite(part).all():
            bad = int((~np.isfinite(part)).sum())
            raise UserError(f"{where}: {bad} entries are NaN or infinite, so these are not counts; {hint}")
        if part.min() < 0:
            raise UserError(f"{where}: found the negative value {part.min():.4g}: scaled data, not counts; {hint}")
        off = np.abs(part - np.round(part)) > tolerance
        if off.any():
            example, top = part[off][0], part.max()
            if top < 30 and off.mean() > 0.3:
                raise UserError(f"{where}: values such as {example:.4g}, none above {top:.4g}: already logged; {hint}")
            raise UserError(
                f"{where}: {off.mean():.1%} of the values are not whole numbers, such as {example:.6g}; {hint}, "
                "or round expected counts with data.round_counts=true"
            )


def find_counts(data: AnnData, layer: str | None, where: str) -> tuple[sp.spmatrix | np.ndarray, pd.DataFrame]:
    """The matrix named by `layer` (None: X; `raw`: raw.X; else a layer) and its var, (N, G) and G rows."""
    if layer is None:
        matrix, var = data.X, data.var
    elif layer == "raw" and data.raw is not None:
        matrix, var = data.raw.X, data.raw.var
    elif layer in data.layers:
        matrix, var = data.layers[layer], data.var
    else:
        there = ", ".join([*data.layers, *(["raw"] if data.raw is not None else [])]) or "none"
        raise UserError(f"{where}: no layer '{layer}'; layers present: {there}; set data.layer (null means X)")
    if matrix is None:
        raise UserError(f"{where}: X is empty; set data.layer to one of: {', '.join(data.layers) or 'none present'}")
    return matrix, var


def as_counts(matrix: sp.spmatrix | np.ndarray, where: str, hint: str, round_counts: bool) -> sp.csr_matrix:
    """CSR float32 with sorted indices and no stored zero, checked to be counts, (N, G)."""
    counts = sp.csr_matrix(matrix, dtype=np.float32, copy=False)
    counts.sum_duplicates()
    check_counts(counts.data, where, hint, tolerance=np.inf if round_counts else 1e-3)
    counts.data = np.round(counts.data)
    counts.eliminate_zeros()
    return counts


def check_gene_names(names: pd.Index, gene_id: str, organism: str, where: str) -> None:
    """Raises UserError where the names are not what `gene_id` and `organism` say."""
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
            f"{where}: {1 - share:.0%} of the gene names look like symbols (such as {text[~ensembl].iloc[0]}), "
            "not Ensembl ids; set data.gene_id=symbol"
        )
    mouse = float(text.str.startswith("ENSMUSG").mean())
    if gene_id == "ensembl" and (mouse > 0.5) != (organism == "mouse"):
        found = "mouse" if mouse > 0.5 else "human"
        raise UserError(
            f"{where}: the Ensembl ids look {found}, data.organism says {organism}; set data.organism={found}"
        )


def merge_duplicates(
    counts: sp.csr_matrix, var: pd.DataFrame, how: str, where: str
) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Genes named twice: refused (`error`), or their counts added up (`sum`). (N, G) -> (N, unique genes)."""
    twice = var.index[var.index.duplicated()].unique()
    if not len(twice):
        return counts, var
    if how == "error":
        raise UserError(
            f"{where}: {len(twice)} gene names occur more than once ({', '.join(map(str, twice[:5]))}"
            f"{', ...' if len(twice) > 5 else ''}); rename them or add their counts up with data.duplicate_genes=sum"
        )
    codes, names = pd.factorize(var.index)
    adder = sp.csr_matrix(
        (np.ones(len(codes), np.float32), (np.arange(len(codes)), codes)), shape=(len(codes), len(names))
    )
    merged = sp.csr_matrix(counts @ adder)
    merged.sort_indices()
    return merged, var[~var.index.duplicated()]


def condition_column(column: pd.Series, numeric: bool) -> pd.Series:
    """A column as float (numeric) or as categories of str; missing values stay missing."""
    if numeric:
        return pd.to_numeric(column, errors="raise").astype(float)
    missing = column.isna()
    text = column.astype(str).astype(object)
    text[missing.to_numpy()] = None
    return text.astype("category")


def find_column(obs: pd.DataFrame, name: str, alternatives: list[str], where: str, option: str) -> str:
    """`name`, or the first accepted alternative that is there; raises UserError listing the columns present."""
    for candidate in [name, *alternatives]:
        if candidate in obs.columns:
            return candidate
    also = f" (nor {', '.join(alternatives)})" if alternatives else ""
    there = ", ".join(map(str, obs.columns)) or "none"
    raise UserError(f"{where}: no column '{name}'{also} in obs; columns present: {there}; set {option}")
