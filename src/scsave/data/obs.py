"""Columns of obs: found under their names in the file, checked, and which cells are kept."""

import logging
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

from scsave.data import perturbations
from scsave.data.settings import DataSettings
from scsave.errors import UserError, listed
from scsave.keys import ALL, MASK, POOLED

log = logging.getLogger(__name__)
OWN_LEVELS = {MASK: "a label that is not told", ALL: "all groups together", POOLED: "the cells of all groups"}


def find_column(obs: pd.DataFrame, name: str, alternatives: list[str], where: str, option: str) -> str:
    """`name`, or the first accepted alternative that is there; raises UserError listing the columns present."""
    for candidate in [name, *alternatives]:
        if candidate in obs.columns:
            return candidate
    also = f" (nor {', '.join(alternatives)})" if alternatives else ""
    there = listed(obs.columns, 40)
    raise UserError(f"{where}: no column '{name}'{also} in obs; columns present: {there}; set {option}")


def numbers(column: pd.Series, name: str, where: str, hint: str) -> pd.Series:
    """A column as float, missing values staying NaN; UserError with the first text that is no number."""
    known = pd.api.types.is_numeric_dtype(column)
    found = pd.to_numeric(column if known else column.astype(object), errors="coerce").astype(float)
    if (wrong := found.isna() & column.notna()).any():
        raise UserError(
            f"{where}: '{name}' is no number in {wrong.sum():,} of {len(column):,} cells, such as "
            f"'{column[wrong].iloc[0]}'; {hint}"
        )
    return found


def text(column: pd.Series) -> pd.Series:
    """A column as categories of str; missing values stay missing, and a label without a letter is one."""
    out = column.astype(str).astype(object)
    missing = (column.isna() | (out.str.strip() == "")).to_numpy()
    out[missing] = None
    return out.astype("category")


def prepare_obs(obs: pd.DataFrame, source: DataSettings, where: str) -> pd.DataFrame:
    """The columns of `obs_keys` under their own names, categories of str or float, unique cell names.

    Raises UserError for a column that is not there, for a number that is text, for a label that means something else here,
    and for a `control` that is no level.
    """
    if not source.conditions:
        there = listed(obs.columns, 40)
        raise UserError(f"{where}: data.conditions is empty; columns present: {there}; set data.conditions=[...]")
    out = pd.DataFrame(index=pd.Index(obs.index.astype(str), name="cell"))
    if not out.index.is_unique:
        log.warning("%s: %d cell names are not unique: repeats get -1, -2, ...", where, out.index.duplicated().sum())
        out.index = pd.Index(make_index_unique(out.index), name="cell")
    for name in source.obs_keys:
        if name in source.from_names:
            found = obs.index.to_series().astype(str).str.extract(source.from_names[name], expand=False)
        else:
            found = obs[find_column(obs, name, source.columns.get(name, []), where, source.options_of(name))]
        label = name in (source.cell_type_key, source.batch_key, source.perturbation_key)
        if name in source.numeric or (pd.api.types.is_float_dtype(found) and not label):
            hint = "leave it out of data.numeric, or write numbers alone in the file"
            filled = numbers(found, name, where, hint)
            if name in source.fill_missing:
                filled = filled.fillna(float(source.fill_missing[name]))
            out[name] = filled.to_numpy()
        else:
            out[name] = pd.Series(labels(text(found).rename(name), source, where).array, index=out.index)
    key = source.perturbation_key
    if source.control is not None and source.control not in out[key].cat.categories:
        there = listed(out[key].cat.categories) + perturbations.unlabelled(out[key], source.control)
        raise UserError(f"{where}: data.control={source.control} is no level of '{key}'; levels: {there}")
    return out


def said_nowhere(name: str, asked: Iterable[object], column: pd.Series, what: str, where: str) -> None:
    """A warning where none of the levels that an option names is there: it changes nothing then."""
    there = column.dropna().astype(str).unique()
    if not {str(level) for level in asked} & set(there):
        log.warning("%s: %s %s, but '%s' has none of them: %s", where, what, listed(asked, 5), name, listed(there))


def labels(column: pd.Series, source: DataSettings, where: str) -> pd.Series:
    """Labels of the column `column.name` as the set calls them: `levels`, `fill_missing`, canonical sets of genes."""
    name, to = column.name, source.levels.get(column.name, {})
    if to:
        said_nowhere(name, to, column, f"data.levels={{{name}: ...}} renames", where)
        column = column.astype(object).map(lambda level: to.get(level, level)).astype("category")
    if name in source.fill_missing:
        column = column.astype(object).fillna(str(source.fill_missing[name])).astype("category")
    levels = column.cat.categories
    if len(own := levels.intersection([MASK] if name in source.keep else list(OWN_LEVELS))):
        written = re.sub(r"([][])", r"\\\1", own[0])
        raise UserError(
            f"{where}: '{name}' has a level '{own[0]}', which stands for {OWN_LEVELS[own[0]]}; rename it: "
            f"'data.levels={{{name}: {{{written}: other}}}}'"
        )
    if name == source.perturbation_key and source.perturbation_kind == "genes":
        return perturbations.canonicalise(column, source.control, where)
    plain = levels.str.strip().str.casefold()
    if plain.has_duplicates:
        alike = levels[plain == plain[plain.duplicated()][0]]
        log.warning("%s: levels of '%s' that differ by blanks or case alone: %s", where, name, list(alike))
    return column


def choose_cells(obs: pd.DataFrame, source: DataSettings, where: str) -> np.ndarray:
    """Cells without missing or infinite conditions and outside `exclude`, (N,) bool."""
    keep = np.ones(len(obs), dtype=bool)
    for column, levels in source.exclude.items():
        if column not in obs:
            raise UserError(f"{where}: data.exclude names '{column}', which is none of {', '.join(obs.columns)}")
        said_nowhere(column, levels, obs[column], f"data.exclude={{{column}: ...}} leaves out", where)
        keep &= ~obs[column].astype(str).isin([str(level) for level in levels]).to_numpy()
    lost = np.zeros(len(obs), dtype=bool)
    for column in source.obs_keys:
        infinite = np.isinf(obs[column].to_numpy()) if obs[column].dtype != "category" else np.zeros_like(lost)
        for what, bad in (("missing", obs[column].isna().to_numpy()), ("infinite", infinite)):
            if column == source.cell_type_key and source.keeps_unlabelled and not source.drop_missing and not bad.all():
                continue
            lost |= bad
            if (bad & keep).any() and not source.drop_missing:
                else_ = ""
                if column == source.perturbation_key and source.control is not None:
                    else_ = f", or if they are controls 'data.fill_missing={{{column}: {source.control}}}'"
                elif what == "missing" and obs[column].dtype != "category":
                    else_ = f", or say what it is there 'data.fill_missing={{{column}: 0}}'"
                count = f"{(bad & keep).sum()} of {keep.sum()} cells"
                raise UserError(
                    f"{where}: '{column}' is {what} in {count}; drop them with data.drop_missing=true{else_}"
                )
    return keep & ~lost


def check_levels(obs: pd.DataFrame, source: DataSettings, where: str) -> np.ndarray:
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


def library_sizes(obs: pd.DataFrame, source: DataSettings, where: str) -> np.ndarray | None:
    """The library sizes that the file states, (N,), or None: then the counts are added up."""
    key = source.library_key
    if key is None or (source.library_optional and key not in obs):
        return None
    column = find_column(obs, key, source.columns.get(key, []), where, "data.library_key")
    return numbers(obs[column], column, where, "set data.library_key=null to add the counts up").to_numpy()
