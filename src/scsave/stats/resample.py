"""Random subsets of cells: subsamples, halves, and draws with the composition of another sample."""

import numpy as np
import pandas as pd


def subsample(n: int, most: int, seed: int) -> np.ndarray:
    """Sorted positions of at most `most` of `n` cells, without replacement."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))


def rank_within(codes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Random rank of each cell among those of its code (>= 0), from 0, (N,)."""
    order = draw.permutation(len(codes))
    by_code, sizes = order[np.argsort(codes[order], kind="stable")], np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[by_code] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def half(labels: np.ndarray, seed: int) -> np.ndarray:
    """Mask of a random half of the cells, (N,), within each label; the odd cell of a label falls to a random side."""
    draw = np.random.default_rng(seed)
    codes, levels = pd.factorize(labels, sort=True)
    return (rank_within(codes, draw) + draw.integers(2, size=max(len(levels), 1))[codes]) % 2 == 0


def proportional(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Sorted positions of about `most` of the cells, the same share of each label, rounded up: no label is lost."""
    codes = pd.factorize(labels, sort=True)[0]
    rank = rank_within(codes, np.random.default_rng(seed))
    return np.flatnonzero(rank < np.ceil(np.bincount(codes) * most / len(codes))[codes])


def draw_like(pool: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """Positions in `pool` (labels) of as many cells of each label as `wanted` (labels) has, without replacement.

    A label of which the pool has too few gives all that it has. Sorted.
    """
    codes, levels = pd.factorize(pool)
    most = pd.Series(wanted).value_counts().reindex(levels, fill_value=0).to_numpy()
    return np.flatnonzero(rank_within(codes, np.random.default_rng(seed)) < most[codes])


def resample_like(pool: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """For each of `wanted` (labels), the position in `pool` (labels) of a random cell of that label, with replacement.

    Wanted cells whose label the pool lacks are left out.
    """
    draw = np.random.default_rng(seed)
    levels, codes = np.unique(pool.astype(str), return_inverse=True)
    by_level, count = np.argsort(codes, kind="stable"), np.bincount(codes, minlength=len(levels))
    start, code = np.cumsum(count) - count, pd.Index(levels).get_indexer(wanted.astype(str))
    chance, seen = draw.random(len(wanted)), code >= 0
    code, chance = code[seen], chance[seen]
    return by_level[start[code] + (chance * count[code]).astype(np.int64)]
