"""One run, from config to results.json: build, fit, predict, score, record."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave.components import build
from scsave.data.source import DataSource, select_genes
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.files import write_text
from scsave.keys import Columns
from scsave.protocol import Context, Method, Task
from scsave.runs.build import CHECKPOINTS, job_of, make_method
from scsave.runs.config import RunConfig, validated
from scsave.runs.console import print_scores
from scsave.runs.folds import FOLDS, Fold, merged_record, read_fold, run_folder, slug, time_left, write_fold
from scsave.runs.loggers import closing
from scsave.runs.main import command, config_hash, named_on_command_line, overrides, sweep_arguments
from scsave.runs.processes import Crew, own_processes, rank_zero
from scsave.runs.record import FILE as RESULTS
from scsave.runs.record import device_name, peak_rss_mb, write_results
from scsave.runs.serve import USES, use
from scsave.tasks.validation import check_sweep_metric, loss, over_folds

log = logging.getLogger("scsave")
CONFIG, SPLIT = "config.yaml", "split.csv"


def run(cfg: DictConfig, folder: Path) -> float | None:
    """One job of train.py in its folder. Returns the validation score that a sweep optimises, where there is one."""
    if cfg.mode in USES:
        return use(validated(cfg), folder)
    if cfg.mode == "evaluate":
        cfg = _stored(cfg.ckpt, cfg)
    elif cfg.mode == "train" and not cfg.resume and requeued(folder):
        cfg.resume = str(folder)
    if cfg.resume:
        cfg, folder = _stored(cfg.resume, cfg), Path(cfg.resume)
    elif cfg.mode == "train":
        check_data_named(overrides(), cfg.data.name)
    config = validated(cfg)
    if not rank_zero():
        log.setLevel(logging.WARNING)
    processes = config.trainer["devices"] * config.trainer["num_nodes"]
    with own_processes(sweep_arguments(), processes), closing(build(config.logger, "logger"), job_of(cfg, folder)):
        return train(cfg, config, folder)


def check_data_named(given: list[str], default: str) -> None:
    """UserError where a file is named and no data set, lest it be read as the default one."""
    names = {argument.lstrip("+").partition("=")[0] for argument in given if argument != "data.path=null"}
    if "data.path" in names and not names & {"data", "experiment"}:
        raise UserError(
            f"data.path is given, but not whose it is: data=h5ad for a file of your own, data={default} for a copy of that set"
        )


def requeued(folder: Path) -> bool:
    """Has SLURM started this job again, in the folder of a run that it left unfinished?"""
    again = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
    return again and (folder / CONFIG).is_file() and not (folder / RESULTS).is_file()


def _stored(where: str, cfg: DictConfig) -> DictConfig:
    """The config that a run directory was made with; paths, logger and mode are this call's."""
    path = Path(where) / CONFIG
    if not path.is_file():
        raise UserError(f"{where}: no {CONFIG} there; give the folder that a run wrote (outputs/<task>/<data>/...)")
    stored = OmegaConf.load(path)
    for key in ("analysis", "paths", "logger", "mode", "ckpt", "resume", "figures"):
        # a resumed run logs where it did, and draws what it would have
        kept = key == "logger" or (key == "figures" and cfg.resume)
        if not kept or named_on_command_line(key):
            stored[key] = cfg.get(key)
    return stored


def train(cfg: DictConfig, config: RunConfig, folder: Path) -> float | None:
    """Fit (or load) a method on each fold of the split, let the task predict and score, write everything."""
    started = time.perf_counter()
    task: Task = build(config.task, "task")
    source: DataSource = build(config.data, "data")
    task.check(source.roles)
    optimised = check_sweep_metric(config.sweep_metric, task, source.roles) if config.sweep_metric else None
    source = source.fitted(Path(config.paths.cache))
    task.check(source.roles)  # the file that is there may lack what the set usually has
    cells, strategy = source.load(Path(config.paths.cache)), build(config.split, "split")
    folds = strategy.folds(cells, source.roles) if hasattr(strategy, "folds") else {"": strategy}
    asked = stored_command(folder) if cfg.resume else command()
    if config.mode != "evaluate" and rank_zero():
        record_start(cfg, folder, asked)
    done: dict[str, Fold] = {}
    for number, (name, fold_strategy) in enumerate(folds.items(), start=1):
        if name and rank_zero():
            print(f"fold {len(done) + 1} of {len(folds)}: {name} held out{time_left(started, len(done), len(folds))}")
        where = folder / FOLDS / slug(name) if name else folder
        fold = read_fold(where) if name and cfg.resume else None
        if fold is None:
            split = fold_strategy(cells, source.roles, config.seed)
            data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
            if number == len(folds):
                del cells  # a large file's genes that were not chosen
            fold = run_fold(cfg, config, task, source.roles, data, split, where, source.whole_obs)
        if fold is None:
            continue  # the other processes of a distributed run were there to train
        if name and config.mode != "evaluate":
            write_fold(where, fold)
        done[name] = fold
    if not done:
        return None
    outcome = done[""].outcome if "" in done else task.merge({name: fold.outcome for name, fold in done.items()})
    if outcome.write:
        outcome.write(folder)
    if config.figures and outcome.draw:
        outcome.draw(folder / "figures")
    record = merged_record([fold.record for fold in done.values()])
    record["cost"] |= {"peak_rss_mb": peak_rss_mb(), "seconds_total": time.perf_counter() - started}
    record |= {
        "task": task.name,
        "registry": outcome.registry or task.metrics,
        "data": source.name,
        "seed": config.seed,
        "device": device_name(config.trainer["accelerator"]),
        "config_hash": config_hash(cfg),
        "config": OmegaConf.to_container(cfg, resolve=True),
        "folds": [name for name in done if name],
        "folder": str(folder),
        "command": asked,
    }
    if optimised:
        record["validation"] = over_folds([fold.outcome.validation for fold in done.values()])
    path = write_results(folder, outcome, record)
    if config.mode == "train":
        logger = build(config.logger, "logger")
        logger.scored(job_of(cfg, folder), outcome.scores, record["registry"], record.get("validation", {}))
    print_scores(outcome.scores, record["registry"], f"{task.name} on {source.name}, seed {config.seed}")
    print(f"results: {path}")
    if not optimised:
        return None
    print(f"validation cells: {optimised.name} {record['validation'][optimised.name]:.4g} ({optimised.arrow})")
    return loss(optimised, record["validation"])


