"""Making a table of results: methods x (data x group x metric), mean and sd over seeds, ranks, the paper's numbers beside."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import PROTOCOLS, Metric
from scsave.results.comparable import MOST_KEYS, agree, comparable, settings, several
from scsave.results.frame import values
from scsave.results.paper import place
from scsave.results.table import COSTS, ORDER, REPORTED, UNRANKED, Column, Table, cost_rows, cost_values, role

OWN_RUN = "(own run)"
# What a table shows unless asked for more: a few of each kind, in registry order.
SHOWN = {
    "generation": ("w1", "mmd2_rbf", "c2st_auc", "recall", "variance_ratio"),
    "batch_correction": ("total", "bio_conservation", "batch_removal"),
    "response": ("pcc", "r2", "pcc_delta", "r2_delta", "w1"),
    "genetic": ("l2_top1000", "pcc_delta_centroid", "discrimination", "energy"),
}


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
    runs, notes = comparable(runs, names)
    if strict:
        _refuse(runs, notes)
    runs["settings"], more = settings(runs)
    columns: list[Column] = []
    found: list[pd.DataFrame] = []
    for label, same in runs.groupby("column", sort=False):
        groups = _groups(same, label, group)
        columns += [Column(label, name, metric) for name in groups for metric in chosen]
        columns += [Column(label, keys.ALL, metric) for metric in cost_rows(registry).values() if costs]
        found += [values(same, protocol, groups, names), *([cost_values(same)] if costs else [])]
    table = Table(registry, protocol, runs, columns, {}, {}, pd.DataFrame(), pd.DataFrame(), {}, [*notes, *more])
    _fill(table, pd.concat(found, ignore_index=True))
    for number, column in enumerate(columns):
        same = runs[runs["column"] == column.label]
        here = table.values[table.values["number"] == number]
        table.paper |= {(row, number): one for row, one in place(same, here, column.metric.name, column.group).items()}
    ours = set(table.values["label"])
    roles = {
        row: role(row) if row in ours else REPORTED for row in [*table.values["label"], *(r for r, _ in table.paper)]
    }
    table.rows = dict(sorted(roles.items(), key=lambda pair: (ORDER.index(pair[1]), *_natural(pair[0]))))
    table.entries["rank"] = np.nan
    for number in range(len(columns)):
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
    own = scores["own"]
    named = own & (scores["settings"] != "")
    scores["label"] = scores["row"].where(~named, scores["row"] + " (" + scores["settings"] + ")")
    scores["train"], scores["written"] = own & (scores["mode"] == "train"), scores["written"].where(own, "")
    scores = scores.sort_values(["own", "train", "written"], ascending=False, kind="stable")
    key = ["number", "label", "seed"]
    once = scores.drop_duplicates([*key, "own"])
    pairs = once[once["own"]].merge(once[~once["own"]], on=key, suffixes=("", "_reference"))
    clash = pairs.loc[~agree(pairs["value"], pairs["value_reference"]), "label"]
    scores.loc[scores["own"] & scores["label"].isin(clash), "label"] += f" {OWN_RUN}"
    kept = scores.drop_duplicates(key)
    pairs = scores[scores["own"]].merge(kept[kept["own"]], on=key, suffixes=("", "_kept"))
    pairs = pairs[~agree(pairs["value"], pairs["value_kept"]) & ~pairs["metric"].isin(COSTS)]
    table.notes += [
        f"{one.label}, seed {one.seed}: {one.run_kept} shown, the newer of two; {one.run} has other values"
        for one in pairs.itertuples()
    ]
    table.settings = dict(zip(kept["label"], kept["settings"].where(kept["own"], ""), strict=True))
    table.values = kept.sort_values(["number", "own", "label", "seed"], kind="stable")
    found = kept.groupby(["label", "number"], sort=False)
    table.entries = found.agg(
        mean=("value", "mean"), sd=("value", "std"), n=("value", "count"), low=("low", "first"), high=("high", "first")
    )


def _rank(table: Table, number: int) -> None:
    """Digits and ranks of a column, from the means of its rows as they are shown."""
    column = table.columns[number]
    values = table.values[(table.values["number"] == number) & table.values["value"].notna()]
    means = {row: float(table.entry(row, number)["mean"]) for row in values["label"].unique()}
    digits = digits_for(max(map(abs, means.values()), default=1.0))
    table.columns[number] = replace(column, digits=digits)
    ranked = {row: mean for row, mean in means.items() if table.rows[row] not in UNRANKED}
    seeds = {
        row: ",".join(map(str, sorted(values.loc[values["label"] == row, "seed"])))
        for row in table.rows
        if row in ranked
    }
    if len(set(seeds.values())) > 1:
        there = "; ".join(f"{row} {found}" for row, found in seeds.items())
        table.notes.append(f"{column.label}: rows are over different seeds, that is, different splits ({there})")
    if len(ranked) < 2 or not column.ranked:
        return
    keyed = {row: round(column.metric.sort_key(round(mean, digits)), 10) for row, mean in ranked.items()}
    for row, key in keyed.items():
        table.entries.loc[(row, number), "rank"] = 1 + sum(other < key for other in keyed.values())


def digits_for(largest: float) -> int:
    """Decimals of a column by its largest value: 2 from 2 to 100, 3 below, three significant digits below 0.1."""
    if not largest > 0:
        return 3
    for least, digits in ((1000, 0), (100, 1), (2, 2), (0.1, 3)):
        if largest >= least:
            return digits
    return min(2 - math.floor(math.log10(largest)), 8)


def _natural(row: str) -> tuple[bool, list[tuple[float, str]]]:
    """SAVE first, numbers by their size: 600 before 1600."""
    parts = re.findall(r"(\d+(?:\.\d+)?)|(\D+)", row)
    return not row.startswith("save"), [(float(number or -1), text.lower()) for number, text in parts]


# -- what is shown


def shown_metrics(registry: str) -> tuple[str, ...]:
    """What a table of this registry shows unless asked for more; of a task of one's own, every metric."""
    return SHOWN.get(registry) or tuple(registry_rows(registry))


