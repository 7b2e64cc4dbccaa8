"""Which cells, and what are their conditions called? The columns of obs, checked."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

from scsave.data import perturbations
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.source import DataSource

log = logging.getLogger(__name__)


def find_column(obs: pd.DataFrame, name: str, alternatives: list[str], where: str, option: str) -> str:
    """`name`, or the first accepted alternative that is there; raises UserError listing the columns present."""
    for candidate in [name, *alternatives]:
        if candidate in obs.columns:
            return candidate
    also = f" (nor {', '.join(alternatives)})" if alternatives else ""
    there = ", ".join(map(str, obs.columns)) or "none"
    raise UserError(f"{where}: no column '{name}'{also} in obs; columns present: {there}; set {option}")


def condition_column(column: pd.Series, numeric: bool) -> pd.Series:
    """A column as float (numeric) or as categories of str; missing values stay missing."""
    if numeric:
        return pd.to_numeric(column, errors="raise").astype(float)
    missing = column.isna().to_numpy()
    text = column.astype(str).astype(object)
    text[missing] = None
    return text.astype("category")


def prepare_obs(obs: pd.DataFrame, source: "DataSource", where: str) -> pd.DataFrame:
    """The columns of `obs_keys` under their own names, categories of str or float, unique cell names."""
    if not source.conditions:
        there = ", ".join(map(str, obs.columns)) or "none"
        raise UserError(f"{where}: data.conditions is empty; columns present: {there}; set data.conditions=[...]")
    categorical = {source.cell_type_key, source.batch_key, source.perturbation_key}
    out = pd.DataFrame(index=pd.Index(obs.index.astype(str), name="cell"))
    if not out.index.is_unique:
        log.warning("%s: %d cell names are not unique: repeats get -1, -2, ...", where, out.index.duplicated().sum())
        out.index = pd.Index(make_index_unique(out.index), name="cell")
    options = {source.batch_key: "data.batch_key", source.cell_type_key: "data.cell_type_key"}
    options |= {source.perturbation_key: "data.perturbation_key"}
    options |= dict.fromkeys(source.conditions, "data.conditions")
    for name in source.obs_keys:
        if name in source.from_names:
            found = obs.index.to_series().astype(str).str.extract(source.from_names[name], expand=False)
        else:
            found = obs[find_column(obs, name, source.columns.get(name, []), where, options.get(name, "data.keep"))]
        numeric = name in source.numeric or (pd.api.types.is_float_dtype(found) and name not in categorical)
        column = condition_column(found, numeric)
        if name in source.levels and not numeric:
            renamed = column.astype(object).map(lambda level, to=source.levels[name]: to.get(level, level))
            column = renamed.astype("category")
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
        keep &= ~obs[column].astype(str).isin([str(level) for level in levels]).to_numpy()
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