def run_fold(
    cfg: DictConfig,
    config: RunConfig,
    task: Task,
    columns: Columns,
    data: AnnData,
    split: Split,
    folder: Path,
    whole_obs: Callable[[pd.DataFrame], pd.DataFrame],
) -> Fold | None:
    """One split, `data` having the genes chosen on its training cells: a method fitted, the task run. None if not rank 0."""
    method = make_method(cfg, config, task, columns, data[split.train], folder)
    if task.asks not in method.tasks:
        raise UserError(
            f"baseline={method.name} is for {', '.join(sorted(method.tasks))}; task={task.name} needs another"
        )
    if analysis := config.analysis and build(config.analysis, "analysis"):
        analysis.check(method, columns, data)
    if rank_zero():
        print(f"{task.name} on {columns.name}: {data.n_obs} cells x {data.n_vars} genes, {split.describe()}")
    if config.mode != "evaluate":
        if rank_zero():
            if not cfg.resume:
                # a new run in an old folder starts from nothing
                for old in (CHECKPOINTS, "logs"):
                    shutil.rmtree(folder / old, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            split.save(folder / SPLIT, data.obs_names)
        fit(method, data, split, columns, config, folder)
    crew = None if config.mode == "evaluate" else share_sampling(method)
    if not rank_zero():
        if crew:
            crew.serve(method.sample_units)
        return None
    context = Context(
        data=data,
        columns=columns,
        split=split,
        method=method,
        folder=folder,
        seed=config.seed,
        figures=config.figures,
        whole_obs=whole_obs,
    )
    try:
        outcome = task.run(context)
        if analysis:
            analysis.run(context)
        if config.sweep_metric:
            outcome.validation = task.validate(context)
    finally:
        if crew:
            crew.dismiss()
    record = {
        "method": method.name,
        "split": split.name,
        "split_hash": split.hash,
        "cells": data.n_obs,
        "genes": data.n_vars,
        "cost": dict(method.cost),
        "model": getattr(method, "info", {}),
    }
    return Fold(outcome, record)


def share_sampling(method: Method) -> Crew | None:
    """The processes that trained SAVE, which from now on generate its cells together; None where it was one."""
    if not hasattr(method, "crew"):
        return None
    method.crew = Crew.of_run()
    method.cost["processes"] = method.crew.size if method.crew else 1
    return method.crew


def record_start(cfg: DictConfig, folder: Path, asked: str) -> None:
    """The config beside the run before training, so that an interrupted run can be gone on with.

    Its first line is the command `asked`, which a resumed run can't know otherwise.
    """
    if not cfg.resume:
        shutil.rmtree(folder / FOLDS, ignore_errors=True)
    write_text(folder / CONFIG, f"# {asked}\n" + OmegaConf.to_yaml(cfg, resolve=True))


def stored_command(folder: Path) -> str:
    """The command that began the run in `folder`, "" if it was not kept."""
    first = (folder / CONFIG).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def fit(method: Method, data: AnnData, split: Split, columns: Columns, config: RunConfig, folder: Path) -> None:
    from scsave.method.save import SAVE
    from scsave.training.fitting import Stopped

    started = time.perf_counter()
    try:
        method.fit(data, split, columns, config.seed)
    except Stopped as stopped:
        raise KeyboardInterrupt(f"{stopped}; go on with: python train.py resume={run_folder(folder)}") from None
    method.cost.setdefault("seconds_fit", time.perf_counter() - started)
    if isinstance(method, SAVE) and rank_zero():
        method.save(folder / CHECKPOINTS)
