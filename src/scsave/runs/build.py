"""The method of a run: SAVE, a baseline, or a trained model."""

from __future__ import annotations

from pathlib import Path

from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave.components import build
from scsave.keys import Columns
from scsave.protocol import Method, Task
from scsave.runs.config import RunConfig
from scsave.runs.folds import run_folder
from scsave.runs.loggers import Job
from scsave.runs.main import method_name

CHECKPOINTS = "checkpoints"


def make_method(
    cfg: DictConfig, config: RunConfig, task: Task, columns: Columns, data: AnnData, folder: Path
) -> Method:
    """SAVE, the baseline that is asked for, or in mode=evaluate the trained model. `data`: training cells, nothing else."""
    told = task.decoder_conditions(columns, data.obs)  # refuses cells that the task can't use, for a baseline too
    if config.baseline.get("_target_"):
        return build({k: v for k, v in config.baseline.items() if k != "name"}, "baseline")
    # imported when the data is known to be good: Lightning alone takes seconds
    from scsave.method.save import SAVE
    from scsave.training.fitting import FitOptions

    if config.mode == "evaluate":
        return SAVE.load(Path(config.ckpt) / folder.relative_to(run_folder(folder)))
    logger, job = build(config.logger, "logger"), job_of(cfg, run_folder(folder))
    options = FitOptions(
        folder=folder / CHECKPOINTS,
        trainer=build(config.trainer, "trainer"),
        loggers=lambda stage: logger.build(folder, stage, job),
        callbacks=[build(node, f"callbacks.extra.{name}") for name, node in (config.callbacks.extra or {}).items()],
        checkpoint_every=config.callbacks.checkpoint_every,
    )
    return SAVE(
        backbone=config.backbone,
        likelihood=config.likelihood,
        objective=config.objective,
        solver=config.sampling.solver,
        guidance=config.sampling.guidance,
        blocking=config.blocking,
        training=config.training,
        response=config.response.get(columns.kind),
        conditions=task.conditions(columns),
        decoder_conditions=told,
        networks=task.networks,
        n_axes=task.n_components if task.asks == "batch_correction" else 0,
        options=options,
        cache=Path(config.paths.cache),
    )


def job_of(cfg: DictConfig, folder: Path) -> Job:
    return Job(
        folder=folder,
        task=cfg.task.name,
        data=cfg.data.name,
        method=method_name(cfg),
        experiment=cfg.experiment_name,
        config=OmegaConf.to_container(cfg, resolve=True),
        resumed=bool(cfg.resume),
    )
