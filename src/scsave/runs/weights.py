"""A method's weights in a run's folder: fitted there, or found there from an earlier run with the same training."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave import keys
from scsave.components import build
from scsave.data.source import DataSource
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.files import read_json, relative, whole_folder, write_json
from scsave.genes.space import NoVectors
from scsave.keys import Columns
from scsave.progress import phase, rank_zero
from scsave.protocol import Method, Task
from scsave.runs.config import RunConfig
from scsave.runs.loggers import Job

log = logging.getLogger("scsave")
CHECKPOINTS, SPLIT, TRAINED_ON, COST = "checkpoints", "split.csv", "trained_on.json", "cost.json"


def fit_options(cfg: DictConfig, config: RunConfig, task: Task, method: Method, columns: Columns, train: AnnData,
                folder: Path) -> Any:  # fmt: skip
    """What a run gives to a fit: the columns and networks that the task needs, and where and how to train."""
    task.check_cells(columns, train.obs)
    # imported when the data is known to be good: Lightning alone takes seconds
    from scsave.training.options import FitOptions

    logger, job = build(config.logger, "logger"), job_of(cfg, whole_folder(folder))
    return FitOptions(
        parts=task.parts(method), routes=tuple(task.routes_of(method)) if hasattr(task, "routes_of") else (),
        cache=Path(config.paths.cache), folder=folder / CHECKPOINTS, trainer=build(config.trainer, "trainer"),
        loggers=lambda stage: logger.build(folder, stage, job),
        callbacks=[build(node, f"callbacks.extra.{name}") for name, node in (config.callbacks.extra or {}).items()],
        checkpoint_every=config.callbacks.checkpoint_every,
    )  # fmt: skip


def job_of(cfg: DictConfig, folder: Path) -> Job:
    return Job(folder, OmegaConf.to_container(cfg, resolve=True))


def restored(method: Method, data: AnnData, split: Split, folder: Path, device: str) -> bool:
    """Weights of an earlier run, if there are some; UserError where they were trained on other cells than these."""
    if not method.restore(folder / CHECKPOINTS, device):
        return False
    own, model = getattr(method, "vectors", None), getattr(method, "model", None)
    for space in (getattr(holder, "space", None) for holder in (method, model, getattr(model, "closed", None))):
        if own is not None and not isinstance(getattr(space, "vectors", NoVectors(0)), NoVectors):
            space.vectors = build(own, "vectors") if isinstance(own, dict) else own  # as the run's config has them
    known, found = read_json(folder / TRAINED_ON), trained_on(data, split)
    if known and (different := sorted(key for key in found if known.get(key) != found[key])):
        raise UserError(
            f"{folder}: its weights were trained on other data ({', '.join(different)} changed since): cells that it was "
            "trained on could become test cells; train anew with force=true, or give the file as it was"
        )
    method.cost.update(read_json(folder / COST))
    return True


def file_as_it_was(source: DataSource, folder: Path, cache: Path) -> bool:
    """Whether the run in `folder` was trained on the local file as it is now; True where that can't be asked."""
    known = [read_json(path) for path in folder.rglob(TRAINED_ON)]
    if not known or source.path is None or not Path(source.path).is_file():
        return True
    return all(one["checksum"] == source.checksum(cache) for one in known)


def fitted(method: Method, data: AnnData, split: Split, columns: Columns, config: RunConfig, options: Any,
           folder: Path) -> None:  # fmt: skip
    """Fit the method and keep its weights. KeyboardInterrupt, saying how to go on, where it was stopped."""
    from scsave.training.fitting import Stopped

    if rank_zero():
        if not config.resume:  # a new run in an old folder starts from nothing
            for old in (CHECKPOINTS, "logs"):
                shutil.rmtree(folder / old, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        split.save(folder / SPLIT, data.obs_names)
        write_json(folder / TRAINED_ON, trained_on(data, split))
    started = time.perf_counter()
    try:
        with phase("fitting", group=True):
            method.fit(data, split, columns, config.seed, options)
    except Stopped as stopped:
        again = f"python train.py resume={relative(whole_folder(folder))}"
        raise KeyboardInterrupt(f"{stopped}; go on with: {again}") from None
    method.cost.setdefault("seconds_fit", time.perf_counter() - started)
    if rank_zero():
        method.save(folder / CHECKPOINTS)
        write_json(folder / COST, method.cost)


def trained_on(data: AnnData, split: Split) -> dict[str, Any]:
    """What tells the cells of a run from others: the sum of their file, their number, the hash of the split."""
    return {"checksum": data.uns.get(keys.UNS, {}).get("checksum", ""), "cells": int(data.n_obs), "split": split.hash}
