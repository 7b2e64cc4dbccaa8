"""New cells for a trained model: which of the run's data settings hold for another file, and what does it lack?

`python train.py mode=integrate ckpt=<run dir> data.path=new.h5ad`
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from scsave.components import Node, build
from scsave.data.h5ad import H5AD
from scsave.data.read import open_cells
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.conditions import Conditions

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
    settings["from_names"] = {
        column: way for column, way in ways.items() if cell_names.str.extract(way, expand=False).notna().all()
    }
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
    roles = [settings.get(key) for key in ("cell_type_key", "batch_key", "perturbation_key")]
    read = {*settings["conditions"], *(settings.get("keep") or []), *(settings.get("nuisance") or []), *roles}
    for key in {"numeric", "levels", "fill_missing"} - set(asked):  # of the run, less what is said of columns not read
        if of := settings.get(key):
            settings[key] = (
                {c: of[c] for c in of if c in read} if isinstance(of, dict) else [c for c in of if c in read]
            )
    source = build(settings | {"_target_": "scsave.data.h5ad.H5AD"}, "data")
    source.keeps_unlabelled = True  # nothing of theirs is learnt
    return source.load(cache)
