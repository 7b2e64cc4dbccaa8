"""What a trained run is used for: mode=generate, predict or integrate, from its checkpoint, without the training data."""

from __future__ import annotations

import copy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from omegaconf import OmegaConf

from scsave import keys
from scsave.components import Node, build
from scsave.data.h5ad import H5AD
from scsave.data.read import open_cells, rejoined
from scsave.errors import UserError
from scsave.files import whole_folder, write_h5ad, write_text
from scsave.runs.config import RunConfig
from scsave.runs.naming import CONFIG, checkpoint_run, named_on_command_line, override_values, overrides, read_config

if TYPE_CHECKING:
    from scsave.data.conditions import Conditions
    from scsave.method.fitted import Fitted

_EVERY_MODE = {"mode", "ckpt", "seed", "out", "trainer", "paths", "hydra", "logger", "figures"}
# What a mode takes from the command line: any other key would be ignored, so it is refused.
_TAKES = {
    "generate": {"n", "condition", "sampling", "objective"},
    "predict": {"n", "perturbations", "route", "data", "sampling", "objective"},
    "integrate": {"data", "task", "sampling", "objective"},
}

BLANK = "no_condition"
# What says which cells and genes the run was made with: another file has its own.
_OF_THE_RUN = (
    "path", "exclude", "max_cells", "max_genes", "n_top_genes", "min_cells", "min_level_cells", "rare_levels", "control",
    "perturbation_key", "perturbation_kind",
)  # fmt: skip


def use(config: RunConfig, folder: Path) -> None:
    """`config.mode`, one of `USES`, its files in `folder`. UserError for a key that the mode does not use."""
    from scsave.models.checkpoint import find_checkpoint

    find_checkpoint(config.ckpt)  # before what takes seconds to import
    check_keys(config.mode, overrides())
    from scsave.method.fitted import Fitted, Sampler

    model = Fitted.load(config.ckpt, build(config.trainer, "trainer").device)
    model.sampler = Sampler.of(*sampling_nodes(model.nodes, config))
    USES[config.mode](config, folder, model)


def check_keys(mode: str, given: list[str]) -> None:
    """UserError for a key or group of the command line that the mode would ignore."""
    takes = _EVERY_MODE | _TAKES[mode]
    for override in given:
        key = override.lstrip("+~").partition("=")[0]
        if key.split(".")[0].split("@")[0] not in takes:
            raise UserError(f"{key}: mode={mode} does not use it; it takes {', '.join(sorted(takes - {'hydra'}))}")