def _protocol(runs: pd.DataFrame, asked: str | None) -> str:
    """The one protocol of the table; the headline one unless asked for another."""
    heads = set(runs["headline"])
    if asked is None:
        if len(heads) > 1:
            raise UserError(f"the runs have several headline protocols ({', '.join(sorted(heads))}): give --protocol")
        return heads.pop()
    if "," in asked:
        raise UserError(
            f"--protocol {asked}: a column has one protocol, numbers of two can't stand in it; make two tables"
        )
    known = list(dict.fromkeys(name for scores in runs["scores"] for name in scores))
    if asked not in known:
        raise UserError(f"--protocol {asked}: none of the runs has it; they have: {', '.join(known)}")
    return asked


def _metrics(registry: str, asked: Sequence[str] | None, protocol: str) -> list[Metric]:
    known = registry_rows(registry, protocol)
    if asked is None:
        return [known[name] for name in shown_metrics(registry) if name in known]
    if list(asked) == ["all"]:
        return list(known.values())
    if lost := [name for name in asked if name not in known]:
        raise UserError(
            f"--metrics {','.join(lost)}: no such metric of {registry} in protocol {protocol}; there are: {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys(asked)]


def _groups(same: pd.DataFrame, label: str, asked: Sequence[str] | None) -> list[str]:
    """Groups to show: `all`, for runs with intervals all that are counted, or those that fit the patterns."""
    if asked is None:
        info = same["info"].iloc[0]
        counts = info.get("counts") if "intervals" in info else None
        return [name for name in counts if counts[name]] if counts else [keys.ALL]
    heads = [run.scores[run.headline] for run in same[["scores", "headline"]].itertuples()]
    there = list(dict.fromkeys(name for scores in heads for groups in scores.values() for name in groups))
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
        placed, _ = comparable(same, [metric.name for metric in _metrics(registry, None, PROTOCOLS[0])])
        few = all(len(several(one)) <= MOST_KEYS for _, one in placed.groupby("method"))
        if not folder or few:
            found[table_name(folder, registry)] = same
        else:
            found |= {table_name(name, registry): one for name, one in same.groupby(named[same.index])}
    return found


def table_name(experiment: str, registry: str) -> str:
    """File name of the table of an experiment, or of a folder of them."""
    return "_".join(part for part in (experiment.replace("/", "_"), registry) if part)
