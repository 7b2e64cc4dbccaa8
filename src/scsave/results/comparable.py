"""Which runs may share a column of a table, and which settings tell their rows apart."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from scsave import keys
from scsave.components import slot_of
from scsave.compose import config_folder
from scsave.results.frame import owns

AGREE = 1e-3  # relative: reference rows of one split that differ by more were not scored alike
MOST_KEYS = 3  # settings that a row is named by; with more, by the experiment, else by what departs from the usual
# Settings of the task that belong to the method: all others say what is scored, and how.
METHOD_SIDE = r"^config\.task\.(.*\.)?(route|routes|nuisance|reference)$"
NEITHER_SIDE = r"^config\.task\.(name$|.*\breferences\.)"


def agree(one: Any, two: Any) -> Any:
    """Whether values of one thing are the same up to the machine; missing and missing are."""
    one, two = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    close = np.abs(one - two) <= np.maximum(AGREE * np.maximum(np.abs(one), np.abs(two)), 1e-9)
    return close | (np.isnan(one) & np.isnan(two))


def question(runs: pd.DataFrame) -> pd.DataFrame:
    """Settings of data, split and scoring, a column each: numbers of runs that differ here answer different questions."""
    flat = runs.filter(regex=r"^config\.(task|data|split)\.").copy()
    flat = flat.drop(columns=[*flat.filter(regex=METHOD_SIDE), *flat.filter(regex=NEITHER_SIDE)])
    for kind in ("level", "genes"):  # task=perturbation holds the settings of both kinds of it
        other = runs["kind"].notna() & (runs["kind"] != kind)
        flat.loc[other, list(flat.filter(regex=rf"^config\.task\.{kind}\."))] = None
    return pd.concat([runs[["registry", "data", "cells", "split"]], flat], axis=1)


def variant(runs: pd.DataFrame) -> pd.DataFrame:
    """Settings of the method that can change its numbers, a column each; the trainer's where it trains."""
    flat = runs.filter(regex=rf"^config\.(method|trainer)\.|{METHOD_SIDE}").copy()
    trained = flat.filter(regex=r"^config\.method\.training\.").notna().any(axis=1)
    flat.loc[~trained, list(flat.filter(regex=r"^config\.trainer\."))] = None
    return flat


def differing(flat: pd.DataFrame) -> list[str]:
    """Settings with more than one value, a missing one counting; below a `_target_` that differs, only it.

    Of settings that end alike and always have the same value (`split.hold_out` is `task.hold_out`), the first; not one that
    some variants lack and that follows from another (`vectors`, which `blocking=random` does not take).
    """
    text = flat.map(_text)
    keys = [key for key in text if text[key].nunique() > 1]
    first = {(key.rsplit(".", 1)[-1], *text[key]): key for key in reversed(keys)}
    keys = [key for key in keys if key in first.values()]
    nodes = tuple(key.removesuffix("_target_") for key in keys if key.endswith("._target_"))
    top = [key for key in keys if key.endswith("._target_") or not key.startswith(nodes)]
    if len(text[top].drop_duplicates()) < len(text[keys].drop_duplicates()):
        return keys
    # a part that some variants lack, for another setting says whether it is there
    whole = [key for key in top if not (text[key] == "null").any()]
    return [
        key
        for key in top
        if key in whole
        or not key.endswith("._target_")
        or not any(text.groupby(one)[key].nunique().max() == 1 for one in whole)
    ]


def told(one: Mapping[str, Any] | pd.Series, shown: Sequence[str], keys: Sequence[str] = ()) -> str:
    """`block_size=1600, steps=5`: the values of `shown`, by the shortest names that tell them from the others of `keys`."""
    ends = {key: f".{key.removesuffix('._target_')}" for key in [*shown, *keys]}
    found = []
    for key in shown:
        parts = ends[key].split(".")[1:]
        names = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        name = next((n for n in names if sum(end.endswith(f".{n}") for end in ends.values()) == 1), names[-1])
        value = _text(one.get(key))
        found.append(f"{name}={_option(key, value) if key.endswith('._target_') else value}")
    return ", ".join(found)


@cache
def _option(key: str, target: str) -> str:
    """What is typed for a class: the option of the config group that has it, where it is one only; else the class."""
    group = config_folder() / slot_of(key.removeprefix("config.").removesuffix("._target_"))
    line = f"_target_: {target}\n"
    options = [file.stem for file in group.glob("*.yaml") if line in file.read_text(encoding="utf-8")]
    return options[0] if len(options) == 1 else target.rsplit(".", 1)[-1]


def _text(value: Any) -> str:
    return "null" if pd.isna(value) else str(value)


