"""What a trained run is asked for: `mode=generate` and `mode=predict`, from its checkpoint, without the training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from omegaconf import OmegaConf

from scsave.components import build
from scsave.errors import UserError
from scsave.results.files import write_h5ad, write_text
from scsave.results.folds import run_folder
from scsave.schema import RunConfig

if TYPE_CHECKING:
    from scsave.save import SAVE


def use(config: RunConfig, folder: Path) -> None:
    """`config.mode`, one of `USES`, its files in `folder`."""
    from scsave.models.checkpoint import find_checkpoint

    find_checkpoint(config.ckpt)  # before what takes seconds to import
    from scsave.save import SAVE

    USES[config.mode](config, folder, SAVE.load(config.ckpt))


def generate(config: RunConfig, folder: Path, model: SAVE) -> None:
    """Cells from noise under `condition`."""
    condition = config.condition or {}
    cells = model.generate(config.n, condition, seed=config.seed, guidance=_asked_guidance(config, model))
    path = folder / "generated.h5ad"
    write_h5ad(path, cells)
    told = ", ".join(f"{k}={v}" for k, v in condition.items()) or "no condition named: drawn over all"
    print(f"{cells.n_obs} cells x {cells.n_vars} genes ({told}): {path}")


def predict(config: RunConfig, folder: Path, model: SAVE) -> None:
    """Control cells under each of `perturbations`, and how far each of those is from training."""
    from scsave.predict import SUMMARY

    cells = model.predict(config.perturbations or [], control_cells(config), seed=config.seed, route=config.route)
    table = cells.uns[SUMMARY]
    write_h5ad(folder / "predictions.h5ad", cells)
    write_text(folder / f"{SUMMARY}.csv", table.to_csv())
    for name, row in table.iterrows():
        how = "seen in training" if row["in_training"] else "all of its genes seen in training"
        if row["unseen_genes"]:
            how = f"nearest training gene {row['nearest_gene'] or '-'}, {row['distance']:.2f} times the usual distance"
        print(f"{name}: {how}; changes most: {row['strongest']}")
        if row["warning"]:
            print(f"warning: {name}: {row['warning']}")
    print(f"{len(table)} perturbations x {table['cells'].iloc[0]} control cells: {folder / 'predictions.h5ad'}")


def control_cells(config: RunConfig) -> AnnData | None:
    """At most `n` control cells of `data.path`, read as the run read its own data; None where no path is given."""
    path = config.data.get("path")
    if path is None:
        return None
    from scsave.response.stored_control import drawn

    ckpt = Path(config.ckpt)
    stored = run_folder(ckpt.parent.parent if ckpt.is_file() else ckpt) / "config.yaml"
    if not stored.is_file():
        raise UserError(f"data.path={path}: {stored} is missing, and with it how the run read its data")
    node: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(stored).data, resolve=True)
    source = build(node | {"path": path}, "data")
    data = source.load(Path(config.paths.cache))
    is_control = (data.obs[source.perturbation_key].astype(str) == source.control).to_numpy()
    return drawn(data, is_control, config.seed, config.n)


def _asked_guidance(config: RunConfig, model: SAVE) -> Any:
    """The command line's weight if it is not the neutral one, else the model's own."""
    return config.sampling.guidance if config.sampling.guidance != 1.0 else model.guidance


USES = {"generate": generate, "predict": predict}
