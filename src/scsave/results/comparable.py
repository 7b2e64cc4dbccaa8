"""Which runs may share a column of a table, and which settings tell their rows apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scsave.results.frame import owns

AGREE = 1e-3  # relative: reference rows of one split that differ by more were not scored alike
MOST_KEYS = 3  # settings that a row is named by; with more, by the experiment, else by what departs from the usual
# Settings of the task that belong to the method: all others say what is scored, and how.
METHOD_SIDE = ("name", "route", "routes", "nuisance", "reference")
# Parts of the config that SAVE is made of, for a file whose `method` node does not hold them.
MODEL = ("backbone", "likelihood", "objective", "sampling", "blocking", "training", "response", "trainer")


def agree(one: Any, two: Any) -> Any:
    """Whether values of one thing are the same up to the machine; missing and missing are."""
    one, two = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    close = np.abs(one - two) <= np.maximum(AGREE * np.maximum(np.abs(one), np.abs(two)), 1e-9)
    return close | (np.isnan(one) & np.isnan(two))


def question(runs: pd.DataFrame) -> pd.DataFrame:
    """Settings of data, split and scoring, a column each: numbers of runs that differ here answer different questions."""
    flat = runs.filter(regex=r"^config\.(task|data|split)\.").copy()
    for kind in ("level", "genes"):  # task=perturbation holds the settings of both kinds of it
        other = [key for key in flat if key.startswith(f"config.task.{kind}.")]
        flat.loc[runs["kind"].notna() & (runs["kind"] != kind), other] = None
    kept = [key for key in flat if not (key.startswith("config.task.") and key.split(".")[-1] in METHOD_SIDE)]
    return pd.concat([runs[["registry", "data", "cells", "split"]], flat[kept]], axis=1)


def variant(runs: pd.DataFrame) -> pd.DataFrame:
    """Settings of the method that can change its numbers, a column each."""
    sides = "|".join(METHOD_SIDE[1:])
    node = (
        "method|baseline" if any(key.startswith("config.method.") for key in runs) else "|".join(["baseline", *MODEL])
    )
    flat = runs.filter(regex=rf"^config\.({node})\.|^config\.task\.(.*\.)?({sides})$").copy()
    if "config.baseline._target_" in flat:
        # a baseline is its own node: it does not read the settings that SAVE is made of
        model = [key for key in flat if key.split(".")[1] in MODEL]
        flat.loc[flat["config.baseline._target_"].notna(), model] = None
    return flat


def differing(flat: pd.DataFrame) -> list[str]:
    """Settings with more than one value, a missing one counting; below a `_target_` that differs, only it.

    Of settings that end alike and always have the same value (`split.hold_out` is `task.hold_out`), the first.
    """
    text = flat.map(_text)
    keys = [key for key in text if text[key].nunique() > 1]
    seen: dict[tuple, str] = {}
    for key in keys:
        seen.setdefault((key.rsplit(".", 1)[-1], *text[key]), key)
    keys = [key for key in keys if key in seen.values()]
    nodes = tuple(key.removesuffix("_target_") for key in keys if key.endswith("._target_"))
    top = [key for key in keys if key.endswith("._target_") or not key.startswith(nodes)]
    return top if len(text[top].drop_duplicates()) == len(text[keys].drop_duplicates()) else keys


def told(one: pd.Series, shown: Sequence[str], keys: Sequence[str] = ()) -> str:
    """`block_size=1600, steps=5`: the values of `shown`, by the shortest names that tell them from the others of `keys`."""
    ends = {key: f".{key.removesuffix('._target_')}" for key in [*shown, *keys]}
    found = []
    for key in shown:
        parts = ends[key].split(".")[1:]
        names = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        name = next(
            n for n in names if sum(end.endswith(f".{n}") for end in ends.values()) == 1 or f".{n}" == ends[key]
        )
        value = _text(one.get(key))
        found.append(f"{name}={value.rsplit('.', 1)[-1] if key.endswith('._target_') else value}")
    return ", ".join(found)


def _text(value: Any) -> str:
    return "null" if pd.isna(value) else str(value)


def comparable(runs: pd.DataFrame, metrics: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The runs, sorted, with the `column` that each may stand in; and notes. `metrics` are those that will be shown.

    Other settings of data, split and scoring, and other versions of a metric, are other columns, named by what differs.
    Where the runs of *one seed* have other splits, other genes or other reference rows, nothing tells which seeds belong
    together: then each split is a column of its own, and a note says why.
    """
    asked = question(runs)
    versions = pd.DataFrame([{m: v.get(m, 1) for m in metrics} for v in runs["metric_versions"]], index=runs.index)
    groups = pd.concat([asked, versions], axis=1).map(_text).agg("\n".join, axis=1)
    runs, notes, part_of = runs.assign(column=""), [], {}
    for _, same in runs.groupby(groups, sort=False):
        clusters, why = _by_split(same, metrics)
        labels: list[str] = []
        for cluster in clusters:
            first = cluster[0]
            labels.append(f"seed {first.seed}, split {first.split_hash[:8]}" if why else "")
            again = labels.count(labels[-1])
            label = labels[-1] + (f", reference rows {again}" if again > 1 else "")
            part_of |= dict.fromkeys((run.path for run in cluster), (first.path, label))
        notes += [f"{same['data'].iloc[0]}: one column for each split, no mean over seeds: {why}"] if why else []
    firsts = list(dict.fromkeys(part_of[path] for path in runs.index))
    for data in runs["data"].unique():
        same = [(path, label) for path, label in firsts if runs.at[path, "data"] == data]
        here = [path for path, _ in same]
        shown = differing(asked.loc[here])
        shown = [key for key in shown if key != "cells" or len(shown) == 1]  # follows from the other settings
        varied = [metric for metric in metrics if versions.loc[here, metric].nunique() > 1]
        for path, label in same:
            version = ", ".join(f"{metric} v{versions.at[path, metric]}" for metric in varied)
            parts = [part for part in (told(asked.loc[path], shown), version, label) if part]
            members = [one for one, (first, _) in part_of.items() if first == path]
            runs.loc[members, "column"] = f"{data} ({'; '.join(parts)})" if parts else data
    return runs.sort_values(["data", "column"], kind="stable"), notes


