"""Combinations of conditions that no training cell has (ours; method.md sections 3 and 9).

A flow that is told levels which it never saw together has to guess. It is told a combination that it did see instead, one
that differs in a single column, and its latents are moved by what that column does to the mean latent of other combinations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import select_cells
from scsave.data.splits.strata import combinations
from scsave.method.decoding import inference
from scsave.method.fitted import Fitted, Seen
from scsave.stats.moments import group_means
from scsave.stats.resample import rank_within

CELLS = 300  # of a combination that its mean is of, at most
MOST = 50_000  # cells of all combinations together, about
FEWEST = 10  # cells of a combination that a change is measured with


def seen_combinations(model: Fitted, train: AnnData, columns: list[str], seed: int) -> Seen | None:
    """Mean latents of the combinations of the categorical `columns` in training cells; None where each one is there."""
    levels = {c.name: c.levels for c in model.conditions.columns if c.kind == "categorical" and c.name in columns}
    if len(levels) < 2:
        return None
    codes, table = combinations(train.obs, list(levels), None)
    if len(table) == np.prod([len(known) for known in levels.values()]):
        return None
    cells = np.bincount(codes)
    most = min(CELLS, max(FEWEST, MOST // len(table)))
    rows = np.flatnonzero(rank_within(codes, np.random.default_rng(seed)) < most)
    chosen = select_cells(train, rows)
    with inference(model.network):
        x = model.network.to_flow(model.latent(model.encode(chosen)), model.library(chosen)).cpu().numpy()  # (n, D)
    return Seen(table.astype(str), cells, group_means(x, codes[rows], len(table)).astype(np.float32))


@dataclass(frozen=True)
class Start:
    """What the flow is told (N rows), how far its latents are then moved, (N, D) or None, and what to say of that."""

    obs: pd.DataFrame
    shift: np.ndarray | None
    about: list[str]


def start_of(model: Fitted, asked: pd.DataFrame) -> Start:
    """`asked` itself where its combinations were seen; rows of others as the nearest that was, with the shift to them.

    With `sampling.unseen=told`, `asked` as it is.
    Rows that leave one of the columns masked, and combinations that differ from every seen one in two columns, stay.
    """
    seen = model.seen
    if seen is None or model.sampler.unseen == "told" or not set(seen.table) <= set(asked):
        return Start(asked, None, [])
    wanted = asked[list(seen.table)].astype(str)
    told, shift, about = asked, None, []
    for combination, rows in wanted.groupby(list(seen.table), sort=True).indices.items():
        if keys.MASK in combination or seen.has(combination):
            continue
        found = nearest(seen, combination)
        if found is None:
            continue
        if shift is None:
            told, shift = asked.astype(dict.fromkeys(seen.table, object)), np.zeros((len(asked), seen.mean.shape[1]))
        told.iloc[rows, told.columns.get_loc(found.column)] = found.level
        shift[rows] = found.shift
        name = ", ".join(f"{column}={level}" for column, level in zip(seen.table, combination, strict=True))
        about.append(f"{name}: from {found.column}={found.level}, moved as in {found.strata} others")
    return Start(told, None if shift is None else shift.astype(np.float32), about)


@dataclass(frozen=True)
class Nearest:
    """A seen combination that differs in `column`, where it has `level`, the shift (D,) from it and the strata of that."""

    column: str
    level: str
    shift: np.ndarray
    strata: int


def nearest(seen: Seen, combination: tuple[str, ...]) -> Nearest | None:
    """The one with the least error to expect of its shift; None where no column has a change to copy.

    A shift is the mean change over the strata: combinations with both levels, equal in the other columns. Its error is the
    spread of those changes, or where there is one stratum alone, its whole length.
    """
    best, least = None, np.inf
    large = seen.table.assign(place=np.arange(len(seen.table)))[seen.cells >= FEWEST]
    asked = dict(zip(seen.table, combination, strict=True))
    for column, wanted in asked.items():
        others = [name for name in asked if name != column]
        places = large.pivot(index=others, columns=column, values="place")  # (rest of the combination, level)
        own = tuple(asked[name] for name in others) if len(others) > 1 else asked[others[0]]
        if wanted not in places or own not in places.index:
            continue
        for level in places.columns[places.loc[own].notna()]:
            both = places[[level, wanted]].dropna().to_numpy(dtype=np.int64)
            if not (n := len(both)):
                continue
            changes = seen.mean[both[:, 1]] - seen.mean[both[:, 0]]  # (S, D)
            shift = changes.mean(axis=0)
            error = ((changes - shift) ** 2).sum() / (n - 1) * (1 + 1 / n) if n > 1 else (shift**2).sum()
            if error < least:
                best, least = Nearest(column, level, shift, n), error
    return best
