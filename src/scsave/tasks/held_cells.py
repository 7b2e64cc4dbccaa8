"""Which cells does task=perturbation hold out of a split, and which does a method start from to predict them?"""

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.baselines.carry import repeated
from scsave.data.splits.split import Split
from scsave.data.targets import labels
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.metrics.technical import balanced


def targets_and_types(data: AnnData, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Target (`scsave.data.targets`) and cell type of each cell, (N,) str each; one type where there is no column of them."""
    target = labels(data.obs, columns)
    kind = data.obs[columns.cell_type].astype(str).to_numpy() if columns.cell_type else np.full(len(target), keys.ALL)
    return target, kind


def held_pairs(data: AnnData, split: Split, columns: Columns, targets: list[str]) -> list[tuple[str, str]]:
    """Cell types and targets that have test cells (two or more, where some have), in order. UserError where none has.

    Where some were never seen together and others were, the first alone: the task is to predict those.
    """
    label, kind = targets_and_types(data, columns)
    found = pd.crosstab(kind[split.test], label[split.test]).reindex(columns=targets, fill_value=0)
    control, seen = set(kind[label == columns.control]), np.concatenate([split.train, split.val])
    known = set(zip(kind[seen], label[seen], strict=True))
    many = [(str(name), t) for name in found.index for t in targets if found.loc[name, t] > 1 and name in control]
    some = many or [(str(name), t) for name in found.index for t in targets if found.loc[name, t]]
    some = [pair for pair in some if pair not in known] or some
    if not some:
        raise UserError(
            f"split {split.name} leaves no test cell with {columns.perturbation}={targets[0]}; use "
            "split=perturbation, or split=leave_out with split.where"
        )
    return some


def held_cells(data: AnnData, split: Split, columns: Columns, name: str, target: str) -> tuple[AnnData, ...]:
    """Control cells of type `name`, its test cells under the target, and every cell that training may see."""
    label, kind = targets_and_types(data, columns)
    own, test = kind == name, np.zeros(data.n_obs, dtype=bool)
    test[split.test] = True
    seen = np.sort(np.concatenate([split.train, split.val]))
    real = data[own & test & (label == target)].copy()
    control = balanced(data[own & (label == columns.control)].copy(), real, columns.batch, 0, f"cells of {name}")
    return control, real, data[seen].copy()


def enough(halves: tuple[AnnData, AnnData], min_cells: int) -> list[AnnData]:
    """Both halves repeated alike, so that the smaller has `min_cells` and together they keep their mean."""
    times = -(-min_cells // min(half.n_obs for half in halves))
    return [repeated(half, times) for half in halves]


def joined(cells: list[AnnData]) -> AnnData:
    """The predictions of both halves as one AnnData."""
    return ad.concat(cells, merge="same", uns_merge="first")
