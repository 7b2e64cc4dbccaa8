"""Control cells of a user's file for mode=predict: how its columns are read, and which of its cells are control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from omegaconf import OmegaConf

from scsave.errors import UserError
from scsave.files import whole_folder
from scsave.runs.config import RunConfig
from scsave.runs.naming import checkpoint_run, override_values, read_config
from scsave.stats.resample import subsample

if TYPE_CHECKING:
    from scsave.data.conditions import Conditions


@dataclass(frozen=True)
class Roles:
    """What the columns of a model are for, as far as a file of control cells is read for it."""

    perturbation: str
    control: str
    cell_type: str | None = None
    batch: str | None = None
    conditions: Any = None  # `Conditions` of the model; None: the type alone
    unread: tuple[str, ...] = ()  # columns bound to the perturbation: a target says them, or nobody
    sets: bool = False

    def is_control(self, label: str, called: str) -> bool:
        from scsave.data.perturbations import parse

        return not parse(label, called) if self.sets else label == called

    def read(self, named: dict[str, str]) -> Conditions:
        """The columns to read, as conditions; `named` says what the file calls some of them."""
        from scsave.data.conditions import Categorical, Conditions

        own = (self.perturbation, self.cell_type) if self.conditions is None else self.conditions.names
        names = dict.fromkeys([*own, self.perturbation, self.batch])
        return Conditions(tuple(Categorical(named.get(n, n), ()) for n in names if n and n not in self.unread))


def control_cells(config: RunConfig, roles: Roles) -> AnnData | None:
    """At most `n` control cells (of each cell type) of `data.path`; None where no path is given.

    The file is read as the run read its own, but for the settings of the command line. Without a column of perturbations
    every cell is control. UserError where none is.
    """
    from scsave.data.stored_control import drawn
    from scsave.runs.new_cells import new_cells

    given = override_values("data") or {"path": config.data.get("path")}
    if given.get("path") is None:
        return None
    run, key, named = stored(config)["data"], roles.perturbation, {}
    called = str(given.pop("control", roles.control))  # as the file has it
    for option, own in (("perturbation_key", key), ("cell_type_key", roles.cell_type), ("batch_key", roles.batch)):
        if own is not None and given.get(option) not in (None, own):
            named[own] = given[option]
    given.pop("perturbation_key", None)
    cells = new_cells(run, given, roles.read(named), Path(config.paths.cache))
    cells.obs = cells.obs.drop(columns=[n for n in named if n in cells.obs]).rename(
        columns={v: k for k, v in named.items()}
    )
    for column, what in ((key, "every cell is taken as control"), (roles.cell_type, "all cells are taken as one type")):
        if column is not None and column not in cells.obs:
            print(f"{given['path']}: no column '{named.get(column, column)}', so {what}")
    if key not in cells.obs:
        cells.obs[key] = roles.control
        called = roles.control
    is_control = cells.obs[key].astype(str).map(lambda label: roles.is_control(label, called)).to_numpy()
    if not is_control.any():
        some = ", ".join(map(str, cells.obs[key].astype(str).unique()[:8]))
        raise UserError(
            f"{given['path']}: no control cell: no level of '{named.get(key, key)}' reads as {called}; found {some}"
        )
    cells.obs[key] = cells.obs[key].astype(str).where(~is_control, roles.control)
    if roles.cell_type not in cells.obs:
        return drawn(cells, is_control, config.seed, config.n)
    kind, kept = cells.obs[roles.cell_type].astype(str).to_numpy(), np.zeros(len(is_control), dtype=bool)
    for name in sorted(set(kind[is_control])):
        here = np.flatnonzero(is_control & (kind == name))
        kept[here if len(here) <= config.n else here[subsample(len(here), config.n, config.seed)]] = True
    return drawn(cells, kept, config.seed, int(kept.sum()))


def stored(config: RunConfig) -> dict[str, Any]:
    """The config of the run behind `ckpt`, plain."""
    path = whole_folder(checkpoint_run(config.ckpt)) / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"data.path={config.data.get('path')}: {path} is missing, and with it how the run read its data"
        )
    return OmegaConf.to_container(read_config(path), resolve=True)
