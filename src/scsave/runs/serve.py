"""What a trained run is asked for: mode=generate, predict or integrate, from its checkpoint, without the training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from omegaconf import OmegaConf

from scsave import keys
from scsave.errors import UserError
from scsave.files import write_h5ad, write_text
from scsave.runs.config import RunConfig
from scsave.runs.folds import run_folder
from scsave.runs.main import overrides

if TYPE_CHECKING:
    from scsave.method.save import SAVE


def use(config: RunConfig, folder: Path) -> None:
    """`config.mode`, one of `USES`, its files in `folder`."""
    from scsave.models.checkpoint import find_checkpoint

    find_checkpoint(config.ckpt)  # before what takes seconds to import
    from scsave.method.save import SAVE

    USES[config.mode](config, folder, SAVE.load(config.ckpt))


def generate(config: RunConfig, folder: Path, model: SAVE) -> None:
    """Cells from noise under `condition`."""
    condition = config.condition or {}
    cells = model.generate(config.n, condition, seed=config.seed, guidance=_asked_guidance(config, model))
    path = written(folder / "generated.h5ad", cells)
    told = ", ".join(f"{k}={v}" for k, v in condition.items()) or "no condition named: drawn over all"
    print(f"{cells.n_obs} cells x {cells.n_vars} genes ({told}): {path}")


def predict(config: RunConfig, folder: Path, model: SAVE) -> None:
    """Control cells under each of `perturbations`, and how far each of those is from training."""
    from scsave.method.predict import SUMMARY

    cells = model.predict(
        config.perturbations or [], control_cells(config, model), seed=config.seed, route=config.route
    )
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


def control_cells(config: RunConfig, model: SAVE) -> AnnData | None:
    """At most `n` control cells of `data.path`; None where no path is given.

    The file is read as the run read its own, but for the settings of the command line. Without a column of perturbations
    every cell is control. UserError where none is.
    """
    from scsave.data.perturbations import parse
    from scsave.method.predict import head_of
    from scsave.method.stored_control import drawn
    from scsave.runs.new_cells import asked_settings, new_cells

    asked = asked_settings(overrides(), "data") or {"path": config.data.get("path")}
    if asked.get("path") is None:
        return None
    run, key, control = stored(config)["data"], model.info["perturbation_key"], head_of(model).control
    named, called = asked.pop("perturbation_key", key), str(asked.pop("control", control))  # as the file has them
    columns = asked.pop("columns", None) or run.get("columns") or {}
    asked["columns"] = columns | {key: [named, *columns.get(key, [])]}
    cells = new_cells(run, asked, model.conditions, Path(config.paths.cache))
    if key not in cells.obs:
        print(f"{asked['path']}: no column '{named}', so every cell is taken as control")
        cells.obs[key] = control
    is_control = cells.obs[key].astype(str).map(lambda label: not parse(label, called)).to_numpy()
    if not is_control.any():
        some = ", ".join(map(str, cells.obs[key].astype(str).unique()[:8]))
        raise UserError(f"{asked['path']}: no control cell: no level of '{named}' reads as {called}; found {some}")
    cells.obs[key] = cells.obs[key].astype(str).where(~is_control, control)
    return drawn(cells, is_control, config.seed, config.n)


def integrate(config: RunConfig, folder: Path, model: SAVE, given: list[str] | None = None) -> None:
    """The cells of `data.path` embedded, and their expression corrected; `given` is the command line.

    How the run read its data (or another option of the group that the command picks) is how the new file is read, and its
    `task.route` and `task.reference` hold unless the command says task=batch_correction.
    """
    from scsave.data.raw import rejoined
    from scsave.method.integrate import describe
    from scsave.runs.new_cells import asked_settings, new_cells

    given, run = overrides() if given is None else given, stored(config)
    node = config.data if any(o.startswith("data=") for o in given) else run["data"]
    task = config.task if any(o.startswith("task=") for o in given) else run["task"]
    asked = asked_settings(given, "data")
    cells = new_cells(node, asked, model.conditions, Path(config.paths.cache))
    found = model.integrate(cells, config.seed, reference=task.get("reference"), route=task.get("route", "decode"))
    found.obs = rejoined(found.obs, Path(asked["path"]))
    path = written(folder / "integrated.h5ad", found)
    print(f"{describe(model, cells, found)}: {path}")


def written(path: Path, cells: AnnData) -> Path:
    """`path`, with `cells` in it; says so where it held others."""
    if path.is_file():
        print(f"{path}: replaced; out=<folder> keeps both")
    write_h5ad(path, cells)
    return path


def stored(config: RunConfig) -> dict[str, Any]:
    """The config of the run behind `ckpt`, plain."""
    ckpt = Path(config.ckpt)
    path = run_folder(ckpt.parent.parent if ckpt.is_file() else ckpt) / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"data.path={config.data.get('path')}: {path} is missing, and with it how the run read its data"
        )
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)


def _asked_guidance(config: RunConfig, model: SAVE) -> Any:
    """The command line's weight if it is not the neutral one, else the model's own."""
    return config.sampling.guidance if config.sampling.guidance != 1.0 else model.guidance


USES = {"generate": generate, "predict": predict, "integrate": integrate}
