"""One run, from config to results.json: build, fit (or find the weights), predict, score, record, draw."""

import copy
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anndata import AnnData
from omegaconf import DictConfig, OmegaConf

from scsave.components import build
from scsave.compose import catalog
from scsave.data.preprocess import select_genes
from scsave.data.source import DataSource
from scsave.data.splits.split import Split
from scsave.data.splits.strategies import SavedSplit
from scsave.data.targets import with_targets
from scsave.errors import UserError
from scsave.files import FOLDS, RESULTS, relative, slug, sweep, write_text
from scsave.keys import Columns
from scsave.progress import phase, rank_zero, showing
from scsave.protocol import Context, Outcome, Task
from scsave.runs import naming
from scsave.runs.config import RunConfig, validated
from scsave.runs.console import made, print_results, progress_of
from scsave.runs.folds import (
    CHECKPOINTS,
    SPLIT,
    Fold,
    file_as_it_was,
    fit_options,
    fitted,
    job_of,
    merged_record,
    read_fold,
    restored,
    time_left,
    write_fold,
)
from scsave.runs.loggers import closing
from scsave.runs.naming import overrides
from scsave.runs.processes import own_processes
from scsave.runs.record import also_for, device_name, peak_rss_mb, write_results
from scsave.runs.serve import USES, check_keys, use
from scsave.runs.sweep_end import done as done_in_sweep
from scsave.stats.agreement import means_of
from scsave.tasks.validation import check_sweep_metric, loss

log = logging.getLogger("scsave")
# Of a run that is used again: what this call always decides, and what it decides where the command line names it.
_OF_THE_CALL = ("analysis", "paths", "mode", "ckpt", "resume", "figures", "force", "progress")
_WHERE_NAMED = ("logger", "task", "sampling", "trainer")


def run(cfg: DictConfig, folder: Path) -> float | None:
    """One job of train.py in its folder. Returns the validation score that a sweep optimises, where there is one."""
    with showing(*progress_of(cfg)):
        return started(cfg, folder)


def started(cfg: DictConfig, folder: Path) -> float | None:
    """The job as its mode has it."""
    check_keys("resume" if cfg.resume and cfg.mode == "train" else cfg.mode, overrides())
    if cfg.mode in USES:
        return use(validated(cfg), folder)
    if cfg.mode == "evaluate":
        cfg, folder = stored(naming.checkpoint_run(cfg.ckpt), cfg), naming.checkpoint_run(cfg.ckpt)
    elif cfg.mode == "train" and not cfg.resume and requeued(folder):
        cfg.resume = str(folder)
    if cfg.resume:
        cfg, folder = stored(Path(cfg.resume), cfg), Path(cfg.resume)
    elif cfg.mode == "train":
        check_data_named(overrides(), cfg.data.name)
    config = validated(cfg)
    build(config.trainer, "trainer").check()
    if not rank_zero():
        log.setLevel(logging.WARNING)
    processes = config.trainer["devices"] * config.trainer["num_nodes"]
    logger, job = build(config.logger, "logger"), job_of(cfg, folder)
    with own_processes(overrides() if naming.in_sweep() else None, processes), closing(logger, job):
        return train(cfg, config, folder)


def check_data_named(given: list[str], default: str) -> None:
    """UserError where a file is named and no data set, lest it be read as the default one."""
    names = {argument.lstrip("+").partition("=")[0] for argument in given if argument != "data.path=null"}
    if "data.path" in names and not names & {"data", "experiment"}:
        how = f"data=h5ad for a file of your own, data={default} for a copy of that set"
        raise UserError(f"data.path is given, but not whose it is: {how}")


def requeued(folder: Path) -> bool:
    """Has SLURM started this job again, in the folder of a run that it left unfinished?"""
    again = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
    return again and (folder / naming.CONFIG).is_file() and not any(folder.glob(f"scores/*/{RESULTS}"))


def stored(folder: Path, cfg: DictConfig) -> DictConfig:
    """The config that a run directory was made with, and of this call's what it decides."""
    path = folder / naming.CONFIG
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder that a run wrote (outputs/<task>/<data>/...)")
    found = naming.read_config(path)
    always, where_named = set(_OF_THE_CALL), set(_WHERE_NAMED)
    if cfg.resume:  # it is scored as it was to, and logs and draws as the run did unless it is told otherwise
        always, where_named = always - {"figures"}, {"logger", "figures"}
    for key in always | {key for key in where_named if naming.named_on_command_line(key)}:
        found[key] = cfg.get(key)
    return at_home(found, cfg)


