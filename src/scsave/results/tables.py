"""A table of results: methods x (data x group x metric), mean and sd over seeds, ranks, the paper's numbers beside."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import PROTOCOLS, Metric
from scsave.metrics.technical import DEPTH, apart
from scsave.results.comparable import MOST_KEYS, agree, comparable, settings, several
from scsave.results.frame import UNRANKED_COLUMNS, cost_rows, cost_values, depth_of, owns, values
from scsave.results.paper import Reported, place

FLOOR, AGAIN, CEILING, NO_SKILL, REPORTED = "noise floor", "training cells again", "ceiling", "no skill", "the paper's"
ROLES = {"real": FLOOR, "train_resample": AGAIN, "ceiling": CEILING}
ROLES |= dict.fromkeys(("mean", "no_change", "pooled_control", "perturbed_mean", "unintegrated"), NO_SKILL)
ORDER = ("", NO_SKILL, FLOOR, AGAIN, CEILING, REPORTED)  # from top to bottom
UNRANKED = (FLOOR, AGAIN, CEILING, REPORTED)
OWN_RUN = "(own run)"
# What a table shows unless asked for more: a few of each kind, in registry order.
SHOWN = {
    "generation": ("w1", "mmd2_rbf", "c2st_auc", "recall", "variance_ratio"),
    "batch_correction": ("total", "bio_conservation", "batch_removal"),
    "response": ("pcc", "r2", "pcc_delta", "r2_delta", "w1"),
    "genetic": ("l2_top1000", "pcc_delta_centroid", "discrimination", "energy"),
}


def role(row: str) -> str:
    """What a row is for; "" for a method. Variants of a row have its role."""
    return ROLES.get(row.split(" (")[0], "")


def scores_of(run: pd.Series) -> dict[str, dict[str, dict[str, float]]]:
    """row -> group -> metric in the headline protocol: the run's own rows before those that they are read against."""
    scores = run["scores"][run["headline"]]
    order = sorted(scores, key=lambda row: (not owns(run["method"], row), ORDER.index(role(row))))
    return {row: scores[row] for row in order}


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


def make_table(
    runs: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    protocol: str | None = None,
    group: Sequence[str] | None = None,
    costs: bool = False,
    strict: bool = False,
) -> Table:
    """The table of runs that share a registry (a task's metrics).

    `metrics`: names of registry rows, `["all"]` for every one; `group`: patterns of groups of results.json. UserError for
    names that are not there; with `strict`, also where runs of one data set need more than one column.
    """
    (registry,) = runs["registry"].unique()
    protocol = _protocol(runs, protocol)
    chosen = _metrics(registry, metrics, protocol if protocol in PROTOCOLS else PROTOCOLS[0])
    names = [metric.name for metric in chosen]
    columns, notes = comparable(runs, names)
    runs = runs.assign(column=columns).sort_values(["data", "column"], kind="stable")
    if strict:
        _refuse(runs, notes)
    runs["settings"], more = settings(runs)
    table, scores = Table(registry, protocol, runs, [], [*notes, *more]), []
    for label, same in runs.groupby("column", sort=False):
        groups, deeper = _groups(same, label, group), any(apart(depth_of(info)) for info in same["info"])
        table.columns += [Column(label, name, metric) for name in groups for metric in chosen]
        extra = {name: row for name, row in cost_rows(registry).items() if (deeper if name == DEPTH else costs)}
        table.columns += [Column(label, keys.ALL, metric) for metric in extra.values()]
        beside = cost_values(same)
        scores += [values(same, protocol, groups, names), beside[beside["metric"].isin(extra)]]
    _fill(table, pd.concat(scores, ignore_index=True))
    for number, column in enumerate(table.columns):
        same, here = runs[runs["column"] == column.label], table.values[table.values["number"] == number]
        table.paper |= {(row, number): one for row, one in place(same, here, column.metric.name, column.group).items()}
    roles = {row: REPORTED for row, _ in table.paper} | {row: role(row) for row in table.values["label"]}
    table.rows = dict(sorted(roles.items(), key=lambda pair: (ORDER.index(pair[1]), *_natural(pair[0]))))
    for number in range(len(table.columns)):
        _rank(table, number)
    table.notes = list(dict.fromkeys(table.notes))
    return table