def comparable(runs: pd.DataFrame, metrics: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """The column that each run may stand in; and notes. `metrics` are those that will be shown.

    Other settings of data, split and scoring, and other versions of a metric, are other columns, named by what differs.
    Where the runs of *one seed* have other splits, other genes or other reference rows, nothing tells which seeds belong
    together: then each split is a column of its own, and a note says why.
    """
    asked = question(runs)
    versions = pd.DataFrame([{m: v.get(m, 1) for m in metrics} for v in runs["metric_versions"]], index=runs.index)
    groups = pd.concat([asked, versions], axis=1).map(_text).agg("\n".join, axis=1)
    parts, notes = pd.DataFrame({"first": "", "split": ""}, runs.index), []  # of each run: the first of its column
    for _, same in runs.groupby(groups, sort=False):
        clusters, why = _by_split(same, metrics)
        seen: list[str] = []
        for paths in clusters:
            first = same.loc[paths[0]]
            seen.append(f"seed {first['seed']}, split {first['split_hash'][:8]}" if why else "")
            again = f", reference rows {seen.count(seen[-1])}" if seen.count(seen[-1]) > 1 else ""
            parts.loc[paths] = [paths[0], seen[-1] + again]
        notes += [f"{same['data'].iloc[0]}: one column for each split, no mean over seeds: {why}"] if why else []
    columns = pd.Series("", runs.index)
    for data, here in runs.groupby("data", sort=False).groups.items():
        firsts = list(parts.loc[here, "first"].unique())
        shown = differing(asked.loc[firsts])
        shown = [key for key in shown if key != "cells" or len(shown) == 1]  # follows from the other settings
        varied = [metric for metric in metrics if versions.loc[firsts, metric].nunique() > 1]
        for path in firsts:
            version = ", ".join(f"{metric} v{versions.at[path, metric]}" for metric in varied)
            label = "; ".join(filter(None, (told(asked.loc[path], shown), version, parts.at[path, "split"])))
            columns[parts["first"] == path] = f"{data} ({label})" if label else data
    return columns, notes


def _by_split(same: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[list[str]], str]:
    """Paths of runs of one question, in clusters that have one split and the same reference rows for each seed; why several."""
    clusters: list[list[Any]] = []
    why = ""
    for run in same[["path", "seed", "split_hash", "genes", "method", "headline", "scores"]].itertuples(index=False):
        rivals = [cluster for cluster in clusters if cluster[0].seed == run.seed]
        reasons = [next(filter(None, (_apart(other, run, metrics) for other in rival)), "") for rival in rivals]
        if "" in reasons:
            rivals[reasons.index("")].append(run)
        else:
            clusters.append([run])
            why = why or next(iter(reasons), "")
    return ([[run.path for run in cluster] for cluster in clusters], why) if why else ([list(same.index)], "")


def _apart(a: Any, b: Any, metrics: Sequence[str]) -> str:
    """Why two runs of one seed are not about the same cells scored alike; "" if they are."""
    for key in ("split_hash", "genes"):
        one, two = getattr(a, key), getattr(b, key)
        if one != two:
            return f"seed {a.seed} has {key} {str(one)[:8]} in {a.path} and {str(two)[:8]} in {b.path}"
    rows = [row for row in a.scores[a.headline] if row in b.scores[b.headline]]
    rows = [row for row in rows if not owns(a.method, row) and not owns(b.method, row)]
    for protocol, row, metric in ((p, row, metric) for p in a.scores for row in rows for metric in metrics):
        one, two = (x.scores.get(protocol, {}).get(row, {}).get(keys.ALL, {}).get(metric, np.nan) for x in (a, b))
        if not agree(one, two):
            found = f"{row} has {metric} {one:.6g} in {a.path} and {two:.6g} in {b.path}"
            return f"seed {a.seed}: row {found} ({protocol})"
    return ""


def several(runs: pd.DataFrame) -> list[str]:
    """Settings of a method's runs that differ within a column."""
    columns = runs.groupby("column", sort=False)
    return list(dict.fromkeys(key for _, same in columns for key in differing(variant(same))))


def settings(runs: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """What tells each run's rows from those of other variants of its method in its column, "" where nothing has to; notes.

    Up to three settings are all named. Of more, the experiments' names are taken where they tell the variants apart; else
    each row names the settings in which it departs from the value that most variants have.
    """
    found, notes = pd.Series("", runs.index), []
    for method, same in runs.groupby("method", sort=False):
        flat, shown = variant(same), several(same)
        text = flat[shown].map(_text)
        pairs = pd.concat([same[["column", "experiment"]], text], axis=1).drop_duplicates()
        if not shown and (others := differing(flat)):
            more = f" and {len(others) - 6} more" if len(others) > 6 else ""
            names = ", ".join(key.removeprefix("config.").removeprefix("method.") for key in others[:6])
            notes.append(f"{method}: settings differ between data sets ({names}{more})")
        elif len(shown) <= MOST_KEYS:
            found[same.index] = [told(one, shown) for _, one in flat.iterrows()]
        elif pairs["experiment"].notna().all() and not pairs.duplicated(["column", "experiment"]).any():
            found[same.index] = same["experiment"]
        else:
            once = text.drop_duplicates()  # of values that as many variants have, the one of more runs
            usual = {k: max(once[k], key=lambda v, k=k: (sum(once[k] == v), sum(text[k] == v))) for k in shown}
            departs = [[key for key in shown if one[key] != usual[key]] for _, one in text.iterrows()]
            lines = zip(departs, flat.iterrows(), strict=True)
            found[same.index] = [told(one, part, shown) for part, (_, one) in lines]
            notes.append(f"{method}: rows name the settings that are not as in most variants, {told(usual, shown)}")
    return found, notes
