"""What a table is made of: its rows and what each is for, its columns, costs among them, and its entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scsave import keys
from scsave.metrics.row import Metric
from scsave.metrics.technical import DEPTH
from scsave.results.paper import Reported

FLOOR, AGAIN, CEILING, NO_SKILL, REPORTED = "noise floor", "training cells again", "ceiling", "no skill", "the paper's"
ROLES = {"real": FLOOR, "train_resample": AGAIN, "ceiling": CEILING}
ROLES |= dict.fromkeys(("mean", "no_change", "pooled_control", "perturbed_mean", "unintegrated"), NO_SKILL)
ORDER = ("", NO_SKILL, FLOOR, AGAIN, CEILING, REPORTED)  # from top to bottom
UNRANKED = (FLOOR, AGAIN, CEILING, REPORTED)
# What a run cost, as columns: label, key of `cost`, divisor. No metrics: they say nothing of the cells and are not ranked.
COSTS = {
    "train_minutes": ("train min", "seconds_fit", 60.0),
    "sample_seconds": ("sample s", "seconds_sample", 1.0),
    "parameters_millions": ("parameters, M", "parameters", 1e6),
    "peak_gb": ("peak GB", "peak_rss_mb", 1024.0),
}


def depth_row(registry: str) -> Metric:
    """A column, as `COSTS` are, of how much deeper perturbed cells were sequenced than control cells."""
    return Metric(
        name=DEPTH, label="depth ratio", formula="median library of perturbed cells / of control cells", task=registry,
        description="of the group that is furthest from 1; beyond 1.5 part of a change is depth",
        space="counts", best=1.0, aggregate="pooled", min_cells=None,
    )  # fmt: skip


def depth_of(info: dict[str, Any]) -> float:
    """The ratio of depths that is furthest from 1 among a run's groups; NaN where it says none."""
    found = [info.get(DEPTH), *(one.get(DEPTH) for one in (info.get("types") or {}).values())]
    known = [float(one) for one in found if one and one == one]
    return max(known, key=lambda one: max(one, 1 / one), default=float("nan"))


def depth_values(runs: pd.DataFrame) -> pd.DataFrame:
    """As `cost_values`: the ratio of each run, in the line of its method."""
    lines = [
        (run.path, run.method, True, keys.ALL, run.headline, DEPTH, depth_of(run.info))
        for run in runs[["path", "method", "headline", "info"]].itertuples()
    ]
    return pd.DataFrame(lines, columns=["run", "row", "own", "group", "protocol", "metric", "value"])


UNRANKED_COLUMNS = (*COSTS, DEPTH)


def cost_rows(registry: str) -> dict[str, Metric]:
    """A row for each cost, as the metrics of the task have."""
    fixed = {"task": registry, "space": "the run's device", "best": "min", "aggregate": "pooled", "min_cells": None}
    fixed["description"] = "of the whole run, all its routes and folds"
    formulas = {name: f"cost.{key}" + f" / {by:g}" * (by != 1) for name, (_, key, by) in COSTS.items()}
    return {name: Metric(name=name, label=COSTS[name][0], formula=said, **fixed) for name, said in formulas.items()}


def cost_values(runs: pd.DataFrame) -> pd.DataFrame:
    """As `scsave.results.frame.values`: what each run says that it cost, in the line of its method."""
    lines = [
        (run.path, run.method, True, keys.ALL, run.headline, name, float(run.cost.get(key) or np.nan) / divisor)
        for run in runs[["path", "method", "headline", "cost"]].itertuples()
        for name, (_, key, divisor) in COSTS.items()
    ]
    return pd.DataFrame(lines, columns=["run", "row", "own", "group", "protocol", "metric", "value"])


def role(row: str) -> str:
    """What a row is for; "" for a method. Variants of a row have its role."""
    return ROLES.get(row.split(" (")[0], "")


class Column(NamedTuple):
    label: str  # the data set, with what tells it from the table's others
    group: str
    metric: Metric
    digits: int = 2

    @property
    def ranked(self) -> bool:
        return self.metric.name not in UNRANKED_COLUMNS


class Entry(NamedTuple):
    """One row in one column, over seeds."""

    mean: float = np.nan
    sd: float = np.nan  # n - 1 in the denominator; NaN for one seed
    n: int = 0  # seeds with a value
    low: float = np.nan  # bootstrap 95% interval of a single run
    high: float = np.nan
    rank: int | None = None  # 1 is best; None: not ranked


@dataclass
class Table:
    registry: str
    protocol: str
    runs: pd.DataFrame  # those that it is made of, with the `column` that each stands in
    columns: list[Column]
    notes: list[str]
    values: pd.DataFrame = field(default_factory=pd.DataFrame)  # a line a value: label, number, seed, value, run, ...
    rows: dict[str, str] = field(default_factory=dict)  # label -> role, in order
    settings: dict[str, str] = field(default_factory=dict)  # label -> what tells it from other variants of its method
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)  # (label, number of the column)
    paper: dict[tuple[str, int], Reported] = field(default_factory=dict)

    def entry(self, row: str, number: int) -> Entry:
        return self.entries.get((row, number), Entry())

    def shown(self, row: str, number: int) -> float:
        """The mean as it is shown."""
        return round(self.entry(row, number).mean, self.columns[number].digits)

    def passed(self, row: str, number: int) -> list[str]:
        """The methods that are beyond this row, where it is the ceiling."""
        metric, ceiling = self.columns[number].metric, self.rows[row] == CEILING and self.entry(row, number).n
        methods = [other for other, role in self.rows.items() if not role] if ceiling else []
        return [other for other in methods if metric.better(self.shown(other, number), self.shown(row, number))]

    def parts(self, widest: int = 10) -> list[list[int]]:
        """Numbers of columns that fit beside each other; those of one data set and group stand together."""
        parts: list[list[int]] = [[]]
        for _, group in groupby(range(len(self.columns)), key=lambda number: self.columns[number][:2]):
            block = list(group)
            if parts[-1] and len(parts[-1]) + len(block) > widest:
                parts.append([])
            parts[-1] += block
        return [part[at : at + widest] for part in parts for at in range(0, len(part), widest)]

    def rows_of(self, part: Sequence[int]) -> dict[str, str]:
        """The rows that have an entry, or a number of the paper, in one of the columns."""
        here = {row for row, number in [*self.entries, *self.paper] if number in part}
        return {row: role for row, role in self.rows.items() if row in here}
