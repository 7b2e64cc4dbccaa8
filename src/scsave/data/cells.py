"""Raw AnnData -> prepared cells: the one path that every data set takes."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data import perturbations
from scsave.data.preprocess import (
    as_counts,
    check_gene_names,
    condition_column,
    find_column,
    find_counts,
    merge_duplicates,
    with_expression,
)
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.source import DataSource


@dataclass(frozen=True)
class Preparation:
    """A source's settings, the words that its messages start with, and the sum of its file."""

    source: "DataSource"
    where: str
    checksum: str = ""


def prepare(raw: AnnData, how: Preparation) -> AnnData:
    """Prepared cells (see `DataSource.load`); raises UserError naming what is wrong with the file and what to set."""
    source, where = how.source, how.where
    matrix, var = find_counts(raw, source.layer, where)
    others = [name for name in [*raw.layers, *(["raw"] if raw.raw is not None else [])] if name != source.layer]
    hint = f"set data.layer to where the counts are (layers present: {', '.join(others) or 'none'})"

    obs = prepare_obs(raw.obs, source, where)
    keep = choose_cells(obs, source, where)
    dropped = {"excluded_or_missing": int(len(obs) - keep.sum())}
    obs = obs[keep]
    counts = as_counts(matrix[keep] if not keep.all() else matrix, where, hint, source.round_counts)

    library = library_sizes(raw.obs[keep], counts, source, where)
    detected = np.diff(counts.indptr)
    keep = detected >= source.min_genes
    if (library[keep] <= 0).any():
        empty = int((library[keep] <= 0).sum())
        raise UserError(f"{where}: {empty} cells have no counts at all; drop them with data.min_genes=1")
    dropped["few_genes"] = int((~keep).sum())
    if not keep.all():
        counts, obs, library = counts[keep], obs[keep], library[keep]
    common = check_levels(obs, source, where)
    dropped["rare_levels"] = int((~common).sum())
    if not common.all():
        counts, obs, library = counts[common], obs[common], library[common]
    if not len(obs):
        raise UserError(f"{where}: no cell is left after the filters {dropped}; relax data.exclude or data.min_genes")

    counts, var = prepare_genes(counts, var, source, where)
    for column in obs.columns[obs.dtypes == "category"]:
        obs[column] = obs[column].cat.remove_unused_categories()
    obs[keys.LIBRARY] = library.astype(np.float64)
    data = AnnData(obs=obs, var=var, layers={keys.COUNTS: counts})
    data.uns[keys.UNS] = {
        "name": source.name,
        "source": source.path or source.name,
        "checksum": how.checksum,
        "organism": source.organism,
        "settings": json.dumps(source.settings(), sort_keys=True, default=str),
        "library": source.library_key if source.library_key in raw.obs else "sum over the genes of the file",
        "dropped_cells": dropped,
    }
    if keys.SIMULATED in raw.uns:
        data.uns[keys.SIMULATED] = raw.uns[keys.SIMULATED]
    return with_expression(data)


def prepare_obs(obs: pd.DataFrame, source: "DataSource", where: str) -> pd.DataFrame:
    """The columns of `obs_keys` under their own names, categories of str or float, unique cell names."""
    if not source.conditions:
        there = ", ".join(map(str, obs.columns)) or "none"
        raise UserError(f"{where}: data.conditions is empty; columns present: {there}; set data.conditions=[...]")
    needed = {source.cell_type_key, source.batch_key, source.perturbation_key}
    out = pd.DataFrame(index=pd.Index(obs.index.astype(str), name="cell"))
    if not out.index.is_unique:
        out.index = pd.Index(out.index + "-" + out.groupby(level=0).cumcount().astype(str).to_numpy(), name="cell")
    for name in source.obs_keys:
        option = "data.conditions" if name in source.conditions else "the data key that names it"
        found = obs[find_column(obs, name, source.columns.get(name, []), where, option)]
        numeric = name in source.numeric or (pd.api.types.is_float_dtype(found) and name not in needed)
        column = condition_column(found, numeric)
        if name in source.levels and not numeric:
            column = (
                column.map(lambda level, to=source.levels[name]: to.get(level, level)).astype(object).astype("category")
            )
        column.index = out.index
        if name == source.perturbation_key and source.perturbation_kind == "genes":
            column = perturbations.canonicalise(column.rename(name), source.control, where)
        out[name] = column
    check_control(out, source, where)
    return out


