"""Combinations of conditions, and drawing a share of the cells of each, without a loop over cells."""

import numpy as np
import pandas as pd

from scsave.errors import UserError, listed
from scsave.stats.resample import rank_within

MAX_NUMERIC_LEVELS = 20  # a numeric column with more values than this does not define strata


def combinations(
    obs: pd.DataFrame, columns: list[str], numeric_levels: int | None = MAX_NUMERIC_LEVELS, sort: bool = True
) -> tuple[np.ndarray, pd.DataFrame]:
    """Code of each cell's combination of `columns`, (N,), and the combinations, one row a code, labels as text.

    Sorted, or with `sort=False` in the order of the cells. A numeric column with more than `numeric_levels` values is left
    out: each of its cells would be a combination of its own (0: every numeric column is, None: none is).
    UserError for a column that `obs` lacks.
    """
    if absent := [column for column in columns if column not in obs]:
        raise UserError(f"conditions: no column {', '.join(absent)}; columns given: {listed(obs, 40)}")
    numbers = {c: pd.api.types.is_numeric_dtype(obs[c]) and not pd.api.types.is_bool_dtype(obs[c]) for c in columns}
    most = len(obs) if numeric_levels is None else numeric_levels
    used = [c for c in columns if not numbers[c] or obs[c].nunique() <= most]
    if not used:
        return np.zeros(len(obs), dtype=np.int64), pd.DataFrame(index=[0])
    table = obs[used].astype({c: str for c in used if not numbers[c]})
    codes = table.groupby(used, observed=True, sort=sort, dropna=False).ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    return codes, table.iloc[first].reset_index(drop=True)


def draw_share(codes: np.ndarray, shares: list[float], min_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Group of each cell, (N,): 0 for the rest, 1.. for `shares`; strata under `min_cells` cells stay whole in 0.

    Of n cells, round(n * share) are drawn for each share, exactly.
    """
    if any(share < 0 for share in shares) or sum(shares) >= 1:
        raise UserError(f"split shares {shares} must be at least 0 and leave something for training")
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    rank, size = rank_within(codes, rng), np.bincount(codes)[codes]
    group, edge = np.zeros(len(codes), dtype=np.int64), np.zeros(len(codes))
    for number, share in enumerate(shares, start=1):
        upper = edge + np.round(size * share)
        group[(rank >= edge) & (rank < upper) & (size >= min_cells)] = number
        edge = upper
    return group


def cells_of_level(obs: pd.DataFrame, column: str, level: object, option: str) -> np.ndarray:
    """Cells with `column == level`, (N,) bool; raises UserError naming the columns or levels that there are."""
    if column not in obs:
        raise UserError(f"{option}: no condition '{column}'; columns: {listed(obs, 40)}")
    values = obs[column]
    hit = (values.astype(str) == str(level)) if values.dtype == "category" else (values == level)
    if not hit.any():
        levels = listed(sorted(map(str, values.unique())))
        raise UserError(f"{option}: '{column}' has no level '{level}'; levels: {levels}")
    return hit.to_numpy()
