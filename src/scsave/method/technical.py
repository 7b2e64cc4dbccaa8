"""Technical columns: what the decoder is given (batch, donor where it is a nuisance), never cell type or treatment."""

import logging

import pandas as pd

from scsave.errors import UserError
from scsave.keys import Columns

log = logging.getLogger("scsave")
TOLERATED = 0.05  # share of cells in levels without control cells


def technical_columns(columns: Columns, obs: pd.DataFrame) -> list[str]:
    """Columns of `data.nuisance` (None: the batch) whose every level holds control cells, or all where nothing is perturbed.

    A column nested in the perturbation would tell the decoder the perturbation's own effect: it is left out, and said. Levels
    without control cells that hold few cells altogether (`TOLERATED`, such as doublets) do not make a column nested.
    UserError for a column that the data lack, and for the cell type or the perturbation.
    """
    wanted = columns.nuisance if columns.nuisance is not None else [columns.batch]
    found = []
    for name in dict.fromkeys(name for name in wanted if name is not None):
        if name not in obs:
            raise UserError(
                f"data.nuisance={name}: not among the columns that are read ({', '.join(columns.carried)}); read it with "
                f"data.keep=[{name}]"
            )
        if name in (columns.cell_type, columns.perturbation):
            raise UserError(f"data.nuisance={name}: what is to be kept can't be a nuisance")
        lacking = without_control(columns, obs, name)
        if lacking and obs[name].astype(str).isin(lacking).mean() > TOLERATED:
            log.info(
                "the decoder is not given %s: its level %s has no control cells (%s=%s), so it may carry the effect of %s",
                name, lacking[0], columns.perturbation, columns.control, columns.perturbation,
            )  # fmt: skip
            continue
        found.append(name)
    return found


def without_control(columns: Columns, obs: pd.DataFrame, name: str) -> list[str]:
    """Levels of a column that hold no control cell; none where nothing is perturbed."""
    if columns.perturbation is None or columns.control is None:
        return []
    control = obs[columns.perturbation].astype(str) == columns.control
    has = control.groupby(obs[name].astype(str)).any()
    return [str(level) for level in has.index[~has]]


def every_column(columns: Columns, technical: list[str]) -> list[str]:
    """The model's condition columns: those of the data set and every column that has a role."""
    roles = [columns.perturbation, columns.cell_type, columns.batch, *technical]
    return list(dict.fromkeys(name for name in [*columns.conditions, *roles] if name is not None))