def at_home(found: DictConfig, cfg: DictConfig) -> DictConfig:
    """A stored config that caches where this call does; UserError for addresses that no packaged data set has."""

    def cached(node: Any) -> Any:
        if isinstance(node, list):
            return [cached(inner) for inner in node]
        if not isinstance(node, dict):
            return node
        return {key: cfg.paths.cache if key == "cache" and inner else cached(inner) for key, inner in node.items()}

    plain = cached(OmegaConf.to_container(found, resolve=True))
    data = plain.get("data")
    mirrors = data.get("mirrors") if isinstance(data, dict) else None
    if mirrors and mirrors not in catalog("mirrors"):
        raise UserError("data.mirrors of the run's config are those of no data set in configs/data/; train anew")
    return OmegaConf.create(plain)


def train(cfg: DictConfig, config: RunConfig, folder: Path) -> float | None:
    """Fit (or find) a method on each fold of the split, let the task predict and score, write everything."""
    started, cache = time.perf_counter(), Path(config.paths.cache)
    source: DataSource = build(config.data, "data")
    task: Task = build(config.task, "task").for_kind(source.roles.kind)
    task.check(source.roles)
    method, optimised = build(config.method, "method"), None
    if task.asks not in method.tasks:
        able = ", ".join(sorted(method.tasks))
        raise UserError(f"method={method.name} is for {able}; task={task.name} needs another")
    task.parts(method)  # the routes that it names are there
    if config.mode != "evaluate":
        build(config.split, "split")
    if config.sweep_metric:
        optimised = check_sweep_metric(config.sweep_metric, task, method)
    scores = naming.scores_folder(folder, cfg)
    finished = config.mode == "train" and not cfg.resume and not config.force and (scores / RESULTS).is_file()
    if finished and file_as_it_was(source, folder, cache):
        return show_done(scores, config.experiment_name, optimised)
    with phase("reading"):
        source = source.fitted(cache)
        source.keeps_unlabelled = getattr(task, "takes_unlabelled", False)
        task.check(source.roles)  # the file that is there may lack what the set usually has
        cells = source.load(cache)
    columns = with_targets(source.roles, cells.obs)
    folds = folds_of(config, cells, columns, folder)
    asked = stored_command(folder) if cfg.resume or config.mode == "evaluate" else naming.command()
    if config.mode != "evaluate" and rank_zero():
        record_start(cfg, folder, asked)
    done: dict[str, Fold] = {}
    for number, (name, split_of) in enumerate(folds.items(), start=1):
        if name and rank_zero():
            print(f"fold {len(done) + 1} of {len(folds)}: {name} held out{time_left(started, len(done), len(folds))}")
        below = Path(FOLDS) / slug(name) if name else Path()
        anew = config.force or config.mode == "evaluate"
        fold = read_fold(scores / below) if name and not anew else None
        if fold is None:
            split = split_of(cells, columns, config.seed)
            data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
            if number == len(folds):
                del cells  # a large file's genes that were not chosen
            fresh, where = copy.deepcopy(method), scores / below
            context = Context(data, columns, split, fresh, where, config.seed, source.whole_obs)
            fold = run_fold(cfg, config, task, context, folder / below)
        if fold is None:
            continue  # the other processes of a distributed run were there to train
        if name:
            write_fold(scores / below, fold)
        done[name] = fold
    if not done:
        return None
    outcomes = {name: fold.outcome for name, fold in done.items()}
    outcome = outcomes[""] if "" in outcomes else task.merge(outcomes, scores)
    record = merged_record([fold.record for fold in done.values()])
    record["cost"] |= {"peak_rss_mb": peak_rss_mb(), "seconds_total": time.perf_counter() - started}
    record |= identity(cfg, config, task, source) | {"folds": [name for name in done if name]}
    record |= {"command": asked, "folder": str(folder)}
    if optimised:
        record["validation"] = means_of([fold.outcome.validation for fold in done.values()])
    path = write_results(scores, outcome, record)
    finish(cfg, config, scores, outcome, record)
    print(made(scores))
    done_in_sweep(path)
    return None if not optimised else validation_loss(record["validation"], optimised)


