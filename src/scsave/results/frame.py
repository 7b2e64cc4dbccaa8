"""All results.json files below a folder as data frames: one line a run, one tidy line a score; and columns that are no metrics
and not ranked: what each run cost, and how much deeper perturbed cells were sequenced."""

import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsave import keys
from scsave.errors import UserError
from scsave.files import FOLDS, RESULTS
from scsave.metrics.row import Metric
from scsave.metrics.technical import DEPTH

Names = Sequence[str] | None
SCHEMA = 1  # the one that scsave.runs.record writes
HEADLINE = "headline"  # the protocol of a task that has no others
TEXTS = ("task", "registry", "data", "method", "split", "split_hash", "config_hash")
# Columns of nested values.
OBJECTS = ("config", "scores", "info", "cost", "versions", "metric_versions", "sources", "also_for")
_OPTIONAL = ("command", "git_commit", "device", "cells", "genes", "sources", "also_for")
# Where files lie, what data are called in prose, and the machine: no number depends on them.
_NO_SETTING = {
    "path", "mirrors", "citation", "licence", "cache", "accelerator", "devices", "num_nodes", "num_workers", "strategy",
    "log_every", "profiler", "detect_anomaly", "options",
}  # fmt: skip
# Label, key of `cost`, divisor.
COSTS = {
    "train_minutes": ("train min", "seconds_fit", 60.0),
    "sample_seconds": ("sample s", "seconds_sample", 1.0),
    "parameters_millions": ("parameters, M", "parameters", 1e6),
    "peak_gb": ("peak GB", "peak_rss_mb", 1024.0),
}
UNRANKED_COLUMNS = (*COSTS, DEPTH)


def read(folders: Iterable[Path | str], damaged: list[str] | None = None, **wanted: Any) -> pd.DataFrame:
    """One line for each run below `folders` (or file named itself) that fits, indexed and sorted by its results.json.

    Columns: what the file says (docs/results.md), `config.<key>` for every setting, and `scores[protocol][row][group]
    [metric]`, the headline protocol first. `wanted`: a value or several for `task`, `data`, `method`, `experiment` or
    `seed`; texts may have shell wildcards. UserError for a folder that is not there, and for a damaged file; where
    `damaged` is given, its line goes there and the file is left out.
    """
    records = []
    for path in sorted({file.resolve(): file for folder in folders for file in _files(Path(folder))}.values()):
        try:
            records.append(_record(path))
        except UserError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    runs = frame(records)
    for key, value in wanted.items():
        if value is not None:
            runs = fitting(runs, key, [value] if isinstance(value, str | int) else list(value))
    return runs


def fitting(runs: pd.DataFrame, key: str, values: list[Any]) -> pd.DataFrame:
    """The runs of which the column `key` is one of `values`, patterns of a shell; None or "" is what is not set.

    A run that several experiments asked for is one of each: those that `experiment` names find it under the name asked for.
    """
    patterns = ["" if one is None else str(one) for one in values]
    there = runs[key] if key in runs else pd.Series(None, runs.index, dtype=object)
    more = runs["also_for"] if key == "experiment" else [None] * len(runs)
    names = [["" if pd.isna(one) else str(one), *(also or ())] for one, also in zip(there, more, strict=True)]
    found = [[n for n in own if any(bool(p) == bool(n) and fnmatchcase(n, p) for p in patterns)] for own in names]
    runs = runs.loc[pd.Series(list(map(bool, found)), runs.index, dtype=bool)]
    return runs.assign(experiment=[own[0] or None for own in found if own]) if key == "experiment" else runs


def frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The data frame of `read` from what `parsed` made of each file."""
    runs = pd.DataFrame(records, columns=list(records[0]) if records else [*TEXTS, "experiment", "seed"], dtype=object)
    if not records:
        return runs
    flat = pd.json_normalize([{"config": _whole_guidance(record["config"])} for record in records])
    plain = {key: map(_plain, flat[key]) for key in flat if not is_no_setting(key)}
    return pd.concat([runs, pd.DataFrame(plain, dtype=object)], axis=1).set_index("path", drop=False)


def _whole_guidance(node: Any) -> Any:
    """A config in which guidance weights of columns are one setting, `cell_type:1.5+batch:1`."""
    if not isinstance(node, dict):
        return node
    if isinstance(given := node.get("guidance"), dict):
        node = node | {"guidance": "+".join(f"{name}:{weight:g}" for name, weight in given.items())}
    return {key: _whole_guidance(value) for key, value in node.items()}


def is_no_setting(key: str) -> bool:
    """Whether no number depends on this (dotted) key of a config: paths, what data are called, the machine."""
    return bool(_NO_SETTING & set(key.split(".")))


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that holds runs (outputs/, or a part of it)")
    return [path for path in folder.rglob(RESULTS) if FOLDS not in path.relative_to(folder).parts]


def _record(path: Path) -> dict[str, Any]:
    """One file, checked. UserError names a file that is damaged, lacks a key, or has another schema."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: can't be read as results.json ({error}); remove it or run it again") from None
    return parsed(content, path)


