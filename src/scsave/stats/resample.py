"""Real cells that a table's rows are made of: combinations of conditions, halves, and samples with given counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scsave.errors import UserError


def combination_labels(obs: pd.DataFrame, conditions: list[str], what: str) -> np.ndarray:
    """One string per cell, (N,), such as "CD19+ B|G1"; numbers as in `f"{value:g}"`. "" without conditions.

    Raises UserError if a condition column is missing or has missing values.
    """
    if absent := [column for column in conditions if column not in obs]:
        raise UserError(f"{what}: no column {', '.join(absent)} in obs; columns: {', '.join(map(str, obs.columns))}")
    for column in conditions:
        if obs[column].isna().any():
            raise UserError(f"{what}: column {column} has {int(obs[column].isna().sum())} missing values")
    labels = pd.Series([""] * len(obs), index=obs.index, dtype=object)
    for position, column in enumerate(conditions):
        labels = labels + ("|" if position else "") + _text(obs[column])
    return labels.to_numpy(dtype=object)


def _text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column.dtype):
        return column.map("{:g}".format).astype(object)
    return column.astype(str).astype(object)


def _shuffled_rank(codes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Place of each cell among those of its code in a random order, (N,)."""
    order = draw.permutation(len(codes))
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = pd.Series(codes[order]).groupby(codes[order]).cumcount()
    return rank


def half(labels: np.ndarray, seed: int) -> np.ndarray:
    """Mask of a random half of the cells, (N,), within each label; the odd cell of a label falls to a random side."""
    draw = np.random.default_rng(seed)
    codes, levels = pd.factorize(labels, sort=True)
    return (_shuffled_rank(codes, draw) + draw.integers(2, size=max(len(levels), 1))[codes]) % 2 == 0


def thinned(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Sorted positions of about `most` of the cells, the same share of each label, rounded up: no label is lost."""
    codes = pd.factorize(labels, sort=True)[0]
    rank = _shuffled_rank(codes, np.random.default_rng(seed))
    return np.flatnonzero(rank < np.ceil(np.bincount(codes) * most / len(codes))[codes])


def draw_like(pool: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """Positions in `pool` (labels) of as many cells of each label as `wanted` (labels) has, without replacement.

    A label of which the pool has too few gives all that it has. Sorted.
    """
    order = np.random.default_rng(seed).permutation(len(pool))
    rank = pd.Series(pool[order]).groupby(pool[order]).cumcount().to_numpy()
    most = pd.Series(pool[order]).map(pd.Series(wanted).value_counts()).fillna(0).to_numpy()
    return np.sort(order[rank < most])


def resample_like(pool: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """For each of `wanted` (labels), the position in `pool` (labels) of a random cell of that label, with replacement.

    Wanted cells whose label the pool lacks are left out.
    """
    draw = np.random.default_rng(seed)
    levels, codes = np.unique(pool.astype(str), return_inverse=True)
    by_level = np.argsort(codes, kind="stable")
    count = np.bincount(codes, minlength=len(levels))
    start = np.concatenate([[0], np.cumsum(count)])
    code = pd.Index(levels).get_indexer(wanted.astype(str))
    chance = draw.random(len(wanted))
    known = code >= 0
    code, chance = code[known], chance[known]
    return by_level[start[code] + (chance * count[code]).astype(np.int64)]
