"""Which cells does task=perturbation hold out of a split, and which does a method start from to predict them?"""

import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.baselines.carry import repeated
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.metrics.technical import balanced


def levels_and_types(data: AnnData, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Perturbation level and cell type of each cell, (N,) str each; one type where there is no column of them."""
    level = data.obs[columns.perturbation].astype(str).to_numpy()
    kind = data.obs[columns.cell_type].astype(str).to_numpy() if columns.cell_type else np.full(len(level), keys.ALL)
    return level, kind


def held_types(data: AnnData, split: Split, columns: Columns, target: str) -> list[str]:
    """Cell types that have test cells under the target, in order. UserError where none has.

    Where some were never seen under the target and others were, the first alone: the task is to predict those.
    """
    level, kind = levels_and_types(data, columns)
    seen = np.concatenate([split.train, split.val])
    found, known = (set(kind[rows][level[rows] == target]) for rows in (split.test, seen))
    types = sorted(found - known or found)
    if not types:
        raise UserError(
            f"split {split.name} leaves no test cell with {columns.perturbation}={target}; use "
            "split=perturbation, or split=leave_out with split.where"
        )
    return types


def held_cells(
    data: AnnData, split: Split, columns: Columns, name: str, target: str
) -> tuple[AnnData, AnnData, AnnData]:
    """Control cells of type `name`, its test cells under the target, and every cell that training may see."""
    level, kind = levels_and_types(data, columns)
    own, test = kind == name, np.zeros(data.n_obs, dtype=bool)
    test[split.test] = True
    seen = np.sort(np.concatenate([split.train, split.val]))
    real = data[own & test & (level == target)].copy()
    control = balanced(data[own & (level == columns.control)].copy(), real, columns.batch, 0, f"cells of {name}")
    return control, real, data[seen].copy()


def enough(halves: tuple[AnnData, AnnData], min_cells: int) -> list[AnnData]:
    """Both halves repeated alike, so that the smaller has `min_cells` and together they keep their mean."""
    times = -(-min_cells // min(half.n_obs for half in halves))
    return [repeated(half, times) for half in halves]


def joined(cells: list[AnnData]) -> AnnData:
    """The predictions of both halves as one AnnData."""
    import anndata as ad

    return ad.concat(cells, merge="same", uns_merge="first")
