"""Cells of a user's own file for a trained model: how the run's settings read it, and which of its cells are control.

`python train.py mode=integrate ckpt=<run dir> data.path=new.h5ad`, or mode=predict.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from omegaconf import OmegaConf

from scsave.components import Node, build
from scsave.data.conditions import Categorical, Conditions
from scsave.data.h5ad import H5AD
from scsave.data.perturbations import parse
from scsave.data.read import open_cells
from scsave.data.stored_control import drawn
from scsave.errors import UserError
from scsave.files import whole_folder
from scsave.runs.config import RunConfig
from scsave.runs.naming import CONFIG, checkpoint_run, override_values, read_config
from scsave.stats.resample import subsample

BLANK = "no_condition"
# What says which cells and genes the run was made with: another file has its own.
_OF_THE_RUN = (
    "path", "exclude", "max_cells", "max_genes", "n_top_genes", "min_cells", "min_level_cells", "rare_levels", "control",
    "perturbation_key", "perturbation_kind", "perturbation_columns",
)  # fmt: skip


def new_cells(stored: Node, asked: dict[str, Any], conditions: Conditions, cache: Path) -> AnnData:
    """Cells of `asked["path"]`, prepared as the run's data were (`stored`), every cell kept, (N, all genes of the file).

    `asked` replaces settings of the run. A column of the model that the file lacks is left out: it is masked then.
    Raises UserError as any data set does, and where no file is named.
    """
    if not asked.get("path"):
        raise UserError("mode=integrate needs the new cells: data.path=<file>.h5ad")
    known = {f.name for f in fields(H5AD)}
    settings = {k: v for k, v in stored.items() if k in known and k not in _OF_THE_RUN} | {"min_level_cells": 1} | asked
    with open_cells(Path(settings["path"])) as raw:
        cell_names = raw.obs.index.to_series().astype(str)
        there = set(map(str, raw.obs.columns))
    ways = settings.get("from_names") or {}
    fits = {column: cell_names.str.extract(way, expand=False).notna().all() for column, way in ways.items()}
    settings["from_names"] = {column: ways[column] for column in ways if fits[column]}
    there |= set(settings["from_names"])
    names = settings.get("columns") or {}

    def has(column: str | None) -> bool:
        return column is not None and not there.isdisjoint({column, *names.get(column, [])})

    settings["conditions"] = [column.name for column in conditions.columns if has(column.name)]
    for key in ("cell_type_key", "batch_key", "library_key"):
        if key not in asked and not has(settings.get(key)):
            settings[key] = None
    for key in ("keep", "nuisance"):
        if key not in asked:
            settings[key] = [column for column in settings.get(key) or [] if has(column)]
    if not settings["conditions"]:  # prepared cells carry one at least: a column of empty text, a batch of nobody's
        settings["conditions"] = [BLANK]
        settings["from_names"] |= {BLANK: "^()"}
        settings["fill_missing"] = {**(settings.get("fill_missing") or {}), BLANK: BLANK}
    roles = [settings.get(key) for key in ("cell_type_key", "batch_key", "perturbation_key")]
    read = {*settings["conditions"], *(settings.get("keep") or []), *(settings.get("nuisance") or []), *roles}
    for key in {"numeric", "levels", "fill_missing"} - set(asked):  # of the run, less what is said of columns not read
        if of := settings.get(key):
            kept = [column for column in of if column in read]
            settings[key] = {column: of[column] for column in kept} if isinstance(of, dict) else kept
    source = build(settings | {"_target_": "scsave.data.h5ad.H5AD"}, "data")
    source.keeps_unlabelled = True  # nothing of theirs is learnt
    return source.load(cache)


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
        return not parse(label, called) if self.sets else label == called

    def read(self, named: dict[str, str]) -> Conditions:
        """The columns to read, as conditions; `named` says what the file calls some of them."""
        own = (self.perturbation, self.cell_type) if self.conditions is None else self.conditions.names
        names = dict.fromkeys([*own, self.perturbation, self.batch])
        return Conditions(tuple(Categorical(named.get(n, n), ()) for n in names if n and n not in self.unread))


def control_cells(config: RunConfig, roles: Roles) -> AnnData | None:
    """At most `n` control cells (of each cell type) of `data.path`; None where no path is given.

    The file is read as the run read its own, but for the settings of the command line. Without a column of perturbations
    every cell is control. UserError where none is.
    """
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
    names = {theirs: own for own, theirs in named.items()}
    cells.obs = cells.obs.drop(columns=[own for own in named if own in cells.obs]).rename(columns=names)
    for column, what in ((key, "every cell is taken as control"), (roles.cell_type, "all cells are taken as one type")):
        if column is not None and column not in cells.obs:
            print(f"{given['path']}: no column '{named.get(column, column)}', so {what}")
    if key not in cells.obs:
        cells.obs[key] = roles.control
        called = roles.control
    is_control = cells.obs[key].astype(str).map(lambda label: roles.is_control(label, called)).to_numpy()
    if not is_control.any():
        some = ", ".join(map(str, cells.obs[key].astype(str).unique()[:8]))
        called = f"no level of '{named.get(key, key)}' reads as {called}"
        raise UserError(f"{given['path']}: no control cell: {called}; found {some}")
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
    path = whole_folder(checkpoint_run(config.ckpt)) / CONFIG
    if not path.is_file():
        raise UserError(f"{path}: missing, and with it how the run read its data")
    return OmegaConf.to_container(read_config(path), resolve=True)