def sampling_nodes(nodes: dict[str, Any], config: RunConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The objective and the sampling of the run, with what the command line names of them."""
    objective = config.objective if named_on_command_line("objective") else nodes["objective"]
    if any(override.startswith("sampling=") for override in overrides()):
        return objective, config.sampling.model_dump()
    sampling = copy.deepcopy(nodes["sampling"])
    for key, value in override_values("sampling").items():
        node, *path = sampling, *key.split(".")
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
    return objective, sampling


def generate(config: RunConfig, folder: Path, model: Fitted) -> None:
    """Cells from noise under `condition`."""
    from scsave.method.sample import generate

    condition = config.condition or {}
    check_room(config.n, len(model.genes))
    cells = generate(model, config.n, condition, config.seed)
    path = written(folder / "generated.h5ad", cells)
    named = ", ".join(f"{k}={v}" for k, v in condition.items()) or "no condition named: drawn over all"
    print(f"{cells.n_obs} cells x {cells.n_vars} genes ({named}): {path}")


def check_room(n: int, genes: int) -> None:
    """UserError where `n` cells would not fit into the memory of this machine, a gene in twenty being seen in each."""
    import psutil

    needed, there = n * genes / 20 * 16, psutil.virtual_memory().total  # counts and log1p, a value and its place each
    if needed > there:
        raise UserError(
            f"n={n}: so many cells take at least {needed / 2**30:,.0f} GB, and this machine has {there / 2**30:,.0f}; "
            "generate them in parts, each with its seed=... and out=..."
        )


def predict(config: RunConfig, folder: Path, model: Fitted) -> None:
    """Control cells under each of `perturbations`, and how far each of those is from training."""
    from scsave.method.predict import SUMMARY, predict
    from scsave.method.respond import ROUTES

    control, route = control_cells(config, model), config.route or next(iter(ROUTES))
    cells = predict(model, config.perturbations or [], control, config.seed, route)
    table = cells.uns[SUMMARY]
    path = written(folder / "predictions.h5ad", cells)
    write_text(folder / f"{SUMMARY}.csv", table.to_csv())
    for name, row in table.iterrows():
        how = "seen in training" if row["in_training"] else "all of its genes seen in training"
        if row["unseen_genes"]:
            how = f"nearest training gene {row['nearest_gene'] or '-'}, {row['distance']:.2f} times the usual distance"
        print(f"{name}: {how}; changes most: {row['strongest']}")
        if row["warning"]:
            print(f"warning: {row['warning']}")
    if absent := cells.uns[keys.UNS]["absent_genes"]:
        print(f"{absent} of the model's {cells.n_vars} genes are not in the file and count as zero")
    print(f"{len(table)} perturbations x {table['cells'].iloc[0]} control cells: {path}")


def control_cells(config: RunConfig, model: Fitted) -> AnnData | None:
    """At most `n` control cells of `data.path`; None where no path is given.

    The file is read as the run read its own, but for the settings of the command line. Without a column of perturbations
    every cell is control. UserError where none is.
    """
    from scsave.data.perturbations import parse
    from scsave.data.stored_control import drawn
    from scsave.method.predict import vocabulary

    given = override_values("data") or {"path": config.data.get("path")}
    if given.get("path") is None:
        return None
    run, key, control = stored(config)["data"], model.info["perturbation"], vocabulary(model).control
    named, called = given.pop("perturbation_key", key), str(given.pop("control", control))  # as the file has them
    columns = given.pop("columns", None) or run.get("columns") or {}
    given["columns"] = columns | {key: [named, *columns.get(key, [])]}
    cells = new_cells(run, given, model.conditions, Path(config.paths.cache))
    if key not in cells.obs:
        print(f"{given['path']}: no column '{named}', so every cell is taken as control")
        cells.obs[key] = control
    is_control = cells.obs[key].astype(str).map(lambda label: not parse(label, called)).to_numpy()
    if not is_control.any():
        some = ", ".join(map(str, cells.obs[key].astype(str).unique()[:8]))
        raise UserError(f"{given['path']}: no control cell: no level of '{named}' reads as {called}; found {some}")
    cells.obs[key] = cells.obs[key].astype(str).where(~is_control, control)
    return drawn(cells, is_control, config.seed, config.n)


def integrate(config: RunConfig, folder: Path, model: Fitted) -> None:
    """The cells of `data.path` embedded, and their expression corrected.

    How the run read its data (or another option of the group that the command picks) is how the new file is read, and its
    `task.reference` holds unless the command says task=batch_correction.
    """
    from scsave.method.integrate import check_head, describe, integrate

    check_head(model)
    run, given = stored(config), override_values("data")
    node = config.data if any(o.startswith("data=") for o in overrides()) else run["data"]
    task = config.task if any(o.startswith("task=") for o in overrides()) else run["task"]
    cells = new_cells(node, given, model.conditions, Path(config.paths.cache))
    found = integrate(model, cells, task.get("reference"))
    found.obs = rejoined(found.obs, Path(given["path"]))
    path = written(folder / "integrated.h5ad", found)
    print(f"{describe(model, cells, found)}: {path}")


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
    if "keep" not in asked:
        settings["keep"] = [column for column in settings.get("keep") or [] if has(column)]
    if not settings["conditions"]:  # prepared cells carry one at least: a column of empty text, a batch of nobody's
        settings["conditions"] = [BLANK]
        settings["from_names"] |= {BLANK: "^()"}
    roles = [settings.get(key) for key in ("cell_type_key", "batch_key", "perturbation_key")]
    read = {*settings["conditions"], *(settings.get("keep") or []), *(settings.get("nuisance") or []), *roles}
    for key in {"numeric", "levels", "fill_missing"} - set(asked):  # of the run: said of columns that are not read
        of = settings.get(key) or {}
        settings[key] = {c: of[c] for c in of if c in read} if isinstance(of, dict) else [c for c in of if c in read]
    source = build(settings | {"_target_": "scsave.data.h5ad.H5AD"}, "data")
    source.keeps_unlabelled = True  # nothing of theirs is learnt
    return source.load(cache)


def written(path: Path, cells: AnnData) -> Path:
    """`path`, with `cells` in it; says so where it held others."""
    if path.is_file():
        print(f"{path}: replaced; out=<folder> keeps both")
    write_h5ad(path, cells)
    return path


def stored(config: RunConfig) -> dict[str, Any]:
    """The config of the run behind `ckpt`, plain."""
    path = whole_folder(checkpoint_run(config.ckpt)) / CONFIG
    if not path.is_file():
        raise UserError(
            f"data.path={config.data.get('path')}: {path} is missing, and with it how the run read its data"
        )
    return OmegaConf.to_container(read_config(path), resolve=True)


USES = {"generate": generate, "predict": predict, "integrate": integrate}
