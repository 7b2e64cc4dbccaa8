"""One run, from config to results.json: build, fit, predict, score, record."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave.cli import config_hash, method_name
from scsave.components import build
from scsave.data.source import DataSource, select_genes
from scsave.data.split import Split
from scsave.errors import UserError
from scsave.results.console import print_scores
from scsave.results.files import write_h5ad, write_text
from scsave.results.record import device_name, peak_rss_mb, write_results
from scsave.schema import RunConfig, validated
from scsave.tasks.base import Context, Method, Task

log = logging.getLogger("scsave")
CONFIG, SPLIT, CHECKPOINTS = "config.yaml", "split.csv", "checkpoints"


def run(cfg: DictConfig, folder: Path) -> float | None:
    """One job of train.py in its folder. Returns the validation score that a sweep optimises, where there is one."""
    if cfg.mode == "generate":
        return generate(validated(cfg), folder)
    if cfg.mode == "evaluate":
        cfg = _stored(cfg.ckpt, cfg)
    elif cfg.resume:
        cfg, folder = _stored(cfg.resume, cfg), Path(cfg.resume)
    config = validated(cfg)
    return train(cfg, config, folder)


def _stored(where: str, cfg: DictConfig) -> DictConfig:
    """The config that a run directory was made with; paths, logger and mode are this call's."""
    path = Path(where) / CONFIG
    if not path.is_file():
        raise UserError(f"{where}: no {CONFIG} there; give the folder that a run wrote (outputs/<task>/<data>/...)")
    stored = OmegaConf.load(path)
    for key in ("paths", "logger", "mode", "ckpt", "resume", "figures"):
        stored[key] = cfg[key]
    return stored


def train(cfg: DictConfig, config: RunConfig, folder: Path) -> float | None:
    """Fit (or load) a method, let the task predict and score, write everything."""
    started = time.perf_counter()
    task: Task = build(config.task, "task")
    source: DataSource = build(config.data, "data")
    task.check(source)
    cache = Path(config.paths.cache)
    data, split = load_data(config, source, cache)
    method = make_method(cfg, config, task, source, folder, cache)
    if task.name not in method.tasks:
        raise UserError(
            f"baseline={method.name} is for {', '.join(sorted(method.tasks))}; task={task.name} needs another"
        )
    print(f"{task.name} on {source.name}: {data.n_obs} cells x {data.n_vars} genes, {split.describe()}")
    if config.mode != "evaluate":
        if rank_zero():
            record_start(cfg, folder, split, data)
        fit(method, data, split, source, config, folder)
        if not rank_zero():
            return None  # the other processes of a distributed run were there to train
    context = Context(
        data=data, source=source, split=split, method=method, folder=folder, seed=config.seed, figures=config.figures
    )
    outcome = task.run(context)
    cost = dict(method.cost) | {"peak_rss_mb": peak_rss_mb(), "seconds_total": time.perf_counter() - started}
    record = {
        "task": task.name,
        "data": source.name,
        "method": method.name,
        "seed": config.seed,
        "device": device_name(config.trainer["accelerator"]),
        "config_hash": config_hash(cfg),
        "config": OmegaConf.to_container(cfg, resolve=True),
        "split_hash": split.hash,
        "split": split.name,
        "cells": data.n_obs,
        "genes": data.n_vars,
        "cost": cost,
        "model": getattr(method, "info", {}),
        "folder": str(folder),
    }
    path = write_results(folder, outcome, record)
    print_scores(outcome.scores, task.metrics, f"{task.name} on {source.name}, seed {config.seed}")
    print(f"results: {path}")
    return outcome.objective


def rank_zero() -> bool:
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def load_data(config: RunConfig, source: DataSource, cache: Path) -> tuple[AnnData, Split]:
    """Prepared cells with genes chosen on training cells, and their split."""
    data = source.load(cache)
    split: Split = build(config.split, "split")(data, source, config.seed)
    return select_genes(data, split.train, source.n_top_genes, source.min_cells), split


def make_method(
    cfg: DictConfig, config: RunConfig, task: Task, source: DataSource, folder: Path, cache: Path
) -> Method:
    """SAVE, the baseline that is asked for, or in mode=evaluate the trained model."""
    if config.baseline.get("_target_"):
        return build({k: v for k, v in config.baseline.items() if k != "name"}, "baseline")
    # imported when the data is known to be good: Lightning alone takes seconds
    from scsave.save import SAVE
    from scsave.training.fitting import Workshop

    if config.mode == "evaluate":
        return SAVE.load(config.ckpt)
    tags = {"task": task.name, "data": source.name, "method": method_name(cfg)}
    logger = build(config.logger, "logger")
    workshop = Workshop(
        folder=folder / CHECKPOINTS,
        trainer=build(config.trainer, "trainer"),
        loggers=lambda stage: logger.build(folder, stage, tags),
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
        decoder_conditions=task.decoder_conditions(source),
        workshop=workshop,
        cache=cache,
    )


def record_start(cfg: DictConfig, folder: Path, split: Split, data: AnnData) -> None:
    """Config and split beside the run before training, so that an interrupted run can be gone on with."""
    if not cfg.resume:
        # a new run in an old folder starts from nothing
        for old in (CHECKPOINTS, "logs"):
            shutil.rmtree(folder / old, ignore_errors=True)
    write_text(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    split.save(folder / SPLIT, data.obs_names)


def fit(method: Method, data: AnnData, split: Split, source: DataSource, config: RunConfig, folder: Path) -> None:
    from scsave.save import SAVE
    from scsave.training.fitting import Stopped

    started = time.perf_counter()
    try:
        method.fit(data, split, source, config.seed)
    except Stopped as stopped:
        print(f"{stopped}; go on with: python train.py resume={folder}")
        raise KeyboardInterrupt from None
    method.cost.setdefault("seconds_fit", time.perf_counter() - started)
    if isinstance(method, SAVE) and rank_zero():
        method.save(folder / CHECKPOINTS)


def generate(config: RunConfig, folder: Path) -> None:
    """mode=generate: cells from a checkpoint, without the training data."""
    from scsave.models.checkpoint import find_checkpoint

    find_checkpoint(config.ckpt)
    from scsave.save import SAVE

    model = SAVE.load(config.ckpt)
    condition = config.condition or {}
    cells = model.generate(config.n, condition, seed=config.seed, guidance=_asked_guidance(config, model))
    path = folder / "generated.h5ad"
    write_h5ad(path, cells)
    told = ", ".join(f"{k}={v}" for k, v in condition.items()) or "no condition named: drawn over all"
    print(f"{cells.n_obs} cells x {cells.n_vars} genes ({told}): {path}")


def _asked_guidance(config: RunConfig, model: Any) -> Any:
    """The command line's weight if it is not the neutral one, else the model's own."""
    return config.sampling.guidance if config.sampling.guidance != 1.0 else model.guidance