def check_control(obs: pd.DataFrame, source: "DataSource", where: str) -> None:
    """Raises UserError where `control` is no level of the perturbation column."""
    if source.control is None or source.control in obs[source.perturbation_key].cat.categories:
        return
    levels = list(obs[source.perturbation_key].cat.categories)
    shown = ", ".join(levels[:10]) + (", ..." if len(levels) > 10 else "")
    raise UserError(
        f"{where}: data.control={source.control} is no level of '{source.perturbation_key}'; levels: {shown}"
    )


def choose_cells(obs: pd.DataFrame, source: "DataSource", where: str) -> np.ndarray:
    """Cells without missing conditions and outside `exclude`, (N,) bool."""
    keep = np.ones(len(obs), dtype=bool)
    for column, levels in source.exclude.items():
        if column not in obs:
            raise UserError(f"{where}: data.exclude names '{column}', which is none of {', '.join(obs.columns)}")
        keep &= ~obs[column].astype(str).isin(levels).to_numpy()
    missing = obs[source.obs_keys].isna()
    lost = missing.to_numpy().any(axis=1) & keep
    if lost.any() and not source.drop_missing:
        column = missing.columns[missing[keep].any()][0]
        count = int(missing.loc[keep, column].sum())
        raise UserError(
            f"{where}: '{column}' is missing in {count} of {keep.sum()} cells; drop them with data.drop_missing=true"
        )
    return keep & ~lost


def check_levels(obs: pd.DataFrame, source: "DataSource", where: str) -> np.ndarray:
    """Cells whose levels all have `min_level_cells` cells, (N,) bool; raises UserError unless rare_levels=drop."""
    keep = np.ones(len(obs), dtype=bool)
    for column in source.conditions:
        if obs[column].dtype != "category":
            continue
        counts = obs[column].value_counts()
        rare = counts[(counts > 0) & (counts < source.min_level_cells)]
        if len(rare) and source.rare_levels == "error":
            size = "one cell" if rare.iloc[0] == 1 else f"{rare.iloc[0]} cells"
            raise UserError(
                f"{where}: level '{rare.index[0]}' of '{column}' has {size}, {source.min_level_cells} are needed"
                f"{f' ({len(rare)} such levels)' if len(rare) > 1 else ''}; drop them with data.rare_levels=drop"
            )
        keep &= ~obs[column].isin(rare.index).to_numpy()
    return keep


def library_sizes(raw_obs: pd.DataFrame, counts: sp.csr_matrix, source: "DataSource", where: str) -> np.ndarray:
    """Counts of each cell over all genes of its file, (N,)."""
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    if source.library_key is None or (source.library_optional and source.library_key not in raw_obs):
        return total
    column = find_column(
        raw_obs, source.library_key, source.columns.get(source.library_key, []), where, "data.library_key"
    )
    library = raw_obs[column].to_numpy(dtype=np.float64)
    if not np.isfinite(library).all() or (library < total * 0.999).any():
        worst = int(np.nanargmax(np.where(np.isfinite(library), total - library, np.inf)))
        raise UserError(
            f"{where}: '{column}' is no library size: cell {raw_obs.index[worst]} has {total[worst]:.0f} counts "
            f"but '{column}' says {library[worst]:.6g}; set data.library_key=null to add the counts up"
        )
    return library


def prepare_genes(
    counts: sp.csr_matrix, var: pd.DataFrame, source: "DataSource", where: str
) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Unique symbols as var_names, `gene_id` where known, without `drop_genes`. (N, G) -> (N, G')."""
    check_gene_names(var.index, source.gene_id, source.organism, where)
    names = pd.Index(var.index.astype(str), name="gene")
    out = pd.DataFrame(index=names)
    if source.gene_id == "ensembl":
        out[keys.GENE_ID] = names.str.replace(r"\.\d+$", "", regex=True)
        if source.symbol_key is not None:
            if source.symbol_key not in var:
                there = ", ".join(map(str, var.columns)) or "none"
                raise UserError(
                    f"{where}: no column '{source.symbol_key}' in var; present: {there}; set data.symbol_key"
                )
            symbols = var[source.symbol_key].astype(object).to_numpy()
            absent = pd.isna(symbols) | (symbols == "")
            out.index = pd.Index(np.where(absent, names, symbols).astype(str), name="gene")
    else:
        for column in [source.gene_id_key, keys.GENE_ID, "gene_ids"]:
            if column is not None and column in var:
                out[keys.GENE_ID] = var[column].astype(str).to_numpy()
                break
    counts, out = merge_duplicates(counts, out, source.duplicate_genes, where)
    if source.drop_genes:
        keep = ~out.index.isin(source.drop_genes)
        counts, out = counts[:, keep], out[keep]
    return counts, out