def _fill(table: Table, scores: pd.DataFrame) -> None:
    """Values and entries of the table: each reference row once a seed, then the methods' own rows with their settings.

    A row that is a reference row too is one with it, unless the two differ: then it is called `(own run)`. Of two runs of
    one variant and seed a training counts before its evaluation, and the newer; a note says where they differ.
    """
    number = {(column.label, column.group, column.metric.name): n for n, column in enumerate(table.columns)}
    scores = scores.join(table.runs[["column", "settings", "seed", "mode", "written"]], on="run")
    scores["number"] = [number[at] for at in zip(scores["column"], scores["group"], scores["metric"], strict=True)]
    own, named = scores["own"], scores["own"] & (scores["settings"] != "")
    scores["label"] = scores["row"].where(~named, scores["row"] + " (" + scores["settings"] + ")")
    scores["train"], scores["written"] = own & (scores["mode"] == "train"), scores["written"].where(own, "")
    scores = scores.sort_values(["own", "train", "written"], ascending=False, kind="stable")
    key = ["number", "label", "seed"]
    once = scores.drop_duplicates([*key, "own"])
    pairs = once[once["own"]].merge(once[~once["own"]], on=key, suffixes=("", "_other"))
    clash = pairs.loc[~agree(pairs["value"], pairs["value_other"]), "label"]
    scores.loc[scores["own"] & scores["label"].isin(clash), "label"] += f" {OWN_RUN}"
    kept = scores.drop_duplicates(key)
    pairs = scores[scores["own"]].merge(kept[kept["own"]], on=key, suffixes=("", "_other"))
    other = ~agree(pairs["value"], pairs["value_other"]) & ~pairs["metric"].isin(UNRANKED_COLUMNS)
    table.notes += [
        f"{one.label}, seed {one.seed}: {one.run_other} shown, the newer of two; {one.run} has other values"
        for one in pairs[other].itertuples()
    ]
    table.values = kept.sort_values(["number", "own", "label", "seed"], kind="stable")
    table.settings = dict(zip(kept["label"], kept["settings"].where(kept["own"], ""), strict=True))
    found = kept.groupby(["label", "number"], sort=False).agg(
        mean=("value", "mean"), sd=("value", "std"), n=("value", "count"), low=("low", "first"), high=("high", "first")
    )
    table.entries = {at: Entry(*line) for at, line in zip(found.index, found.to_numpy().tolist(), strict=True)}


def _rank(table: Table, number: int) -> None:
    """Digits and ranks of a column, from the means of its rows as they are shown."""
    known = table.values[(table.values["number"] == number) & table.values["value"].notna()]
    sizes = [abs(table.entry(row, number).mean) for row in known["label"].unique()]
    column = table.columns[number] = table.columns[number]._replace(digits=digits_for(max(sizes, default=1.0)))
    ranked = [row for row, role in table.rows.items() if role not in UNRANKED and table.entry(row, number).n]
    seeds = {row: ",".join(map(str, sorted(known.loc[known["label"] == row, "seed"]))) for row in ranked}
    if len(set(seeds.values())) > 1:
        there = "; ".join(f"{row} {found}" for row, found in seeds.items())
        table.notes.append(f"{column.label}: rows are over different seeds ({there})")
    if len(ranked) > 1 and column.ranked:
        place = {row: round(column.metric.sort_key(table.shown(row, number)), 10) for row in ranked}
        for row in ranked:
            rank = 1 + sum(other < place[row] for other in place.values())
            table.entries[row, number] = table.entries[row, number]._replace(rank=rank)


def digits_for(largest: float) -> int:
    """Decimals of a column by its largest value: 2 from 2 to 100, 3 below, three significant digits below 0.1."""
    if not largest > 0:
        return 3
    steps = ((1000, 0), (100, 1), (2, 2), (0.1, 3))
    return next((digits for least, digits in steps if largest >= least), min(2 - math.floor(math.log10(largest)), 8))