def _by_split(same: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[list[Any]], str]:
    """Runs of one question in clusters with one split and the same reference rows for each seed; why they are several."""
    clusters: list[list[Any]] = []
    why = ""
    wanted = ["path", "seed", "split_hash", "genes", "method", "headline", "scores"]
    for run in same[wanted].itertuples(index=False):
        rivals = [cluster for cluster in clusters if cluster[0].seed == run.seed]
        reasons = [next(filter(None, (_apart(other, run, metrics) for other in rival)), "") for rival in rivals]
        if "" in reasons:
            rivals[reasons.index("")].append(run)
        else:
            clusters.append([run])
            why = why or next(iter(reasons), "")
    return (clusters, why) if why else ([[run for cluster in clusters for run in cluster]], "")


def _apart(a: Any, b: Any, metrics: Sequence[str]) -> str:
    """Why two runs of one seed are not about the same cells scored alike; "" if they are."""
    for key in ("split_hash", "genes"):
        one, two = getattr(a, key), getattr(b, key)
        if one != two:
            return f"seed {a.seed} has {key} {str(one)[:8]} in {a.path} and {str(two)[:8]} in {b.path}"
    rows = [row for row in a.scores[a.headline] if row in b.scores[b.headline]]
    for protocol, scores in a.scores.items():
        for row in (row for row in rows if not owns(a.method, row) and not owns(b.method, row)):
            for metric in metrics:
                one, two = (
                    s.get(row, {}).get("all", {}).get(metric, np.nan) for s in (scores, b.scores.get(protocol, {}))
                )
                if not agree(one, two):
                    there = f"{row} has {metric} {one:.6g} in {a.path} and {two:.6g} in {b.path}"
                    return f"seed {a.seed}: row {there} ({protocol})"
    return ""


def several(runs: pd.DataFrame) -> list[str]:
    """Settings of a method's runs that differ within a column."""
    return list(
        dict.fromkeys(key for _, same in runs.groupby("column", sort=False) for key in differing(variant(same)))
    )


def settings(runs: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """What tells each run's rows from those of other variants of its method in its column, "" where nothing has to; notes.

    Up to three settings are all named. Of more, the experiments' names are taken where they tell the variants apart; else
    each row names the settings in which it departs from the value that most variants have.
    """
    found, notes = pd.Series("", runs.index), []
    for method, same in runs.groupby("method", sort=False):
        flat, keys = variant(same), several(same)
        text = flat[keys].map(_text)
        pairs = pd.concat([same[["column", "experiment"]], text], axis=1).drop_duplicates()
        if not keys and (others := differing(flat)):
            more = f" and {len(others) - 6} more" if len(others) > 6 else ""
            names = ", ".join(key.removeprefix("config.") for key in others[:6])
            notes.append(f"{method}: settings differ between data sets ({names}{more})")
        elif len(keys) <= MOST_KEYS:
            found[same.index] = [told(one, keys) for _, one in flat.iterrows()]
        elif pairs["experiment"].notna().all() and not pairs.duplicated(["column", "experiment"]).any():
            found[same.index] = same["experiment"]
        else:
            usual = text.drop_duplicates().agg(lambda column: max(column, key=list(column).count))
            found[same.index] = [
                told(one, [key for key in keys if text.at[path, key] != usual[key]], keys)
                for path, one in flat.iterrows()
            ]
            notes.append(f"{method}: rows name the settings that are not as in most variants, {told(usual, keys)}")
    return found, notes
