"""Columns that are no metrics and not ranked: what each run cost, and how much deeper perturbed cells were sequenced."""

from typing import Any

import numpy as np
import pandas as pd

from scsave import keys
from scsave.metrics.row import Metric
from scsave.metrics.technical import DEPTH

# Label, key of `cost`, divisor.
COSTS = {
    "train_minutes": ("train min", "seconds_fit", 60.0),
    "sample_seconds": ("sample s", "seconds_sample", 1.0),
    "parameters_millions": ("parameters, M", "parameters", 1e6),
    "peak_gb": ("peak GB", "peak_rss_mb", 1024.0),
}
UNRANKED_COLUMNS = (*COSTS, DEPTH)


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
    """As `scsave.results.frame.values`: what each run says in these columns, in the line of its method."""
    found = {name: [float(one.get(key) or np.nan) / by for one in runs["cost"]] for name, (_, key, by) in COSTS.items()}
    found[DEPTH] = [depth_of(info) for info in runs["info"]]
    table = pd.DataFrame({"run": runs["path"], "row": runs["method"], "protocol": runs["headline"], **found})
    long = table.melt(["run", "row", "protocol"], var_name="metric")
    return long.assign(own=True, group=keys.ALL)
