"""Drawing a share of the cells of each stratum, without a loop over cells."""

import numpy as np
import pandas as pd

from scsave.errors import UserError

MAX_NUMERIC_LEVELS = 20  # a numeric column with more values than this does not define strata


def combinations(obs: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Code of each cell's combination of `columns`, (N,), and the combinations in sorted order, one row a code."""
    used = [c for c in columns if obs[c].dtype == "category" or obs[c].nunique() <= MAX_NUMERIC_LEVELS]
    if not used:
        return np.zeros(len(obs), dtype=np.int64), pd.DataFrame(index=[0])
    table = obs[used].astype({c: str for c in used if obs[c].dtype == "category"})
    grouped = table.groupby(used, observed=True, sort=True)
    levels = pd.DataFrame([k if isinstance(k, tuple) else (k,) for k in grouped.indices], columns=used)
    return grouped.ngroup().to_numpy(), levels


def rank_within(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random rank of each cell within its stratum, 0 to size - 1, (N,)."""
    order = rng.permutation(len(codes))
    by_code = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[by_code] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


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


def check_levels_named(obs: pd.DataFrame, column: str, level: object, option: str) -> np.ndarray:
    """Cells with `column == level`, (N,) bool; raises UserError naming the columns or levels that there are."""
    if column not in obs:
        raise UserError(f"{option}: no condition '{column}'; columns: {', '.join(obs.columns)}")
    values = obs[column]
    hit = (values.astype(str) == str(level)) if values.dtype == "category" else (values == level)
    if not hit.any():
        levels = sorted(map(str, values.unique()))
        shown = ", ".join(levels[:12]) + (", ..." if len(levels) > 12 else "")
        raise UserError(f"{option}: '{column}' has no level '{level}'; levels: {shown}")
    return hit.to_numpy()