def parsed(content: Any, path: Path | str) -> dict[str, Any]:
    """What one results.json holds, by the columns of `read`; `path` names it. UserError as for a file."""
    found = content.get("schema") if isinstance(content, dict) else type(content).__name__
    if found != SCHEMA:
        raise UserError(f"{path}: has schema {found}, this version reads {SCHEMA}; run it again")
    if missing := [key for key in (*TEXTS, "seed", "config", "metrics") if key not in content]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; it is damaged or older than this version: run it again")
    try:
        info, config = content.get("info") or {}, dict(content["config"])
        headline = info.get("headline_protocol", HEADLINE)
        return {
            "path": str(path), **{key: str(content[key]) for key in TEXTS},
            **{key: content.get(key) for key in _OPTIONAL}, "kind": content.get("kind") or info.get("kind"),
            "seed": int(content["seed"]), "written": content.get("written") or "",
            "experiment": content.get("experiment_name") or config.get("experiment_name"),
            "mode": config.get("mode", "train"), "headline": headline, "config": config,
            "scores": _floats({headline: content["metrics"]} | (content.get("protocols") or {}), 4), "info": info,
            **{key: dict(content.get(key) or {}) for key in ("cost", "versions", "metric_versions")},
        }  # fmt: skip
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: a value is not what docs/results.md says ({error}); run it again") from None


def _floats(node: Any, depth: int) -> Any:
    """Scores as floats, `depth` levels down; null is how NaN was written."""
    if depth:
        return {key: _floats(value, depth - 1) for key, value in node.items()}
    return float("nan") if node is None else float(node)


def _plain(value: Any) -> Any:
    """A setting that can be compared: lists as text, 1.0 as 1, what is missing as None."""
    if isinstance(value, list):
        return "+".join(map(str, value))
    if pd.isna(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def weights_folder(folder: Path) -> Path:
    """The run's folder (weights, split.csv, logs), of which `folder` is that of some scores."""
    return folder.parent.parent if folder.parent.name == "scores" else folder


def owns(method: str, row: str) -> bool:
    """Whether a row is the method's own: its name, `<name>_<route>` for routes beside the headline one, or `combined`."""
    return row in (method, keys.COMBINED) or row.startswith(f"{method}_")


def values(
    runs: pd.DataFrame, protocol: str | None = None, groups: Names = None, metrics: Names = None
) -> pd.DataFrame:
    """One line a score: run (its path), row, own, group, protocol, metric, value, low and high (bootstrap interval).

    Everything that the files hold; or, for names that are given, exactly those for each row, NaN where a file has none.
    """

    def lines() -> Iterator[tuple]:
        for run in runs[["path", "method", "headline", "scores", "info"]].itertuples(index=False):
            for name in run.scores if protocol is None else [protocol]:
                scores = run.scores.get(name, {})
                for row in scores if protocol is None else run.scores[run.headline]:
                    for group in scores[row] if groups is None else groups:
                        found = scores.get(row, {}).get(group, {})
                        bounds = run.info.get("intervals", {}).get(row, {}).get(group, {})
                        for metric in found if metrics is None else metrics:
                            value, pair = found.get(metric, np.nan), bounds.get(metric) or (None, None)
                            yield run.path, row, owns(run.method, row), group, name, metric, value, *pair

    frame = pd.DataFrame(lines(), columns=["run", "row", "own", "group", "protocol", "metric", "value", "low", "high"])
    return frame.astype({"own": bool, "value": float, "low": float, "high": float})


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """`values` of all that the files hold, each line with its run's columns and settings (as categories)."""
    return values(runs).join(runs.drop(columns=list(OBJECTS)).astype("category"), on="run")


def cost_rows(registry: str) -> dict[str, Metric]:
    """A row for each of these columns, as the metrics of the task have."""
    fixed = {"task": registry, "space": "the run's device", "best": "min", "aggregate": "pooled", "min_cells": None}
    fixed["description"] = "of the whole run, all its routes and folds"
    formulas = {name: f"cost.{key}" + f" / {by:g}" * (by != 1) for name, (_, key, by) in COSTS.items()}
    found = {name: Metric(name=name, label=COSTS[name][0], formula=said, **fixed) for name, said in formulas.items()}
    depth = {"label": "depth ratio", "formula": "median library of perturbed cells / of control cells", "best": 1.0}
    depth["description"] = "of the group that is furthest from 1; beyond 1.5 part of a change is depth"
    return found | {DEPTH: Metric(name=DEPTH, **fixed | depth | {"space": "counts"})}


def depth_of(info: dict[str, Any]) -> float:
    """The ratio of depths that is furthest from 1 among a run's groups; NaN where it says none."""
    found = [info.get(DEPTH), *(one.get(DEPTH) for one in (info.get("types") or {}).values())]
    known = [float(one) for one in found if one and one == one]
    return max(known, key=lambda one: max(one, 1 / one), default=float("nan"))


def cost_values(runs: pd.DataFrame) -> pd.DataFrame:
    """As `values`: what each run says in these columns, in the line of its method."""
    found = {name: [float(one.get(key) or np.nan) / by for one in runs["cost"]] for name, (_, key, by) in COSTS.items()}
    found[DEPTH] = [depth_of(info) for info in runs["info"]]
    table = pd.DataFrame({"run": runs["path"], "row": runs["method"], "protocol": runs["headline"], **found})
    long = table.melt(["run", "row", "protocol"], var_name="metric")
    return long.assign(own=True, group=keys.ALL)