def identity(cfg: DictConfig, config: RunConfig, task: Task, source: DataSource) -> dict[str, Any]:
    """What tells a run's results from others."""
    return {
        "task": task.name, "registry": task.metrics, "data": source.name, "seed": config.seed,
        "device": device_name(config.trainer["accelerator"]), "config_hash": naming.config_hash(cfg),
        "training_hash": naming.training_hash(cfg), "config": OmegaConf.to_container(cfg, resolve=True),
    }  # fmt: skip


def folds_of(config: RunConfig, cells: AnnData, columns: Columns, folder: Path) -> dict[str, Callable[..., Split]]:
    """Name of each fold ("" for a single one) and how its split is had: drawn, or in mode=evaluate the run's own."""
    if config.mode == "evaluate":
        saved = {path.parent.name: path for path in sorted((folder / FOLDS).glob(f"*/{SPLIT}"))}
        saved = saved or {"": folder / SPLIT}
        return {name: SavedSplit(path=str(path)) for name, path in saved.items()}
    strategy = build(config.split, "split")
    return strategy.folds(cells, columns) if hasattr(strategy, "folds") else {"": strategy}


def run_fold(cfg: DictConfig, config: RunConfig, task: Task, context: Context, folder: Path) -> Fold | None:
    """One split, the data having the genes chosen on its training cells: fit the method, run the task. None if not rank 0."""
    method, data, split, columns = context.method, context.data, context.split, context.columns
    analysis = config.analysis and build(config.analysis, "analysis")
    if analysis:
        analysis.check(method, task.parts(method), columns, data)
    if rank_zero():
        print(f"{task.name} on {columns.name}: {data.n_obs} cells x {data.n_vars} genes, {split.describe()}")
    options = fit_options(cfg, config, task, method, columns, data[split.train], folder)
    evaluated = config.mode == "evaluate"  # it trains nothing anew, whatever `force` says
    if (config.force and not evaluated) or not restored(method, data, split, folder, options.trainer.device):
        if evaluated:
            raise UserError(f"ckpt={folder}: no trained model there (a method that keeps none is trained again)")
        fitted(method, data, split, columns, config, options, folder)
    elif method.complete(data, split, columns, config.seed, options) and rank_zero():
        method.save(folder / CHECKPOINTS)
    if not rank_zero():
        return None
    outcome = task.run(context)
    if analysis:
        with phase("analysis"):
            analysis.run(context)
    if config.sweep_metric:
        outcome.validation = task.validate(context)
    record = {"method": method.name, "split": split.name, "split_hash": split.hash}
    record |= {"cells": data.n_obs, "genes": data.n_vars, "cost": dict(method.cost), "model": dict(method.info)}
    return Fold(outcome, record)


def finish(cfg: DictConfig, config: RunConfig, scores: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """Pictures from the written files, then the logger and the table."""
    if config.figures:
        from scsave.results.figures import draw_run

        with phase("figures"):
            draw_run(scores)
    if config.mode == "train":
        logger, job = build(config.logger, "logger"), job_of(cfg, Path(record["folder"]))
        logger.scored(job, scores, outcome.scores, record["registry"], record.get("validation", {}))
    print_results(scores / RESULTS)


def show_done(scores: Path, experiment: str | None, optimised: Any) -> float | None:
    """A finished run is not trained again: its table, and where it is."""
    found = also_for(scores / RESULTS, experiment)
    print_results(scores / RESULTS)
    print(f"done before, nothing was trained: {relative(scores / RESULTS)}; force=true trains anew")
    done_in_sweep(scores / RESULTS)
    return None if not optimised else validation_loss(found.get("validation", {}), optimised)


def validation_loss(scores: dict[str, float], metric: Any) -> float:
    """The score that a sweep optimises, printed, as a number that is best when smallest."""
    print(f"validation cells: {metric.name} {scores[metric.name]:.4g} ({metric.arrow})")
    return loss(metric, scores)


def record_start(cfg: DictConfig, folder: Path, asked: str) -> None:
    """The config beside the run before training, so that an interrupted run can be gone on with.

    Its first line is the command `asked`, which a resumed run can't know otherwise.
    """
    sweep(folder)
    if cfg.force:
        shutil.rmtree(folder / FOLDS, ignore_errors=True)
    write_text(folder / naming.CONFIG, f"# {asked}\n" + OmegaConf.to_yaml(cfg, resolve=True))


def stored_command(folder: Path) -> str:
    """The command that began the run in `folder`, "" if it was not kept."""
    first = (folder / naming.CONFIG).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""
