"""What a run keeps of each fold: the weights, fitted there or found from an earlier run with the same training, and its scores.

The scores lie in a file, so that an interrupted run goes on behind the last fold that is done.
"""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave import keys
from scsave.components import build
from scsave.data.source import DataSource
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.files import numbers, read_json, relative, whole_folder, write_json, write_npz
from scsave.genes.space import NoVectors
from scsave.keys import Columns
from scsave.progress import duration, phase, rank_zero
from scsave.protocol import Method, Outcome, Task
from scsave.runs.config import RunConfig
from scsave.runs.loggers import Job

FILE, ARRAYS = "fold.json", "fold.npz"
CHECKPOINTS, SPLIT, TRAINED_ON, COST = "checkpoints", "split.csv", "trained_on.json", "cost.json"


@dataclass
class Fold:
    """What a task made of one split, and what results.json says of method, split and cost."""

    outcome: Outcome
    record: dict[str, Any]


def write_fold(folder: Path, fold: Fold) -> None:
    """`fold.npz`, then `fold.json`: where the second is, the fold is whole."""
    outcome = fold.outcome
    write_npz(folder / ARRAYS, **outcome.arrays)
    kept = {name: getattr(outcome, name) for name in ("scores", "protocols", "info", "validation")}
    write_json(folder / FILE, kept | {"record": fold.record})


def read_fold(folder: Path) -> Fold | None:
    """The fold that `write_fold` left; None where there is none, or a damaged one, which is scored again."""
    if not (folder / FILE).is_file():
        return None
    try:
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            outcome = Outcome(
                scores=numbers(stored["scores"]),
                protocols=numbers(stored["protocols"]),
                info=stored["info"],
                arrays=dict(arrays),
                validation=numbers(stored.get("validation", {})),
            )
        return Fold(outcome, stored["record"])
    except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile):
        return None


def merged_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of all folds: costs added up, peaks and sizes the largest, one hash over all splits."""
    first = records[0]
    if len(records) == 1:
        return dict(first)
    cost: dict[str, Any] = {}
    for name in dict.fromkeys(key for record in records for key in record["cost"]):
        values = [record["cost"][name] for record in records if record["cost"].get(name) is not None]
        numbers = all(isinstance(value, int | float) for value in values)
        whole = name == "parameters" or "peak" in name or "per_second" in name or not numbers
        cost[name] = (max(values) if numbers else values[0]) if whole else sum(values)
    digest = hashlib.sha256("\n".join(record["split_hash"] for record in records).encode()).hexdigest()
    return first | {"cost": cost, "split_hash": digest, "genes": max(record["genes"] for record in records)}


def time_left(started: float, done: int, total: int) -> str:
    """`; about 4 min 20 s left`, once one fold is done."""
    return f"; about {duration((time.perf_counter() - started) / done * (total - done))} left" if done else ""


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
