"""Ways to split cells by their conditions. Each is called as `strategy(data, columns, seed) -> Split`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.data.splits.split import Split, make_split
from scsave.data.splits.strata import check_levels_named, combinations, draw_share
from scsave.errors import UserError
from scsave.keys import Columns

__all__ = ["All", "LeaveOut", "Random", "SavedSplit", "Split", "Unseen"]

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(kw_only=True)
class Random:
    """A share of every combination of conditions; combinations under `min_cells` cells go to training whole."""

    val: Share = 0.1
    test: Share = 0.2
    min_cells: Annotated[int, Field(ge=1)] = 10

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        codes, levels = combinations(data.obs, columns.conditions)
        group = draw_share(codes, [self.val, self.test], self.min_cells, np.random.default_rng(seed))
        small = np.bincount(codes) < self.min_cells
        info = {"combinations": len(levels), "combinations_only_in_train": int(small.sum()), "seed": seed}
        groups = {name: np.flatnonzero(group == i) for i, name in enumerate([keys.TRAIN, keys.VAL, keys.TEST])}
        return make_split(groups, data.obs_names, "random", info)


@dataclass(kw_only=True)
class All:
    """Every cell is for training but a small share watched for stopping: integration holds nothing out."""

    val: Share = 0.05

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        codes, _ = combinations(data.obs, columns.conditions)
        group = draw_share(codes, [self.val], 1, np.random.default_rng(seed))
        groups = {keys.TRAIN: np.flatnonzero(group == 0), keys.VAL: np.flatnonzero(group == 1)}
        return make_split(groups, data.obs_names, "all", {"seed": seed}, allow_no_test=True)


def split_rest(held: np.ndarray, data: AnnData, columns: Columns, val: float, seed: int) -> dict[str, np.ndarray]:
    """Test = the cells `held` (N,) bool; of the others a stratified share `val` is for stopping."""
    rest = np.flatnonzero(~held)
    codes, _ = combinations(data.obs.iloc[rest], columns.conditions)
    group = draw_share(codes, [val], 2, np.random.default_rng(seed))
    return {keys.TRAIN: rest[group == 0], keys.VAL: rest[group == 1], keys.TEST: np.flatnonzero(held)}


@dataclass(kw_only=True)
class Unseen:
    """Whole combinations of conditions held out, while every level of every column stays seen.

    Either `hold_out=[{cell_type: B, batch: 2}]`, or a `fraction` of the combinations, drawn by the seed among those
    with at least `min_cells` cells.
    """

    hold_out: list[dict[str, Any]] = field(default_factory=list)
    fraction: Share | None = None
    val: Share = 0.1
    min_cells: Annotated[int, Field(ge=1)] = 10

    def __post_init__(self) -> None:
        if bool(self.hold_out) == (self.fraction is not None):
            raise UserError(
                "split=unseen needs either split.hold_out=[{column: level, ...}] or split.fraction, not both"
            )

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        codes, levels = combinations(data.obs, columns.conditions)
        if levels.shape[1] < 2:
            raise UserError(
                f"split=unseen holds out combinations of conditions, but {columns.name} has {levels.shape[1]} "
                "categorical condition; use split=random or split=leave_out"
            )
        chosen = self.named(data, codes) if self.hold_out else self.drawn(codes, levels, seed)
        self.check_seen(levels, chosen)
        info = {"held_out": levels.iloc[chosen].to_dict("records"), "combinations": len(levels), "seed": seed}
        groups = split_rest(np.isin(codes, chosen), data, columns, self.val, seed)
        return make_split(groups, data.obs_names, "unseen", info)

    def named(self, data: AnnData, codes: np.ndarray) -> np.ndarray:
        """Codes of the combinations that `hold_out` names."""
        held = np.zeros(len(codes), dtype=bool)
        for entry in self.hold_out:
            rows = np.ones(len(codes), dtype=bool)
            for column, level in entry.items():
                rows &= check_levels_named(data.obs, column, level, "split.hold_out")
            if not rows.any():
                raise UserError(f"split.hold_out: no cell has {entry}; hold out a combination that occurs")
            held |= rows
        return np.unique(codes[held])

    def drawn(self, codes: np.ndarray, levels: pd.DataFrame, seed: int) -> np.ndarray:
        """Codes drawn in random order, skipping any whose removal would leave a level unseen."""
        large = np.flatnonzero(np.bincount(codes) >= self.min_cells)
        wanted = max(1, round(self.fraction * len(levels)))
        left = {column: levels[column].value_counts() for column in levels}
        chosen = []
        for code in np.random.default_rng(seed).permutation(large):
            row = levels.iloc[code]
            if len(chosen) < wanted and all(left[column][row[column]] > 1 for column in levels):
                chosen.append(int(code))
                for column in levels:
                    left[column][row[column]] -= 1
        if len(chosen) < wanted:
            raise UserError(
                f"split.fraction={self.fraction}: only {len(chosen)} of {wanted} combinations fit, with each "
                f"level still seen and {self.min_cells} cells each; lower split.fraction or split.min_cells"
            )
        return np.array(sorted(chosen))

    @staticmethod
    def check_seen(levels: pd.DataFrame, chosen: np.ndarray) -> None:
        """Raises UserError where a level occurs in held-out combinations only."""
        rest = levels.drop(index=chosen)
        for column in levels:
            lost = sorted(set(levels[column].astype(str)) - set(rest[column].astype(str)))
            if lost:
                raise UserError(
                    f"split=unseen: level '{lost[0]}' of '{column}' would occur in no training cell; hold out fewer "
                    "combinations, or use split=leave_out"
                )


@dataclass(kw_only=True)
class LeaveOut:
    """Cells of one level held out: `column=cell_type level=B`, only those of `where={condition: stimulated}`."""

    column: str | None = None
    level: str | int | float | None = None
    where: dict[str, Any] | None = None
    val: Share = 0.1

    def __post_init__(self) -> None:
        if self.column is None or self.level is None:
            raise UserError("split=leave_out needs split.column=<condition> and split.level=<its level to hold out>")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        held = check_levels_named(data.obs, self.column, self.level, "split.level")
        for column, level in (self.where or {}).items():
            held = held & check_levels_named(data.obs, column, level, "split.where")
        if not held.any():
            raise UserError(f"split=leave_out: no cell has {self.column}={self.level} and {self.where}")
        info = {"column": self.column, "level": str(self.level), "where": dict(self.where or {}), "seed": seed}
        return make_split(split_rest(held, data, columns, self.val, seed), data.obs_names, "leave_out", info)


@dataclass(kw_only=True)
class SavedSplit:
    """The split of an earlier run, by cell name."""

    path: str | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("split=file needs split.path=<the split.csv of a run>")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        return Split.load(Path(self.path), data.obs_names)
