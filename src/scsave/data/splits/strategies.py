"""Ways to split cells by their conditions. Each is called as `strategy(data, columns, seed) -> Split`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field, PositiveInt

from scsave import keys
from scsave.data.settings import Level
from scsave.data.splits.split import Split, make_split
from scsave.data.splits.strata import cells_of_level, combinations, draw_share
from scsave.errors import UserError
from scsave.keys import Columns

__all__ = ["All", "LeaveOut", "NewCells", "Random", "SavedSplit", "Several", "Share", "Split", "Unseen"]

Share = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]


@dataclass(kw_only=True)
class Random:
    """A share of every combination of conditions; combinations under `min_cells` cells go to training whole."""

    val: Share = 0.1
    test: Share = 0.2
    min_cells: PositiveInt = 10

    def __post_init__(self) -> None:
        if self.val + self.test >= 1:
            raise UserError(f"split.val={self.val} and split.test={self.test} leave no cell to train on; lower them")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        codes, levels = combinations(data.obs, columns.conditions)
        group = draw_share(codes, [self.val, self.test], self.min_cells, np.random.default_rng(seed))
        small = np.bincount(codes) < self.min_cells
        info = {"combinations": len(levels), "combinations_only_in_train": int(small.sum()), "seed": seed}
        groups = {name: np.flatnonzero(group == i) for i, name in enumerate([keys.TRAIN, keys.VAL, keys.TEST])}
        return make_split(groups, data.obs_names, "random", info)


def split_rest(held: np.ndarray, data: AnnData, columns: Columns, val: float, seed: int, least: int = 2) -> dict:
    """Test = the cells `held` (N,) bool; of the others a stratified share `val`, of strata of `least` cells, is for stopping."""
    rest = np.flatnonzero(~held)
    codes, _ = combinations(data.obs.iloc[rest], columns.conditions)
    group = draw_share(codes, [val], least, np.random.default_rng(seed))
    return {keys.TRAIN: rest[group == 0], keys.VAL: rest[group == 1], keys.TEST: np.flatnonzero(held)}


@dataclass(kw_only=True)
class All:
    """Every cell is for training but a small share watched for stopping: integration holds nothing out."""

    val: Share = 0.05

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        groups = split_rest(np.zeros(data.n_obs, dtype=bool), data, columns, self.val, seed, least=1)
        return make_split(groups, data.obs_names, "all", {"seed": seed}, allow_no_test=True)


@dataclass(kw_only=True)
class NewCells:
    """A share of the cells of each batch is the test: new cells of known batches, which integration has to place.

    UserError where the data name no batch, and where nothing of a batch would be left to train on.
    """

    share: PositiveShare = 0.2
    val: Share = 0.05

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        if columns.batch is None:
            raise UserError(f"split=new_cells is of cells of each batch, {columns.name} has none; set data.batch_key")
        codes, batches = combinations(data.obs, [columns.batch], numeric_levels=None)
        held = draw_share(codes, [self.share], 1, np.random.default_rng([seed, 1])) == 1
        if (gone := np.bincount(codes[~held], minlength=len(batches)) == 0).any():
            batch = batches.iloc[int(gone.argmax()), 0]
            raise UserError(f"split.share={self.share} leaves no cell of batch {batch} to train on; lower split.share")
        groups = split_rest(held, data, columns, self.val, seed, least=1)
        return make_split(groups, data.obs_names, "new_cells", {"share": self.share, "seed": seed})


@dataclass(kw_only=True)
class Unseen:
    """Whole combinations of conditions held out, while every level of every column stays seen.

    Either `hold_out=[{cell_type: B, batch: 2}]`, or a `fraction` of the combinations, drawn by the seed among those
    with at least `min_cells` cells.
    """

    hold_out: list[dict[str, Any]] = field(default_factory=list)
    fraction: PositiveShare | None = None
    val: Share = 0.1
    min_cells: PositiveInt = 10

    def __post_init__(self) -> None:
        if bool(self.hold_out) == (self.fraction is not None):
            raise UserError("split=unseen needs split.hold_out=[{column: level, ...}] or split.fraction, not both")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        codes, levels = combinations(data.obs, columns.conditions)
        if levels.shape[1] < 2:
            raise UserError(
                f"split=unseen holds out combinations of conditions, but {columns.name} has {levels.shape[1]} "
                "categorical condition; use split=random or split=leave_out"
            )
        chosen = self.named(data, codes) if self.hold_out else self.drawn(codes, levels, seed)
        rest = levels.drop(index=chosen)
        for column in levels:
            if lost := sorted(set(levels[column].astype(str)) - set(rest[column].astype(str))):
                raise UserError(
                    f"split=unseen: level '{lost[0]}' of '{column}' would occur in no training cell; hold out fewer "
                    "combinations, or use split=leave_out"
                )
        info = {"held_out": levels.iloc[chosen].to_dict("records"), "combinations": len(levels), "seed": seed}
        groups = split_rest(np.isin(codes, chosen), data, columns, self.val, seed)
        return make_split(groups, data.obs_names, "unseen", info)

    def named(self, data: AnnData, codes: np.ndarray) -> np.ndarray:
        """Codes of the combinations that `hold_out` names."""
        held = np.zeros(len(codes), dtype=bool)
        for entry in self.hold_out:
            rows = [cells_of_level(data.obs, column, level, "split.hold_out") for column, level in entry.items()]
            if not (both := np.all(rows, axis=0)).any():
                raise UserError(f"split.hold_out: no cell has {entry}; hold out a combination that occurs")
            held |= both
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


@dataclass(kw_only=True)
class LeaveOut:
    """Cells of one level held out: `column=cell_type level=B`, only those of `where={condition: stimulated}`."""

    column: str | None = None
    level: Level | None = None
    where: dict[str, Any] | None = None
    val: Share = 0.1

    def __post_init__(self) -> None:
        if self.column is None or self.level is None:
            raise UserError("split=leave_out needs split.column=<condition> and split.level=<its level to hold out>")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        held = cells_of_level(data.obs, self.column, self.level, "split.level")
        for column, level in (self.where or {}).items():
            held = held & cells_of_level(data.obs, column, level, "split.where")
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
        if not Path(self.path).is_file():
            raise UserError(f"split.path={self.path}: no such file; give the split.csv of a run")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        return Split.load(Path(self.path), data.obs_names)


@dataclass(kw_only=True)
class Several:
    """What any of several strategies holds out is held out, so that every task can score one trained model.

    `splits` by name: the test cells of each are the part `test/<name>`, a cell of two being the first's.
    """

    splits: dict[str, Any] = field(default_factory=dict)
    val: Share = 0.1

    def __post_init__(self) -> None:
        if not self.splits:
            raise UserError("split=several needs split.splits={<name>: <a split>}; see configs/experiment/one_model/")

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        held, parts = np.zeros(data.n_obs, dtype=bool), {}
        for name, strategy in self.splits.items():
            rows = strategy(data, columns, seed).test
            parts[f"{keys.TEST}/{name}"] = rows[~held[rows]]
            held[rows] = True
        groups = split_rest(held, data, columns, self.val, seed)
        return make_split(groups | parts, data.obs_names, "several", {"splits": list(self.splits), "seed": seed})
