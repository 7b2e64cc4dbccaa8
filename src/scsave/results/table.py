"""What a table is made of: its rows and what each is for, its columns, costs among them, its entries and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pandas as pd

from scsave import keys
from scsave.metrics.row import Metric
from scsave.results.paper import Reported

FLOOR, AGAIN, CEILING, NO_SKILL, REPORTED = "noise floor", "training cells again", "ceiling", "no skill", "the paper's"
ROLES = {
    "real": FLOOR,
    "train_resample": AGAIN,
    "ceiling": CEILING,
    **dict.fromkeys(("mean", "no_change", "pooled_control", "perturbed_mean", "unintegrated"), NO_SKILL),
}
ORDER = ("", NO_SKILL, FLOOR, AGAIN, CEILING, REPORTED)  # from top to bottom
UNRANKED = (FLOOR, AGAIN, CEILING, REPORTED)
# What a run cost, as columns: label, key of `cost`, divisor. No metrics: they say nothing of the cells and are not ranked.
COSTS = {
    "train_minutes": ("train min", "seconds_fit", 60.0),
    "sample_seconds": ("sample s", "seconds_sample", 1.0),
    "parameters_millions": ("parameters, M", "parameters", 1e6),
    "peak_gb": ("peak GB", "peak_rss_mb", 1024.0),
}


def cost_rows(registry: str) -> dict[str, Metric]:
    """A row for each cost, as the metrics of the task have."""
    fixed = {"task": registry, "space": "the run's device", "best": "min", "aggregate": "pooled", "min_cells": None}
    return {
        name: Metric(
            name=name,
            label=label,
            formula=f"cost.{key}" + (f" / {divisor:g}" if divisor != 1 else ""),
            description="of the whole run, all its routes and folds",
            **fixed,
        )
        for name, (label, key, divisor) in COSTS.items()
    }


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


@dataclass(frozen=True)
class Column:
    label: str  # the data set, with what tells it from the table's others
    group: str
    metric: Metric
    digits: int = 2

    @property
    def ranked(self) -> bool:
        return self.metric.name not in COSTS


@dataclass
class Table:
    registry: str
    protocol: str
    runs: pd.DataFrame  # those that it is made of, with the `column` that each stands in
    columns: list[Column]
    rows: dict[str, str]  # label -> role, in order
    settings: dict[str, str]  # label -> what tells it from other variants of its method
    entries: pd.DataFrame  # index (label, number of the column): mean, sd, n (seeds), low, high, rank
    values: pd.DataFrame  # a line a value: label, number, seed, value, run (its results.json)
    paper: dict[tuple[str, int], Reported]
    notes: list[str] = field(default_factory=list)

    def entry(self, row: str, number: int) -> pd.Series:
        """mean, sd (n - 1), n, low, high, rank (1 is best, NaN: not ranked) of one row in one column."""
        if (row, number) in self.entries.index:
            return self.entries.loc[row, number]
        return pd.Series({"mean": np.nan, "sd": np.nan, "n": 0, "low": np.nan, "high": np.nan, "rank": np.nan})

    def method(self, row: str) -> str:
        """The label of a row without the settings."""
        return row.replace(f" ({self.settings[row]})", "") if self.settings.get(row) else row

    def passed(self, row: str, number: int) -> list[str]:
        """The methods that are beyond this row, where it is the ceiling."""
        column, ceiling = self.columns[number], self.entry(row, number)
        if self.rows[row] != CEILING or not ceiling["n"] or not column.ranked:
            return []
        means = {
            other: round(self.entry(other, number)["mean"], column.digits) for other, r in self.rows.items() if not r
        }
        return [
            other for other, mean in means.items() if column.metric.better(mean, round(ceiling["mean"], column.digits))
        ]

    def parts(self, widest: int = 10) -> list[list[int]]:
        """Numbers of columns that fit beside each other; those of one data set and group stand together."""
        parts: list[list[int]] = [[]]
        for _, group in groupby(range(len(self.columns)), key=lambda n: (self.columns[n].label, self.columns[n].group)):
            block = list(group)
            if parts[-1] and len(parts[-1]) + len(block) > widest:
                parts.append([])
            parts[-1] += block
        return [part[at : at + widest] for part in parts for at in range(0, len(part), widest)]

    def rows_of(self, part: Sequence[int]) -> dict[str, str]:
        """The rows that have an entry, or a number of the paper, in one of the columns."""
        here = {row for row, number in [*self.entries.index, *self.paper] if number in part}
        return {row: role for row, role in self.rows.items() if row in here}