def _natural(row: str) -> tuple[bool, list[tuple[float, str]]]:
    """SAVE first, numbers by their size: 600 before 1600."""
    parts = re.findall(r"(\d+(?:\.\d+)?)|(\D+)", row)
    return not row.startswith("save"), [(float(number or -1), text.lower()) for number, text in parts]


def shown_metrics(registry: str) -> tuple[str, ...]:
    """What a table of this registry shows unless asked for more; of a task of one's own, every metric."""
    return SHOWN.get(registry) or tuple(registry_rows(registry))


def _protocol(runs: pd.DataFrame, asked: str | None) -> str:
    """The one protocol of the table; the headline one unless asked for another."""
    heads, known = list(runs["headline"].unique()), list(dict.fromkeys(name for one in runs["scores"] for name in one))
    if asked is None and len(heads) > 1:
        raise UserError(f"the runs have several headline protocols ({', '.join(sorted(heads))}): give --protocol")
    if asked is not None and "," in asked:
        raise UserError(f"--protocol {asked}: a column has one protocol; make two tables")
    if asked is not None and asked not in known:
        raise UserError(f"--protocol {asked}: none of the runs has it; they have: {', '.join(known)}")
    return asked or heads[0]


def _metrics(registry: str, asked: Sequence[str] | None, protocol: str) -> list[Metric]:
    known = registry_rows(registry, protocol)
    if asked is None or list(asked) == ["all"]:
        return [known[name] for name in (known if asked else shown_metrics(registry)) if name in known]
    if lost := [name for name in asked if name not in known]:
        there = f"no such metric of {registry} in protocol {protocol}; there are: {', '.join(known)}"
        raise UserError(f"--metrics {','.join(lost)}: {there}")
    return [known[name] for name in dict.fromkeys(asked)]


def _groups(same: pd.DataFrame, label: str, asked: Sequence[str] | None) -> list[str]:
    """Groups to show: `all`, for runs with intervals all that are counted, or those that fit the patterns."""
    if asked is None:
        counts = same["info"].iloc[0].get("counts") if "intervals" in same["info"].iloc[0] else None
        return [name for name in counts if counts[name]] if counts else [keys.ALL]
    there = list(values(same, same["headline"].iloc[0])["group"].unique())
    if not (found := [name for name in there if any(fnmatchcase(name, pattern) for pattern in asked)]):
        shown = ", ".join(there[:12]) + (" ..." if len(there) > 12 else "")
        raise UserError(f"--group {','.join(asked)}: no such group in {label}; there are: {shown}")
    return found


def _refuse(runs: pd.DataFrame, notes: list[str]) -> None:
    for data, same in runs.groupby("data", sort=False):
        if same["column"].nunique() > 1:
            why = next((note for note in notes if note.startswith(f"{data}: ")), ", ".join(same["column"].unique()))
            raise UserError(
                f"--strict: the runs on {data} can't share a column ({why}); name fewer folders or use --data, "
                "--experiment, --seed; without --strict they get columns of their own"
            )


def plan(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables by name: one for the metrics of each folder of experiments (`paper_generation`), or, where three settings
    can't tell its rows apart, of each experiment (`ablation_blocks_generation`); runs of no experiment have their own.
    """
    named = runs["experiment"].fillna("")
    folders = named.map(lambda name: name.rpartition("/")[0] or name)
    found: dict[str, pd.DataFrame] = {}
    for (folder, registry), same in runs.groupby([folders, "registry"]):
        columns, _ = comparable(same, [metric.name for metric in _metrics(registry, None, PROTOCOLS[0])])
        few = all(len(several(one)) <= MOST_KEYS for _, one in same.assign(column=columns).groupby("method"))
        parts = {folder: same} if few or not folder else dict(list(same.groupby(named[same.index])))
        found |= {table_name(name, registry): one for name, one in parts.items()}
    return found


def table_name(experiment: str, registry: str) -> str:
    """File name of the table of an experiment, or of a folder of them."""
    return "_".join(part for part in (experiment.replace("/", "_"), registry) if part)
